"""A camera costs its own threads and no more: dozens of them share a few cores."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

import pytest
from recorder import Recorder
from rtsp import RtspServer

from edge_runtime.stream.clock import RunClock
from edge_runtime.video.camera import LiveCamera
from edge_runtime.video.sources import parse_source


def foreign() -> set[int]:
    """Threads of this process that are none of Python's."""
    return {int(name) for name in os.listdir("/proc/self/task")} - {one.native_id for one in threading.enumerate()}


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_cameras_whose_pictures_are_taken_start_no_threads_of_libraries(
    rtsp_server: Callable[..., RtspServer],
) -> None:
    # As large as pays for several threads.
    server = rtsp_server(size=(1280, 720), fps=5, shared=True)
    before = foreign()
    seen = [Recorder() for _ in range(3)]
    cameras = [
        LiveCamera(parse_source(f"gate{place}={server.url}"), one, RunClock()) for place, one in enumerate(seen)
    ]
    try:
        for camera in cameras:
            camera.start()
            # One after another: the server's library may crash where several begin with one pipeline at once.
            camera.require_online(60.0)
        for one in seen:
            # Each of their pictures is converted.
            one.wait(lambda one=one: len(one.frames) >= 5)
        deadline = time.monotonic() + 10
        # A thread of Python that is just ending is nobody's for a moment.
        while not foreign() <= before:
            assert time.monotonic() < deadline, f"{len(foreign() - before)} threads more than before"
            time.sleep(0.1)
    finally:
        for camera in cameras:
            camera.stop()
