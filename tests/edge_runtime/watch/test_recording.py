"""Clips of real cameras: what they send goes into files as it came, or encoded and masked."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import pytest
from filmed import RUN, pictures, played, units
from recorder import Recorder
from rtsp import MjpegServer, RtspServer, free_port

from edge_runtime.records import EventRecord
from edge_runtime.stream.clock import RunClock
from edge_runtime.video.sources import parse_source
from edge_runtime.watch.config_settings import ClipsSettings
from edge_runtime.watch.mask import Mask, MaskedFrames
from edge_runtime.watch.recording import Recording

PATIENCE_S = 60.0
CORNER = Mask.parse("0,0,0.5,0,0.5,0.5,0,0.5")


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


@contextmanager
def watching(folder: Path, url: str, mask: Mask | None = None) -> Iterator[tuple[Recording, Recorder]]:
    recording = Recording(ClipsSettings(path=str(folder), pre_roll=1.0, post_roll=1.0))
    recorder = Recorder()
    listener = recorder if mask is None else MaskedFrames(recorder, mask)
    with recording.open_reader(parse_source(f"gate={url}"), listener, RunClock()):
        yield recording, recorder
    recording.clips.close()


def event(state: str, start_s: float, end_s: float, number: int = 1) -> EventRecord:
    return EventRecord(state, f"{RUN}-gate-{number}", "gate", start_s, end_s, 0, 9, 0.9, 0.9)  # type: ignore[arg-type]


def film_an_event(
    recording: Recording, recorder: Recorder, folder: Path, number: int = 1
) -> tuple[Path, Path, float]:
    """An event of a second, begun two seconds after a camera came; its clip, its snapshot and when it began."""
    recorder.wait_frames(1)
    start_s = recorder.frames[-1][1] + 2.0
    recorder.wait(lambda: recorder.frames[-1][1] > start_s + 1.0)
    recording.clips.write(event("new", start_s, start_s + 0.5, number))
    recording.clips.write(event("end", start_s, start_s + 1.0, number))
    found = f"gate/*/{RUN}-gate-{number}"
    until(lambda: list(folder.glob(f"{found}.mp4")) and list(folder.glob(f"{found}.jpg")))
    return next(folder.glob(f"{found}.mp4")), next(folder.glob(f"{found}.jpg")), start_s


def test_h264_is_copied_from_before_the_event_to_after_it(
    tmp_path: Path, rtsp_server: Callable[..., RtspServer]
) -> None:
    with watching(tmp_path, rtsp_server(fps=10).url) as (recording, recorder):
        ring = recording.clips._filmed["gate"].ring
        clip, _, start_s = film_an_event(recording, recorder, tmp_path)
        reader = ring.read(0.0, 1000.0)
        assert reader is not None
        sent = reader.take(1000.0)
        reader.close()
    codec, first, count, _ = played(clip)
    assert (codec, first) == ("h264", 0.0)
    with av.open(str(clip)) as container:
        copied = [units(bytes(packet), lengths=True) for packet in container.demux(video=0) if packet.size]
    assert count == len(copied)
    came = [units(packet.data, lengths=False) for packet in sent]
    begin = came.index(copied[0])
    assert copied == came[begin : begin + len(copied)]
    assert sent[begin].key
    assert sent[begin].arrival_s <= start_s - 1.0
    # The next key frame would have been too late; the last packet is the last that came in time.
    later = next(packet for packet in sent[begin + 1 :] if packet.key)
    assert later.arrival_s > start_s - 1.0
    assert sent[begin + len(copied) - 1].arrival_s <= start_s + 2.0
    assert all(packet.arrival_s > start_s + 2.0 for packet in sent[begin + len(copied) :])


@pytest.mark.parametrize("codec", ["h264", "mjpeg"])
def test_masks_are_black_in_clip_and_snapshot(
    tmp_path: Path, rtsp_server: Callable[..., RtspServer], codec: str
) -> None:
    server = rtsp_server(fps=10, codec=codec)
    with watching(tmp_path, server.url, CORNER) as (recording, recorder):
        clip, snapshot, _ = film_an_event(recording, recorder, tmp_path)
    assert played(clip)[0] == "h264"
    shown = [*pictures(clip), *pictures(snapshot)]
    assert len(shown) > 5
    for picture in shown:
        assert picture.shape == (240, 320, 3)
        assert picture[:112, :152].max() <= 24
    # Elsewhere the ball is seen.
    assert max(picture.max() for picture in shown) > 150


def test_mjpeg_over_http_is_encoded_in_real_time(tmp_path: Path, mjpeg_server: Callable[..., MjpegServer]) -> None:
    with watching(tmp_path, mjpeg_server(fps=10).url) as (recording, recorder):
        clip, _, _ = film_an_event(recording, recorder, tmp_path)
    codec, _, count, last = played(clip)
    assert codec == "h264"
    assert count > 5
    # FFmpeg takes such a stream for one of 25 frames a second; three seconds would be 1.2.
    assert 2.0 < last < 4.0


def test_h265_is_encoded(tmp_path: Path) -> None:
    encoders = subprocess.run(["ffmpeg", "-v", "error", "-encoders"], capture_output=True, text=True, check=False)
    if "libx265" not in encoders.stdout:
        pytest.skip("this ffmpeg cannot write H.265")
    port = free_port()
    command = ["ffmpeg", "-v", "error", "-nostdin", "-re", "-f", "lavfi", "-i", "testsrc=size=320x240:rate=10"]
    command += ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:keyint=5:bframes=0"]
    command += ["-f", "mpegts", "-listen", "1", f"http://127.0.0.1:{port}/"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            with watching(tmp_path, f"http://127.0.0.1:{port}/", CORNER) as (recording, recorder):
                clip, snapshot, _ = film_an_event(recording, recorder, tmp_path)
        finally:
            server.kill()
    assert played(clip)[0] == "h264"
    for picture in [*pictures(clip), *pictures(snapshot)]:
        assert picture[:112, :152].max() <= 24


def test_a_camera_that_comes_back_with_another_size_gives_another_clip(
    tmp_path: Path, rtsp_server: Callable[..., RtspServer]
) -> None:
    server = rtsp_server(fps=10)
    with watching(tmp_path, server.url) as (recording, recorder):
        first, _, _ = film_an_event(recording, recorder, tmp_path, 1)
        recording.clips.write(event("new", recorder.frames[-1][1], recorder.frames[-1][1] + 0.1, 2))
        server.kill()
        # Its event goes on, but the connection has ended, and with it the clip.
        until(lambda: list(tmp_path.glob(f"gate/*/{RUN}-gate-2.mp4")))
        server.size, server.codec = (640, 360), "mjpeg"
        server.start()
        recorder.wait(lambda: recorder.states[-1][0] == "reconnected")
        third, _, _ = film_an_event(recording, recorder, tmp_path, 3)
    assert pictures(first)[0].shape == (240, 320, 3)
    assert {picture.shape for picture in pictures(third)} == {(360, 640, 3)}


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg to make footage with")
def test_a_clip_of_a_file_that_is_played_over_and_over_goes_over_its_seam(tmp_path: Path) -> None:
    """Two seconds of H.264 with B-frames: what is copied plays without a jump."""
    path = tmp_path / "gate.mp4"
    picture = ["-f", "lavfi", "-i", "testsrc=size=320x240:rate=10:duration=2"]
    coded = ["-c:v", "libx264", "-bf", "2", "-g", "5", "-pix_fmt", "yuv420p"]
    subprocess.run(["ffmpeg", "-v", "error", *picture, *coded, str(path)], check=True)
    with watching(tmp_path / "clips", f"loop:{path}") as (recording, recorder):
        clip, snapshot, _ = film_an_event(recording, recorder, tmp_path / "clips")
    codec, _, count, last_s = played(clip)
    assert codec == "h264"
    # From a second before an event of one to a second after it, and what is left to a key frame.
    assert 25 <= count <= 45
    assert last_s == pytest.approx((count - 1) / 10, abs=0.35)
    assert pictures(snapshot)[0].shape == (240, 320, 3)
