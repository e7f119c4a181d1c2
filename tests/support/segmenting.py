"""Numbered frames for segmenters, and what came out of them as comparable values."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import strategies as st

from edge_runtime.stream.segments import Segment, SegmentSpec

SPEC = SegmentSpec(frames=48, sampled=16, fps=30.0)
TICK_S = 1e-3


def picture(number: int) -> np.ndarray:
    """A picture of one pixel that says which frame it is."""
    return np.array([[[number >> 16, number >> 8 & 255, number & 255]]], dtype=np.uint8)


def numbers(segment: Segment) -> list[int]:
    return [int(r) << 16 | int(g) << 8 | int(b) for (((r, g, b),),) in segment.pixels]


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
