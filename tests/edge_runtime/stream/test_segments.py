"""Frames to segments: both clocks against what their definition says, frame by frame."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import InvalidFrame
from edge_runtime.stream.segments import (
    ROUNDING_S,
    FrameSegmenter,
    Gap,
    Segment,
    SegmentSpec,
    TimeSegmenter,
    cut,
    nearest,
    sample_indices,
)

SPEC = SegmentSpec(frames=48, sampled=16, fps=30.0)
TICK_S = 1e-3


def picture(number: int) -> np.ndarray:
    """A picture of one pixel that says which frame it is."""
    return np.array([[[number >> 16, number >> 8 & 255, number & 255]]], dtype=np.uint8)


def numbers(clip: Segment) -> list[int]:
    return [int(r) << 16 | int(g) << 8 | int(b) for (((r, g, b),),) in clip.pixels]


def feed(segmenter, times, first=0):
    """Push numbered frames at `times`; returns what came out of it, without the flush."""
    out = []
    for number, seconds in enumerate(times, first):
        out += segmenter.push(lambda number=number: picture(number), seconds)
    return out


def told(items) -> list[tuple]:
    """Everything an item says, comparable."""
    return [
        (item.index, item.start_frame, item.end_frame, item.start_s, item.end_s, numbers(item))
        if isinstance(item, Segment)
        else item
        for item in items
    ]


specs = st.builds(
    SegmentSpec,
    frames=st.integers(1, 60),
    sampled=st.integers(1, 20),
    fps=st.sampled_from([5.0, 12.5, 15.0, 25.0, 30.0]),
)
# Steps in milliseconds: regular ones, bursts, and pauses of any length.
steps = st.lists(
    st.one_of(st.just(33), st.integers(0, 90), st.sampled_from([400, 1600, 1601, 3200, 9000])), max_size=200
)


def at(steps_ms, start_ms=0) -> list[float]:
    return [(start_ms + ms) * TICK_S for ms in itertools.accumulate(steps_ms, initial=0)]


class TestSampling:
    @given(frames=st.integers(1, 5000), sampled=st.integers(1, 200))
    def test_bin_centres_in_exact_arithmetic(self, frames, sampled):
        expected = [math.floor((i + Fraction(1, 2)) * frames / sampled) for i in range(sampled)]
        assert sample_indices(frames, sampled).tolist() == expected

    @pytest.mark.parametrize(("frames", "sampled"), [(0, 16), (48, 0), (-1, 1)])
    def test_an_empty_segment_is_refused(self, frames, sampled):
        with pytest.raises(ValueError, match="at least one"):
            sample_indices(frames, sampled)

    @given(frames=st.integers(0, 1000), length=st.integers(1, 100))
    def test_cut_puts_every_frame_into_exactly_one_segment(self, frames, length):
        segments = cut(frames, length)
        assert [i for start, end in segments for i in range(start, end)] == list(range(frames))
        assert all(end - start == length for start, end in segments[:-1])

    @given(
        ticks=st.lists(st.integers(0, 400), min_size=1, max_size=40).map(sorted),
        centres=st.lists(st.integers(-50, 450), min_size=1, max_size=20),
    )
    def test_nearest_takes_the_earlier_of_two(self, ticks, centres):
        expected = [min(range(len(ticks)), key=lambda i: (abs(ticks[i] - centre), i)) for centre in centres]
        assert nearest(np.array(ticks) * TICK_S, np.array(centres) * TICK_S) == expected


class TestSegmentSpec:
    @pytest.mark.parametrize(
        "wrong",
        [{"frames": 0}, {"sampled": 0}, {"frames": 10**9}, {"sampled": 10**9}]
        + [{"fps": fps} for fps in (0.0, -1.0, math.nan, math.inf, 1e-9, 5e-324, 1e6)],
    )
    def test_nonsense_is_refused(self, wrong):
        with pytest.raises(ValueError, match=r"segment\."):
            SegmentSpec(**wrong)

    @given(pause_s=st.floats(0, 1e6))
    def test_a_pause_takes_at_least_one_place(self, pause_s):
        places = SPEC.places(pause_s)
        assert places >= 1
        assert abs(places * SPEC.duration_s - pause_s) <= max(SPEC.duration_s / 2 + 1e-9, SPEC.duration_s - pause_s)


class TestFrameSegmenter:
    @given(spec=specs, frames=st.integers(0, 200), hint=st.none() | st.integers(0, 300))
    def test_any_length_with_any_promise_of_it(self, spec, frames, hint):
        segmenter = FrameSegmenter(spec, hint)
        clips = feed(segmenter, [i / spec.fps for i in range(frames)])
        clips += segmenter.flush(lambda indices: {index: picture(index) for index in indices})
        assert [(clip.start_frame, clip.end_frame) for clip in clips] == cut(frames, spec.frames)
        assert [clip.index for clip in clips] == list(range(len(clips)))
        for clip in clips:
            n = clip.end_frame - clip.start_frame
            expected = [clip.start_frame + math.floor((i + 0.5) * n / spec.sampled) for i in range(spec.sampled)]
            assert numbers(clip) == expected
            assert clip.start_s == pytest.approx(clip.start_frame / spec.fps)
            assert clip.end_s == pytest.approx(clip.end_frame / spec.fps)

    def test_only_sampled_frames_of_a_known_length_are_prepared(self):
        prepared = []
        segmenter = FrameSegmenter(SPEC, 96)
        for i in range(96):
            segmenter.push(lambda i=i: prepared.append(i) or picture(i), i / 30)
        assert prepared == [*range(1, 48, 3), *range(49, 96, 3)]

    def test_a_promise_not_kept_is_refused_without_recall_and_the_stream_is_unchanged(self):
        segmenter = FrameSegmenter(SPEC, 48)
        feed(segmenter, [i / 30 for i in range(40)])
        for _ in range(2):
            with pytest.raises(InvalidFrame, match="after 40 frames but 48 were announced"):
                segmenter.flush()
        (clip,) = segmenter.flush(lambda indices: {index: picture(index) for index in indices})
        assert numbers(clip) == sample_indices(40, 16).tolist()
        assert segmenter.flush() == []

    def test_a_frame_that_recall_leaves_out_is_stood_in_for_by_the_nearest_prepared_one(self):
        segmenter = FrameSegmenter(SPEC, 48)
        feed(segmenter, [i / 30 for i in range(40)])
        (clip,) = segmenter.flush(lambda indices: {})
        prepared = range(1, 40, 3)
        for got, wanted in zip(numbers(clip), sample_indices(40, 16), strict=True):
            assert got in prepared
            assert abs(got - wanted) == min(abs(other - wanted) for other in prepared)

    def test_a_tail_of_which_no_frame_can_be_had_is_a_hole(self):
        segmenter = FrameSegmenter(SPEC, 96)
        feed(segmenter, [i / 30 for i in range(49)])
        (hole,) = segmenter.flush(lambda indices: {})
        assert hole == Gap(1, 1, 48 / 30, pytest.approx(49 / 30), "dropped")

    @given(before=st.integers(0, 100), after=st.integers(0, 100), places=st.integers(0, 9))
    def test_an_interruption_takes_places_and_no_frames(self, before, after, places):
        segmenter = FrameSegmenter(SPEC)
        clips = feed(segmenter, [i / 30 for i in range(before)]) + segmenter.interrupt(places)
        clips += feed(segmenter, [100 + i / 30 for i in range(after)], before) + segmenter.flush()
        whole = [*cut(before, 48), *((before + start, before + end) for start, end in cut(after, 48))]
        assert [(clip.start_frame, clip.end_frame) for clip in clips] == whole
        indices = [*range(len(cut(before, 48))), *(len(cut(before, 48)) + places + i for i in range(len(whole)))]
        assert [clip.index for clip in clips] == indices[: len(whole)]


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


class TestTimeSegmenter:
    @settings(max_examples=300)
    @given(steps_ms=steps, start_ms=st.sampled_from([0, -7_777, 1_000_000_000_123]))
    def test_irregular_times_against_the_definition(self, steps_ms, start_ms):
        ticks = list(itertools.accumulate(steps_ms, initial=start_ms))
        times = [tick * TICK_S for tick in ticks]
        segmenter = TimeSegmenter(SPEC)
        items = feed(segmenter, times) + segmenter.flush()
        clips = [item for item in items if isinstance(item, Segment)]
        runs = runs_of(ticks, 1600)
        assert [list(range(clip.start_frame, clip.end_frame)) for clip in clips] == [
            members for run in runs for members in run
        ]
        # Every place in the count is taken by one segment or one hole, in order.
        places = [range(item.index, item.index + (item.segments if isinstance(item, Gap) else 1)) for item in items]
        assert list(itertools.chain(*places)) == list(range(sum(map(len, places))))
        assert [isinstance(item, Gap) for item in items] == [
            hole for i, run in enumerate(runs) for hole in [True] * (i > 0) + [False] * len(run)
        ]
        for item, following in itertools.pairwise(items):
            assert item.end_s == pytest.approx(following.start_s, abs=1e-6)
        for hole in (item for item in items if isinstance(item, Gap)):
            assert hole.segments == max(1, round((hole.end_s - hole.start_s) / SPEC.duration_s))
        for clip in clips:
            own = np.array(times[clip.start_frame : clip.end_frame])
            centres = clip.start_s + (np.arange(16) + 0.5) / 16 * (clip.end_s - clip.start_s)
            for number, centre in zip(numbers(clip), centres, strict=True):
                distance = np.abs(own - centre)
                assert distance[number - clip.start_frame] <= distance.min() + ROUNDING_S
                assert (distance[: number - clip.start_frame] > distance.min() + ROUNDING_S / 2).all()

    @given(steps_ms=steps)
    def test_segments_of_a_run_keep_their_grid(self, steps_ms):
        ticks = list(itertools.accumulate(steps_ms, initial=0))
        segmenter = TimeSegmenter(SPEC)
        clips = [item for item in feed(segmenter, at(steps_ms)) + segmenter.flush() if isinstance(item, Segment)]
        starts = iter(clips)
        for run in runs_of(ticks, 1600):
            anchor_s = ticks[run[0][0]] * TICK_S
            for place, members in enumerate(run):
                clip = next(starts)
                assert clip.start_s == pytest.approx(anchor_s + place * 1.6, abs=1e-6)
                last_s = ticks[members[-1]] * TICK_S
                assert last_s <= clip.end_s + ROUNDING_S
                assert clip.end_s <= clip.start_s + 1.6 + ROUNDING_S
                if place < len(run) - 1:
                    assert clip.end_s == pytest.approx(clip.start_s + 1.6)

    @given(
        ratio=st.integers(1, 6),
        sampled=st.integers(1, 16),
        fps=st.sampled_from([7.5, 15.0, 24000 / 1001, 25.0, 30.0]),
        segments=st.integers(1, 4),
        start_s=st.sampled_from([0.0, 1e9, -12.5]),
    )
    def test_a_constant_rate_gives_the_frames_of_the_other_clock(self, ratio, sampled, fps, segments, start_s):
        spec = SegmentSpec(frames=ratio * sampled, sampled=sampled, fps=fps)
        times = [start_s + i / fps for i in range(segments * spec.frames + 1)]
        by_time = feed(TimeSegmenter(spec), times)
        by_count = feed(FrameSegmenter(spec), times[:-1])
        assert [numbers(clip) for clip in by_time] == [numbers(clip) for clip in by_count]
        assert [clip.index for clip in by_time] == list(range(segments))

    @given(
        rate=st.floats(2, 120),
        phase=st.integers(0, 500),
        spec=st.builds(
            SegmentSpec, frames=st.just(48), sampled=st.integers(1, 24), fps=st.sampled_from([10.0, 15.0, 30.0, 60.0])
        ),
    )
    def test_sparing_picks_the_same_frames_of_a_regular_camera(self, rate, phase, spec):
        times = [phase * TICK_S + i / rate for i in range(math.ceil(3.2 * spec.duration_s * rate) + 2)]
        everything, sparing = feed(TimeSegmenter(spec), times), feed(TimeSegmenter(spec, sparing=True), times)
        assert told(sparing) == told(everything)

    def test_sparing_prepares_little_more_than_the_sampled_frames(self):
        prepared = []
        segmenter = TimeSegmenter(SPEC, sparing=True)
        for i in range(480):
            segmenter.push(lambda i=i: prepared.append(i) or picture(i), i / 30)
        assert len(prepared) <= 170

    @given(steps_ms=steps)
    def test_sparing_of_an_irregular_camera_takes_prepared_frames_in_order(self, steps_ms):
        prepared = set()
        segmenter = TimeSegmenter(SPEC, sparing=True)
        items = []
        for i, seconds in enumerate(at(steps_ms)):
            items += segmenter.push(lambda i=i: prepared.add(i) or picture(i), seconds)
        for clip in (item for item in items + segmenter.flush() if isinstance(item, Segment)):
            assert set(numbers(clip)) <= prepared & set(range(clip.start_frame, clip.end_frame))
            assert numbers(clip) == sorted(numbers(clip))

    @given(steps_ms=steps, silences=st.lists(st.floats(0, 1), max_size=200), sparing=st.booleans())
    def test_idle_tells_earlier_and_nothing_else(self, steps_ms, silences, sparing):
        times = at(steps_ms)
        plain, asked = TimeSegmenter(SPEC, sparing), TimeSegmenter(SPEC, sparing)
        items = []
        for i, (seconds, following) in enumerate(itertools.pairwise([*times, times[-1] + 10])):
            items += asked.push(lambda i=i: picture(i), seconds)
            for share in silences[i : i + 1]:
                items += asked.idle(seconds + share * (following - seconds))
        assert told(items + asked.flush()) == told(feed(plain, times) + plain.flush())

    @pytest.mark.parametrize("sparing", [False, True])
    def test_idle_ends_the_segment_of_a_camera_that_went_silent(self, sparing):
        segmenter = TimeSegmenter(SPEC, sparing)
        feed(segmenter, [0.0, 0.1, 0.2])
        assert segmenter.idle(1.79) == []
        assert segmenter.is_open
        (clip,) = segmenter.idle(1.9)
        assert (clip.index, clip.end_frame, clip.start_s) == (0, 3, 0.0)
        assert not segmenter.is_open
        assert segmenter.idle(60) == []
        with pytest.raises(InvalidFrame, match="go back"):
            segmenter.push(lambda: picture(0), 1.0)

    def test_a_hole_begins_where_the_segment_before_it_ends(self):
        """Even where the last frame, by the camera's rhythm, would have stood for longer than its segment."""
        items = feed(TimeSegmenter(SPEC), [0.0, 0.5, 1.0, 1.5, 9.0])
        assert [(item.start_s, item.end_s) for item in items[:1]] == [(0.0, pytest.approx(1.6))]
        assert items[1] == Gap(1, 5, items[0].end_s, 9.0, "lost")

    @pytest.mark.parametrize("clock", [FrameSegmenter, TimeSegmenter])
    @pytest.mark.parametrize("wrong", [-1.0, 0.99, math.nan, math.inf, -math.inf, None, "now", [1.0], 10**400])
    def test_a_wrong_time_changes_nothing(self, clock, wrong):
        times = [i / 30 for i in range(100)]
        plain, harassed = clock(SPEC), clock(SPEC)
        items = feed(harassed, times[:40])
        for _ in range(3):
            with pytest.raises(InvalidFrame, match="time must"):
                harassed.push(lambda: picture(99_999), wrong)
        items += feed(harassed, times[40:], 40) + harassed.flush()
        assert told(items) == told(feed(plain, times) + plain.flush())

    @given(broken=st.sets(st.integers(0, 199)), sparing=st.booleans())
    def test_a_frame_without_a_picture_does_not_count(self, broken, sparing):
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
        clips = [item for item in items if isinstance(item, Segment)]
        assert sum(clip.end_frame - clip.start_frame for clip in clips) == given_frames
        assert [item.index for item in items] == sorted({item.index for item in items})
        assert all(number not in broken for clip in clips for number in numbers(clip))
        assert all(item.start_s < item.end_s for item in items)

    def test_a_clock_that_stands_still_does_not_fill_the_memory(self):
        prepared = []
        segmenter = TimeSegmenter(SPEC)
        for i in range(5000):
            assert segmenter.push(lambda i=i: prepared.append(i) or picture(i), 7.0) == []
        assert prepared == [0]
        (clip,) = segmenter.flush()
        assert (clip.start_frame, clip.end_frame) == (0, 5000)

    @pytest.mark.parametrize("anchor_s", [0.0, 1.7e9])
    def test_bounds_do_not_drift(self, anchor_s):
        spec = SegmentSpec(frames=1, sampled=1, fps=10.0)
        segmenter = TimeSegmenter(spec)
        clips = feed(segmenter, (anchor_s + i / 10 for i in range(20_000)))
        assert len(clips) == 19_999
        assert all(clip.start_s == anchor_s + clip.index * 0.1 for clip in clips)

    def test_bounds_after_a_million_segments(self):
        segmenter = TimeSegmenter(SegmentSpec(frames=1, sampled=1, fps=10.0))
        segmenter.push(lambda: picture(0), 0.0)
        # What a million pushes would leave, in microseconds instead of a minute.
        segmenter._cell = segmenter._index = 1_000_000
        segmenter._last_s = 100_000.0
        segmenter._kept = [(100_000.0, picture(0))]
        (clip,) = feed(segmenter, [100_000.1])
        assert (clip.index, clip.start_s, clip.end_s) == (1_000_000, 100_000.0, pytest.approx(100_000.1))

    @pytest.mark.parametrize("clock", [FrameSegmenter, TimeSegmenter])
    def test_an_empty_stream_ends_empty(self, clock):
        segmenter = clock(SPEC)
        assert segmenter.flush() == segmenter.flush() == segmenter.interrupt(3) == []
        assert segmenter.next_index == 3
        assert segmenter.last_s is None
        assert not segmenter.is_open

    @given(steps_ms=steps, places=st.integers(1, 5), end_s=st.floats(-5, 50))
    def test_an_interruption_never_ends_before_its_last_frame(self, steps_ms, places, end_s):
        segmenter = TimeSegmenter(SPEC)
        times = at(steps_ms)
        items = feed(segmenter, times)
        index = segmenter.next_index
        (clip,) = segmenter.interrupt(places, end_s)
        assert times[-1] <= clip.end_s + ROUNDING_S
        assert clip.end_s <= clip.start_s + 1.6 + ROUNDING_S
        assert segmenter.next_index == index + 1 + places
        following = feed(segmenter, [times[-1] + 100], len(times)) + segmenter.flush()
        assert [item.index for item in following] == [index + 1 + places]
        assert items == [] or items[-1].end_s <= clip.start_s + ROUNDING_S
