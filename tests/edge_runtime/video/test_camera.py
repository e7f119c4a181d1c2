"""Real cameras on the loopback: an RTSP server that is killed, paused and replaced, an MJPEG server, and bad ones."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from rtsp import MjpegServer, RtspServer, free_port

from edge_runtime.errors import SourceUnavailable, UsageError
from edge_runtime.records import CameraState, GapReason
from edge_runtime.stream.clock import RunClock
from edge_runtime.video.camera import LiveCamera, probe
from edge_runtime.video.capture import DecodedFrame
from edge_runtime.video.sources import Source, parse_source

QUICK: dict[str, Any] = {"open_timeout_s": 5.0, "read_timeout_s": 1.5, "stall_s": 0.6, "backoff_s": (0.1, 0.2)}
PATIENCE_S = 15.0


class Recorder:
    """A listener that keeps what it was told, except pictures: of those the shape."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, float, tuple[int, ...]]] = []
        self.outages: list[tuple[float, float, GapReason]] = []
        self.states: list[tuple[CameraState, str, float]] = []
        self.told: list[str] = []
        self.kept: DecodedFrame | None = None
        self.changed = threading.Condition()

    def on_frame(self, frame: DecodedFrame) -> None:
        with self.changed:
            self.frames.append((frame.index, frame.seconds, frame.retrieve().shape))
            self.kept = frame
            self.told.append("frame")
            self.changed.notify_all()

    def on_outage(self, start_s: float, end_s: float, reason: GapReason) -> None:
        with self.changed:
            self.outages.append((start_s, end_s, reason))
            self.told.append("outage")
            self.changed.notify_all()

    def on_state(self, state: CameraState, detail: str, seconds: float) -> None:
        with self.changed:
            self.states.append((state, detail, seconds))
            self.told.append(state)
            self.changed.notify_all()

    def wait(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, PATIENCE_S), (self.states, self.outages, len(self.frames))

    def wait_state(self, *states: CameraState) -> None:
        self.wait(lambda: [state for state, _, _ in self.states] == list(states))

    def wait_frames(self, more: int) -> None:
        seen = len(self.frames)
        self.wait(lambda: len(self.frames) >= seen + more)


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def silent_server() -> Iterator[int]:
    """A port that accepts connections (the kernel does) and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def camera(url: str) -> Source:
    return parse_source(f"gate={url}")


def check_story(recorder: Recorder) -> None:
    """What holds of every camera's life: times in order, no frame inside an outage, indices one by one."""
    seconds = [second for _, second, _ in recorder.frames]
    assert seconds == sorted(seconds)
    assert [index for index, _, _ in recorder.frames] == list(range(len(recorder.frames)))
    for start_s, end_s, _ in recorder.outages:
        assert 0 <= start_s <= end_s
        assert not [second for second in seconds if start_s < second < end_s]
    for before, after in zip(recorder.outages, recorder.outages[1:], strict=False):
        assert before[1] <= after[0]


def test_a_killed_camera_is_lost_and_comes_back_at_another_size(
    rtsp_server: Callable[..., RtspServer], recorder: Recorder
) -> None:
    server = rtsp_server(size=(320, 240), fps=30)
    with LiveCamera(camera(server.url), recorder, RunClock(), **QUICK) as live:
        live.require_online()
        recorder.wait_frames(10)
        server.kill()
        recorder.wait_state("online", "offline")
        server.size = (640, 360)
        server.start()
        recorder.wait_state("online", "offline", "reconnected")
        recorder.wait_frames(10)
    check_story(recorder)
    [(start_s, end_s, reason)] = recorder.outages
    assert reason == "lost"
    assert end_s in [second for _, second, _ in recorder.frames]
    assert start_s in [second for _, second, _ in recorder.frames]
    assert {shape for _, _, shape in recorder.frames} == {(240, 320, 3), (360, 640, 3)}
    # The outage is told before the frame that ends it.
    after = recorder.told[recorder.told.index("reconnected") :]
    assert after[:3] == ["reconnected", "outage", "frame"]


