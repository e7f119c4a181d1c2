"""One reader of a camera as its watchdog sees it: how long it is in native code, and whether it was given up."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from edge_runtime.records import CameraReason, GapReason
from edge_runtime.stream.clock import RunClock


@dataclass(frozen=True, slots=True)
class Ended:
    """Why a connection is over, and for how long it gave frames."""

    gap: GapReason
    reason: CameraReason
    detail: str
    good_s: float = 0.0


class GivenUp(Exception):
    """This reader's place was taken while it was blocked."""


class Turn:
    """The time from the start of a reader until it ends or is given up.

    Args:
        lock: The camera's. What is below is changed under it.
        clock: Of the run.

    Attributes:
        waiting_since: When it went into native code; None while it is not there.
        limit_s: How long it may be there.
        stalled: The watchdog reported a stall meanwhile.
        given_up: Another reader has taken its place: it delivers and reports nothing any more.
    """

    def __init__(self, lock: threading.RLock, clock: RunClock) -> None:
        self._lock, self._clock = lock, clock
        self.waiting_since: float | None = None
        self.limit_s = math.inf
        self.stalled = False
        self.given_up = False

    @contextlib.contextmanager
    def native(self, limit_s: float) -> Iterator[None]:
        """Around native code that may block: lets the watchdog see it.

        Raises:
            GivenUp: The reader was replaced meanwhile.
        """
        with self._lock:
            self.waiting_since, self.limit_s = self._clock.now_s(), limit_s
        try:
            yield
        finally:
            with self._lock:
                self.waiting_since = None
                if self.given_up:
                    raise GivenUp
