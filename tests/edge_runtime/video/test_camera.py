"""Real cameras on the loopback: an RTSP server that is killed, paused and replaced, an MJPEG server, and bad ones."""

from __future__ import annotations

import contextlib
import itertools
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
from recorder import PATIENCE_S, Recorder
from rtsp import MjpegServer, RtspServer, free_port

from edge_runtime.errors import CameraUnavailable, UsageError
from edge_runtime.stream.clock import RunClock
from edge_runtime.video.camera import LiveCamera, probe
from edge_runtime.video.connection import Connection, Fault, Grabbed
from edge_runtime.video.sources import Source, parse_source

QUICK: dict[str, Any] = {"open_timeout_s": 5.0, "read_timeout_s": 1.5, "stall_s": 0.6, "backoff_s": (0.1, 0.2)}
# For servers that are killed: on a busy machine their end may be seen later than a stall would be.
PATIENT: dict[str, Any] = QUICK | {"read_timeout_s": 10.0, "stall_s": 10.0}


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
    with LiveCamera(camera(server.url), recorder, RunClock(), **PATIENT) as live:
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
    with LiveCamera(camera(server.url), recorder, RunClock(), **PATIENT) as live:
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
        with pytest.raises(CameraUnavailable, match="refuses connections"):
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
    caplog.set_level(logging.DEBUG, logger="edge_runtime")
    with LiveCamera(camera(server.url), recorder, RunClock(), **QUICK) as live:
        with pytest.raises(CameraUnavailable) as refused:
            live.require_online()
        names = [thread.name for thread in threading.enumerate()]
    with pytest.raises(CameraUnavailable) as probed:
        probe(camera(server.url))
    said = [str(refused.value), str(probed.value), caplog.text, repr(recorder.states), repr(live.source), *names]
    assert "s3cret" not in "".join([*said, *capfd.readouterr()])
    assert f"rtsp://***@127.0.0.1:{server.port}/stream" in caplog.text


