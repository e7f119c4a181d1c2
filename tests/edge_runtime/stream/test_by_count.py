"""Cutting by the count of frames, against what its definition says."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from segmenting import SPEC, feed, numbers, picture, specs

from edge_runtime.errors import InvalidFrame
from edge_runtime.stream.by_count import FrameSegmenter
from edge_runtime.stream.segments import Gap, cut, sample_indices


@given(spec=specs, frames=st.integers(0, 200), hint=st.none() | st.integers(0, 300))
def test_any_length_with_any_promise_of_it(spec, frames, hint):
    segmenter = FrameSegmenter(spec, hint)
    segments = feed(segmenter, [i / spec.fps for i in range(frames)])
    segments += segmenter.flush(lambda indices: {index: picture(index) for index in indices})
    assert [(segment.start_frame, segment.end_frame) for segment in segments] == cut(frames, spec.frames)
    assert [segment.index for segment in segments] == list(range(len(segments)))
    for segment in segments:
        n = segment.end_frame - segment.start_frame
        expected = [segment.start_frame + math.floor((i + 0.5) * n / spec.sampled) for i in range(spec.sampled)]
        assert numbers(segment) == expected
        assert segment.start_s == pytest.approx(segment.start_frame / spec.fps)
        assert segment.end_s == pytest.approx(segment.end_frame / spec.fps)


def test_only_sampled_frames_of_a_known_length_are_prepared():
    prepared = []
    segmenter = FrameSegmenter(SPEC, 96)
    for i in range(96):
        segmenter.push(lambda i=i: prepared.append(i) or picture(i), i / 30)
    assert prepared == [*range(1, 48, 3), *range(49, 96, 3)]


def test_a_promise_not_kept_is_refused_without_read_again_and_the_stream_is_unchanged():
    segmenter = FrameSegmenter(SPEC, 48)
    feed(segmenter, [i / 30 for i in range(40)])
    for _ in range(2):
        with pytest.raises(InvalidFrame, match="after 40 frames but 48 were announced"):
            segmenter.flush()
    (segment,) = segmenter.flush(lambda indices: {index: picture(index) for index in indices})
    assert numbers(segment) == sample_indices(40, 16).tolist()
    assert segmenter.flush() == []


def test_a_frame_that_cannot_be_read_again_is_replaced_by_the_nearest_prepared_one():
    segmenter = FrameSegmenter(SPEC, 48)
    feed(segmenter, [i / 30 for i in range(40)])
    (segment,) = segmenter.flush(lambda indices: {})
    prepared = range(1, 40, 3)
    for got, wanted in zip(numbers(segment), sample_indices(40, 16), strict=True):
        assert got in prepared
        assert abs(got - wanted) == min(abs(other - wanted) for other in prepared)


def test_a_tail_of_which_no_frame_can_be_had_is_a_gap():
    segmenter = FrameSegmenter(SPEC, 96)
    feed(segmenter, [i / 30 for i in range(49)])
    (gap,) = segmenter.flush(lambda indices: {})
    assert gap == Gap(1, 1, 48 / 30, pytest.approx(49 / 30), "dropped")


@given(before=st.integers(0, 100), after=st.integers(0, 100), places=st.integers(0, 9))
def test_an_interruption_takes_places_and_no_frames(before, after, places):
    segmenter = FrameSegmenter(SPEC)
    segments = feed(segmenter, [i / 30 for i in range(before)]) + segmenter.interrupt(places)
    segments += feed(segmenter, [100 + i / 30 for i in range(after)], before) + segmenter.flush()
    whole = [*cut(before, 48), *((before + start, before + end) for start, end in cut(after, 48))]
    assert [(segment.start_frame, segment.end_frame) for segment in segments] == whole
    indices = [*range(len(cut(before, 48))), *(len(cut(before, 48)) + places + i for i in range(len(whole)))]
    assert [segment.index for segment in segments] == indices[: len(whole)]
