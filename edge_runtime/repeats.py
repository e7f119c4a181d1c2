"""Troubles that repeat: told once when they begin, then as a sum once a minute, so that no log grows with them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable


class RepeatedTrouble:
    """Logs the first of many alike at once, and how many more there were once a minute. Any thread may call anything.

    Args:
        log: Where to.
        level: Of all its lines, such as `logging.WARNING`.
        more: Makes the line that sums up, from how many there were and in how many seconds.
        every_s: Least time between two lines, in seconds.
        monotonic: The clock.
    """

    def __init__(
        self,
        log: logging.Logger,
        level: int,
        more: Callable[[int, int], str],
        *,
        every_s: float = 60.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._level, self._more = log, level, more
        self._every_s = every_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._said_s: float | None = None
        self._count = 0

    def happened(self, message: str) -> None:
        """It happened (again). `message` is logged only if nothing was logged within the last minute."""
        with self._lock:
            now_s = self._monotonic()
            first = self._said_s is None or (not self._count and now_s - self._said_s >= self._every_s)
            if first:
                self._said_s = now_s
            else:
                self._count += 1
        # Logged outside the lock: a handler may lead back here.
        if first:
            self._log.log(self._level, "%s", message)
        else:
            self.sum_up()

    def sum_up(self, *, at_once: bool = False) -> None:
        """Log how many more there were, if there were any and a minute has passed.

        Args:
            at_once: Do not wait for the minute: nothing will come any more.
        """
        with self._lock:
            now_s = self._monotonic()
            if self._count == 0 or self._said_s is None or not (at_once or now_s - self._said_s >= self._every_s):
                return
            text = self._more(self._count, round(now_s - self._said_s))
            self._said_s, self._count = now_s, 0
        self._log.log(self._level, "%s", text)
