"""Frames that dribble in are told within bounds; honest cameras never, whatever they do to their rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.video.pace import StreamPace

STALL_S = 3.0
Arrival = tuple[float, float | None]  # when, and its stamp


def told_s(arrivals: Iterable[Arrival], busy: float = 0.0) -> float | None:
    """When a watchdog tells of frames that arrive so, looking as the camera's does; None where it does not.

    Args:
        arrivals: In order.
        busy: The share of the time between two frames that the reader does something else.
    """
    pace = StreamPace(STALL_S)
    free_s = look_s = math.inf
    for at_s, stamp_s in arrivals:
        look_s, free_s = min(look_s, at_s), min(free_s, at_s)
        while look_s < at_s:
            waiting_s = max(0.0, look_s - free_s)
            if waiting_s >= STALL_S or pace.too_slow(look_s, waiting_s):
                return look_s
            # Not less than a clock passes between two looks: a wait that is too small to be added would never end.
            look_s += max(1e-3, min(STALL_S - waiting_s, max(pace.rest_s(waiting_s), 0.05)))
        pace.came(at_s, max(0.0, at_s - free_s), stamp_s)
        free_s = at_s + busy * 0.04
    return None


def regular(fps: float, begin_s: float, end_s: float) -> list[float]:
    return list(np.arange(begin_s, end_s, 1 / fps))


def dribble(stamps: Sequence[float], since_s: float, gaps: Iterable[float]) -> list[Arrival]:
    """Frames that come when they are made, until some moment; from then on each comes a gap after the one before."""
    arrivals: list[Arrival] = [(stamp, stamp) for stamp in stamps if stamp < since_s]
    at_s = since_s
    for stamp, gap in zip((one for one in stamps if one >= since_s), gaps, strict=False):
        at_s = max(at_s + gap, stamp)
        arrivals.append((at_s, stamp))
    return arrivals


RATES = st.sampled_from([0.5, 1.0, 2.0, 5.0, 10.0, 12.5, 25.0, 30.0, 60.0])


@settings(max_examples=60)
@given(
    rates=st.lists(st.tuples(RATES, st.floats(5, 60)), min_size=1, max_size=6),
    jitter_s=st.floats(0, 0.4),
    clock=st.floats(0.99, 1.01),
    burst_s=st.floats(0, 10),
    busy=st.floats(0, 0.9),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_camera_that_changes_its_rate_is_never_told(
    rates: list[tuple[float, float]], jitter_s: float, clock: float, burst_s: float, busy: float, seed: int
) -> None:
    """Night modes, variable rates, one frame in two seconds; a clock of its own, and old frames at the beginning."""
    made: list[float] = []
    begin_s = 0.0
    for fps, lasts_s in rates:
        made += regular(fps, begin_s, begin_s + lasts_s)
        begin_s += lasts_s
    late = np.random.default_rng(seed).uniform(0, jitter_s, len(made))
    came = np.maximum.accumulate(np.maximum(np.asarray(made) + late, burst_s))
    assert told_s(zip(came, [clock * one + 1e5 for one in made], strict=True), busy) is None


@settings(max_examples=60)
@given(
    fps=st.sampled_from([10.0, 15.0, 25.0, 30.0]),
    pauses=st.lists(st.tuples(st.floats(4, 40), st.floats(0.5, 2.8)), min_size=1, max_size=10),
)
def test_a_network_that_pauses_and_catches_up_is_never_told(fps: float, pauses: list[tuple[float, float]]) -> None:
    made = regular(fps, 0, sum(good + pause for good, pause in pauses) + 10)
    came = np.asarray(made)
    at_s = 0.0
    for good_s, pause_s in pauses:
        at_s += good_s
        came[(came >= at_s) & (came < at_s + pause_s)] = at_s + pause_s
        at_s += pause_s
    assert told_s(zip(came, made, strict=True)) is None


@settings(max_examples=100)
@given(
    fps=st.sampled_from([8.0, 10.0, 15.0, 25.0, 30.0]),
    healthy_s=st.floats(6.5, 200),
    gap=st.floats(0.5, 2.9),
    spread=st.floats(0, 0.9),
    offset_s=st.floats(-1e6, 1e6),
    seed=st.integers(0, 2**32 - 1),
)
def test_frames_that_dribble_are_told_within_five_seconds(
    fps: float, healthy_s: float, gap: float, spread: float, offset_s: float, seed: int
) -> None:
    gaps = gap * np.random.default_rng(seed).uniform(1 - spread, 1, 200)
    arrivals = dribble(regular(fps, 0, healthy_s + 60), healthy_s, np.maximum(gaps, 5 / fps))
    told = told_s([(at_s, None if stamp is None else stamp + offset_s) for at_s, stamp in arrivals])
    assert told is not None
    assert healthy_s + 2.5 < told < healthy_s + 5.2


@settings(max_examples=60)
@given(share=st.floats(0.05, 0.5), fps=st.sampled_from([5.0, 10.0, 25.0]), healthy_s=st.floats(7, 100))
def test_a_stream_that_comes_at_half_its_speed_or_less_is_told_within_eight_seconds(
    share: float, fps: float, healthy_s: float
) -> None:
    arrivals = dribble(regular(fps, 0, healthy_s + 60), healthy_s, [1 / fps / share] * 2000)
    told = told_s(arrivals)
    assert told is not None
    assert told < healthy_s + 8.5


def test_what_is_told_says_how_slow_it_is() -> None:
    pace = StreamPace(STALL_S)
    for index in range(81):
        pace.came(index / 8, 0.125, 7 + index / 8)
    assert pace.too_slow(10.0, 0.0) is None
    pace.came(12.0, 2.0, 17.125)
    pace.came(14.0, 2.0, 17.25)
    assert pace.rest_s(0.125) == 0.125
    assert pace.too_slow(14.25, 0.25) == "frames of 0.2 s came in 4.2 s; the network is too slow for this stream"


def test_a_computer_that_is_busy_is_no_slow_network() -> None:
    """Frames are read at a third of their rate, and none has to be waited for."""
    pace = StreamPace(STALL_S)
    for index in range(100):
        pace.came(index / 10, 0.05, index / 10)
    for index in range(100, 200):
        seconds = 10 + (index - 100) * 0.3
        pace.came(seconds, 0.01, index / 10)
        assert pace.too_slow(seconds, 0.0) is None


@pytest.mark.parametrize("jump_s", [-3600.0, -5.0, 5.0, 3600.0])
def test_stamps_that_jump_are_not_told_and_learnt_anew(jump_s: float) -> None:
    made = regular(10, 0, 100)
    stamps = [one + (jump_s if one > 20 else 0) for one in made]
    assert told_s(zip(made, stamps, strict=True)) is None
    slow = dribble(regular(10, 0, 100), 50, [2.0] * 50)
    told = told_s([(at_s, None if stamp is None else stamp + (jump_s if stamp > 20 else 0)) for at_s, stamp in slow])
    assert told is not None
    assert 53 < told < 55.5


@pytest.mark.parametrize("fps", [5.0, 12.5, 60.0])
def test_stamps_that_count_frames_are_not_believed(fps: float) -> None:
    """As of 25 frames a second, whatever they are."""
    made = regular(fps, 0, 100)
    assert told_s((at_s, index / 25) for index, at_s in enumerate(made)) is None


@pytest.mark.parametrize("before", [2.0, 10.0, 25.0, 30.0, 60.0])
@pytest.mark.parametrize("after", [1.0, 2.0, 5.0])
def test_without_stamps_a_rate_that_falls_to_a_frame_a_second_is_not_told(before: float, after: float) -> None:
    made = regular(before, 0, 60) + regular(after, 60, 180) + regular(before, 180, 240)
    assert told_s((at_s, None) for at_s in made) is None


@pytest.mark.parametrize("fps", [0.5, 1.0])
def test_without_stamps_a_camera_that_is_slow_by_nature_is_not_told(fps: float) -> None:
    assert told_s((at_s, None) for at_s in regular(fps, 0, 300)) is None


@pytest.mark.parametrize(("fps", "gap"), [(25.0, 1.6), (30.0, 2.0), (20.0, 2.5)])
def test_without_stamps_frames_that_dribble_are_told_by_their_rate(fps: float, gap: float) -> None:
    arrivals = dribble(regular(fps, 0, 90), 40, [gap] * 30)
    told = told_s((at_s, None) for at_s, _ in arrivals)
    assert told is not None
    assert told < 40 + 2 * STALL_S + STALL_S


def test_damage_is_not_compared() -> None:
    pace = StreamPace(STALL_S)
    for index in range(100):
        pace.came(index / 10, 0.1, index / 10)
    pace.interrupt()
    # Ten seconds until the next key frame.
    pace.came(20.0, 0.1, 10.0)
    assert pace.too_slow(20.0, 0.0) is None
    assert pace.rest_s(2.0) == pytest.approx(STALL_S * 4 / 3)
