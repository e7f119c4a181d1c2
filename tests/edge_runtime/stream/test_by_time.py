"""Cutting by timestamps, against what its definition says, frame by frame."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segmenting import SPEC, TICK_S, at, feed, numbers, picture, steps, told

from edge_runtime.errors import InvalidFrame
from edge_runtime.stream.by_time import TimeSegmenter
from edge_runtime.stream.segments import ROUNDING_S, Gap, Segment, SegmentSpec


def runs_of(ticks: list[int], duration: int) -> list[list[list[int]]]:
    """Oracle in whole milliseconds: frames grouped by uninterrupted run, and within it by segment."""
    runs: list[list[list[int]]] = []
    anchor = cell = 0
    for number, tick in enumerate(ticks):
        if number == 0 or tick - ticks[number - 1] > duration:
            runs.append([[]])
            anchor, cell = tick, 0
        if (tick - anchor) // duration != cell:
            cell = (tick - anchor) // duration
            runs[-1].append([])
        runs[-1][-1].append(number)
    return runs


@settings(max_examples=300)
@given(steps_ms=steps, start_ms=st.sampled_from([0, -7_777, 1_000_000_000_123]))
def test_irregular_times_against_the_definition(steps_ms, start_ms):
    ticks = list(itertools.accumulate(steps_ms, initial=start_ms))
    times = [tick * TICK_S for tick in ticks]
    segmenter = TimeSegmenter(SPEC)
    items = feed(segmenter, times) + segmenter.flush()
    segments = [item for item in items if isinstance(item, Segment)]
    runs = runs_of(ticks, 1600)
    assert [list(range(segment.start_frame, segment.end_frame)) for segment in segments] == [
        members for run in runs for members in run
    ]
    # Every place in the count is taken by one segment or one gap, in order.
    places = [range(item.index, item.index + (item.segments if isinstance(item, Gap) else 1)) for item in items]
    assert list(itertools.chain(*places)) == list(range(sum(map(len, places))))
    assert [isinstance(item, Gap) for item in items] == [
        gap for i, run in enumerate(runs) for gap in [True] * (i > 0) + [False] * len(run)
    ]
    for item, following in itertools.pairwise(items):
        assert item.end_s == pytest.approx(following.start_s, abs=1e-6)
    for gap in (item for item in items if isinstance(item, Gap)):
        assert gap.segments == max(1, round((gap.end_s - gap.start_s) / SPEC.duration_s))
    for segment in segments:
        own = np.array(times[segment.start_frame : segment.end_frame])
        centres = segment.start_s + (np.arange(16) + 0.5) / 16 * (segment.end_s - segment.start_s)
        for number, centre in zip(numbers(segment), centres, strict=True):
            distance = np.abs(own - centre)
            assert distance[number - segment.start_frame] <= distance.min() + ROUNDING_S
            assert (distance[: number - segment.start_frame] > distance.min() + ROUNDING_S / 2).all()


@given(steps_ms=steps)
def test_segments_of_a_run_keep_their_grid(steps_ms):
    ticks = list(itertools.accumulate(steps_ms, initial=0))
    segmenter = TimeSegmenter(SPEC)
    segments = [item for item in feed(segmenter, at(steps_ms)) + segmenter.flush() if isinstance(item, Segment)]
    starts = iter(segments)
    for run in runs_of(ticks, 1600):
        anchor_s = ticks[run[0][0]] * TICK_S
        for place, members in enumerate(run):
            segment = next(starts)
            assert segment.start_s == pytest.approx(anchor_s + place * 1.6, abs=1e-6)
            last_s = ticks[members[-1]] * TICK_S
            assert last_s <= segment.end_s + ROUNDING_S
            assert segment.end_s <= segment.start_s + 1.6 + ROUNDING_S
            if place < len(run) - 1:
                assert segment.end_s == pytest.approx(segment.start_s + 1.6)


@given(
    rate=st.floats(2, 120),
    phase=st.integers(0, 500),
    spec=st.builds(
        SegmentSpec, frames=st.just(48), sampled=st.integers(1, 24), fps=st.sampled_from([10.0, 15.0, 30.0, 60.0])
    ),
)
def test_sparing_picks_the_same_frames_of_a_regular_camera(rate, phase, spec):
    times = [phase * TICK_S + i / rate for i in range(math.ceil(3.2 * spec.duration_s * rate) + 2)]
    everything, sparing = feed(TimeSegmenter(spec), times), feed(TimeSegmenter(spec, sparing=True), times)
    assert told(sparing) == told(everything)


def test_sparing_prepares_little_more_than_the_sampled_frames():
    prepared = []
    segmenter = TimeSegmenter(SPEC, sparing=True)
    for i in range(480):
        segmenter.push(lambda i=i: prepared.append(i) or picture(i), i / 30)
    assert len(prepared) <= 170


@given(steps_ms=steps)
def test_sparing_of_an_irregular_camera_takes_prepared_frames_in_order(steps_ms):
    prepared = set()
    segmenter = TimeSegmenter(SPEC, sparing=True)
    items = []
    for i, seconds in enumerate(at(steps_ms)):
        items += segmenter.push(lambda i=i: prepared.add(i) or picture(i), seconds)
    for segment in (item for item in items + segmenter.flush() if isinstance(item, Segment)):
        assert set(numbers(segment)) <= prepared & set(range(segment.start_frame, segment.end_frame))
        assert numbers(segment) == sorted(numbers(segment))


@given(steps_ms=steps, silences=st.lists(st.floats(0, 1), max_size=200), sparing=st.booleans())
def test_idle_tells_earlier_and_nothing_else(steps_ms, silences, sparing):
    times = at(steps_ms)
    plain, asked = TimeSegmenter(SPEC, sparing), TimeSegmenter(SPEC, sparing)
    items = []
    for i, (seconds, following) in enumerate(itertools.pairwise([*times, times[-1] + 10])):
        items += asked.push(lambda i=i: picture(i), seconds)
        for share in silences[i : i + 1]:
            items += asked.idle(seconds + share * (following - seconds))
    assert told(items + asked.flush()) == told(feed(plain, times) + plain.flush())


@pytest.mark.parametrize("sparing", [False, True])
def test_idle_ends_the_segment_of_a_camera_that_went_silent(sparing):
    segmenter = TimeSegmenter(SPEC, sparing)
    feed(segmenter, [0.0, 0.1, 0.2])
    assert segmenter.idle(1.79) == []
    assert segmenter.is_open
    (segment,) = segmenter.idle(1.9)
    assert (segment.index, segment.end_frame, segment.start_s) == (0, 3, 0.0)
    assert not segmenter.is_open
    assert segmenter.idle(60) == []
    with pytest.raises(InvalidFrame, match="go back"):
        segmenter.push(lambda: picture(0), 1.0)


def test_a_gap_begins_where_the_segment_before_it_ends():
    """Even where the last frame, by the camera's rhythm, would have stood for longer than its segment."""
    items = feed(TimeSegmenter(SPEC), [0.0, 0.5, 1.0, 1.5, 9.0])
    assert [(item.start_s, item.end_s) for item in items[:1]] == [(0.0, pytest.approx(1.6))]
    assert items[1] == Gap(1, 5, items[0].end_s, 9.0, "lost")


