"""Which frames of a video lie in which segment, and which of them are sampled."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from segmenting import SPEC, TICK_S

from edge_runtime.stream.segments import SegmentSpec, cut, nearest, sample_indices


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
