"""Files as cameras: played in real time, over and over, beside one that is not there yet."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

from broker import until as until_within
from edge_command import STOP_S, of_type, start, with_manifest

LIMIT_S = 120.0


def records(path: Path) -> list[dict[str, Any]]:
    """Those that are whole."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def test_files_are_watched_over_their_seams_like_cameras(bundle_dir: Path, clip_path: Path, tmp_path: Path) -> None:
    shutil.copy(clip_path, tmp_path / "street.mp4")
    with_manifest(bundle_dir, tmp_path / "bundle", segment={"frames": 8})
    config, out, late = tmp_path / "cameras.yaml", tmp_path / "records.jsonl", tmp_path / "late.mp4"
    config.write_text(
        "version: 1\nbundle: bundle\nlocator: low_latency\noutput: {path: records.jsonl}\ncameras:\n"
        "  gate: {source: loop:street.mp4}\n  yard: {source: loop:street.mp4}\n  dock: {source: loop:late.mp4}\n"
    )
    done = start("run", "--config", config, "--provider", "cpu", "--threads", 1)
    try:

        def of(camera: str, kind: str) -> list[dict[str, Any]]:
            return [one for one in of_type(records(out), kind) if one["camera"] == camera]

        until_within(lambda: of("dock", "camera"), LIMIT_S)
        assert of("dock", "camera")[0]["state"] == "offline"
        assert of("dock", "camera")[0]["reason"] == "not_found"
        # The file lasts 8.7 seconds.
        for camera in ("gate", "yard"):
            until_within(lambda camera=camera: of(camera, "segment")[-1:], LIMIT_S)
            first = of(camera, "segment")[0]["start_s"]
            until_within(lambda camera=camera, first=first: of(camera, "segment")[-1]["end_s"] > first + 10, LIMIT_S)
        shutil.copy(clip_path, tmp_path / "part")
        (tmp_path / "part").rename(late)
        until_within(lambda: of("dock", "segment"), LIMIT_S)
    finally:
        done.send_signal(signal.SIGTERM)
        _, err = done.communicate(timeout=STOP_S + 10)
    assert done.returncode == 0, err
    for camera in ("gate", "yard"):
        states = of(camera, "camera")
        assert states[0]["state"] == "online"
        assert not any("frozen" in state.get("quality", ()) for state in states)
        assert not [gap for gap in of(camera, "gap") if gap["reason"] == "lost"]
    assert all(one["time"].endswith("Z") for one in of_type(records(out), "segment"))
