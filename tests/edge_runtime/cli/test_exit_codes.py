"""How a command ends: one line that does nothing to a terminal, and the exit code of the error."""

from __future__ import annotations

import logging

import click
import pytest

from edge_runtime.cli.console import LogConsole
from edge_runtime.cli.exit_codes import run_command
from edge_runtime.errors import BundleRefused, HeadHuntError, MissingExtra, SourceUnavailable

EVIL = "evil\x1b[2J\r\n\u202egnp.mp4"


def ends_with(error: BaseException) -> click.Command:
    @click.command()
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HeadHuntError(EVIL), 1),
        (MissingExtra(EVIL), 2),
        (BundleRefused(EVIL), 3),
        (SourceUnavailable(EVIL), 4),
        (OSError(5, EVIL), 1),
        (ZeroDivisionError(EVIL), 1),
        (MemoryError(), 1),
        (KeyboardInterrupt(), 130),
        (click.UsageError(EVIL), 2),
    ],
)
def test_whatever_goes_wrong_is_printable_lines_and_a_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(ends_with(error), []) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert all(line.isprintable() for line in err.splitlines())
    if not isinstance(error, click.UsageError):  # click says the usage first
        assert len(err.strip().splitlines()) == 1


def test_a_log_line_is_one_printable_line(capsys: pytest.CaptureFixture[str]) -> None:
    console = LogConsole()
    console.handle(logging.makeLogRecord({"msg": "camera %s: gone", "args": (EVIL,), "levelno": logging.WARNING}))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isprintable()
    assert line.startswith("camera evil\\x1b[2J")


def test_what_commands_get_and_give() -> None:
    @click.command()
    @click.pass_obj
    def command(obj: list[str]) -> int:
        obj.append("gate")
        return 3

    left: list[str] = []
    assert run_command(command, [], obj=left) == 3
    assert left == ["gate"]
