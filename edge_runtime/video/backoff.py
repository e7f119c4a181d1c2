"""How long a camera is left alone between two attempts to open it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from edge_runtime.records import CameraReason

# Cameras lock an account after about five wrong passwords, often for half an hour.
_REFUSED_LOGIN_S = 15 * 60.0
# Cameras that went down together are not asked together.
_JITTER = 0.25


class Backoff:
    """Gives the waits one after the other, and starts over once a connection was good.

    Args:
        waits_s: In seconds; the last one repeats. Short, because a camera that is back is to be scored soon.
        jitter: Gives numbers in [0, 1). A wait is longer by up to a quarter.
    """

    def __init__(self, waits_s: Sequence[float], jitter: Callable[[], float] = random.random) -> None:
        self._waits_s, self._jitter = tuple(waits_s), jitter
        self._attempt = 0

    def after(self, reason: CameraReason | None, good_s: float) -> float:
        """The wait after a connection.

        Args:
            reason: Why it ended. `unauthorized` has a wait of its own, a quarter of an hour.
            good_s: For how long it gave frames. More than the wait before it starts the waits over.
        """
        if reason == "unauthorized":
            return _REFUSED_LOGIN_S * self._longer()
        if self._attempt > 0 and good_s > self._wait_s(self._attempt - 1):
            self._attempt = 0
        self._attempt += 1
        return self._wait_s(self._attempt - 1) * self._longer()

    def _wait_s(self, attempt: int) -> float:
        return self._waits_s[min(attempt, len(self._waits_s) - 1)]

    def _longer(self) -> float:
        return 1 + _JITTER * self._jitter()
