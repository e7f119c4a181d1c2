"""Trying settings on remembered scores, against the edge's own events."""

from __future__ import annotations

import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.records import EventRecord
from edge_runtime.site.trial import Tried, tried
from edge_runtime.stream.alarm import Alarm
from edge_runtime.stream.by_count import FrameSegmenter
from edge_runtime.stream.locator import LocatorSpec
from edge_runtime.stream.segments import Gap, SegmentSpec
from edge_runtime.stream.track import LocatedStream, SegmentTimes

STEP_S = 3.2
series = st.lists(st.one_of(st.floats(0, 1), st.none()), max_size=60)
alarms = st.builds(
    Alarm,
    st.floats(0, 1),
    st.one_of(st.just(0.0), st.integers(0, 5).map(lambda count: count * STEP_S)),
    st.one_of(st.just(0.0), st.integers(0, 8).map(lambda count: count * STEP_S)),
)


def told(scores: list[float | None], alarm: Alarm, zero: float) -> list[tuple[float, float, float]]:
    """Start, end and peak of what a stream tells of the same smoothed scores."""
    stream = LocatedStream("gate", LocatorSpec(sigma=0, threshold=0.5, lookahead=0, calibrated=True), "run")
    stream.alarm = alarm
    records = []
    for index, score in enumerate(scores):
        start_s, end_s = zero + STEP_S * index, zero + STEP_S * (index + 1)
        if score is None:
            records += stream.gap(Gap(index, 1, start_s, end_s, "lost"))
        else:
            records += stream.push(SegmentTimes(index, index, index + 1, start_s, end_s), score)
    return [
        (one.start_s, one.end_s, one.peak)
        for one in [*records, *stream.flush()]
        if isinstance(one, EventRecord) and one.state == "end"
    ]


def tried_on(scores: list[float | None], now: Alarm, then: Alarm, zero: float, **limits: int) -> Tried:
    there = [(index, score) for index, score in enumerate(scores) if score is not None]
    indices = np.array([index for index, _ in there], dtype=np.float64)
    smoothed = np.array([score for _, score in there], dtype=np.float64)
    return tried(zero + STEP_S * indices, zero + STEP_S * (indices + 1), smoothed, now, then, **limits)


@given(series, alarms, alarms, st.sampled_from([0.0, 1_795_000_000.5]))
def test_it_counts_and_lists_what_a_stream_tells(
    scores: list[float | None], now: Alarm, then: Alarm, zero: float
) -> None:
    found = tried_on(scores, now, then, zero)
    was, would = told(scores, now, zero), told(scores, then, zero)
    assert (found.now.alarms, found.then.alarms) == (len(was), len(would))

    def apart(ones: list[tuple[float, float, float]], others: list[tuple[float, float, float]]) -> list[object]:
        return [one for one in ones if not any(other[0] < one[1] and one[0] < other[1] for other in others)]

    assert [(one.start, one.end, one.peak) for one in found.gone] == apart(was, would)
    assert [(one.start, one.end, one.peak) for one in found.new] == apart(would, was)
    assert (found.gone_count, found.new_count) == (len(found.gone), len(found.new))


@given(series, alarms)
def test_what_holds_already_changes_nothing(scores: list[float | None], alarm: Alarm) -> None:
    found = tried_on(scores, alarm, alarm, 0.0)
    assert (found.now, found.gone, found.new) == (found.then, (), ())


def test_a_day_is_one_of_watching() -> None:
    # Half an hour of every hour, two days: 48 half hours, with one alarm in each.
    half_hour = round(1800 / STEP_S)
    indices = np.concatenate([hour * 2 * half_hour + np.arange(half_hour) for hour in range(48)]).astype(np.float64)
    smoothed = np.where(indices % (2 * half_hour) == 100, 0.9, 0.1)
    found = tried(STEP_S * indices, STEP_S * (indices + 1), smoothed, Alarm(0.5), Alarm(0.95))
    assert np.isclose(found.days, 1.0, atol=0.001)
    assert found.now.alarms == 48
    assert np.isclose(found.now.per_day, 48, atol=0.1)
    assert (found.then.alarms, found.then.per_day, found.gone_count) == (0, 0.0, 48)


def test_segments_that_overlap_are_watched_once() -> None:
    cut = SegmentSpec(frames=16, sampled=2, fps=5.0, stride=4)
    segmenter = FrameSegmenter(cut)
    found = [
        one for frame in range(1000) for one in segmenter.push(lambda: np.zeros((1, 1, 3), np.uint8), frame / cut.fps)
    ]
    starts, ends = np.array([one.start_s for one in found]), np.array([one.end_s for one in found])
    assert len(found) == 1000 // 4 - 3
    days = tried(starts, ends, np.zeros(len(found)), Alarm(0.5), Alarm(0.6)).days
    assert np.isclose(days * 86_400, ends[-1] - starts[0])


def test_nothing_is_remembered_yet() -> None:
    nothing = np.empty(0)
    found = tried(nothing, nothing, nothing, Alarm(0.5), Alarm(0.6, 10.0, 60.0))
    assert (found.days, found.now.alarms, found.now.per_day, found.gone, found.new) == (0.0, 0, 0.0, (), ())


def test_lists_hold_the_newest_and_counts_are_whole() -> None:
    found = tried_on([0.9, 0.1] * 300, Alarm(0.5), Alarm(1.0), 0.0, most=10)
    assert (found.now.alarms, found.gone_count, len(found.gone)) == (300, 300, 10)
    assert found.gone[-1].end == STEP_S * 599


def test_a_week_of_a_camera_that_alarms_without_end_takes_less_than_a_second() -> None:
    count = 378_000
    indices = np.arange(count, dtype=np.float64)
    smoothed = np.where(indices % 2, 0.9, 0.1)
    start = time.process_time()
    tried(STEP_S * indices, STEP_S * (indices + 1), smoothed, Alarm(0.5), Alarm(0.5, 0.0, 60.0))
    # Of this process alone, and ten times what it takes: machines that run the tests are shared.
    assert time.process_time() - start < 5.0
