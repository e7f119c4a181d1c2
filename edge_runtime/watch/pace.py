"""Whether decoding and scoring keep up with the cameras, and how many this machine feeds where it does not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

# So long it has to fall behind before that is told: a burst after a reconnection is none.
_MINUTE_S = 60.0
# Without a drop for so long it has caught up.
_CALM_S = 15.0


class Pace:
    """Counts what is scored while segments are dropped, and tells once what that comes to.

    Args:
        step_s: From the start of one segment of a camera to that of the next, in seconds.
        monotonic: The clock.
    """

    def __init__(self, step_s: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._step_s = step_s
        self._monotonic = monotonic
        self._since_s: float | None = None
        self._newest_s = 0.0
        self._scored = 0
        self._undecoded = self._unscored = 0
        self._told = False

    def dropped(self, undecoded: bool = False) -> None:
        """A segment was left out, because scoring fell behind; or frames, because decoding did.

        Args:
            undecoded: Whether it was decoding. Readers of several cameras say so; a count may get lost.
        """
        self._newest_s = self._monotonic()
        if self._since_s is None:
            self._undecoded = self._unscored = 0
            self._since_s, self._scored = self._newest_s, 0
        self._undecoded += undecoded
        self._unscored += not undecoded

    def scored(self, segments: int, cameras: int) -> None:
        """Segments were scored.

        Args:
            segments: How many.
            cameras: How many run now.
        """
        now_s = self._monotonic()
        self._scored += segments
        if self._since_s is None:
            return
        if now_s - self._newest_s > max(_CALM_S, 2 * self._step_s):
            self._since_s = None
            if self._told:
                self._told = False
                log.info("decoding and scoring keep up again")
            return
        if not self._told and now_s - self._since_s >= _MINUTE_S:
            self._told = True
            # It never waited for a camera meanwhile: this is what the machine can do.
            feeds = self._scored / (now_s - self._since_s) * self._step_s
            decoding = self._undecoded >= self._unscored
            log.warning(
                "%s has fallen behind for a minute: %d cameras, and this machine feeds %.1f of them; what is "
                "left out becomes gaps (dropped). %s",
                "decoding" if decoding else "scoring",
                cameras,
                feeds,
                "Run fewer cameras, or their smaller streams: half the width and height takes a quarter of the time"
                if decoding
                else "Run fewer cameras, a longer --stride, or a bundle of fewer layers",
            )
