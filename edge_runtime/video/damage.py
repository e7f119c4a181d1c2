"""Counts pictures that arrive damaged, and says when that begins and ends."""

from __future__ import annotations

from edge_runtime.video.journal import CameraJournal

# One bad minute of a network is one report, not sixty.
_WHOLE_AGAIN_S = 10.0


class Damage:
    """What the reader of one camera tells of damaged pictures. One thread uses it.

    Args:
        journal: Who is told.

    Attributes:
        count: Frames that were left out because they were damaged, or depended on one that was.
    """

    def __init__(self, journal: CameraJournal) -> None:
        self.count = 0
        self._journal = journal
        self._before = 0
        self._last_s: float | None = None

    def damaged(self, seconds: float) -> None:
        """A damaged frame came."""
        if self._last_s is None:
            self._before = self.count
            detail = "frames arrive damaged and are left out; check the network, or let the camera send over TCP"
            self._journal.looks(["corrupt"], detail, seconds)
        self.count += 1
        self._last_s = seconds

    def whole(self, seconds: float) -> None:
        """A whole frame came."""
        if self._last_s is not None and seconds - self._last_s >= _WHOLE_AGAIN_S:
            left_out = self.count - self._before
            self._last_s = None
            self._journal.looks(["ok"], f"frames are whole again, {left_out} were left out", seconds)
