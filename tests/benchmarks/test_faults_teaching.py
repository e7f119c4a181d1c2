"""Ten minutes of the campaign: nothing that was acknowledged is lost. The whole of it is benchmarks/faults/."""

from __future__ import annotations

from pathlib import Path

from benchmarks.faults.teaching import Trial


def test_ten_minutes(bundle_dir: Path, tmp_path: Path) -> None:
    # Where the operator is slow to start, a short run may be over before it has marked anything.
    for attempt, hours in enumerate((1 / 6, 1, 4)):
        folder, logs = tmp_path / f"disk{attempt}", tmp_path / f"logs{attempt}"
        folder.mkdir()
        logs.mkdir()
        trial = Trial(bundle_dir.absolute(), folder, logs, hours, 0.02, seed=1)
        trial.go(None, 0.05, 2.0)
        assert trial.counts.faults == []
        if trial.counts.asked["mark"]:
            return
    raise AssertionError("no mark was acknowledged")
