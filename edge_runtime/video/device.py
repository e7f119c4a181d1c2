"""Reads a camera on this computer, through OpenCV: it knows the interfaces of all platforms by a number."""

from __future__ import annotations

import sys

from edge_runtime.stream.pixels import UInt8Array
from edge_runtime.video.capture import is_key, open_capture, picture_of
from edge_runtime.video.connection import Fault, Grabbed
from edge_runtime.video.sources import Source


class DeviceConnection:
    """An open device; see Connection. Devices have no timeouts.

    Args:
        source: The device.

    Raises:
        Fault: It cannot be opened.
    """

    def __init__(self, source: Source) -> None:
        import cv2

        # Neither V4L2 nor the other platforms' backends take timeouts: given one, they refuse to open.
        backend = cv2.CAP_V4L2 if sys.platform == "linux" else cv2.CAP_ANY
        self._capture = open_capture(int(source.target), backend, {})
        if not self._capture.isOpened():
            self._capture.release()
            raise Fault(
                "not_found",
                f"no such device as {source.target}, or another program uses it; check its number and who holds it",
            )

    def grab(self) -> Grabbed:
        """See Connection."""
        if not self._capture.grab():
            raise Fault("ended", "the device gives no more frames; check its cable")
        return "whole"

    def picture(self) -> UInt8Array | None:
        """See Connection."""
        return picture_of(self._capture)

    def is_key(self) -> bool | None:
        """See Connection."""
        return is_key(self._capture)

    def stamp_s(self) -> float | None:
        """See Connection."""
        return None

    def close(self) -> None:
        """See Connection."""
        self._capture.release()
