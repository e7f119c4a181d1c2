"""How a camera comes back: real servers that forget a password, say nothing, or are behind a network too slow."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bad_cameras import tcp_server
from recorder import Recorder
from rtsp import RtspServer

from benchmarks.faults.cameras import Proxy
from edge_runtime.stream.clock import RunClock
from edge_runtime.video.camera import LiveCamera
from edge_runtime.video.connection import Connection, Fault, Grabbed
from edge_runtime.video.sources import Source, parse_source

QUICK: dict[str, Any] = {"stall_s": 3.0, "backoff_s": (0.1, 0.2)}


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@contextlib.contextmanager
def behind(server: RtspServer, slow: int = 1024) -> Iterator[tuple[Proxy, Source]]:
    """A proxy before a camera, and the camera as seen through it."""
    proxy = Proxy(server.port, slow)
    try:
        yield proxy, parse_source(f"gate={server.url.replace(str(server.port), str(proxy.port))}")
    finally:
        proxy.close()


def test_a_camera_that_forgets_a_password_for_a_moment_is_back_at_once(
    rtsp_server: Callable[..., RtspServer], recorder: Recorder
) -> None:
    server = rtsp_server(login=("viewer", "right"), fps=30)
    source = parse_source(f"gate={server.url}")
    with LiveCamera(source, recorder, RunClock(), **QUICK) as live:
        live.require_online()
        server.kill()
        server.login = ("viewer", "not loaded yet")
        server.start()
        recorder.wait(lambda: "unauthorized" in recorder.reasons)
        server.kill()
        server.login = ("viewer", "right")
        server.start()
        # Within seconds, not a quarter of an hour.
        recorder.wait_state("online", "offline", "reconnected")


def test_a_password_that_was_never_right_is_not_tried_again(
    rtsp_server: Callable[..., RtspServer], recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="edge_runtime")
    server = rtsp_server(login=("viewer", "right"), fps=30)
    source = parse_source(f"gate={server.url.replace('right', 'wrong')}")
    with LiveCamera(source, recorder, RunClock(), **QUICK):
        recorder.wait_state("offline")
        recorder.wait(lambda: "trying again in" in caplog.text)
    assert recorder.reasons == ["unauthorized"]
    waits_s = [record.args[2] for record in caplog.records if record.msg.endswith("trying again in %.1f s")]
    assert len(waits_s) == 1
    assert 900 <= waits_s[0] <= 1125


def test_frames_that_dribble_in_are_a_stall_and_the_camera_is_opened_again(
    rtsp_server: Callable[..., RtspServer], recorder: Recorder
) -> None:
    # A frame is some kilobytes: at a few of them a second one comes within the time that is no stall.
    server = rtsp_server(fps=10, codec="mjpeg")
    with (
        behind(server, slow=4096) as (proxy, source),
        LiveCamera(source, recorder, RunClock(), **QUICK | {"read_timeout_s": 60.0}) as live,
    ):
        live.require_online()
        for _ in range(2):  # long enough for its stamps to be believed, also where a machine is busy
            recorder.wait_frames(50)
        proxy.set("slow")
        recorder.wait(lambda: bool(recorder.reasons[-1:]) and recorder.reasons[-1] is not None)
        proxy.set("pass")
        recorder.wait(lambda: recorder.states[-1][0] == "reconnected")
        recorder.wait_frames(5)
    state, detail, _ = recorder.states[1]
    assert (state, recorder.reasons[1]) == ("stalled", "timeout")
    assert "the network is too slow" in detail
    assert recorder.outages[0][2] == "stalled"


def test_an_attempt_that_hangs_gets_no_more_time_than_the_camera_took(
    rtsp_server: Callable[..., RtspServer], recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    server = rtsp_server(fps=30)
    with (
        behind(server) as (proxy, source),
        LiveCamera(source, recorder, RunClock(), open_timeout_s=60.0, **QUICK) as live,
    ):
        live.require_online()
        proxy.set("silent")
        # A minute, were it not known how long this camera takes.
        recorder.wait(lambda: "timeout" in recorder.reasons)
        proxy.set("pass")
        recorder.wait_state("online", "offline", "reconnected")


def test_a_camera_that_is_not_known_has_the_whole_limit(recorder: Recorder) -> None:
    def silent(client: Any) -> None:
        while client.recv(4096):
            pass

    with tcp_server(silent) as port:
        source = parse_source(f"gate=rtsp://127.0.0.1:{port}/x")
        with LiveCamera(source, recorder, RunClock(), open_timeout_s=3.0, **QUICK):
            recorder.wait_state("offline")
    assert "within 3 s" in recorder.states[0][1]


def test_a_stream_that_opens_at_the_last_moment_and_ends_is_told_to_be_slow(recorder: Recorder) -> None:
    # FFmpeg opens what it knows half of when its time is over. What a server has sent by then is a matter of chance.
    now_s = [0.0]

    class Ending:
        def grab(self) -> Grabbed:
            raise Fault("ended", "the connection ended")

        def picture(self) -> None:
            return None

        def is_key(self) -> bool | None:
            return None

        def stamp_s(self) -> float | None:
            return None

        def catch_up(self, behind_s: float) -> bool:
            raise AssertionError("without stamps nothing is behind")

        def close(self) -> None:
            pass

    def connect(source: Source, open_timeout_s: float, read_timeout_s: float) -> Connection:
        now_s[0] += 0.95 * open_timeout_s
        return Ending()

    source = parse_source("gate=rtsp://host/")
    with LiveCamera(source, recorder, RunClock(lambda: now_s[0]), connect=connect, **QUICK):
        recorder.wait_state("offline")
    assert recorder.reasons == ["timeout"]
    assert "too slowly" in recorder.states[0][1]
