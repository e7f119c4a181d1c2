"""What a person sees on stderr: lines and bars, printable whatever a file is called; nothing with --quiet."""

from __future__ import annotations

import pytest

from offline.console import Console

NASTY = "evil\x1b[2J\nname.mp4"


def test_a_file_name_cannot_write_to_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.say(f"left out: {NASTY}")
    with console.bar("Scoring", "video") as progress:
        progress(1, 2, NASTY)
        progress(2, 2)
    err = capsys.readouterr().err
    assert "\x1b[2J" not in err
    assert r"\x1b[2J\nname.mp4" in err.splitlines()[0]


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(quiet=True)
    console.say("a line")
    with console.bar("Scoring") as progress:
        progress(1, 1)
    assert capsys.readouterr() == ("", "")
