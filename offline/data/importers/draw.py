"""The few-shot draw: so many of the videos, as many of each class as their share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edge_runtime.errors import DatasetError, UsageError
from offline.data.dataset import LABELS, Video


def draw_calibration(rows: Sequence[Video], fraction: float, seed: int) -> list[Video]:
    """Draw a stratified calibration split: `fraction` of each class, rounded, and at least one.

    The same seed draws the same videos, whatever the order of the rows.

    Returns:
        The drawn videos, in the rows' order.

    Raises:
        UsageError: The fraction is not in (0, 1].
        DatasetError: A class is missing.
    """
    if not (math.isfinite(fraction) and 0 < fraction <= 1):
        raise UsageError(f"calibration fraction must be above 0 and at most 1, got {fraction}")
    random = np.random.default_rng(seed)
    drawn: set[str] = set()
    for label in LABELS:
        names = sorted(row.name for row in rows if row.label == label)
        if not names:
            raise DatasetError(f"no {label} video to draw from; a calibration split needs both classes")
        count = max(1, round(fraction * len(names)))
        drawn.update(names[index] for index in random.permutation(len(names))[:count])
    return [replace(row, split="calibration") for row in rows if row.name in drawn]
