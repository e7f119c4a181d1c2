"""Samples that a scorer is fitted on: of calibration videos, and what operators marked at the site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline.arrays import BoolArray
from offline.extraction.extract import Extracted


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Expert features with labels.

    Attributes:
        features: float32 (N, K·d).
        labels: bool (N,).
        videos: N names. What an operator marked stands for itself: its neighbours in time are not there.
    """

    features: NDArray[np.float32]
    labels: BoolArray
    videos: tuple[str, ...]

    @classmethod
    def marked(cls, features: NDArray[np.float32], labels: BoolArray) -> Samples:
        """Take what operators marked."""
        return cls(features, labels, tuple(f"mark {number}" for number in range(len(labels))))

    @classmethod
    def of(cls, extracted: Sequence[Extracted], marked: Samples | None = None) -> Samples:
        """Take all samples of some videos, and marked ones behind them."""
        parts = [(one.features, one.labels, (one.video.name,) * len(one.labels)) for one in extracted]
        if marked is not None:
            parts.append((marked.features, marked.labels, marked.videos))
        features, labels, videos = zip(*parts, strict=True)
        return cls(
            np.concatenate(features), np.concatenate(labels), tuple(name for names in videos for name in names)
        )
