"""The measurement of the operator's page, small."""

from __future__ import annotations

from pathlib import Path

from browser import a_browser
from click.testing import CliRunner

from benchmarks.page import page


def test_it_measures(tmp_path: Path) -> None:
    with a_browser():
        """Or skip, with what is missing."""
    words = [
        "--cameras",
        "2",
        "--events",
        "300",
        "--trials",
        "1",
        "--seconds",
        "0.5",
        "--output",
        str(tmp_path / "out"),
    ]
    told = CliRunner().invoke(page, words, catch_exceptions=False).output
    assert "first paint within 1 s in every trial: " in told
    assert told == (tmp_path / "out").read_text()
