"""Segments that overlap: cut, sampled and averaged as their definition says, on either clock."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segmenting import TICK_S, feed, numbers, picture, steps, told

from edge_runtime.errors import UsageError
from edge_runtime.stream.by_count import FrameSegmenter
from edge_runtime.stream.by_time import TimeSegmenter
from edge_runtime.stream.overlap import CoveringMean, covering_means
from edge_runtime.stream.segments import Gap, Segment, SegmentSpec, sample_indices

SPEC = SegmentSpec(frames=48, sampled=16, fps=30.0)
DIVISORS = [1, 2, 3, 4, 6, 8, 12, 16, 24, 48]


@st.composite
def overlapping(draw):
    frames = draw(st.integers(1, 40))
    stride = draw(st.sampled_from([step for step in range(1, frames + 1) if frames % step == 0]))
    return SegmentSpec(frames=frames, sampled=draw(st.integers(1, 20)), fps=15.0, stride=stride)


class TestSpec:
    @pytest.mark.parametrize("stride", [0, -3, 5, 49, 96])
    def test_a_stride_that_does_not_divide_is_refused_with_those_that_do(self, stride):
        said = f"a stride must divide the 48 frames of a segment, got {stride}; 1, 2, 3, 4, 6, 8, 12, 16, 24, 48 do"
        with pytest.raises(UsageError, match=said):
            SPEC.striding(stride)

    @pytest.mark.parametrize("stride", DIVISORS)
    def test_what_it_means(self, stride):
        spec = SPEC.striding(stride)
        assert (spec.step, spec.overlap, spec.step_s) == (stride, 48 // stride, stride / 30)
        assert spec.striding(48) == SPEC.striding(None) == SPEC
        assert spec.places(1.6) == 48 // stride


class TestByCount:
    @given(spec=overlapping(), frames=st.integers(0, 120), hint=st.none() | st.integers(0, 150))
    def test_any_length_with_any_promise_of_it(self, spec, frames, hint):
        segmenter = FrameSegmenter(spec, hint)
        segments = feed(segmenter, [i / spec.fps for i in range(frames)])
        segments += segmenter.flush(lambda indices: {index: picture(index) for index in indices})
        starts = list(range(0, frames, spec.step))
        assert [segment.start_frame for segment in segments] == starts
        assert [segment.end_frame for segment in segments] == [*starts[1:], frames][: len(starts)]
        assert [segment.index for segment in segments] == list(range(len(segments)))
        for segment in segments:
            n = min(spec.frames, frames - segment.start_frame)
            assert numbers(segment) == (segment.start_frame + sample_indices(n, spec.sampled)).tolist()
            assert segment.start_s == pytest.approx(segment.start_frame / spec.fps)
            assert segment.end_s == pytest.approx(segment.end_frame / spec.fps)

    def test_a_segment_comes_with_its_last_frame(self):
        segmenter = FrameSegmenter(SPEC.striding(12))
        came = [feed(segmenter, [i / 30], i) for i in range(100)]
        assert [i for i, items in enumerate(came) if items] == [47, 59, 71, 83, 95]

    @pytest.mark.parametrize("stride", [3, 12, 48])
    def test_frames_that_segments_share_are_prepared_once_and_others_not_at_all(self, stride):
        prepared = []
        segmenter = FrameSegmenter(SPEC.striding(stride), 96)
        for i in range(96):
            segmenter.push(lambda i=i: prepared.append(i) or picture(i), i / 30)
        assert len(set(prepared)) == len(prepared)
        certain = [i for i in prepared if i < 48]
        assert certain == list(range(1, 48, 3))

    @given(before=st.integers(0, 100), after=st.integers(1, 100), stride=st.sampled_from(DIVISORS))
    def test_no_segment_reaches_over_an_interruption(self, before, after, stride):
        segmenter = FrameSegmenter(SPEC.striding(stride))
        first = feed(segmenter, [i / 30 for i in range(before)]) + segmenter.interrupt(4)
        then = feed(segmenter, [100 + i / 30 for i in range(after)], before) + segmenter.flush()
        assert all(max(numbers(segment)) < before for segment in first)
        assert all(min(numbers(segment)) >= before for segment in then)
        assert then[0].index == len(first) + 4


class TestByTime:
    @given(spec=overlapping(), frames=st.integers(0, 100))
    def test_regular_frames_are_cut_as_by_count(self, spec, frames):
        times = [i / spec.fps for i in range(frames)]
        by_time, by_count = TimeSegmenter(spec), FrameSegmenter(spec)
        timed = feed(by_time, times) + by_time.flush()
        counted = feed(by_count, times) + by_count.flush()
        spans = [[(one.index, one.start_frame, one.end_frame) for one in items] for items in (timed, counted)]
        assert spans[0] == spans[1]
        for one, other in zip(timed, counted, strict=True):
            assert (one.start_s, one.end_s) == pytest.approx((other.start_s, other.end_s))

    @settings(max_examples=300)
    @given(steps_ms=steps, stride=st.sampled_from(DIVISORS))
    def test_irregular_times_against_the_definition(self, steps_ms, stride):
        ticks = list(itertools.accumulate(steps_ms, initial=0))
        times = [tick * TICK_S for tick in ticks]
        spec = SPEC.striding(stride)
        segmenter = TimeSegmenter(spec)
        items = feed(segmenter, times) + segmenter.flush()
        runs: list[list[int]] = [[0]]
        for number in range(1, len(ticks)):
            runs[-1].append(number) if ticks[number] - ticks[number - 1] <= 1600 else runs.append([number])
        segments = iter([item for item in items if isinstance(item, Segment)])
        for run in runs:
            anchor = ticks[run[0]]
            for start in np.arange(0, ticks[run[-1]] - anchor + 1e-6, 1000 * spec.step_s):
                segment = next(segments)
                own = [i for i in run if start - 1e-3 <= ticks[i] - anchor < start + 1600 - 1e-3]
                step = [i for i in own if ticks[i] - anchor < start + 1000 * spec.step_s - 1e-3]
                assert list(range(segment.start_frame, segment.end_frame)) == step
                assert segment.start_s == pytest.approx(times[run[0]] + start / 1000)
                assert set(numbers(segment)) <= set(own)
        assert next(segments, None) is None
        places = [range(item.index, item.index + (item.segments if isinstance(item, Gap) else 1)) for item in items]
        assert list(itertools.chain(*places)) == list(range(sum(map(len, places))))

    @given(steps_ms=steps, stride=st.sampled_from(DIVISORS), asked=st.integers(0, 200))
    def test_asking_for_silence_changes_nothing(self, steps_ms, stride, asked):
        times = [tick * TICK_S for tick in itertools.accumulate(steps_ms, initial=0)]
        plain, idle = (TimeSegmenter(SPEC.striding(stride)) for _ in range(2))
        wanted = feed(plain, times) + plain.flush()
        got = []
        for number, seconds in enumerate(times):
            if number and number <= asked:
                got += idle.idle(seconds)
            got += feed(idle, [seconds], number)
        assert told(got + idle.flush()) == told(wanted)

    @given(steps_ms=steps, stride=st.sampled_from(DIVISORS))
    def test_sparing_gives_the_same_segments_from_fewer_frames(self, steps_ms, stride):
        times = [tick * TICK_S for tick in itertools.accumulate(steps_ms, initial=0)]
        all_of_them, sparing = (
            TimeSegmenter(SPEC.striding(stride)),
            TimeSegmenter(SPEC.striding(stride), sparing=True),
        )
        one, other = (feed(each, times) + each.flush() for each in (all_of_them, sparing))
        assert [told([item])[0][:5] for item in one if isinstance(item, Segment)] == [
            told([item])[0][:5] for item in other if isinstance(item, Segment)
        ]


scores = st.lists(st.none() | st.floats(0, 1), max_size=40)


@given(scores, st.integers(1, 12))
def test_a_step_has_the_mean_of_the_segments_that_cover_it(values, overlap):
    found = covering_means(values, overlap)
    for place, mean in enumerate(found):
        covering = [one for one in values[max(0, place - overlap + 1) : place + 1] if one is not None]
        assert mean == (pytest.approx(sum(covering) / len(covering)) if covering else None)


@given(scores, scores, st.integers(1, 12), st.integers(1, 3))
def test_nothing_before_an_interruption_covers_anything_behind(before, after, overlap, places):
    mean = CoveringMean(overlap)
    for index, score in enumerate(before):
        mean.push(index, score)
    mean.interrupt()
    found = [mean.push(len(before) + places + index, score) for index, score in enumerate(after)]
    assert found == covering_means(after, overlap)


@given(st.floats(0, 1), st.integers(1, 16))
def test_equal_scores_keep_their_value(score, overlap):
    assert covering_means([score] * 20, overlap) == [score] * 20


def test_without_an_overlap_a_score_is_its_own():
    assert covering_means([0.1, None, 0.7], 1) == [0.1, None, 0.7]
