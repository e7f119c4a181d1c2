"""A budget of events a day instead of a threshold: counts what events each of many thresholds would have given.

Counting needs no model of the scores. With T days watched and b events a day wanted, the threshold is the lowest one
above which no threshold gave more than b T events. The next event of a stream whose events are exchangeable is above
the k-th highest of n with probability k / (n + 1), so the budget is kept on average, from the first day on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import UsageError

#: A budget is in force only after so many segments.
LEAST_SEGMENTS = 10_000
#: By how much the expected number of events may be above the budget when it comes into force.
FACTOR = 1.5
#: A generation of counts; two are kept, so what is remembered spans one to two of them (two weeks of 3.2 s).
GENERATION = 378_000
DAY_S = 86_400.0

_LEVELS = 1024
# Log odds of the lowest and the highest level; a step is 2 % of the odds.
_LOWEST, _HIGHEST = -8.0, 12.0
# As long ago as never.
_NEVER = -(2**40)

#: Thresholds that are tried, ascending: evenly spaced in their log odds.
LEVELS: NDArray[np.float64] = 1 / (1 + np.exp(-np.linspace(_LOWEST, _HIGHEST, _LEVELS)))

Arrays = Mapping[str, NDArray[Any]]


class EventCounts:
    """How many events each threshold of `LEVELS` would have given. About 40 KiB; some 20 microseconds a segment.

    Args:
        shortest: An event has at least so many consecutive segments.
        cooldown: One that begins within so many segments after the last one's end is not another one.
    """

    def __init__(self, shortest: int = 1, cooldown: int = 0) -> None:
        self._begin(shortest, cooldown)

    def define(self, shortest: int, cooldown: int) -> bool:
        """Say what an event is from now on; where that is something else, counting begins anew.

        Args:
            shortest: As of the class.
            cooldown: As of the class.

        Returns:
            Whether it is something else.
        """
        if (shortest, cooldown) == (self._shortest, self._cooldown):
            return False
        self._begin(shortest, cooldown)
        return True

    def restart(self) -> None:
        """Count anew: scores mean something else from now on."""
        self._begin(self._shortest, self._cooldown)

    def _begin(self, shortest: int, cooldown: int) -> None:
        if shortest < 1 or cooldown < 0:
            raise UsageError(
                f"an event has 1 segment or more and a cooldown of 0 or more, got {shortest} and {cooldown}"
            )
        self._shortest, self._cooldown = shortest, cooldown
        self._run = np.zeros(_LEVELS, dtype=np.int64)
        # Index at which the last event of a level ended, the segment behind it.
        self._ended = np.full(_LEVELS, _NEVER, dtype=np.int64)
        self._last: int | None = None
        self._now = np.zeros(_LEVELS, dtype=np.int64)
        self._before = np.zeros(_LEVELS, dtype=np.int64)
        self._segments_now = self._segments_before = 0

    @property
    def segments(self) -> int:
        """How many segments the counts are from."""
        return self._segments_now + self._segments_before

    @property
    def counts(self) -> NDArray[np.int64]:
        """Events by level, (levels,)."""
        return self._now + self._before

    def push(self, index: int, smoothed: float) -> None:
        """Take the next segment.

        Args:
            index: Of the segment in its stream; one that does not follow the last one's is behind a gap.
            smoothed: What the threshold is compared with.
        """
        if self._last is None or index != self._last + 1:
            self._run[:] = 0
            if self._last is not None and index <= self._last:
                # Another stream: its indices say nothing about the last one's events.
                self._ended[:] = _NEVER
        self._last = index
        reached = int(np.searchsorted(LEVELS, smoothed))
        self._run[reached:] = 0
        run = self._run[:reached]
        run += 1
        ended = self._ended[:reached]
        begins = run == self._shortest
        if self._cooldown:
            first = index - self._shortest + 1
            begins &= first - ended >= self._cooldown
        self._now[:reached] += begins
        # Also an event that the cooldown took goes on as part of the last one.
        ended[run >= self._shortest] = index + 1
        self._segments_now += 1
        if self._segments_now >= GENERATION:
            self._before, self._segments_before = self._now, self._segments_now
            self._now, self._segments_now = np.zeros(_LEVELS, dtype=np.int64), 0

    def recount(self, counts: NDArray[np.int64], segments: int) -> None:
        """Go on from counts of remembered segments instead of what was counted.

        Args:
            counts: By level, (levels,).
            segments: How many segments they are from.
        """
        self._begin(self._shortest, self._cooldown)
        self._now, self._segments_now = counts.astype(np.int64), segments

    def discount(self, peak: float) -> None:
        """Take an event out of the counts: the operator said that it was real.

        Args:
            peak: Its highest smoothed score.
        """
        reached = int(np.searchsorted(LEVELS, peak))
        self._now[:reached] -= 1

    def interrupt(self) -> None:
        """The stream ends or begins anew: what comes next continues no event."""
        self._last = None
        self._run[:] = 0
        self._ended[:] = _NEVER

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What has to be kept over a restart."""
        sizes = np.array([self._segments_now, self._segments_before, self._shortest, self._cooldown], dtype=np.int64)
        return {"now": self._now, "before": self._before, "sizes": sizes}

    def restore(self, arrays: Arrays) -> None:
        """Go on from what `arrays` gave; counts of events that were defined otherwise are passed over.

        Raises:
            KeyError: An array is missing.
            ValueError: An array is not one of these; nothing has changed then.
        """
        now, before, sizes = arrays["now"], arrays["before"], arrays["sizes"]
        if any(array.shape != (_LEVELS,) or array.dtype != np.int64 for array in (now, before)):
            raise ValueError("counts of events")
        if sizes.shape != (4,) or sizes.dtype != np.int64 or sizes.min() < 0:
            raise ValueError("sizes of counts of events")
        if (int(sizes[2]), int(sizes[3])) != (self._shortest, self._cooldown):
            return
        self._now, self._before = now.copy(), before.copy()
        self._segments_now, self._segments_before = int(sizes[0]), int(sizes[1])
        self.interrupt()


