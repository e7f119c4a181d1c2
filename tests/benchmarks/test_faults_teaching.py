"""Two minutes of the campaign: nothing that was acknowledged is lost. The whole of it is benchmarks/faults/."""

from __future__ import annotations

from pathlib import Path

from benchmarks.faults.teaching import Trial


def test_two_minutes(bundle_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    trial = Trial(bundle_dir.absolute(), folder, tmp_path, 1 / 30, 0.02, seed=1)
    trial.go(None, 0.05, 2.0)
    assert trial.counts.faults == []
    # A campaign in which nothing was acknowledged loses nothing.
    assert trial.counts.asked["mark"] > 0
