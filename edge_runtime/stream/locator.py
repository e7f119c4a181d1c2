"""Smooths the scores of segments with a Gaussian, as a stream or for a whole video.

`smooth` pushes a whole video through the class that a camera uses, so that both give the same scores.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import UsageError

#: Names of the two operating points.
LOCATORS = ("full", "low_latency")

# Far beyond any use (half an hour at the default segment), and a kernel that still fits into memory.
LARGEST_SIGMA = 1000


class LocatorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One operating point: how scores are smoothed, and above which smoothed score a segment is anomalous.

    Attributes:
        sigma: Standard deviation of the Gaussian in segments (in strides, where they overlap), 0 to 1000; 0 means no
            smoothing.
        threshold: A smoothed score above it is anomalous, 0 to 1.
        lookahead: How many later segments a smoothed score waits for, 0 to ceil(3σ).
        calibrated: Whether sigma and threshold were chosen on a validation split.
        f1: Frame-level F1 on that split, None where it was not calibrated.
    """

    sigma: float
    threshold: float
    lookahead: int
    calibrated: bool
    f1: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.sigma <= LARGEST_SIGMA:
            raise ValueError(f"a locator's sigma must lie in 0..{LARGEST_SIGMA}, got {self.sigma}")
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"a locator's threshold must lie in 0..1, got {self.threshold}")
        if not 0 <= self.lookahead <= radius(self.sigma):
            raise ValueError(
                f"a locator's lookahead must lie in 0..{radius(self.sigma)} (ceil(3 sigma)), got {self.lookahead}"
            )


def radius(sigma: float) -> int:
    """How far the Gaussian reaches before it is cut off: r = ceil(3σ) segments."""
    return math.ceil(3 * sigma)


def kernel(sigma: float) -> NDArray[np.float64]:
    """Weights of the Gaussian at distances of 0..r segments, not normalised: `Smoother` does that.

    Args:
        sigma: Standard deviation in segments.

    Returns:
        (r + 1,) weights, the first of which is 1.
    """
    distances = np.arange(radius(sigma) + 1, dtype=np.float64)
    if sigma == 0:
        return np.ones(1)
    return np.asarray(np.exp(-0.5 * (distances / sigma) ** 2))


class Smoother:
    """Smooths the scores of one stream with a Gaussian.

    p′_t = Σ_j p_j G(t − j; σ) / Σ_j G(t − j; σ) over the segments j in [t − r, t + lookahead] that have a score.
    The weights sum to 1 also at the ends of a stream and around gaps: counting missing segments as 0 would hide an
    anomaly beside them. An index that is skipped is a gap. Memory is O(r).

    Args:
        sigma: Standard deviation in segments; 0 means no smoothing.
        lookahead: How many later segments a smoothed score waits for, 0 to r = ceil(3σ).

    Raises:
        UsageError: The lookahead is negative or beyond r.
    """

    def __init__(self, sigma: float, lookahead: int) -> None:
        if not 0 <= lookahead <= radius(sigma):
            raise UsageError(f"lookahead must lie in 0..{radius(sigma)} for sigma {sigma}, got {lookahead}")
        self._kernel = kernel(sigma)
        self._radius = radius(sigma)
        self._lookahead = lookahead
        self._scores: OrderedDict[int, float] = OrderedDict()
        self._pending: list[int] = []

    def push(self, index: int, score: float) -> list[tuple[int, float]]:
        """Take the score of the next segment.

        Args:
            index: Of the segment; larger than that of any before.
            score: Its probability.

        Returns:
            (index, smoothed score) of every segment whose smoothed score became final.

        Raises:
            ValueError: The index does not grow, or the score is not finite.
        """
        if self._scores and index <= next(reversed(self._scores)):
            raise ValueError(f"segment {index} came after segment {next(reversed(self._scores))}")
        if not math.isfinite(score):
            raise ValueError(f"segment {index} has the score {score}; what could not be scored is a gap")
        # Segments that this forgets are out of reach of every smoothed score that is still to come.
        done = self.advance_to(index - 1)
        self._scores[index] = score
        self._pending.append(index)
        done += self.advance_to(index)
        return done

    def advance_to(self, index: int) -> list[tuple[int, float]]:
        """Say that every segment up to `index` has come or is a gap.

        Returns:
            What became final by that, as of `push`.
        """
        done = []
        while self._pending and self._pending[0] + self._lookahead <= index:
            done.append(self._finish(self._pending.pop(0)))
        oldest = (self._pending[0] if self._pending else index + 1) - self._radius
        while self._scores and next(iter(self._scores)) < oldest:
            self._scores.popitem(last=False)
        return done

    def flush(self) -> list[tuple[int, float]]:
        """End the stream; returns the rest, as of `push`."""
        return self.advance_to(self._pending[-1] + self._lookahead) if self._pending else []

    def _finish(self, index: int) -> tuple[int, float]:
        total = weights = 0.0
        lowest, highest = math.inf, -math.inf
        for other, score in self._scores.items():
            if index - self._radius <= other <= index + self._lookahead:
                weight = float(self._kernel[abs(index - other)])
                total += weight * score
                weights += weight
                lowest, highest = min(lowest, score), max(highest, score)
        # A mean cannot leave the range of its terms, but rounding can: equal scores at the threshold would alarm.
        return index, min(highest, max(lowest, total / weights))


def smooth(scores: Sequence[float | None], sigma: float, lookahead: int) -> list[float | None]:
    """Smooth the scores of a whole video.

    Args:
        scores: One a segment; None is a gap.
        sigma: As of `Smoother`.
        lookahead: As of `Smoother`.

    Returns:
        One a segment; None where `scores` has None.

    Raises:
        UsageError: As of `Smoother`.
        ValueError: A score is not finite.
    """
    smoother = Smoother(sigma, lookahead)
    out: list[float | None] = [None] * len(scores)
    final: list[tuple[int, float]] = []
    for index, score in enumerate(scores):
        final += smoother.advance_to(index) if score is None else smoother.push(index, score)
    for index, value in final + smoother.flush():
        out[index] = value
    return out
