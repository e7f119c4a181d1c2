"""What is told of a live camera: its state, and the stretches without frames. Opens and reads nothing."""

from __future__ import annotations

import logging
import threading
from typing import Protocol

from edge_runtime.records import CameraState, GapReason
from edge_runtime.video.capture import DecodedFrame
from edge_runtime.video.sources import Source

log = logging.getLogger(__name__)


class CameraListener(Protocol):
    """Who is told. Seconds are those of the run's clock.

    `on_frame` and, but for the last one, `on_outage` come from the reader thread, in the order of time;
    `on_state` comes from any thread. States and outages never overlap each other. Every call holds up the
    camera: return quickly. An exception ends the camera and comes out of `stop()` or `raise_if_failed()`,
    except the InvalidFrame of a `retrieve()` that found no picture, which may pass through.
    """

    def on_frame(self, frame: DecodedFrame) -> None:
        """A frame arrived; `retrieve()` it now or never."""

    def on_outage(self, start_s: float, end_s: float, reason: GapReason) -> None:
        """No frames between two moments. Told just before the frame that ends it, or by `stop()`."""

    def on_state(self, state: CameraState, detail: str, seconds: float) -> None:
        """The camera went from one state to another; `detail` is one line without credentials."""


class CameraJournal:
    """What the listener has been told: the state, and since when frames are missing.

    Called by the reader, the watchdog and whoever stops the camera; one lock keeps their reports apart.
    """

    def __init__(self, source: Source, listener: CameraListener) -> None:
        self._source, self._listener = source, listener
        self._lock = threading.RLock()
        self._state: CameraState | None = None
        self._out: tuple[float, GapReason] | None = None
        self._seen = False
        self._closed = False

    @property
    def flowing(self) -> bool:
        """Whether the camera counts as giving frames."""
        return self._state in ("online", "reconnected")

    def went(self, state: CameraState, reason: GapReason, detail: str, since_s: float, seconds: float) -> None:
        """Frames are missing since `since_s`; the first reason of an outage is the one that is reported."""
        with self._lock:
            if self._closed:
                return
            if self._out is None:
                self._out = (since_s, reason)
            if state != self._state:
                self._tell(state, detail, seconds)

    def came(self, detail: str, seconds: float) -> None:
        """A frame with a picture is here."""
        with self._lock:
            if self._closed or (self.flowing and self._out is None):
                return
            self._tell("reconnected" if self._seen else "online", detail, seconds)
            self._seen = True
            self._end_outage(seconds)

    def close(self, seconds: float) -> None:
        """Tell of the outage that is not over; nothing is told after this."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._end_outage(seconds)

    def mute(self) -> None:
        """Tell nothing any more: the listener failed."""
        self._closed = True

    def _tell(self, state: CameraState, detail: str, seconds: float) -> None:
        self._state = state
        level = logging.INFO if self.flowing else logging.WARNING
        log.log(level, "camera %s (%s): %s, %s", self._source.name, self._source.shown, state, detail)
        self._listener.on_state(state, detail, seconds)

    def _end_outage(self, seconds: float) -> None:
        if self._out is not None:
            (start_s, reason), self._out = self._out, None
            self._listener.on_outage(start_s, max(start_s, seconds), reason)