@dataclass(frozen=True, slots=True)
class Threshold:
    """The threshold that holds.

    Attributes:
        value: A smoothed score above it is anomalous.
        missing: How many more segments the budget needs until it is in force; 0 where it is.
    """

    value: float
    missing: int

    @property
    def by_budget(self) -> bool:
        """Whether the budget set it; else it is the calibrated one."""
        return self.missing == 0


class Budget:
    """Keeps a camera's events at so many a day. Until it is in force, the calibrated threshold holds.

    All events count, real ones too, unless the operator's word takes them out (`EventCounts.discount`): it is a
    budget of alarms. A site where more real events happen than the budget has is told fewer of them.

    Args:
        per_day: Events a day, above 0.
        calibrated: The locator's threshold.
        step_s: From one segment to the next.
        shortest: As of `EventCounts`.
        cooldown: As of `EventCounts`.
        events: What has counted before, and goes on with it; by default it begins with nothing.

    Raises:
        UsageError: The budget is no number above 0.

    Attributes:
        events: Counts them.
        threshold: What holds now.
    """

    # How often the threshold is moved, in segments: about an hour.
    EVERY = 1125

    def __init__(
        self,
        per_day: float,
        calibrated: float,
        step_s: float,
        *,
        shortest: int = 1,
        cooldown: int = 0,
        events: EventCounts | None = None,
    ) -> None:
        if not (math.isfinite(per_day) and per_day > 0):
            raise UsageError(f"a budget is a number of events a day above 0, such as 2, got {per_day}")
        self._per_day, self._calibrated, self._step_s = per_day, calibrated, step_s
        self.events = EventCounts(shortest, cooldown) if events is None else events
        one_event = DAY_S / step_s / per_day
        #: How many segments it takes. Where one event is due in a longer time, the first counts say nothing yet; of
        #: more than a generation it is not certain that they are remembered.
        self.needed = min(max(LEAST_SEGMENTS, math.ceil(one_event / FACTOR)), GENERATION)
        self.threshold = self._now()

    def push(self, index: int, smoothed: float) -> Threshold:
        """Take the next segment, which was decided with the threshold before; returns the one for those after it."""
        self.events.push(index, smoothed)
        segments = self.events.segments
        if segments < self.needed or not self.threshold.by_budget or segments % self.EVERY == 0:
            self.threshold = self._now()
        return self.threshold

    def restore(self, arrays: Arrays) -> None:
        """Go on from what `events.arrays()` gave.

        Raises:
            KeyError: As of `EventCounts.restore`.
            ValueError: As of `EventCounts.restore`.
        """
        self.events.restore(arrays)
        self.threshold = self._now()

    def rate_at(self, threshold: float) -> float | None:
        """Events a day that a threshold would have given; None before the first segment."""
        if not self.events.segments:
            return None
        level = min(int(np.searchsorted(LEVELS, threshold)), _LEVELS - 1)
        return float(self.events.counts[level]) * DAY_S / (self._step_s * self.events.segments)

    def _now(self) -> Threshold:
        missing = max(0, self.needed - self.events.segments)
        return Threshold(self._calibrated, missing) if missing else self._set()

    def _set(self) -> Threshold:
        allowed = max(1, round(self._per_day * self.events.segments * self._step_s / DAY_S))
        # From above: at a low threshold all the day is one event, which is few.
        too_many = np.flatnonzero(self.events.counts > allowed)
        level = int(too_many[-1]) + 1 if len(too_many) else 0
        # Where even the highest level gives too many, nothing below 1 would keep the budget.
        return Threshold(float(LEVELS[level]) if level < _LEVELS else 1.0, 0)
