"""Stretches of frames, half-open: first frame in, end frame out."""

from __future__ import annotations

import numpy as np

from offline.arrays import BoolArray

Span = tuple[int, int]


def spans(mask: BoolArray) -> list[Span]:
    """Return the runs of True in a mask (n,), as half-open ranges."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]
