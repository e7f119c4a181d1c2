"""The newest picture of each live camera, made while somebody asks for it and at no other time.

A camera's thread shrinks one picture a second of those that its reader hands on anyway; who asks encodes it. A camera
that nobody looks at is not held up: it costs a comparison a frame.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edge_runtime.errors import InvalidFrame
from edge_runtime.stream.pixels import UInt8Array
from edge_runtime.video.capture import DecodedFrame
from edge_runtime.video.journal import CameraListener, QualityListener

__all__ = ["Glimpsed", "Glimpses"]

#: Between two pictures of one camera, in seconds; and how long one request keeps them coming.
EVERY_S, WARM_S = 1.0, 3.0
#: A picture that nobody asks for is let go after so long.
FORGOTTEN_S = 60.0
#: No picture is wider, in pixels.
WIDEST = 640
_QUALITY = 70


class Glimpses:
    """The newest pictures of a run's cameras. Any thread may ask.

    Args:
        monotonic: The clock. For tests.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._views: dict[str, _View] = {}

    def around(self, camera: str, listener: CameraListener) -> Glimpsed:
        """Look at what a camera's listener gets; put a mask in front, so that nothing behind it is seen here.

        Args:
            camera: Its name; a camera that was there under it is forgotten.
            listener: Who gets every frame as before.
        """
        view = self._views[camera] = _View(self._monotonic)
        return Glimpsed(listener, view)

    def forget(self, camera: str) -> None:
        """A camera has ended."""
        self._views.pop(camera, None)

    def picture(self, camera: str) -> bytes | None:
        """Ask for a camera's picture; the newest that there is.

        Returns:
            A JPEG, at most 640 pixels wide; what is masked is black. None where there is none yet: the first is made
            with the next frame. Of a camera that gives no frames it is the last one, as long as somebody asks.
        """
        view = self._views.get(camera)
        # A camera that gives no frames does not look at the time itself.
        for other in list(self._views.values()):
            if other is not view:
                other.let_go()
        return None if view is None else view.asked()


class _View:
    """One camera's picture. Its own thread calls `due` and `take`, any other `asked`.

    Attributes:
        awake: Whether somebody asked within the last minute. All that is read of each frame where nobody did.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.awake = False
        self._monotonic = monotonic
        self._asked_s = self._taken_s = -FORGOTTEN_S
        self._taken: UInt8Array | None = None
        self._jpeg: bytes | None = None
        self._encoding = threading.Lock()

    def due(self) -> bool:
        """Whether the next frame's picture is wanted."""
        now_s = self._monotonic()
        if now_s - self._asked_s <= WARM_S:
            return now_s - self._taken_s >= EVERY_S
        self.let_go()
        return False

    def take(self, picture: UInt8Array) -> None:
        """Keep a picture, BGR uint8 (h, w, 3), smaller: its memory may be the decoder's."""
        self._taken_s = self._monotonic()
        self._taken = shrunk(picture)

    def asked(self) -> bytes | None:
        """Somebody wants to see it."""
        self._asked_s = self._monotonic()
        self.awake = True
        with self._encoding:
            if (taken := self._taken) is not None:
                self._jpeg = as_jpeg(taken)
                # One that came meanwhile is the next.
                if self._taken is taken:
                    self._taken = None
            return self._jpeg

    def let_go(self) -> None:
        """Free the memory where nobody has asked for long."""
        if self._monotonic() - self._asked_s > FORGOTTEN_S:
            self.awake = False
            self._taken = self._jpeg = None


class Glimpsed:
    """A camera's listener whose frames can be looked at. Made by Glimpses."""

    def __init__(self, listener: CameraListener, view: _View) -> None:
        self._listener, self._view = listener, view
        self.on_outage = listener.on_outage
        self.on_state = listener.on_state
        if isinstance(listener, QualityListener):
            # A reader asks whether it is there.
            self.on_quality = listener.on_quality

    def on_frame(self, frame: DecodedFrame) -> None:
        """See CameraListener. The listener goes first: what it is told does not depend on who looks."""
        if not (self._view.awake and self._view.due()):
            self._listener.on_frame(frame)
            return
        once = _Once(frame.retrieve)
        self._listener.on_frame(replace(frame, retrieve=once))
        try:
            self._view.take(once())
        except InvalidFrame:
            # Its listener did not need it, and the next one may have a picture.
            return


class _Once:
    """A frame's picture, converted once for all who want it."""

    def __init__(self, retrieve: Callable[[], UInt8Array]) -> None:
        self._retrieve = retrieve
        self._picture: UInt8Array | None = None

    def __call__(self) -> UInt8Array:
        if self._picture is None:
            self._picture = self._retrieve()
        return self._picture


def shrunk(picture: UInt8Array) -> UInt8Array:
    """A copy of a picture, uint8 (h, w, 3), that is at most 640 wide."""
    import cv2

    height, width = picture.shape[:2]
    if width <= WIDEST:
        return picture.copy()
    size = WIDEST, max(1, round(height * WIDEST / width))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def as_jpeg(picture: UInt8Array) -> bytes | None:
    """A picture, BGR uint8 (h, w, 3), as a JPEG; None where it has no size that JPEG takes."""
    import cv2

    good, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return jpeg.tobytes() if good else None
