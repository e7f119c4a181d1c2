"""Outputs that are down, and runs that are killed; all of it at length is benchmarks/faults/outages.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from rtsp import rtsp_missing

from benchmarks.faults.outages import killed, outage
from benchmarks.faults.takers import mosquitto


@pytest.fixture(autouse=True)
def servers() -> None:
    if (reason := rtsp_missing()) is not None:
        pytest.skip(reason)
    if mosquitto() is None:
        pytest.skip("no mosquitto: apt-get install mosquitto")


def test_what_came_while_both_outputs_were_down_arrives_in_order(bundle_dir: Path, tmp_path: Path) -> None:
    result = outage(tmp_path / "site", bundle_dir, cameras=1, down_s=5.0)
    assert result.faults == []
    assert result.during >= 4


def test_runs_that_are_killed_lose_nothing_that_was_kept(bundle_dir: Path, tmp_path: Path) -> None:
    result = killed(tmp_path / "site", bundle_dir, cameras=1, kills=3, longest_s=8.0, seed=1)
    assert result.faults == []
