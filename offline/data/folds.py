"""Folds for cross-validation that split no video: samples of one video are alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from offline.arrays import BoolArray

Folds = NDArray[np.intp]
"""The fold that each sample is held out in, (N,)."""


def video_folds(
    order: Sequence[str], videos: Sequence[str], labels: BoolArray, most: int, least: int
) -> Folds | None:
    """Deal videos out to as many folds as leave enough of each class to learn from.

    Args:
        order: The videos, each once. One class behind the other makes folds alike in classes, and in size.
        videos: N names, all of them in `order`.
        labels: bool (N,).
        most: How many folds at most.
        least: Samples of each class that the others must have, whichever fold is held out.

    Returns:
        The fold of each sample; None where not even two folds leave as many.
    """
    for count in range(most, 1, -1):
        place = {video: number % count for number, video in enumerate(order)}
        fold = np.array([place[video] for video in videos], dtype=np.intp)
        kept = [labels[fold != one] for one in range(count)]
        if all(min(left.sum(), (~left).sum()) >= least for left in kept):
            return fold
    return None
