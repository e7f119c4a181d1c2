"""What a reader hands on of its video: packets as they came, or some JPEGs of a device."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from rtsp import RtspServer

from edge_runtime.stream.packets import VideoFormat
from edge_runtime.video import device
from edge_runtime.video.device import DeviceConnection
from edge_runtime.video.network import NetworkConnection
from edge_runtime.video.sources import parse_source


class Kept:
    """A tap that keeps what it is given."""

    def __init__(self) -> None:
        self.formats: list[VideoFormat] = []
        self.packets: list[tuple[bytes, bool, bool]] = []
        self.ended = 0

    def begin(self, video: VideoFormat) -> None:
        self.formats.append(video)

    def take(self, data: bytes, key: bool, pts: int | None, dts: int | None, damaged: bool) -> None:
        self.packets.append((data, key, damaged))

    def end(self) -> None:
        self.ended += 1


@pytest.mark.parametrize("codec", ["h264", "mjpeg"])
def test_every_packet_of_a_camera_is_handed_on(rtsp_server: Callable[..., RtspServer], codec: str) -> None:
    source, kept = parse_source(rtsp_server(codec=codec).url), Kept()
    connection = NetworkConnection(source, 10.0, 10.0, kept)
    frames = sum(connection.grab() == "whole" for _ in range(15))
    assert frames > 5
    (video,) = kept.formats
    assert (video.codec, video.width, video.height) == (codec, 320, 240)
    assert len(kept.packets) >= frames
    assert kept.packets[0][1]
    assert all(data for data, _, _ in kept.packets)
    assert not any(damaged for _, _, damaged in kept.packets)
    assert kept.ended == 0
    connection.close()
    assert kept.ended == 1


def test_a_device_gives_some_jpegs_a_second(clip_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A file in the place of a device, which a machine for tests seldom has.
    monkeypatch.setattr(device, "open_capture", lambda *_: cv2.VideoCapture(str(clip_path)))
    kept = Kept()
    connection = DeviceConnection(parse_source("0"), kept)
    begun = time.monotonic()
    pictures = []
    for _ in range(40):
        assert connection.grab() == "whole"
        pictures.append(connection.picture())
        assert connection.picture() is pictures[-1]
        time.sleep(0.02)
    assert 1 <= len(kept.packets) <= 1 + 5 * (time.monotonic() - begun)
    assert kept.formats[0].codec == "mjpeg"
    first = cv2.imdecode(np.frombuffer(kept.packets[0][0], np.uint8), cv2.IMREAD_COLOR)
    assert pictures[0] is not None
    assert np.abs(first.astype(int) - pictures[0]).mean() < 8
    connection.close()
    assert kept.ended == 1
