"""The page for recorders: its blocks run one after another, as a reader would run them, and print what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import ROOT

from edge_runtime import EventRecord, GapRecord

PAGE = ROOT / "docs" / "tutorials" / "recorder.md"
BLOCKS = re.findall(r"^```(python|text)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_every_block_runs_and_prints_what_the_page_says(
    bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bundle").symlink_to(bundle_dir)
    rng = np.random.default_rng(0)
    frames = [(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8), number / 15) for number in range(60)]
    known: dict[str, Any] = {"frames": frames, "__name__": "page"}
    printed = ""
    for language, text in BLOCKS:
        if language == "text":
            assert printed == text
            continue
        exec(compile(text, str(PAGE), "exec"), known)
        printed = capsys.readouterr().out
    # What the blocks leave behind: records of every camera that they watched.
    assert any(record.to_dict()["type"] == "segment" for record in known["events"])
    told = known["told"]
    assert told(GapRecord("gate", 1.0, 3.0, "lost")) == "gate: not scored for 2.0 s (lost)"
    event = EventRecord("new", "a", "gate", 1.0, 3.0, 15, 45, 0.9, 0.8)
    assert told(event) == "gate: something happens since 1.0 s"


def test_the_page_names_every_example_and_no_other() -> None:
    table = PAGE.read_text().partition("| program | shows |")[2].partition("\n\n")[0]
    programs = {path.name for path in (ROOT / "examples").glob("*.py")} - {"camera_list.py"}
    assert set(re.findall(r"`(\w+\.py)`", table)) == programs
