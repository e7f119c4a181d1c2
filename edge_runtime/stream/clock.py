"""The time of one run: seconds since its start, the same for every camera of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime


class RunClock:
    """Counts seconds since the start of a run, which is the moment this object is made.

    One clock serves everything in a run, so that a camera that is added an hour later has the same time axis as
    the others. It never goes back, whatever happens to the computer's date. Any thread may ask it.

    Args:
        monotonic: Gives seconds that never go back. For tests.

    Attributes:
        started_at: When the run started, in UTC.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.started_at = datetime.now(UTC)
        self._monotonic = monotonic
        self._zero_s = monotonic()

    def now_s(self) -> float:
        """Seconds since the start of the run."""
        return self._monotonic() - self._zero_s
