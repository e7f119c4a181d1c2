"""Frames that this computer decodes too late are left out up to the newest ones; those of a slow network are not."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorder import Recorder
from rtsp import RtspServer

from edge_runtime.stream.clock import RunClock
from edge_runtime.video.camera import LiveCamera
from edge_runtime.video.lag import Lag
from edge_runtime.video.network import NetworkConnection
from edge_runtime.video.sources import Source, parse_source

FPS = 10


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


class SlowDecoder:
    """A decoder on a computer that is too slow."""

    def __init__(self, decoder: Any, takes_s: float) -> None:
        self._decoder, self.takes_s = decoder, takes_s
        self.decoded = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    def decode(self, packet: Any) -> Any:
        time.sleep(self.takes_s)
        self.decoded += 1
        return self._decoder.decode(packet)


class SlowConnection(NetworkConnection):
    """Reads a real camera with such a decoder, and notes how late each frame is."""

    def __init__(self, source: Source, open_timeout_s: float, read_timeout_s: float) -> None:
        super().__init__(source, open_timeout_s, read_timeout_s)
        self._decoder: Any = SlowDecoder(self._decoder, 3 / FPS)
        self.decoder: SlowDecoder = self._decoder
        self.offsets: list[float] = []
        # Frame at which it caught up, and by how much.
        self.caught_up: list[tuple[int, float]] = []

    def grab(self) -> Any:
        grabbed = super().grab()
        if grabbed == "whole" and (stamp_s := self.stamp_s()) is not None:
            self.offsets.append(time.monotonic() - stamp_s)
        return grabbed

    def catch_up(self, behind_s: float) -> bool:
        if not super().catch_up(behind_s):
            return False
        self.caught_up.append((len(self.offsets), behind_s))
        return True


def test_a_computer_that_decodes_too_slowly_leaves_frames_out_and_says_so(
    rtsp_server: Callable[..., RtspServer], recorder: Recorder
) -> None:
    connections: list[SlowConnection] = []

    def connect(*options: Any) -> SlowConnection:
        connections.append(SlowConnection(*options))
        return connections[-1]

    source = parse_source(f"gate={rtsp_server(fps=FPS).url}")
    with LiveCamera(source, recorder, RunClock(), connect=connect):
        recorder.wait(lambda: len(recorder.outages) >= 1)
        recorder.wait_frames(3)
    (connection,) = connections
    place, behind_s = connection.caught_up[0]
    # What came next was newer by most of what had waited.
    assert connection.offsets[place] < connection.offsets[place - 1] - behind_s / 2
    assert {reason for *_, reason in recorder.outages} == {"dropped"}
    start_s, end_s, _ = recorder.outages[0]
    seconds = [seconds for _, seconds, _ in recorder.frames]
    assert start_s in seconds
    assert seconds[seconds.index(start_s) + 1] == end_s
    # It is neither the camera's fault nor the network's.
    assert [state for state, *_ in recorder.states] == ["online"]
    assert recorder.qualities == []


def test_packets_that_came_no_faster_are_decoded_all_the_same(rtsp_server: Callable[..., RtspServer]) -> None:
    connection = SlowConnection(parse_source(rtsp_server(fps=FPS).url), 10.0, 10.0)
    connection.decoder.takes_s = 0.0
    # The first frames of a connection have no stamps, and come at once.
    while len(connection.offsets) < 10:
        connection.grab()
    read, grabbed = connection.decoder.decoded, len(connection.offsets)
    assert not connection.catch_up(60.0)
    waiting = len(connection._read)
    assert waiting > 0
    for _ in range(waiting):
        assert connection.grab() == "whole"
    # Each of them, and none behind them.
    assert connection.decoder.decoded - read == waiting
    assert len(connection.offsets) - grabbed == waiting
    connection.close()


def offsets(lag: Lag, late: Callable[[float], float], until_s: float, fps: float = 25.0) -> list[float]:
    """Seconds at which it is said to be behind, of frames that come so late."""
    stamps = [index / fps for index in range(int(until_s * fps))]
    return [stamp for stamp in stamps if lag.came(100.0 + stamp + late(stamp), 7.0 + stamp) > 0]


@given(st.floats(0.0, 1.9), st.floats(0.3, 20.0))
def test_frames_that_are_not_late_are_not_behind_however_they_jitter(most_s: float, period_s: float) -> None:
    assert offsets(Lag(), lambda stamp: most_s * (stamp % period_s) / period_s, 90.0) == []


def test_a_burst_after_a_pause_is_not_behind_and_what_lasts_is() -> None:
    # A pause of four seconds, made up for within one.
    assert offsets(Lag(), lambda stamp: max(0.0, 4.0 - 5 * (stamp - 20)) if stamp >= 20 else 0.0, 40.0) == []
    lasting = offsets(Lag(), lambda stamp: 0.5 * max(0.0, stamp - 20), 40.0)
    # Two seconds behind after four, and that for two seconds.
    assert lasting[0] == pytest.approx(20 + 4 + 2 / 1.5, abs=0.1)


def test_a_clock_that_runs_wrong_by_two_percent_is_not_behind() -> None:
    assert offsets(Lag(), lambda stamp: 0.02 * stamp, 600.0) == []


def test_what_did_not_help_is_tried_ever_less() -> None:
    lag, tried = Lag(), []
    for index in range(1200 * 10):
        # A camera whose stamps run at half the speed.
        if lag.came(index / 10, index / 20) > 0:
            tried.append(index / 10)
            lag.tried(index / 10, False)
    waits = [after - before for before, after in pairwise(tried)]
    assert 3 <= len(tried) <= 6
    assert all(after >= 1.9 * before for before, after in pairwise(waits))


def test_stamps_that_begin_anew_are_not_compared_with_those_before() -> None:
    lag = Lag()
    assert all(lag.came(index / 10, 500 + index / 10) == 0 for index in range(100))
    assert all(lag.came(10 + index / 10, index / 10) == 0 for index in range(100))
    assert all(lag.came(20 + index / 10, None) == 0 for index in range(100))
