"""Segment scores to smoothed scores to decisions. Knows segments and probabilities; nothing of video or models.

Batch is stream run to the end: `smooth` pushes a whole video through the very class that a camera uses.
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
    """One calibrated operating point.

    sigma: of the Gaussian, in segments; 0 means no smoothing. lookahead: how many later segments a smoothed
    score waits for, at most ceil(3σ). f1: frame-level F1 at calibration, None where it was not calibrated.
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
    """Where the Gaussian is truncated: r = ceil(3σ) segments."""
    return math.ceil(3 * sigma)


def kernel(sigma: float) -> NDArray[np.float64]:
    """Weights of the distances 0..r (not normalised; the stream renormalises over what exists).

    Returns (r + 1,), with kernel[0] = 1.
    """
    distances = np.arange(radius(sigma) + 1, dtype=np.float64)
    if sigma == 0:
        return np.ones(1)
    return np.asarray(np.exp(-0.5 * (distances / sigma) ** 2))


class Smoother:
    """p′_t = Σ_j p_j G(t − j; σ) / Σ_j G(t − j; σ) over the segments j in [t − r, t + lookahead] that exist.

    Renormalised at the ends of a stream and around gaps: zero padding would hide an anomaly at the edge of a
    clip. Indices only grow; what is skipped is a gap. Memory is O(r).
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
        """Take the score of segment `index`; returns (index, smoothed) of every segment that became final."""
        if self._scores and index <= next(reversed(self._scores)):
            raise ValueError(f"segment {index} came after segment {next(reversed(self._scores))}")
        if not math.isfinite(score):
            raise ValueError(f"segment {index} has the score {score}; what could not be scored is a gap")
        # Older segments are out of reach of every smoothed score that is still to come.
        done = self.advance_to(index - 1)
        self._scores[index] = score
        self._pending.append(index)
        done += self.advance_to(index)
        return done

    def advance_to(self, index: int) -> list[tuple[int, float]]:
        """Every segment up to `index` has come or is a gap; returns what became final by that."""
        done = []
        while self._pending and self._pending[0] + self._lookahead <= index:
            done.append(self._finish(self._pending.pop(0)))
        oldest = (self._pending[0] if self._pending else index + 1) - self._radius
        while self._scores and next(iter(self._scores)) < oldest:
            self._scores.popitem(last=False)
        return done

    def flush(self) -> list[tuple[int, float]]:
        """The stream has ended; returns the rest."""
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
    """A whole video's smoothed scores; None is a gap, in and out."""
    smoother = Smoother(sigma, lookahead)
    out: list[float | None] = [None] * len(scores)
    final: list[tuple[int, float]] = []
    for index, score in enumerate(scores):
        final += smoother.advance_to(index) if score is None else smoother.push(index, score)
    for index, value in final + smoother.flush():
        out[index] = value
    return out
