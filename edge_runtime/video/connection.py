"""What reads one live source between its opening and its end: a network camera or a device."""

from __future__ import annotations

from typing import Literal, Protocol

from edge_runtime.records import CameraReason
from edge_runtime.stream.pixels import UInt8Array


class Fault(Exception):
    """A source cannot be opened, or gives nothing more.

    Attributes:
        reason: Why, in one word.
        detail: Why, in one sentence without credentials that says what to do.
    """

    def __init__(self, reason: CameraReason, detail: str) -> None:
        super().__init__(detail)
        self.reason: CameraReason = reason
        self.detail = detail


# `cut`: whole, but it does not follow the one before. `damaged`: lost or damaged on the way, there is no picture of
# it. `nothing`: no frame yet, though the source is there.
Grabbed = Literal["whole", "cut", "damaged", "nothing"]


class Connection(Protocol):
    """An open source. One thread alone uses it, from its opening to `close`."""

    def grab(self) -> Grabbed:
        """Wait for the next frame and decode it, without converting it to a picture.

        Returns:
            What came.

        Raises:
            Fault: No frame came in time, or the source has ended.
        """

    def picture(self) -> UInt8Array | None:
        """Convert the frame that was grabbed last: BGR uint8 (h, w, 3), or None where it has no picture."""

    def is_key(self) -> bool | None:
        """Whether the frame that was grabbed last was coded without any other; None where that is not known."""

    def stamp_s(self) -> float | None:
        """The time that the camera wrote on the frame that was grabbed last, in seconds; None where there is none."""

    def catch_up(self, behind_s: float) -> bool:
        """Take what waits to be read without decoding it. Frames come again with the next key frame.

        Args:
            behind_s: How much may wait, in seconds of video.

        Returns:
            Whether it did wait, and is left out. False: frames come no faster than they did; nothing is left out.

        Raises:
            Fault: As of `grab`.
        """

    def close(self) -> None:
        """Free what it holds. It may be closed more than once."""
