"""Reads a camera on this computer, through OpenCV: it knows the interfaces of all platforms by a number."""

from __future__ import annotations

import sys
import time
from fractions import Fraction

from edge_runtime.stream.packets import PacketTap, VideoFormat
from edge_runtime.stream.pixels import UInt8Array
from edge_runtime.video.capture import is_key, open_capture, picture_of
from edge_runtime.video.connection import Fault, Grabbed
from edge_runtime.video.sources import Source

# A tap gets this many JPEGs a second at most: each takes about 10 ms at 1080p.
_JPEGS_A_SECOND = 5
_JPEG_QUALITY = 85
_TICKS = 90_000


class DeviceConnection:
    """An open device; see Connection. Devices have no timeouts.

    Args:
        source: The device.
        tap: Takes some of its frames as JPEGs.

    Raises:
        Fault: It cannot be opened.
    """

    def __init__(self, source: Source, tap: PacketTap | None = None) -> None:
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
        self._tap = tap
        self._opened_s = time.monotonic()
        self._next_jpeg_s = self._opened_s
        # Of the frame that was grabbed last, if it was converted already.
        self._picture: UInt8Array | None = None
        if tap is not None:
            tap.begin(VideoFormat("mjpeg", Fraction(1, _TICKS)))

    def grab(self) -> Grabbed:
        """See Connection."""
        self._picture = None
        if not self._capture.grab():
            raise Fault("ended", "the device gives no more frames; check its cable")
        if self._tap is not None and (now_s := time.monotonic()) >= self._next_jpeg_s:
            self._next_jpeg_s = now_s + 1 / _JPEGS_A_SECOND
            self._hand_on(self._tap, now_s)
        return "whole"

    def picture(self) -> UInt8Array | None:
        """See Connection."""
        if self._picture is None:
            self._picture = picture_of(self._capture)
        return self._picture

    def is_key(self) -> bool | None:
        """See Connection."""
        return is_key(self._capture)

    def stamp_s(self) -> float | None:
        """See Connection."""
        return None

    def catch_up(self, behind_s: float) -> bool:
        """See Connection. A device throws away what nobody takes."""
        del behind_s
        return False

    def close(self) -> None:
        """See Connection."""
        if self._tap is not None:
            self._tap.end()
        self._capture.release()

    def _hand_on(self, tap: PacketTap, now_s: float) -> None:
        import cv2

        if (picture := self.picture()) is None:
            return
        good, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        if good:
            ticks = round((now_s - self._opened_s) * _TICKS)
            tap.take(jpeg.tobytes(), True, ticks, ticks, False)
