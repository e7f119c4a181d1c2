"""One reader of a camera as its watchdog sees it: how long it is in native code, and whether it was given up."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from edge_runtime.records import CameraReason, GapReason
from edge_runtime.stream.clock import RunClock
from edge_runtime.video.pace import StreamPace


@dataclass(frozen=True, slots=True)
class Ended:
    """Why a connection is over.

    Attributes:
        gap: What the outage is called.
        reason: Why, in one word.
        detail: Why, in one sentence.
        good_s: For how long it gave frames.
        tried_s: How long it took without one frame; 0 if there were some.
    """

    gap: GapReason
    reason: CameraReason
    detail: str
    good_s: float = 0.0
    tried_s: float = 0.0


class GivenUp(Exception):
    """This reader's place was taken while it was blocked."""


class Turn:
    """The time from the start of a reader until it ends or is given up.

    Args:
        lock: The camera's. What is below is changed under it.
        clock: Of the run.

    Attributes:
        waiting_since: When it went into native code; None while it is not there.
        waited_s: How long it was there the last time.
        limit_s: How long it may be there.
        stalled: What the watchdog said of a stall that it reported meanwhile.
        pace: Of the connection that is open; None where none is, and for devices.
        given_up: Another reader has taken its place: it delivers and reports nothing any more.
    """

    def __init__(self, lock: threading.RLock, clock: RunClock) -> None:
        self._lock, self._clock = lock, clock
        self.waiting_since: float | None = None
        self.waited_s = 0.0
        self.limit_s = math.inf
        self.stalled: str | None = None
        self.pace: StreamPace | None = None
        self.given_up = False

    def opened(self, pace: StreamPace | None) -> None:
        """Begin with a connection that has just been opened."""
        with self._lock:
            self.stalled, self.pace = None, pace

    @contextlib.contextmanager
    def native(self, limit_s: float) -> Iterator[None]:
        """Around native code that may block: lets the watchdog see it.

        Raises:
            GivenUp: The reader was replaced meanwhile.
        """
        with self._lock:
            begun_s = self._clock.now_s()
            self.waiting_since, self.limit_s = begun_s, limit_s
        try:
            yield
        finally:
            with self._lock:
                self.waiting_since = None
                self.waited_s = self._clock.now_s() - begun_s
                if self.given_up:
                    raise GivenUp