def test_a_server_that_never_answers_times_out(silent_server: int, recorder: Recorder) -> None:
    url = f"rtsp://127.0.0.1:{silent_server}/stream"
    with LiveCamera(camera(url), recorder, RunClock(), **QUICK | {"open_timeout_s": 0.5}) as live:
        with pytest.raises(CameraUnavailable, match=r"no video within 0\.5 s"):
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
            def on_state(self, state, detail, seconds, reason=None): print(state)
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
                with client, contextlib.suppress(OSError):  # whoever has seen enough hangs up
                    client.recv(4096)
                    head = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=x\r\n\r\n"
                    client.sendall(head + answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        with LiveCamera(camera(url), recorder, RunClock(), **QUICK) as live:
            with pytest.raises(CameraUnavailable):
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


class Script:
    """A connection from a script: True is a picture, False a frame without one, a word what was grabbed instead."""

    def __init__(self, script: list[bool | Grabbed]) -> None:
        self.script = iter(script)

    def grab(self) -> Grabbed:
        following = next(self.script, None)
        if following is None:
            raise Fault("ended", "the script is over")
        self.good = following is True
        return following if isinstance(following, str) else "whole"

    def picture(self) -> Any:
        return np.zeros((2, 2, 3), np.uint8) if self.good else None

    def is_key(self) -> bool | None:
        return None

    def stamp_s(self) -> float | None:
        return None

    def catch_up(self, behind_s: float) -> bool:
        raise AssertionError("without stamps nothing is behind")

    def close(self) -> None:
        pass


def scripted(*scripts: list[Any]) -> Callable[[Source, float, float], Connection]:
    """Connections that follow a script each; then the camera is lost for good."""
    following = iter([Script(script) for script in scripts])
    return lambda *options: next(following, None) or Script([])


def test_frames_without_a_picture_are_left_out_and_many_are_an_outage(recorder: Recorder) -> None:
    # A frame is hardly ever decoded that cannot be converted then, so that no server can be made to cause it.
    connect = scripted([True] * 3 + [False] * 9 + [True] * 2 + [False] * 10 + [True] * 100, [True] * 4)
    with LiveCamera(camera("rtsp://host/"), recorder, RunClock(), connect=connect, **QUICK):
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
    begun_s: list[float] = []
    dead: list[bool] = []

    def tick() -> float:
        clock[0] += 0.125  # a frame takes at least two looks at the clock
        return clock[0]

    opened = scripted(dead, dead, dead, dead, [True] * 4, [True] * 100, dead)

    def connect(*options: Any) -> Connection:
        begun_s.append(clock[0])
        return opened(*options)

    options = QUICK | {"backoff_s": (1, 2, 5), "connect": connect}
    live = LiveCamera(camera("rtsp://host/"), recorder, RunClock(tick), **options)

    class Stopping(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if threading.current_thread().name.startswith("watch"):
                return super().wait()
            assert timeout is not None
            waits.append(timeout)
            clock[0] += timeout
            if len(waits) == 9:
                self.set()
            return self.is_set()

    monkeypatch.setattr(live, "_stopping", Stopping())
    live.start()
    recorder.wait(lambda: len(waits) == 9)
    live.stop()
    # Four frames are a shorter stretch than the 5 s before them; a hundred are longer.
    assert waits[0] == 0
    expected_s = [1, 2, 5, 5, 5, 1, 2, 5]
    assert all(wait <= 1.25 * expected for wait, expected in zip(waits[1:], expected_s, strict=True))
    # From begin to begin: what an attempt takes in vain is a part of the wait.
    passed_s = [after - before for before, after in itertools.pairwise(begun_s)]
    assert all(passed >= expected for passed, expected in zip(passed_s, expected_s, strict=False))


def test_a_camera_that_is_added_an_hour_later_has_the_time_axis_of_the_run(recorder: Recorder) -> None:
    now_s = [100.0]
    clock = RunClock(lambda: now_s[0])
    now_s[0] += 3600
    connect = scripted([], [True] * 4)
    with LiveCamera(camera("rtsp://host/"), recorder, clock, connect=connect, **QUICK):
        recorder.wait_state("offline", "online", "offline")
        now_s[0] += 7
    assert [seconds for _, seconds, _ in recorder.frames] == [3600.0] * 4
    assert [seconds for _, _, seconds in recorder.states] == [3600.0] * 3
    # Down since it was added, not since the run began.
    assert recorder.outages == [(3600.0, 3600.0, "undecodable"), (3600.0, 3607.0, "lost")]


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(CameraUnavailable, match="no such device"):
        probe(parse_source("63"))


def test_nothing_listens() -> None:
    with pytest.raises(CameraUnavailable, match="refuses connections"):
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


class Blocked:
    """A source whose every connection blocks in `grab` until it is released, after some frames."""

    def __init__(self, frames: int = 0) -> None:
        self.frames = frames
        self.released = threading.Event()
        self.connections: list[BlockedConnection] = []

    def __call__(self, source: Source, open_timeout_s: float, read_timeout_s: float) -> Connection:
        self.connections.append(BlockedConnection(self))
        return self.connections[-1]


class BlockedConnection:
    def __init__(self, blocked: Blocked) -> None:
        self.blocked, self.left = blocked, blocked.frames
        self.closed_by: str | None = None

    def grab(self) -> Grabbed:
        if self.left == 0:
            self.blocked.released.wait(60)
        self.left -= 1
        return "whole"

    def picture(self) -> Any:
        return np.zeros((2, 2, 3), np.uint8)

    def is_key(self) -> bool | None:
        return None

    def stamp_s(self) -> float | None:
        return None

    def catch_up(self, behind_s: float) -> bool:
        raise AssertionError("without stamps nothing is behind")

    def close(self) -> None:
        self.closed_by = threading.current_thread().name


# A native call that ignores its timeout cannot be made with a server: FFmpeg honours them.
HANGING: dict[str, Any] = QUICK | {"read_timeout_s": 0.2, "hang_s": 0.2, "stall_s": 0.1}


def test_a_reader_that_hangs_for_good_is_replaced_and_never_delivers_again(recorder: Recorder) -> None:
    source = Blocked(frames=3)
    live = LiveCamera(camera("rtsp://host/"), recorder, RunClock(), connect=source, **HANGING)
    live.start()
    recorder.wait_state("online", "stalled", "offline", "reconnected")
    assert recorder.reasons[:3] == [None, "timeout", "hung"]
    assert "is given up" in recorder.states[2][1]
    assert live.hung == 1
    recorder.wait(lambda: len(source.connections) >= 3)
    assert not live.stop(0.3)  # those that are left behind are still blocked
    delivered = len(recorder.frames)
    source.released.set()
    for _ in range(100):
        if all(connection.closed_by for connection in source.connections):
            break
        time.sleep(0.02)
    # Each closes its own connection when its call returns at last, and says nothing.
    assert {connection.closed_by for connection in source.connections} == {"camera-gate"}
    assert len(recorder.frames) == delivered
    assert recorder.frames[-1][0] == delivered - 1
    check_story(recorder)
    assert live.stop()


def test_of_one_camera_five_readers_are_left_behind_and_no_more(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    source = Blocked()
    live = LiveCamera(camera("rtsp://host/"), recorder, RunClock(), connect=source, **HANGING | {"backoff_s": (0,)})
    with live:
        recorder.wait_state("offline")
        for _ in range(200):
            if live.hung == 5:
                break
            time.sleep(0.05)
        time.sleep(1)
        assert live.hung == len(source.connections) == 5
        assert "left behind, 5 so far; the next one starts in 900 s" in caplog.text
        source.released.set()
    assert recorder.reasons == ["hung"]
    assert not recorder.frames


def test_frames_that_come_damaged_are_left_out_counted_and_told(recorder: Recorder) -> None:
    now_s = [0.0]

    class Ticking(Script):
        def grab(self) -> Grabbed:
            now_s[0] += 1.0
            return super().grab()

    bad: list[Any] = ["damaged"]
    script = [*bad, True, *bad * 2, True, *bad * 4, True, *[True] * 12, *bad, True]
    options: dict[str, Any] = QUICK | {"stall_s": 3.0, "connect": lambda *_: Ticking(script)}
    live = LiveCamera(camera("rtsp://host/"), recorder, RunClock(lambda: now_s[0]), **options)
    with live:
        recorder.wait_state("online", "stalled", "reconnected", "offline")
    assert live.damaged >= 7
    # Damage before the first whole frame of a connection is how a stream begins, and is not told.
    assert [qualities for qualities, _ in recorder.qualities][:3] == [["corrupt"], ["ok"], ["corrupt"]]
    assert [seconds for _, seconds in recorder.qualities][:3] == [3.0, 19.0, 23.0]
    # Two seconds without a whole frame are no outage; four are, and the connection survives it.
    assert (recorder.outages[0][2], recorder.outages[0][1] - recorder.outages[0][0]) == ("undecodable", 5.0)
