"""A live camera's pixels are those of a file: PyAV reads the one, OpenCV the other, and what scores was calibrated
with files."""

from __future__ import annotations

import functools
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.stream.pixels import UInt8Array
from edge_runtime.video.connection import Fault
from edge_runtime.video.file import VideoFile
from edge_runtime.video.network import NetworkConnection
from edge_runtime.video.sources import parse_source

FOOTAGE = {
    "h264": "-c:v libx264 -pix_fmt yuv420p -s 320x240",
    "h264-without-b": "-c:v libx264 -tune zerolatency -pix_fmt yuv420p -s 640x360",
    "h264-full-range": "-c:v libx264 -pix_fmt yuvj420p -color_range pc -s 320x240",
    "h264-709": "-c:v libx264 -pix_fmt yuv420p -colorspace bt709 -color_primaries bt709 -color_trc bt709 -s 640x360",
    "h264-cropped": "-c:v libx264 -pix_fmt yuv420p -s 322x242",
    "h264-odd-444": "-c:v libx264 -pix_fmt yuv444p -s 321x241",
    "h265": "-c:v libx265 -x265-params log-level=none -pix_fmt yuv420p -s 320x240",
    "h265-full-range": "-c:v libx265 -x265-params log-level=none -pix_fmt yuvj420p -s 320x240",
    "h265-10-bit": "-c:v libx265 -x265-params log-level=none -pix_fmt yuv420p10le -s 320x240",
    "mjpeg": "-c:v mjpeg -q:v 3 -pix_fmt yuvj420p -s 320x240",
    "mjpeg-422": "-c:v mjpeg -q:v 3 -pix_fmt yuvj422p -s 320x240",
    "mjpeg-odd": "-c:v mjpeg -q:v 3 -pix_fmt yuvj420p -s 333x241",
    "mjpeg-odd-422": "-c:v mjpeg -q:v 3 -pix_fmt yuvj422p -s 321x241",
    "mjpeg-444": "-c:v mjpeg -q:v 3 -pix_fmt yuvj444p -s 333x241",
    "mpeg4": "-c:v mpeg4 -q:v 3 -pix_fmt yuv420p -s 320x240",
}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A folder and the port at which it is served."""
    path = tmp_path_factory.mktemp("footage")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(path)))
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who has seen enough hangs up
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield path, server.server_port
    server.shutdown()
    server.server_close()


def pictures(camera: NetworkConnection) -> Iterator[UInt8Array | None]:
    try:
        while True:
            assert camera.grab() != "damaged"
            yield camera.picture()
    except Fault:
        return  # its end
    finally:
        camera.close()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg to make footage with")
@pytest.mark.parametrize("name", FOOTAGE)
def test_pixels_are_equal_to_the_bit(name: str, folder: tuple[Path, int]) -> None:
    path = folder[0] / f"{name}.mkv"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=640x480:rate=10", "-t", "2"]
    command += ["-vf", "noise=alls=20:allf=t", *FOOTAGE[name].split(), str(path)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"this ffmpeg does not make it: {made.stderr[:80]}")
    camera = NetworkConnection(parse_source(f"http://127.0.0.1:{folder[1]}/{path.name}"), 5, 5)
    live = list(pictures(camera))
    with VideoFile(path) as video:
        recorded = [frame.retrieve() for frame in video.frames()]
    # What the decoder holds back to put frames in order is not asked for when a camera ends.
    assert len(recorded) - 4 <= len(live) <= len(recorded) == 20
    for one, other in zip(live, recorded, strict=False):
        assert one is not None
        np.testing.assert_array_equal(one, other)