def test_a_paused_camera_stalls_while_the_read_still_blocks_and_comes_back(
    rtsp_server: Callable[..., RtspServer], recorder: Recorder
) -> None:
    server = rtsp_server(fps=30, codec="mjpeg")
    options = QUICK | {"read_timeout_s": 60.0}  # only the watchdog can see it
    with LiveCamera(camera(server.url), recorder, RunClock(), **options) as live:
        live.require_online()
        recorder.wait_frames(5)
        server.pause()
        recorder.wait_state("online", "stalled")
        frames_at_stall = len(recorder.frames)
        stalled_s = recorder.states[-1][2]
        server.resume()
        recorder.wait_state("online", "stalled", "reconnected")
        recorder.wait_frames(5)
    check_story(recorder)
    [(start_s, end_s, reason)] = recorder.outages
    assert reason == "stalled"
    assert start_s + QUICK["stall_s"] <= stalled_s <= end_s
    # Nothing of the old connection was delivered: the next frame is the one that ended the outage.
    assert recorder.frames[frames_at_stall][1] == end_s


def test_a_stall_that_does_not_end_becomes_offline_and_stays_one_outage(
    rtsp_server: Callable[..., RtspServer], recorder: Recorder
) -> None:
    server = rtsp_server(fps=30)
    live = LiveCamera(
        camera(server.url), recorder, RunClock(), **QUICK | {"open_timeout_s": 1.0, "read_timeout_s": 0.9}
    )
    live.start()
    recorder.wait_frames(5)
    server.pause()
    recorder.wait_state("online", "stalled", "offline")
    assert not recorder.outages
    assert live.stop()
    check_story(recorder)
    assert [reason for _, _, reason in recorder.outages] == ["stalled"]
    assert recorder.outages[0][0] == recorder.frames[-1][1]


def test_a_picture_is_gone_after_on_frame(rtsp_server: Callable[..., RtspServer], recorder: Recorder) -> None:
    server = rtsp_server(fps=30)
    with LiveCamera(camera(server.url), recorder, RunClock(), **QUICK):
        recorder.wait_frames(1)
    assert recorder.kept is not None
    with pytest.raises(RuntimeError, match="only inside on_frame"):
        recorder.kept.retrieve()


def test_an_mjpeg_camera_that_ends_is_lost_and_comes_back(
    mjpeg_server: Callable[..., MjpegServer], recorder: Recorder
) -> None:
    server = mjpeg_server(size=(160, 120), fps=20)
    with LiveCamera(camera(server.url), recorder, RunClock(), **QUICK) as live:
        live.require_online()
        recorder.wait_frames(10)
        server.kill()
        recorder.wait_state("online", "offline")
        server.start()
        recorder.wait_state("online", "offline", "reconnected")
    check_story(recorder)
    assert [reason for _, _, reason in recorder.outages] == ["lost"]
    assert {shape for _, _, shape in recorder.frames} == {(120, 160, 3)}


def test_a_camera_that_is_down_at_the_start_is_offline_then_online(
    rtsp_server: Callable[..., RtspServer], recorder: Recorder
) -> None:
    server = rtsp_server(fps=30)
    server.kill()
    clock = RunClock()
    before_s = clock.now_s()
    with LiveCamera(camera(server.url), recorder, clock, **QUICK) as live:
        after_s = clock.now_s()
        with pytest.raises(SourceUnavailable, match="refused, or no video there"):
            live.require_online()
        recorder.wait_state("offline")
        server.start()
        recorder.wait_state("offline", "online")
        recorder.wait_frames(1)
        live.require_online()
    [(start_s, end_s, reason)] = recorder.outages
    assert before_s <= start_s <= after_s
    assert (end_s, reason) == (recorder.frames[0][1], "lost")


