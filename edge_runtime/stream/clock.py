"""The time of one run: seconds since its start, the same for every camera of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

# Less is what two clocks are read apart; times that follow each other must not change places for that.
_DRIFT = timedelta(seconds=0.1)


class RunClock:
    """Counts seconds since the start of a run, which is the moment this object is made.

    One clock serves everything in a run, so that a camera that is added an hour later has the same time axis as
    the others. It never goes back, whatever happens to the computer's date. Any thread may ask it.

    Args:
        monotonic: Gives seconds that never go back. For tests.
        date: Gives the computer's date. For tests.

    Attributes:
        started_at: When the run started, in UTC.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        date: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._date = date
        self.started_at = self._zero = date()
        self._monotonic = monotonic
        self._zero_s = monotonic()

    def now_s(self) -> float:
        """Seconds since the start of the run."""
        return self._monotonic() - self._zero_s

    def utc(self, seconds: float) -> str:
        """A moment of the run by the computer's date, as RFC 3339 with milliseconds.

        Counted from the start as long as that is what the date says: it may be set meanwhile, and over months the two
        drift apart.
        """
        zero = self._date() - timedelta(seconds=self.now_s())
        if abs(zero - self._zero) > _DRIFT:
            self._zero = zero
        return rfc3339(self._zero + timedelta(seconds=seconds))


def rfc3339(moment: datetime) -> str:
    """A moment in UTC, with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
