"""What holds of both ways of cutting a stream."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from segmenting import SPEC, at, feed, numbers, picture, specs, steps, told

from edge_runtime.errors import InvalidFrame, UsageError
from edge_runtime.stream.by_count import FrameSegmenter
from edge_runtime.stream.by_time import TimeSegmenter
from edge_runtime.stream.segmenter import interrupt, segmenter_for
from edge_runtime.stream.segments import Gap, Segment, SegmentSpec

both = pytest.mark.parametrize("clock", ["frames", "time"])


def test_each_clock_has_its_segmenter():
    assert isinstance(segmenter_for(SPEC, "frames"), FrameSegmenter)
    assert isinstance(segmenter_for(SPEC, "time"), TimeSegmenter)
    with pytest.raises(UsageError, match="unknown clock 'sundial'; choose from frames, time"):
        segmenter_for(SPEC, "sundial")


def test_a_length_spares_work_when_counting_and_sparing_when_timing():
    for segmenter in (segmenter_for(SPEC, "frames", length=480), segmenter_for(SPEC, "time", sparing=True)):
        prepared = []
        for i in range(480):
            segmenter.push(lambda i=i, prepared=prepared: prepared.append(i) or picture(i), i / 30)
        assert len(prepared) <= 170


@given(
    ratio=st.integers(1, 6),
    sampled=st.integers(1, 16),
    fps=st.sampled_from([7.5, 15.0, 24000 / 1001, 25.0, 30.0]),
    segments=st.integers(1, 4),
    start_s=st.sampled_from([0.0, 1e9, -12.5]),
)
def test_a_constant_rate_gives_the_frames_of_the_other_clock(ratio, sampled, fps, segments, start_s):
    spec = SegmentSpec(frames=ratio * sampled, sampled=sampled, fps=fps)
    times = [start_s + i / fps for i in range(segments * spec.frames + 1)]
    by_time = feed(TimeSegmenter(spec), times)
    by_count = feed(FrameSegmenter(spec), times[:-1])
    assert [numbers(segment) for segment in by_time] == [numbers(segment) for segment in by_count]
    assert [segment.index for segment in by_time] == list(range(segments))


no_time = [math.nan, math.inf, -math.inf, None, "now", "2.5", b"2.5", [1.0], True, np.True_]
absurd = [1e300, -1e300, 1.1e11, np.float64(1e18), 1_760_000_000_000, pytest.param(10**5000, id="10**5000")]


@both
@pytest.mark.parametrize("wrong", no_time + absurd)
def test_what_is_no_time_changes_nothing(clock, wrong):
    times = [i / 30 for i in range(100)]
    plain, harassed = segmenter_for(SPEC, clock), segmenter_for(SPEC, clock)
    items = []
    for first, until in ((0, 0), (0, 40), (40, 100)):
        items += feed(harassed, times[first:until], first)
        for _ in range(2):
            with pytest.raises(InvalidFrame, match="time must"):
                harassed.push(lambda: picture(99_999), wrong)
    assert told(items + harassed.flush()) == told(feed(plain, times) + plain.flush())


@both
@pytest.mark.parametrize("earlier", [-1.0, 0, 1.29])
def test_a_time_that_goes_back_changes_nothing(clock, earlier):
    times = [i / 30 for i in range(100)]
    plain, harassed = segmenter_for(SPEC, clock), segmenter_for(SPEC, clock)
    items = feed(harassed, times[:40])
    with pytest.raises(InvalidFrame, match="go back"):
        harassed.push(lambda: picture(99_999), earlier)
    items += feed(harassed, times[40:], 40) + harassed.flush()
    assert told(items) == told(feed(plain, times) + plain.flush())


@both
@pytest.mark.parametrize("start_s", [0.0, -1e6, 1.76e9, 6.4e10, 1e11 - 10, -1e11])
def test_every_plausible_time_is_taken(clock, start_s):
    items = feed(segmenter_for(SPEC, clock), [start_s + i / 30 for i in range(97)])
    assert [item.end_s - item.start_s for item in items] == pytest.approx([1.6, 1.6], abs=1e-3)


@both
def test_numbers_of_any_kind_are_times(clock):
    times = [0, np.int64(1), np.float32(1.5), np.float64(2), 2.5]
    assert told(feed(segmenter_for(SPEC, clock), times)) == told(feed(segmenter_for(SPEC, clock), map(float, times)))


@both
def test_an_empty_stream_ends_empty(clock):
    segmenter = segmenter_for(SPEC, clock)
    assert segmenter.flush() == segmenter.idle(60.0) == segmenter.flush() == segmenter.interrupt(3) == []
    assert segmenter.next_index == 3
    assert segmenter.last_s is None
    assert not segmenter.is_open


def test_a_silence_ends_no_segment_of_counted_frames():
    segmenter = FrameSegmenter(SPEC)
    feed(segmenter, [0.0, 0.1])
    assert segmenter.idle(1e6) == []
    assert segmenter.is_open
    assert segmenter.last_s == 0.1


@both
@given(
    runs=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 20_000)), min_size=1, max_size=5),
)
def test_gaps_take_their_places_between_segments(clock, runs):
    """Frames, then a gap, and so on: places follow each other, and each gap lies where it was said to lie."""
    segmenter, items, now_s, frame, gaps = segmenter_for(SPEC, clock), [], 0.0, 0, []
    for count, gap_ms in runs:
        items += feed(segmenter, [now_s + i / 30 for i in range(count)], frame)
        frame, start_s = frame + count, now_s + count / 30
        now_s = start_s + gap_ms / 1000
        gaps.append((start_s, now_s))
        items += interrupt(segmenter, SPEC, start_s, now_s, "lost")
        assert not segmenter.is_open
    items += segmenter.flush()
    places = [range(item.index, item.index + (item.segments if isinstance(item, Gap) else 1)) for item in items]
    assert list(itertools.chain(*places)) == list(range(segmenter.next_index))
    told_gaps = [item for item in items if isinstance(item, Gap)]
    assert [(gap.start_s, gap.end_s, gap.reason) for gap in told_gaps] == [(*gap, "lost") for gap in gaps]
    assert [gap.segments for gap in told_gaps] == [SPEC.places(end_s - start_s) for start_s, end_s in gaps]
    assert sum(item.end_frame - item.start_frame for item in items if isinstance(item, Segment)) == frame


@given(spec=specs, gaps=steps, sparing=st.booleans(), clock=st.sampled_from(["frames", "time"]))
def test_what_is_certain_of_a_segment_is_what_a_full_one_has(spec, gaps, sparing, clock):
    """Frames that are encoded ahead are those of the segment, unless it ends early."""
    segmenter = segmenter_for(spec, clock, sparing=sparing)
    certain: list[np.ndarray] = []
    for number, seconds in enumerate(at(gaps)):
        for item in segmenter.push(lambda number=number: picture(number), seconds):
            whole = isinstance(item, Segment) and (
                item.end_frame - item.start_frame == spec.frames
                if clock == "frames"
                else math.isclose(item.end_s - item.start_s, spec.duration_s, rel_tol=1e-9)
            )
            if whole:
                assert len(certain) <= spec.sampled
                assert all(np.array_equal(one, row) for one, row in zip(certain, item.pixels, strict=False))
            certain = []
        now = segmenter.sampled
        assert len(now) >= len(certain), "what was certain stays so"
        assert all(np.array_equal(one, other) for one, other in zip(certain, now, strict=False))
        certain = now


@both
def test_at_the_last_frame_but_one_almost_all_is_certain(clock):
    segmenter = segmenter_for(SPEC, clock, sparing=clock == "time")
    feed(segmenter, [i / 30 for i in range(47)])
    # By time, the last one's centre lies behind the newest frame.
    assert [int(one[0, 0, 2]) for one in segmenter.sampled] == list(range(1, 47 if clock == "frames" else 46, 3))
