"""How much two pictures differ where they differ most: a small person in a large still scene must not average out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import UsageError
from edge_runtime.stream.pixels import UInt8Array

#: Side of a block, in pixels.
BLOCK = 16


def block_difference(one: UInt8Array, other: UInt8Array) -> float:
    """Find the largest mean absolute difference within any block of 16 x 16 pixels, over the three channels.

    Args:
        one: uint8 (g, H, W, 3), a group of frames.
        other: The same shape. Each frame is compared with the one in its place.

    Returns:
        Grey levels, 0 to 255; 0 only for equal pixels. Blocks at the lower and right edge hold what is left of them.
    """
    return max(_frame_difference(first, second) for first, second in zip(one, other, strict=True))


def check_levels(levels: float) -> float:
    """Check a bound on `block_difference`.

    Raises:
        UsageError: It is no number from 0 to 255.
    """
    if not isinstance(levels, (int, float)) or isinstance(levels, bool) or not 0 <= levels <= 255:
        raise UsageError(
            f"frames are told apart by grey levels from 0 (identical pixels) to 255, got {levels!r}; try 4"
        )
    return float(levels)


def _frame_difference(one: UInt8Array, other: UInt8Array) -> float:
    """As `block_difference`, of single frames (H, W, 3)."""
    import cv2

    height, width, channels = one.shape
    rows, columns = _edges(height), _edges(width)
    apart = cv2.absdiff(one.reshape(height, -1), other.reshape(height, -1))
    # Sums over all rectangles from the corner; exact in float64. Three times as fast as adding up in NumPy.
    sums = cv2.integral(apart, sdepth=cv2.CV_64F)[np.ix_(rows, channels * columns)]
    blocks = np.diff(np.diff(sums, axis=0), axis=1)
    values = np.outer(np.diff(rows), channels * np.diff(columns))
    return float((blocks / values).max())


def _edges(length: int) -> NDArray[np.int64]:
    """Where blocks begin along a side, and where the last one ends."""
    return np.append(np.arange(0, length, BLOCK), length)
