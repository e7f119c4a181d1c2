"""How many frames a second a camera gives."""

from __future__ import annotations


class FrameRate:
    """Frames that have arrived, and the time, to a rate every few seconds. For one thread.

    Args:
        every_s: Over how long each rate is taken, in seconds, and how often there is one.
    """

    def __init__(self, every_s: float = 10.0) -> None:
        self._every_s = every_s
        # When counting began, and how many had come by then; None while none come.
        self._since: tuple[float, int] | None = None
        self._told: float | None = None

    def look(self, frames: int, flowing: bool, now_s: float) -> float | None:
        """Take what is so now; returns a rate where there is a new one to tell.

        Args:
            frames: How many have come in all.
            flowing: Whether the camera gives frames. Where it does not, its rate is 0 at once.
            now_s: The time in seconds, which never goes back.
        """
        if not flowing:
            self._since = None
            return None if self._told == 0.0 else self._tell(0.0)
        if self._since is None:
            self._since = (now_s, frames)
            return None
        since_s, before = self._since
        if now_s - since_s < self._every_s:
            return None
        self._since = (now_s, frames)
        return self._tell((frames - before) / (now_s - since_s))

    def _tell(self, rate: float) -> float:
        self._told = rate
        return rate
