"""Whether scoring keeps up with the cameras, and how many this machine feeds where it does not."""

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
        self._told = False

    def dropped(self) -> None:
        """A segment was left out, because scoring fell behind."""
        self._newest_s = self._monotonic()
        if self._since_s is None:
            self._since_s, self._scored = self._newest_s, 0

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
                log.info("scoring keeps up again")
            return
        if not self._told and now_s - self._since_s >= _MINUTE_S:
            self._told = True
            # It never waited for a camera meanwhile: this is what the machine can do.
            feeds = self._scored / (now_s - self._since_s) * self._step_s
            log.warning(
                "scoring has fallen behind for a minute: %d cameras, and this machine feeds %.1f of them; what is "
                "left out becomes gaps (dropped). Run fewer cameras, a longer --stride, or a bundle of fewer layers",
                cameras,
                feeds,
            )
