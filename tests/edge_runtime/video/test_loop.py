"""A file that is played over and over is a live camera, and its pictures are those of the file."""

from __future__ import annotations

import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from clips import write_clip
from recorder import Recorder

from edge_runtime.errors import CameraUnavailable
from edge_runtime.stream.clock import RunClock
from edge_runtime.stream.packets import VideoFormat
from edge_runtime.stream.pixels import UInt8Array
from edge_runtime.video.camera import LiveCamera
from edge_runtime.video.connection import Fault, Grabbed
from edge_runtime.video.file import VideoFile
from edge_runtime.video.loop import LoopConnection
from edge_runtime.video.probe import probe
from edge_runtime.video.sources import parse_source

PATIENCE_S = 60.0


class Kept:
    """A tap that keeps what it is given."""

    def __init__(self) -> None:
        self.formats: list[VideoFormat] = []
        self.packets: list[tuple[bytes, bool, int | None, int | None, bool]] = []

    def begin(self, video: VideoFormat) -> None:
        self.formats.append(video)

    def take(self, *packet: bytes | bool | int | None) -> None:
        self.packets.append(packet)  # type: ignore[arg-type]

    def end(self) -> None:
        pass


def made(path: Path, *options: str, seconds: float = 0.8, rate: int = 25) -> Path:
    """A test picture with a running clock, so that no two frames are the same."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg to make footage with")
    source = ["-f", "lavfi", "-i", f"testsrc=size=160x120:rate={rate}:duration={seconds}"]
    subprocess.run(["ffmpeg", "-v", "error", *source, *options, str(path)], check=True)
    return path


def played(path: Path, frames: int, tap: Kept | None = None) -> tuple[list[UInt8Array], list[int], float]:
    """The first frames of a loop, where it was cut, and how long that took."""
    begun_s = time.monotonic()
    connection = LoopConnection(parse_source(f"loop:{path}"), tap)
    pictures: list[UInt8Array] = []
    cuts = []
    deadline = begun_s + PATIENCE_S
    while len(pictures) < frames:
        assert time.monotonic() < deadline
        grabbed: Grabbed = connection.grab()
        if grabbed in ("whole", "cut"):
            if grabbed == "cut":
                cuts.append(len(pictures))
            picture = connection.picture()
            assert picture is not None
            pictures.append(picture)
    connection.close()
    return pictures, cuts, time.monotonic() - begun_s


def pictures_of(path: Path) -> list[UInt8Array]:
    with VideoFile(path) as video:
        return [frame.retrieve().copy() for frame in video.frames(fallback_fps=25)]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("b_frames.mp4", ["-c:v", "libx264", "-bf", "3", "-g", "10"]),
        ("matroska.mkv", ["-c:v", "libx264", "-bf", "2"]),
        ("old.avi", ["-c:v", "mpeg4", "-g", "5"]),
        ("jpegs.avi", ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"]),
        ("hevc.mp4", ["-c:v", "libx265", "-x265-params", "log-level=none"]),
        ("bare.h264", ["-c:v", "libx264", "-bf", "0"]),
    ],
)
def test_its_pictures_are_those_of_the_file_round_after_round(
    tmp_path: Path, name: str, options: Sequence[str]
) -> None:
    path = made(tmp_path / name, *options)
    once, tap = pictures_of(path), Kept()
    assert len(once) == 20
    pictures, cuts, took_s = played(path, 45, tap)
    assert cuts == [20, 40]
    for number, picture in enumerate(pictures):
        np.testing.assert_array_equal(picture, once[number % 20])
    # No sooner than they are due: 44 frames of 40 ms.
    assert took_s >= 44 / 25
    (video,) = tap.formats
    assert (video.width, video.height) == (160, 120)
    assert tap.packets[0][1]
    for before, after in pairwise(packet[3] for packet in tap.packets):
        if before is not None and after is not None:
            assert before < after
    shown = [packet[2] for packet in tap.packets if packet[2] is not None]
    assert len(set(shown)) == len(shown)


def test_a_rate_that_varies_is_kept_and_a_long_pause_is_cut(tmp_path: Path) -> None:
    # Frames at 0, 0.1, 0.2 and 9 s.
    path = made(
        tmp_path / "pause.mkv",
        *("-vf", "setpts='if(lt(N,3),N*0.1,9)/TB'", "-fps_mode", "vfr", "-c:v", "libx264", "-bf", "0"),
        seconds=0.4,
        rate=10,
    )
    assert len(pictures_of(path)) == 4
    connection = LoopConnection(parse_source(f"loop:{path}"))
    due_s = [next(connection._coming).due_s for _ in range(6)]
    connection.close()
    steps = [after - before for before, after in pairwise(due_s)]
    # The last one stands for as long as a frame usually does.
    assert [steps[0], steps[1], steps[2], steps[4]] == pytest.approx([0.1, 0.1, 2.0, 0.1], abs=1e-6)


@pytest.mark.parametrize("side", [1, -1])
def test_a_file_that_is_shown_turned_is_turned_and_gives_no_packets(tmp_path: Path, side: int) -> None:
    # By a quarter, to either side: what a phone writes into the file's head.
    turned, tap = made(tmp_path / "turned.mp4", "-c:v", "libx264"), Kept()
    data = bytearray(turned.read_bytes())
    matrix = data.index(b"tkhd") + 44
    data[matrix : matrix + 36] = struct.pack(">9i", 0, side << 16, 0, -side << 16, 0, 0, 120 << 16, 0, 1 << 30)
    turned.write_bytes(data)
    once = pictures_of(turned)
    assert once[0].shape == (160, 120, 3)
    pictures, _, _ = played(turned, 3, tap)
    for picture, expected in zip(pictures, once, strict=False):
        np.testing.assert_array_equal(picture, expected)
    assert not tap.packets


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "not_found"), (b"", "not_found"), (b"no video at all" * 100, "no_video")]
)
def test_what_cannot_be_played_is_told_with_a_reason(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CameraUnavailable) as failed:
        probe(parse_source(f"gate=loop:{path}"))
    assert failed.value.reason == reason
    assert ";" in failed.value.detail


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg to make footage with")
def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    subprocess.run(["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=duration=0.2", str(path)], check=True)
    with pytest.raises(Fault) as failed:
        LoopConnection(parse_source(f"loop:{path}"))
    assert failed.value.reason == "no_video"


def wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_camera_of_a_file_comes_goes_with_it_and_comes_back(tmp_path: Path) -> None:
    path, recorder = tmp_path / "gate.mp4", Recorder()
    with LiveCamera(parse_source(f"loop:{path}"), recorder, RunClock(), backoff_s=(0.05,)) as camera:
        wait(lambda: any(state[0] == "offline" for state in recorder.states))
        write_clip(path, 12)
        wait(lambda: any(state[0] == "online" for state in recorder.states))
        recorder.wait_frames(30)
        path.unlink()
        wait(lambda: recorder.states[-1][0] == "offline")
        write_clip(path, 12)
        wait(lambda: recorder.states[-1][0] == "reconnected")
        assert camera.hung == 0
    times = [frame[1] for frame in recorder.frames]
    assert times == sorted(times)


def test_another_video_in_its_place_is_played_after_the_end(tmp_path: Path) -> None:
    path, recorder = tmp_path / "gate.mp4", Recorder()
    write_clip(path, 12)
    with LiveCamera(parse_source(f"loop:{path}"), recorder, RunClock(), backoff_s=(0.05,)):
        recorder.wait_frames(3)
        other = write_clip(tmp_path / "other.mp4", 12, size=(320, 240))
        other.replace(path)
        wait(lambda: any("320 x 240" in state[1] for state in recorder.states))


def test_it_stops_at_once_in_the_middle_of_a_pause(tmp_path: Path) -> None:
    path = made(tmp_path / "slow.mkv", "-c:v", "libx264", seconds=8, rate=1)
    recorder = Recorder()
    camera = LiveCamera(parse_source(f"loop:{path}"), recorder, RunClock())
    camera.start()
    recorder.wait_frames(2)
    assert camera.stop(PATIENCE_S)
    assert recorder.states[0][0] == "online"
