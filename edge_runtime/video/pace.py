"""Notices a stream whose frames dribble in: each comes in time to count as a sign of life, all of them ever later.

A camera stamps its frames. Where the network is too slow for them, the stamps fall behind the time that was spent
waiting. A camera that gives fewer frames, by night or when nothing moves, stamps them further apart and falls behind
nothing. What the reader does between two frames is not counted: a busy computer is no slow network.

Stamps that are not kept by a clock say nothing. Then only a rate that no camera would go down to is noticed.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

# Stamps that kept pace with the clock for so long are believed from then on.
_LEARNING_S = 3.0
_KEEPS_PACE = (0.8, 1.25)
# So many seconds of waiting are compared. A clock that goes wrong by a percent goes wrong by less than a second.
_REMEMBERED = 60
# More than the wait for one frame that is a stall: frames that come at last may be late once.
_LATE = 4 / 3
# A frame that is behind by no more than this is in time.
_IN_TIME_S = 0.5
# Without stamps, over twice the wait that is a stall: no more than four frames, a thirtieth of what usually came.
# Night modes go down to one frame a second.
_OVER = 2
_FEW = 4
_FEWER = 30
_USUAL = 5


@dataclass(frozen=True, slots=True)
class _Mark:
    """A frame that was as little behind as any."""

    waited_s: float
    stamp_s: float

    @property
    def behind_s(self) -> float:
        return self.waited_s - self.stamp_s


class StreamPace:
    """How far the frames of one connection are behind. Two threads may use it under one lock.

    Frames that come in a burst, as at the beginning or after a pause, are less and less behind. Stamps that jump
    forward are less behind for good; those that jump back are learnt anew.

    Args:
        stall_s: How long a wait for one frame is a stall. Frames are too slow once they have fallen behind by a third
            more, in the time that was spent waiting for the last minute's.
    """

    def __init__(self, stall_s: float) -> None:
        self._limit_s = _LATE * stall_s
        self._window_s = _OVER * stall_s
        self._waited_s = 0.0
        self._marks: deque[_Mark] = deque(maxlen=_REMEMBERED)
        self._marked_s = -math.inf  # the begin of the second that the last mark stands for
        self._learning: tuple[float, float] | None = None  # since when, and the stamp of then
        self._believed = False
        self._stamp_s: float | None = None
        self._arrivals: deque[float] = deque()
        self._counts: deque[int] = deque(maxlen=_USUAL)
        self._counted_s: float | None = None

    def came(self, seconds: float, waited_s: float, stamp_s: float | None) -> None:
        """A frame came.

        Args:
            seconds: When.
            waited_s: How long it was waited for.
            stamp_s: Its own time in seconds, from any moment; None where it has none.
        """
        self._waited_s += waited_s
        self._count(seconds)
        if stamp_s is None or (self._stamp_s is not None and stamp_s < self._stamp_s):
            self._forget()
        if stamp_s is not None:
            self._stamp_s = stamp_s
            self._mark(_Mark(self._waited_s, stamp_s))
            self._learn(seconds, stamp_s)

    def waited(self, waited_s: float) -> None:
        """So long was waited, and no frame came."""
        self._waited_s += waited_s

    def interrupt(self) -> None:
        """Frames were left out: what comes next is not compared with what came before."""
        self._forget()
        self._arrivals.clear()
        self._counts.clear()
        self._counted_s = None

    def rest_s(self, waiting_s: float) -> float:
        """How soon the frames can be too slow by their stamps at the earliest; at most 0 if they are.

        Args:
            waiting_s: How long the next one has been waited for.
        """
        return self._limit_s - self._late_s(waiting_s)

    def too_slow(self, seconds: float, waiting_s: float) -> str | None:
        """What is told of frames that are too slow, None where they are not.

        Args:
            seconds: The time now.
            waiting_s: How long the next one has been waited for.
        """
        if self._late_s(waiting_s) >= self._limit_s:
            assert self._stamp_s is not None
            # Of those that were in time the last one: what happened since then is what is told.
            least_s = min(mark.behind_s for mark in self._marks)
            best = next(mark for mark in reversed(self._marks) if mark.behind_s <= least_s + _IN_TIME_S)
            came_s = self._stamp_s - best.stamp_s
            within_s = self._waited_s + waiting_s - best.waited_s
            return f"frames of {came_s:.1f} s came in {within_s:.1f} s; the network is too slow for this stream"
        if not self._believed and len(self._counts) > 1:
            came = sum(seconds - at_s < self._window_s for at_s in self._arrivals)
            usual = sorted(self._counts)[len(self._counts) // 2]
            if came <= _FEW and came * _FEWER <= usual:
                return f"{came} frames came in {self._window_s:g} s instead of {usual}; check the network"
        return None

    def _late_s(self, waiting_s: float) -> float:
        if not self._believed or self._stamp_s is None:
            return 0.0
        return self._waited_s + waiting_s - self._stamp_s - min(mark.behind_s for mark in self._marks)

    def _forget(self) -> None:
        self._marks.clear()
        self._marked_s = -math.inf
        self._learning, self._believed, self._stamp_s = None, False, None

    def _mark(self, mark: _Mark) -> None:
        if mark.waited_s - self._marked_s >= 1:
            self._marked_s = mark.waited_s
            self._marks.append(mark)
        elif mark.behind_s <= self._marks[-1].behind_s:
            self._marks[-1] = mark

    def _learn(self, seconds: float, stamp_s: float) -> None:
        if self._learning is None:
            self._learning = (seconds, stamp_s)
        passed_s = seconds - self._learning[0]
        if passed_s >= _LEARNING_S:
            self._believed |= _KEEPS_PACE[0] <= (stamp_s - self._learning[1]) / passed_s <= _KEEPS_PACE[1]
            self._learning = (seconds, stamp_s)

    def _count(self, seconds: float) -> None:
        if self._counted_s is None:
            self._counted_s = seconds
        self._arrivals.append(seconds)
        while seconds - self._arrivals[0] >= self._window_s:
            self._arrivals.popleft()
        if seconds - self._counted_s >= self._window_s:
            self._counts.append(len(self._arrivals))
            self._counted_s = seconds
