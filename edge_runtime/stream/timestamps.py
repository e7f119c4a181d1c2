"""Timestamps of pushed frames: refuses what is no time, and warns where seconds look like milliseconds."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

import numpy as np

from edge_runtime.errors import InvalidFrame

log = logging.getLogger(__name__)

#: Furthest time from zero, in seconds: 3000 years. Seconds since 1970 or since year 1 fit; milliseconds since 1970 do
#: not. Floats up to here are at most 0.000015 s apart, so that adding the shortest segment (0.001 s) changes them.
LATEST_S = 1e11

# Milliseconds of a camera with 1 to 200 frames a second, taken for seconds.
_SHORTEST_STEP_S, _LONGEST_STEP_S = 5.0, 1000.0
_FRAMES_IN_A_ROW = 16
# Frames of a live camera come as fast as their timestamps say; a stalled network delivers some of them late.
_FASTER = 10.0


def check_seconds(seconds: object) -> float:
    """Check that a value is a time that a stream can count with.

    Args:
        seconds: A number of seconds; not a bool, and no text.

    Returns:
        The same as a float.

    Raises:
        InvalidFrame: It is no finite number, or lies beyond `LATEST_S`.
    """
    if isinstance(seconds, (bool, np.bool_, str, bytes, bytearray)):
        value = math.nan
    else:
        try:
            value = float(seconds)  # type: ignore[arg-type]  # what cannot become a float raises TypeError
        except (TypeError, ValueError, OverflowError):
            value = math.nan
    if -LATEST_S <= value <= LATEST_S:
        return value
    if not math.isfinite(value):
        raise InvalidFrame(f"a frame's time must be a finite number of seconds, got {_shown(seconds)}")
    raise InvalidFrame(
        f"a frame's time must lie within {LATEST_S:g} s of zero, got {value:g} s; "
        "push seconds (not milliseconds or nanoseconds) from a monotonic clock"
    )


class Timestamps:
    """Checks the timestamps of one stream, in order.

    It warns once, in the log, where they look like milliseconds: 16 frames in a row each lie 5 to 1000 s and more
    than a segment after the one before, but came in less than a tenth of that time by this computer's clock. So a
    live camera that really gives a frame every 10 s causes no warning; recorded time-lapse footage that is pushed
    quickly does, and the warning allows for it.

    Args:
        duration_s: Length of a segment in seconds.
        monotonic: Gives seconds that never go back. For tests.
    """

    def __init__(self, duration_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._duration_s = duration_s
        self._suspicious_s = max(duration_s, _SHORTEST_STEP_S)
        self._monotonic = monotonic
        self._in_a_row = 0
        # The first of them: its timestamp, and when it came.
        self._since = (0.0, 0.0)
        self._warned = False

    def check(self, seconds: float, previous: float | None) -> float:
        """Check the next frame's timestamp.

        Args:
            seconds: Its time in seconds.
            previous: The newest time of the stream so far, None before the first.

        Returns:
            Its time as a float.

        Raises:
            InvalidFrame: It is no time (see `check_seconds`), or lies before `previous`.
        """
        if not (type(seconds) is float and -LATEST_S <= seconds <= LATEST_S):  # once a frame: saves a call
            seconds = check_seconds(seconds)
        if previous is not None:
            if seconds < previous:
                raise InvalidFrame(
                    f"a frame's time must not go back: {seconds} s came after {previous} s; "
                    "take timestamps from a monotonic clock, or call flush() and open a new stream"
                )
            if seconds - previous > self._suspicious_s:
                self._suspect(seconds, seconds - previous)
            elif self._in_a_row:
                self._in_a_row = 0
        return seconds

    def _suspect(self, value: float, step: float) -> None:
        if self._warned or step > _LONGEST_STEP_S:
            self._in_a_row = 0
            return
        now_s = self._monotonic()
        if self._in_a_row == 0:
            self._since = (value, now_s)
        self._in_a_row += 1
        told_s, took_s = value - self._since[0], now_s - self._since[1]
        if self._in_a_row >= _FRAMES_IN_A_ROW and took_s * _FASTER < told_s:
            self._warned = True
            log.warning(
                "timestamps: the last %d frames lie %.1f s apart, longer than a segment of %g s, but all came within "
                "%.1f s; push seconds, not milliseconds: divide by 1000 (time-lapse footage is right as it is)",
                self._in_a_row,
                told_s / (self._in_a_row - 1),
                self._duration_s,
                took_s,
            )


def _shown(value: object) -> str:
    """A value as one short line for an error."""
    if isinstance(value, int) and value.bit_length() > 200:
        # Python refuses to write out very long integers.
        return f"an integer of {value.bit_length()} bits"
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
