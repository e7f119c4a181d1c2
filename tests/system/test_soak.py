"""A run in faults, over and over; half an hour of it is benchmarks/faults/soak.py."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from rtsp import rtsp_missing

from benchmarks.faults.soaking import KINDS, Soak, held
from benchmarks.faults.takers import mosquitto


def test_cameras_are_scored_after_their_faults_and_nothing_stays_open(bundle_dir: Path, tmp_path: Path) -> None:
    if (reason := rtsp_missing()) is not None:
        pytest.skip(reason)
    if mosquitto() is None:
        pytest.skip("no mosquitto: apt-get install mosquitto")
    kinds = [KINDS[name] for name in ("killed", "stopped", "refused")]
    with ExitStack() as stack:
        soak = Soak(stack, tmp_path / "soak", bundle_dir, len(kinds), kinds, frames=8)
        edge, names = soak.edge, [one.name for one in soak.cameras]
        edge.begin()
        edge.until(lambda: all(edge.of("segment", name) for name in names), "every camera is scored")
        assert edge.process is not None
        process = edge.process.pid
        # The most that is held while nothing is wrong: a connection to the receiver comes and goes.
        seen = []
        for _ in range(100):
            seen.append(held(process))
            time.sleep(0.01)
        most = [max(one) for one in zip(*seen, strict=True)]
        for camera, fault in zip(soak.cameras, kinds, strict=True):
            soak.befall(camera, fault, 4.0)
        for name in ("broker killed", "receiver gone", "configuration changed"):
            soak.disturb(name, 3.0)
        soak.over()
        before = {name: len(edge.of("segment", name)) for name in names}
        edge.until(
            lambda: all(len(edge.of("segment", name)) >= before[name] + 2 for name in names),
            "every camera is scored again",
        )
        edge.until(lambda: all(now <= then for now, then in zip(held(process), most, strict=True)), "nothing is held")
        assert edge.end() == 0
        assert "Traceback" not in edge.told()
