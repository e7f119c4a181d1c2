"""How long a camera is left alone between two attempts to open it, and how long an attempt may take."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from edge_runtime.records import CameraReason

# Cameras lock an account after about five wrong passwords, often for half an hour.
_REFUSED_LOGIN_S = 15 * 60.0
_LOCKOUT_S = 30 * 60.0
_LOGINS = 4
# A camera that took the password before: a login that was damaged on the way is right the next time, and one that
# restarts has loaded its users soon.
_ASKED_AGAIN_S = (3.0, 4.0, 30.0)
# Cameras that went down together are not asked together.
_JITTER = 0.25
# Behind an attempt that itself took longer than the wait.
_LEAST_S = 0.25
# A camera that has been open before is not waited for as long as one that is not known: an attempt that hangs holds
# up the next one. It gets three times as long as it took, and now and then the whole limit: it may be slow today.
_SHORT_S = 2.5
_TIMES_AS_LONG = 3
_WHOLE_LIMIT_EVERY = 6


class Backoff:
    """Gives the waits one after the other, and starts over once a connection was good.

    No more than four logins are refused within half an hour, whatever else happens between them.

    Args:
        waits_s: In seconds, from the begin of an attempt that gave no frame, else from the end of the connection; the
            last one repeats. Short, because a camera that is back is to be scored soon.
        jitter: Gives numbers in [0, 1). A wait is longer by up to a quarter.
        now_s: A clock that never goes back.
    """

    def __init__(
        self,
        waits_s: Sequence[float],
        jitter: Callable[[], float] = random.random,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._waits_s, self._jitter, self._now_s = tuple(waits_s), jitter, now_s
        self._attempt = 0
        self._took_s: float | None = None  # to open, the last time that it did
        self._refused_s: list[float] = []
        self._asked_again = len(_ASKED_AGAIN_S)  # so often since the password was right

    def opened(self, took_s: float) -> None:
        """Note that the camera took its password and gave frames, and how long it took to open."""
        self._took_s = took_s
        self._asked_again = 0

    def limit_s(self, whole_s: float) -> float:
        """How long the next attempt may take to connect, and once more to find the video.

        Args:
            whole_s: The limit for a camera of which nothing is known. No other is longer.
        """
        if self._took_s is None or (self._attempt > 0 and self._attempt % _WHOLE_LIMIT_EVERY == 0):
            return whole_s
        return min(whole_s, max(_SHORT_S, round(_TIMES_AS_LONG * self._took_s, 1)))

    def after(self, reason: CameraReason | None, good_s: float, tried_s: float = 0.0) -> float:
        """The wait after a connection.

        Args:
            reason: Why it ended. `unauthorized` has waits of its own.
            good_s: For how long it gave frames. More than the wait before it starts the waits over.
            tried_s: How long it took without one frame; 0 if there were some.
        """
        if reason == "unauthorized":
            return self._after_refusal()
        if self._attempt > 0 and good_s > self._wait_s(self._attempt - 1):
            self._attempt = 0
        self._attempt += 1
        wait_s = self._wait_s(self._attempt - 1) * self._longer()
        return max(wait_s - tried_s, min(wait_s, _LEAST_S))

    def _after_refusal(self) -> float:
        now_s = self._now_s()
        self._refused_s = [at_s for at_s in self._refused_s if now_s - at_s < _LOCKOUT_S] + [now_s]
        wait_s = _REFUSED_LOGIN_S
        if len(self._refused_s) >= _LOGINS:
            wait_s = max(wait_s, self._refused_s[-_LOGINS] + _LOCKOUT_S - now_s)
        elif self._asked_again < len(_ASKED_AGAIN_S):
            wait_s = _ASKED_AGAIN_S[self._asked_again]
            self._asked_again += 1
        return wait_s * self._longer()

    def _wait_s(self, attempt: int) -> float:
        return self._waits_s[min(attempt, len(self._waits_s) - 1)]

    def _longer(self) -> float:
        return 1 + _JITTER * self._jitter()