def test_a_wrong_password_is_offline_and_never_shown(
    rtsp_server: Callable[..., RtspServer],
    recorder: Recorder,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    server = rtsp_server(login=("viewer", "right"), fps=30)
    assert probe(camera(server.url)) == (320, 240)
    server.login = ("viewer", "s3cret-but-wrong")
    caplog.set_level(logging.DEBUG)
    with LiveCamera(camera(server.url), recorder, RunClock(), **QUICK) as live:
        with pytest.raises(SourceUnavailable) as refused:
            live.require_online()
        names = [thread.name for thread in threading.enumerate()]
    with pytest.raises(SourceUnavailable) as probed:
        probe(camera(server.url))
    said = [str(refused.value), str(probed.value), caplog.text, repr(recorder.states), repr(live.source), *names]
    assert "s3cret" not in "".join([*said, *capfd.readouterr()])
    assert f"rtsp://***@127.0.0.1:{server.port}/stream" in caplog.text


def test_a_server_that_never_answers_times_out(silent_server: int, recorder: Recorder) -> None:
    url = f"rtsp://127.0.0.1:{silent_server}/stream"
    with LiveCamera(camera(url), recorder, RunClock(), **QUICK | {"open_timeout_s": 0.5}) as live:
        with pytest.raises(SourceUnavailable, match=r"no video within 0\.5 s"):
            live.require_online()
        recorder.wait_state("offline")
    assert not recorder.frames
    [(start_s, _, reason)] = recorder.outages
    assert 0 <= start_s < 0.5
    assert reason == "lost"


def test_stop_does_not_wait_for_a_blocked_capture(silent_server: int) -> None:
    # In a process of its own: it must also be able to exit while the reader is still inside OpenCV.
    program = f"""if True:
        from edge_runtime.stream.clock import RunClock
        from edge_runtime.video.camera import LiveCamera
        from edge_runtime.video.sources import parse_source
        class Silent:
            def on_frame(self, frame): pass
            def on_outage(self, start_s, end_s, reason): print(reason)
            def on_state(self, state, detail, seconds): print(state)
        live = LiveCamera(parse_source("http://127.0.0.1:{silent_server}/"), Silent(), RunClock(), open_timeout_s=60)
        live.start()
        print(live.stop(timeout_s=0.5), flush=True)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, "False\n")


@pytest.mark.parametrize("answer", [b"", b"\x00garbage\xff" * 4096, None], ids=["nothing", "garbage", "broken jpeg"])
def test_garbage_is_an_outage_and_never_a_frame(answer: bytes | None, recorder: Recorder) -> None:
    if answer is None:
        part = b"\xff\xd8\xff\xe0" + np.random.default_rng(0).bytes(400) + b"\xff\xd9"
        head = b"--x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(part)
        answer = (head + part + b"\r\n") * 50

    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.recv(4096)
                    head = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=x\r\n\r\n"
                    client.sendall(head + answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        with LiveCamera(camera(url), recorder, RunClock(), **QUICK) as live:
            with pytest.raises(SourceUnavailable):
                live.require_online()
            recorder.wait_state("offline")
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert not recorder.frames
    assert len(recorder.outages) == 1


@pytest.mark.parametrize("method", ["on_frame", "on_state", "on_outage"])
def test_what_a_listener_raises_comes_out_of_stop(
    method: str, rtsp_server: Callable[..., RtspServer], monkeypatch: pytest.MonkeyPatch, recorder: Recorder
) -> None:
    server = rtsp_server(fps=30)
    if method == "on_outage":
        server.kill()

    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("the listener's own mistake")

    monkeypatch.setattr(recorder, method, broken)
    live = LiveCamera(camera(server.url), recorder, RunClock(), **QUICK)
    live.start()
    if method == "on_outage":
        recorder.wait_state("offline")
    else:
        with pytest.raises(ZeroDivisionError):
            live.require_online()
    with pytest.raises(ZeroDivisionError):
        live.stop()
    with pytest.raises(ZeroDivisionError):
        live.raise_if_failed()
    assert not [thread for thread in threading.enumerate() if thread.name == "camera-gate"]


class FakeCapture:
    """Frames from a script: True is a picture, False a frame without one; the script's end is a lost connection."""

    def __init__(self, script: list[bool]) -> None:
        self.script = iter(script)

    def isOpened(self) -> bool:  # noqa: N802  OpenCV's name
        return True

    def grab(self) -> bool:
        following = next(self.script, None)
        self.good = bool(following)
        return following is not None

    def retrieve(self) -> tuple[bool, Any]:
        return self.good, np.zeros((2, 2, 3), np.uint8) if self.good else None

    def get(self, prop: int) -> float:
        return 0.0  # what OpenCV says of a property that a backend does not have

    def release(self) -> None:
        pass


def scripted(monkeypatch: pytest.MonkeyPatch, *scripts: list[bool]) -> None:
    """Connections that follow a script each; then the camera is lost for good."""
    captures = iter([FakeCapture(script) for script in scripts])
    monkeypatch.setattr("edge_runtime.video.camera._open", lambda *options: next(captures, None) or FakeCapture([]))


def test_frames_without_a_picture_are_left_out_and_many_are_an_outage(
    monkeypatch: pytest.MonkeyPatch, recorder: Recorder
) -> None:
    # OpenCV hardly ever grabs a frame that it then cannot convert, so that no server can be made to cause it.
    scripted(monkeypatch, [True] * 3 + [False] * 9 + [True] * 2 + [False] * 10 + [True] * 100, [True] * 4)
    with LiveCamera(camera("rtsp://host/"), recorder, RunClock(), **QUICK):
        recorder.wait_state("online", "offline", "reconnected", "offline")
    check_story(recorder)
    assert len(recorder.frames) == 3 + 2 + 4
    assert [reason for _, _, reason in recorder.outages] == ["undecodable", "lost"]
    assert recorder.outages[0][0] == recorder.frames[4][1]
    assert recorder.outages[0][1] == recorder.frames[5][1]


def test_the_waits_between_attempts_grow_and_start_over_after_good_frames(
    monkeypatch: pytest.MonkeyPatch, recorder: Recorder
) -> None:
    clock = [0.0]
    waits: list[float] = []
    dead: list[bool] = []

    def tick() -> float:
        clock[0] += 0.125  # a frame takes two looks at the clock
        return clock[0]

    scripted(monkeypatch, dead, dead, dead, dead, [True] * 4, [True] * 100, dead)
    live = LiveCamera(camera("rtsp://host/"), recorder, RunClock(tick), **QUICK | {"backoff_s": (1, 2, 5)})

    class Stopping(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if threading.current_thread().name.startswith("watch"):
                return super().wait()
            assert timeout is not None
            waits.append(timeout)
            if len(waits) == 8:
                self.set()
            return self.is_set()

    monkeypatch.setattr(live, "_stopping", Stopping())
    live.start()
    recorder.wait(lambda: len(waits) == 8)
    live.stop()
    # Four frames are a shorter stretch than the 5 s before them; a hundred are longer.
    assert waits == [1, 2, 5, 5, 5, 1, 2, 5]


def test_a_camera_that_is_added_an_hour_later_has_the_time_axis_of_the_run(
    monkeypatch: pytest.MonkeyPatch, recorder: Recorder
) -> None:
    now_s = [100.0]
    clock = RunClock(lambda: now_s[0])
    now_s[0] += 3600
    scripted(monkeypatch, [], [True] * 4)
    with LiveCamera(camera("rtsp://host/"), recorder, clock, **QUICK):
        recorder.wait_state("offline", "online", "offline")
        now_s[0] += 7
    assert [seconds for _, seconds, _ in recorder.frames] == [3600.0] * 4
    assert [seconds for _, _, seconds in recorder.states] == [3600.0] * 3
    # Down since it was added, not since the run began.
    assert recorder.outages == [(3600.0, 3600.0, "undecodable"), (3600.0, 3607.0, "lost")]


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(SourceUnavailable, match="no such device"):
        probe(parse_source("63"))


def test_nothing_listens() -> None:
    with pytest.raises(SourceUnavailable, match="refused"):
        probe(camera(f"rtsp://127.0.0.1:{free_port()}/"), 2.0)


@pytest.mark.parametrize(
    "options",
    [
        {"stall_s": 0},
        {"open_timeout_s": float("nan")},
        {"read_timeout_s": -1},
        {"backoff_s": ()},
        {"backoff_s": (-1,)},
    ],
)
def test_limits_that_make_no_sense(options: dict[str, Any], recorder: Recorder) -> None:
    with pytest.raises(UsageError, match="gate"):
        LiveCamera(camera("rtsp://host/"), recorder, RunClock(), **options)


def test_a_file_is_no_live_camera(recorder: Recorder) -> None:
    with pytest.raises(UsageError, match="is a file"):
        LiveCamera(parse_source(__file__), recorder, RunClock())


def test_a_camera_starts_once_and_stops_as_often_as_asked(recorder: Recorder) -> None:
    live = LiveCamera(camera(f"rtsp://127.0.0.1:{free_port()}/"), recorder, RunClock(), **QUICK)
    assert live.stop()
    begun = time.monotonic()
    live = LiveCamera(camera(f"rtsp://127.0.0.1:{free_port()}/"), recorder, RunClock(), **QUICK)
    live.start()
    with pytest.raises(RuntimeError, match="started before"):
        live.start()
    recorder.wait_state("offline")
    assert live.stop()
    assert live.stop()
    assert [reason for _, _, reason in recorder.outages] == ["lost"]
    assert recorder.outages[0][1] <= time.monotonic() - begun


@pytest.mark.parametrize("order", ["start first", "stop first"])
def test_a_start_and_a_stop_at_the_same_moment_leave_no_thread_and_raise_nothing(order: str) -> None:
    """Whichever comes first: a thread that was made but has not begun cannot be joined."""
    source = parse_source(f"gate=rtsp://127.0.0.1:{free_port()}/gone")
    for _ in range(40):
        camera = LiveCamera(source, Recorder(), RunClock(), **QUICK)
        together = threading.Barrier(2)
        raised: list[BaseException] = []

        def meet(work: Callable[[], object], together: threading.Barrier, raised: list[BaseException]) -> None:
            together.wait()
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - whatever it is, the test says it
                raised.append(error)

        works = (camera.start, lambda camera=camera: camera.stop(PATIENCE_S))
        if order == "stop first":
            works = works[::-1]
        threads = [threading.Thread(target=meet, args=(work, together, raised)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert raised == []
        # A stop that came before the start found nothing to end; what began after it ends by itself.
        assert camera.stop(PATIENCE_S)
        assert not [one for one in threading.enumerate() if one.name.endswith("-gate")]


def test_it_is_known_which_frames_are_keyframes(rtsp_server: Callable[..., RtspServer]) -> None:
    """A frozen picture is told apart from a still place by them."""
    server = rtsp_server(size=(320, 240), fps=10)
    keys: list[bool | None] = []
    enough = threading.Event()

    class Keys:
        def on_frame(self, frame: DecodedFrame) -> None:
            keys.append(frame.key)
            if len(keys) == 20:
                enough.set()

        def on_outage(self, *_: object) -> None: ...

        def on_state(self, *_: object) -> None: ...

    camera = LiveCamera(parse_source(f"gate={server.url}"), Keys(), RunClock())
    camera.start()
    try:
        assert enough.wait(20)
    finally:
        camera.stop()
    # The server sends one every half second.
    assert keys[:20].count(True) == 4
    assert keys[:20].count(False) == 16