@given(broken=st.sets(st.integers(0, 199)), sparing=st.booleans())
def test_a_frame_without_a_picture_does_not_count(broken, sparing):
    def no_picture():
        raise InvalidFrame("no picture")

    segmenter, items, given_frames = TimeSegmenter(SPEC, sparing), [], 0
    for i in range(200):
        try:
            items += segmenter.push(no_picture if i in broken else lambda i=i: picture(i), i / 30)
            given_frames += 1
        except InvalidFrame:
            assert i in broken
    items += segmenter.flush()
    segments = [item for item in items if isinstance(item, Segment)]
    assert sum(segment.end_frame - segment.start_frame for segment in segments) == given_frames
    assert [item.index for item in items] == sorted({item.index for item in items})
    assert all(number not in broken for segment in segments for number in numbers(segment))
    assert all(item.start_s < item.end_s for item in items)


def test_a_clock_that_stands_still_does_not_fill_the_memory():
    prepared = []
    segmenter = TimeSegmenter(SPEC)
    for i in range(5000):
        assert segmenter.push(lambda i=i: prepared.append(i) or picture(i), 7.0) == []
    assert prepared == [0]
    (segment,) = segmenter.flush()
    assert (segment.start_frame, segment.end_frame) == (0, 5000)


@pytest.mark.parametrize("anchor_s", [0.0, 1.7e9])
def test_bounds_do_not_drift(anchor_s):
    spec = SegmentSpec(frames=1, sampled=1, fps=10.0)
    segmenter = TimeSegmenter(spec)
    segments = feed(segmenter, (anchor_s + i / 10 for i in range(20_000)))
    assert len(segments) == 19_999
    assert all(segment.start_s == anchor_s + segment.index * 0.1 for segment in segments)


def test_bounds_after_a_million_segments():
    segmenter = TimeSegmenter(SegmentSpec(frames=1, sampled=1, fps=10.0))
    segmenter.push(lambda: picture(0), 0.0)
    # What a million pushes would leave, in microseconds instead of a minute.
    segmenter._cell = segmenter._index = 1_000_000
    segmenter._last_s = 100_000.0
    segmenter._kept = [(100_000.0, picture(0))]
    (segment,) = feed(segmenter, [100_000.1])
    assert (segment.index, segment.start_s, segment.end_s) == (1_000_000, 100_000.0, pytest.approx(100_000.1))


@given(steps_ms=steps, places=st.integers(1, 5), end_s=st.floats(-5, 50))
def test_an_interruption_never_ends_before_its_last_frame(steps_ms, places, end_s):
    segmenter = TimeSegmenter(SPEC)
    times = at(steps_ms)
    items = feed(segmenter, times)
    index = segmenter.next_index
    (segment,) = segmenter.interrupt(places, end_s)
    assert times[-1] <= segment.end_s + ROUNDING_S
    assert segment.end_s <= segment.start_s + 1.6 + ROUNDING_S
    assert segmenter.next_index == index + 1 + places
    following = feed(segmenter, [times[-1] + 100], len(times)) + segmenter.flush()
    assert [item.index for item in following] == [index + 1 + places]
    assert items == [] or items[-1].end_s <= segment.start_s + ROUNDING_S
