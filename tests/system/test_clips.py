"""Clips and snapshots of a real run over real cameras: killed, begun again and stopped."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from broker import Broker, broker, kept_by, until
from edge_command import STOP_S, start
from filmed import pictures, played
from rtsp import RtspServer

from edge_runtime.outputs.mp4 import mend

__all__ = ["broker"]

CONFIGURATION = """
version: 1
bundle: {bundle}
locator: low_latency
output: {{path: records.jsonl}}
spool: {{path: spool}}
mqtt: {{host: 127.0.0.1, port: {mqtt}}}
clips: {{path: clips, pre_roll: 1, post_roll: 1, max_mb: 20}}
cameras:
  gate: {{source: "{gate}"}}
  yard: {{source: "{yard}", mask: "0,0,0.5,0,0.5,0.5,0,0.5"}}
"""


def run(path: Path) -> subprocess.Popen[str]:
    return start("run", "--config", path, "--provider", "cpu", "--threads", 1)


def files(folder: Path, camera: str, suffix: str) -> list[Path]:
    return sorted((folder / "clips").glob(f"{camera}/*/*{suffix}"))


def begun(folder: Path, camera: str) -> bool:
    """Whether some seconds of a clip are written."""
    return any(path.read_bytes().count(b"moof") >= 2 for path in files(folder, camera, ".mp4.part"))


def is_black(picture: np.ndarray) -> bool:
    height, width = picture.shape[:2]
    return int(picture[: height // 2 - 8, : width // 2 - 8].max()) <= 24


def test_a_killed_run_leaves_clips_that_play_and_the_next_one_keeps_them(
    always: Path, tmp_path: Path, rtsp_server: Callable[..., RtspServer], broker: Broker
) -> None:
    gate, yard = rtsp_server(size=(320, 240), fps=15), rtsp_server(size=(320, 240), fps=15)
    path = tmp_path / "cameras.yaml"
    path.write_text(CONFIGURATION.format(bundle=always, gate=gate.url, yard=yard.url, mqtt=broker.port))
    path.chmod(0o600)
    first = run(path)
    try:
        until(lambda: begun(tmp_path, "gate") and begun(tmp_path, "yard"), 120)
        until(lambda: files(tmp_path, "gate", "[0-9].jpg") and files(tmp_path, "yard", "[0-9].jpg"), 60)
        until(lambda: files(tmp_path, "gate", ".seen.jpg") and files(tmp_path, "yard", ".seen.jpg"), 60)
        until(lambda: kept_by(broker.port).get("headhunt/yard/snapshot", b"").startswith(b"\xff\xd8"), 60)
    finally:
        first.kill()
        first.communicate()
    left = {camera: files(tmp_path, camera, ".mp4.part")[0] for camera in ("gate", "yard")}
    for camera, part in left.items():
        copy = tmp_path / f"{camera}.mp4"
        copy.write_bytes(part.read_bytes())
        assert mend(copy)
        assert played(copy)[2] >= 5

    second = run(path)
    try:
        until(lambda: all(part.with_suffix("").exists() for part in left.values()), 120)
        until(lambda: begun(tmp_path, "gate") and begun(tmp_path, "yard"), 120)
    finally:
        second.send_signal(signal.SIGTERM)
        _, err = second.communicate(timeout=STOP_S + 10)
    assert second.returncode == 0, err
    assert err.count("is kept as far as it goes") == 2
    # Of what was being written when it ended, a slow machine leaves the rest to a third run.
    for camera, part in left.items():
        kept = part.with_suffix("")
        assert played(kept) == played(tmp_path / f"{camera}.mp4")
        clips = files(tmp_path, camera, ".mp4")
        assert len(clips) + len(files(tmp_path, camera, ".part")) >= 2
        for clip in clips:
            played(clip)
        shown = [picture for clip in clips for picture in pictures(clip)]
        shown += [cv2.imread(str(jpeg)) for jpeg in files(tmp_path, camera, "[0-9].jpg")]
        assert len(shown) > 5
        assert camera == "gate" or all(is_black(picture) for picture in shown)
        assert max(int(picture.max()) for picture in shown) > 150
        # What the model saw, 16 frames of it, is masked as well.
        for sheet in (cv2.imread(str(jpeg)) for jpeg in files(tmp_path, camera, ".seen.jpg")):
            tiles = [tile for row in np.split(sheet, 4) for tile in np.split(row, 4, axis=1)]
            assert camera == "gate" or all(is_black(tile) for tile in tiles)
