"""How rare a score is among normal segments: conformal p-values, from calibration first, from the site itself later.

p = (1 + how many normal segments score at least as high) / (1 + how many there are). It can say nothing smaller than
1 in n + 1. If the segment and those it is compared with are exchangeable, P(p <= a) <= a for every a.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The site speaks for itself once it has shown so many quiet segments, and as many as there are calibration normals.
OWN_FROM = 1000
#: Segments on both sides of an event that do not count as quiet: an event begins and ends below its threshold.
GUARD = 10
#: A generation of quiet scores; two are kept, so what is remembered spans one to two of them (two weeks of 3.2 s).
GENERATION = 378_000

# Scores below the exact tail lie in bins of their log odds.
_BINS = 2048
_REACH = 16.0
_TAIL = 1024

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class PValue:
    """How rare a score is.

    Attributes:
        p: The p-value, above 0 and at most 1.
        among: How many normal segments it was compared with; `p` is never below 1 / (among + 1).
        own: Whether they are the site's own quiet time; else they are the bundle's calibration normals.
    """

    p: float
    among: int
    own: bool

    @property
    def one_in(self) -> int:
        """As high as this is one normal segment in so many."""
        return round(1 / self.p)


class Scores:
    """A multiset of scores in bounded memory: the highest 1,024 exactly, all others in bins.

    Adding takes microseconds. About 16 KiB, however many there are.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, dtype=np.int64)
        self._tail = np.empty(0)
        self.total = 0

    def add(self, score: float) -> None:
        """Add a score of 0 to 1."""
        self._counts[_bin(score)] += 1
        self.total += 1
        if len(self._tail) < _TAIL:
            self._tail = np.insert(self._tail, np.searchsorted(self._tail, score), score)
        elif score > self._tail[0]:
            place = int(np.searchsorted(self._tail, score))
            self._tail[: place - 1] = self._tail[1:place]
            self._tail[place - 1] = score

    def at_least(self, score: float) -> int:
        """How many are at least as high: exactly among the highest, else with all of the score's bin."""
        if self.total <= _TAIL or score > self._tail[0]:
            return len(self._tail) - int(np.searchsorted(self._tail, score))
        return int(self._counts[_bin(score) :].sum())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What has to be kept to go on later."""
        return {"counts": self._counts, "tail": self._tail}

    @classmethod
    def of(cls, arrays: Arrays) -> Scores:
        """Go on from what `arrays` gave.

        Raises:
            ValueError: The arrays contradict each other, or are none of these.
        """
        counts, tail = arrays["counts"], arrays["tail"]
        if counts.shape != (_BINS,) or counts.dtype != np.int64 or counts.min() < 0:
            raise ValueError("counts of scores")
        total = int(counts.sum())
        if tail.dtype != np.float64 or tail.shape != (min(total, _TAIL),):
            raise ValueError("the highest scores")
        if len(tail) and not (tail[0] >= 0 and tail[-1] <= 1 and (np.diff(tail) >= 0).all()):
            raise ValueError("the highest scores")
        scores = cls()
        scores._counts, scores._tail, scores.total = counts.copy(), tail.copy(), total
        return scores


class PValues:
    """P-values of one camera's scores. Causal: a score is compared with what was there before it.

    A quiet segment is one that lies in no event and is more than `guard` segments away from one. Normal life above
    the threshold never counts, and a score up there is only said to be higher than all quiet ones, also where
    operators call it a false alarm.

    Args:
        calibration: Scores of the calibration normals, (n,), may be empty.
        guard: See `GUARD`.
    """

    def __init__(self, calibration: NDArray[np.floating], guard: int = GUARD) -> None:
        normals = np.sort(np.asarray(calibration, dtype=np.float64))
        if normals.ndim != 1 or not ((normals >= 0) & (normals <= 1)).all():
            raise ValueError("scores of calibration normals are a list of numbers from 0 to 1")
        self._calibration = normals
        self._guard = guard
        self._now, self._before = Scores(), Scores()
        # Scores that are quiet unless an event begins within the guard band.
        self._waiting: deque[float] = deque()
        self._blocked = 0

    @property
    def quiet(self) -> int:
        """How many quiet segments are remembered."""
        return self._now.total + self._before.total

    @property
    def own_from(self) -> int:
        """How many quiet segments it takes until the site speaks for itself."""
        return max(OWN_FROM, len(self._calibration))

    def of(self, score: float) -> PValue | None:
        """The p-value of a score; None where nothing is there to compare it with."""
        if (quiet := self.quiet) >= self.own_from:
            above = self._now.at_least(score) + self._before.at_least(score)
            return PValue((1 + above) / (1 + quiet), quiet, own=True)
        if not (count := len(self._calibration)):
            return None
        above = count - int(np.searchsorted(self._calibration, score))
        return PValue((1 + above) / (1 + count), count, own=False)

    def push(self, score: float, in_event: bool) -> PValue | None:
        """Take the next segment of the stream.

        Args:
            score: Its probability, not smoothed.
            in_event: Whether it is part of an event.

        Returns:
            Its p-value, as of `of`, before it counts itself.
        """
        found = self.of(score)
        if in_event:
            self._waiting.clear()
            self._blocked = self._guard
        elif self._blocked:
            self._blocked -= 1
        else:
            self._waiting.append(score)
            if len(self._waiting) > self._guard:
                self.admit(self._waiting.popleft())
        return found

    def admit(self, score: float) -> None:
        """Count a score as quiet."""
        self._now.add(score)
        if self._now.total >= GENERATION:
            self._before, self._now = self._now, Scores()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What has to be kept over a restart. What waits in the guard band is not: it is `guard` segments at most."""
        pairs = (("now", self._now), ("before", self._before))
        return {f"{name}_{key}": array for name, scores in pairs for key, array in scores.arrays().items()}

    def restore(self, arrays: Arrays) -> None:
        """Go on from what `arrays` gave.

        Raises:
            KeyError: An array is missing.
            ValueError: As of `Scores.of`; nothing has changed then.
        """
        now, before = (
            Scores.of({key: arrays[f"{name}_{key}"] for key in ("counts", "tail")}) for name in ("now", "before")
        )
        self._now, self._before = now, before


def _bin(score: float) -> int:
    # Log odds: probabilities crowd near 0 and 1.
    with np.errstate(divide="ignore"):
        odds = np.log(score) - np.log1p(-score)
    return int(np.clip((odds + _REACH) / (2 * _REACH) * _BINS, 0, _BINS - 1))
