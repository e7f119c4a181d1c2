"""A camera on this computer, where there is one: /dev/video* that captures (a USB camera, v4l2loopback, vivid)."""

from __future__ import annotations

import contextlib
import os
import struct
import sys
from pathlib import Path

import pytest
from recorder import Recorder

from edge_runtime.errors import CameraUnavailable
from edge_runtime.stream.clock import RunClock
from edge_runtime.video.camera import LiveCamera, probe
from edge_runtime.video.sources import parse_source

# From linux/videodev2.h: `_IOR('V', 0, struct v4l2_capability)`, and what such a device says that it can do.
_QUERYCAP, _CAPABILITY = 0x80685600, struct.Struct("=16s32s32sIII12x")
_CAPTURES, _STREAMS = 0x00000001, 0x04000000


def capturing() -> list[str]:
    """Devices that give pictures: nodes of codecs and of metadata do not."""
    if sys.platform != "linux":
        return []
    import fcntl

    found = []
    for path in sorted(Path("/dev").glob("video[0-9]*"), key=lambda path: int(path.name[5:])):
        with contextlib.suppress(OSError), path.open("rb", buffering=0) as device:
            said = fcntl.ioctl(device, _QUERYCAP, bytes(_CAPABILITY.size))
            can = _CAPABILITY.unpack(said)[5]
            if can & _CAPTURES and can & _STREAMS:
                found.append(str(path))
    return found


@pytest.fixture
def device() -> str:
    if not (devices := capturing()):
        pytest.skip("no device here captures video; plug in a USB camera, or load v4l2loopback or vivid")
    try:
        probe(parse_source(devices[0]))
    except CameraUnavailable as error:
        pytest.skip(f"{devices[0]} cannot be had: {error}")
    return devices[0]


def test_a_device_gives_frames_and_is_given_back(device: str) -> None:
    held = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        seen = Recorder()
        with LiveCamera(parse_source(f"door={device}"), seen, RunClock()) as camera:
            camera.require_online(30.0)
            seen.wait_frames(20)
        assert [state for state, _, _ in seen.states] == ["online"]
        index, seconds, shapes = zip(*seen.frames, strict=True)
        assert list(index) == list(range(len(index)))
        assert list(seconds) == sorted(seconds)
        assert all(len(shape) == 3 and shape[2] == 3 for shape in shapes)
    assert len(os.listdir("/proc/self/fd")) == held
