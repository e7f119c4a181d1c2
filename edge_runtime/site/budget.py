"""A budget of events a day instead of a threshold: counts what events each of many thresholds would have given.

Counting needs no model of the scores. With T days watched and b events a day wanted, the threshold is the lowest one
above which no threshold gave more than b T events. The next event of a stream whose events are exchangeable is above
the k-th highest of n with probability k / (n + 1), so the budget is kept on average, from the first day on.

Where a place becomes livelier, weeks know too little of it: the same is asked of the last days alone, and the higher
of both thresholds holds.
"""

from __future__ import annotations

import math
from collections import deque
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
#: Counts are kept in parts of so many segments: two days of 3.2 s.
PART = 54_000
#: How many parts are remembered, the one that is being filled among them: four weeks.
PARTS = 14
#: How many of the newest parts are asked by themselves: two to four days.
RECENT = 2
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
    """How many events each threshold of `LEVELS` would have given. About 130 KiB; some 20 microseconds a segment.

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
        # By parts, the newest last: events of each level, and of how many segments they are.
        self._parts: deque[NDArray[np.int64]] = deque([_none()], maxlen=PARTS)
        self._sizes: deque[int] = deque([0], maxlen=PARTS)

    @property
    def segments(self) -> int:
        """How many segments the counts are from."""
        return sum(self._sizes)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Events by level, (levels,)."""
        return self.newest(PARTS)[0]

    def newest(self, parts: int) -> tuple[NDArray[np.int64], int]:
        """Events by level, (levels,), of so many of the newest parts, and of how many segments they are."""
        first = max(0, len(self._parts) - parts)
        return np.sum(list(self._parts)[first:], axis=0), sum(list(self._sizes)[first:])

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
        self._parts[-1][:reached] += begins
        # Also an event that the cooldown took goes on as part of the last one.
        ended[run >= self._shortest] = index + 1
        self._sizes[-1] += 1
        if self._sizes[-1] >= PART:
            self._parts.append(_none())
            self._sizes.append(0)

    def discount(self, peak: float, ago: int, *, back: bool = False) -> None:
        """Take an event out of the counts: operators say that it was real. One of before the counts changes nothing.

        Args:
            peak: Its highest smoothed score.
            ago: How many segments ago it began.
            back: They say so no more.
        """
        reached = int(np.searchsorted(LEVELS, peak))
        for part, size in zip(reversed(self._parts), reversed(self._sizes), strict=True):
            if ago <= size:
                part[:reached] += 1 if back else -1
                return
            ago -= size

    def interrupt(self) -> None:
        """The stream ends or begins anew: what comes next continues no event."""
        self._last = None
        self._run[:] = 0
        self._ended[:] = _NEVER

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What has to be kept over a restart."""
        sizes = np.array([self._shortest, self._cooldown, *self._sizes], dtype=np.int64)
        return {"parts": np.stack(self._parts), "sizes": sizes}

    def restore(self, arrays: Arrays) -> None:
        """Go on from what `arrays` gave; counts of events that were defined otherwise are passed over.

        Raises:
            KeyError: An array is missing.
            ValueError: An array is not one of these; nothing has changed then.
        """
        parts, sizes = arrays["parts"], arrays["sizes"]
        count = len(parts) if parts.ndim == 2 else 0
        if parts.shape != (count, _LEVELS) or parts.dtype != np.int64 or not 1 <= count <= PARTS:
            raise ValueError("counts of events")
        if sizes.shape != (count + 2,) or sizes.dtype != np.int64 or sizes.min() < 0:
            raise ValueError("sizes of counts of events")
        if (int(sizes[0]), int(sizes[1])) != (self._shortest, self._cooldown):
            return
        self._parts = deque((part.copy() for part in parts), maxlen=PARTS)
        self._sizes = deque((int(size) for size in sizes[2:]), maxlen=PARTS)
        self.interrupt()


def _none() -> NDArray[np.int64]:
    return np.zeros(_LEVELS, dtype=np.int64)


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

    All events count, real ones too, until operators say that they were real (`EventCounts.discount`). A site where
    more real events happen than the budget has, and nobody says so, is told fewer of them.

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
        #: How many segments it takes. Where one event is due in a longer time, the first counts say nothing yet; more
        #: than this are not remembered at any moment.
        self.needed = min(max(LEAST_SEGMENTS, math.ceil(one_event / FACTOR)), PART * (PARTS - 1))
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

    def _now(self) -> Threshold:
        missing = max(0, self.needed - self.events.segments)
        return Threshold(self._calibrated, missing) if missing else self._set()

    def _set(self) -> Threshold:
        level = max(self._level(*self.events.newest(parts)) for parts in (RECENT, PARTS))
        # Where even the highest level gives too many, nothing below 1 would keep the budget.
        return Threshold(float(LEVELS[level]) if level < _LEVELS else 1.0, 0)

    def _level(self, counts: NDArray[np.int64], segments: int) -> int:
        allowed = max(1, round(self._per_day * segments * self._step_s / DAY_S))
        # From above: at a low threshold all the day is one event, which is few.
        too_many = np.flatnonzero(counts > allowed)
        return int(too_many[-1]) + 1 if len(too_many) else 0
