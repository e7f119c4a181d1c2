"""Notices that the frames of a camera are decoded ever later: this computer is too slow for all of its cameras.

A network camera cannot be asked to wait. What is not read waits in buffers, at the camera too, until it throws frames
away or hangs up; and all that is told is told late.
"""

from __future__ import annotations

import math
from collections import deque

# Behind by so much, and for so long without a break: what came in a burst after a pause is decoded in less.
_BEHIND_S = 2.0
_LASTING_S = 2.0
# The frame that was least behind in so many seconds is what the others are compared with.
_REMEMBERED = 60
# Stamps that go back by more begin anew; frames that are put in order go back a little.
_BACK_S = 1.0
# Where it was not this computer, it is not tried again for so long, and each time for twice as long.
_PATIENCE_S = 60.0


class Lag:
    """How far behind the frames of one connection are, by the camera's stamps. One thread uses it."""

    def __init__(self) -> None:
        # Second of arrival, and how little behind a frame of that second was.
        self._least: deque[tuple[int, float]] = deque(maxlen=_REMEMBERED)
        self._stamp_s: float | None = None
        self._since_s: float | None = None
        self._not_before_s = -math.inf
        self._patience_s = _PATIENCE_S

    def came(self, seconds: float, stamp_s: float | None) -> float:
        """A frame came.

        Args:
            seconds: When it was decoded.
            stamp_s: Its own time in seconds, from any moment; None where it has none.

        Returns:
            By how much it is behind in seconds, where that has lasted; else 0.
        """
        if stamp_s is None or (self._stamp_s is not None and stamp_s < self._stamp_s - _BACK_S):
            self._least.clear()
            self._since_s = None
        self._stamp_s = stamp_s
        if stamp_s is None:
            return 0.0
        offset_s = seconds - stamp_s
        second = math.floor(seconds)
        if not self._least or second > self._least[-1][0]:
            self._least.append((second, offset_s))
        elif offset_s < self._least[-1][1]:
            self._least[-1] = (second, offset_s)
        behind_s = offset_s - min(least_s for _, least_s in self._least)
        if behind_s < _BEHIND_S:
            self._since_s = None
            return 0.0
        if self._since_s is None:
            self._since_s = seconds
        lasted = seconds - self._since_s >= _LASTING_S and seconds >= self._not_before_s
        return behind_s if lasted else 0.0

    def tried(self, seconds: float, caught_up: bool) -> None:
        """Frames were left out to catch up.

        Args:
            seconds: When.
            caught_up: Whether that helped. Where it did not, the network is slow, or the stamps keep no time.
        """
        self._since_s = None
        if caught_up:
            self._patience_s = _PATIENCE_S
            return
        self._not_before_s = seconds + self._patience_s
        self._patience_s *= 2
