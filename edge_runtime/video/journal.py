"""Reports a live camera's states and outages to its listener, each once and in order."""

from __future__ import annotations

import logging
import threading
from typing import Protocol, runtime_checkable

from edge_runtime.records import CameraReason, CameraState, GapReason, Quality
from edge_runtime.video.capture import DecodedFrame
from edge_runtime.video.sources import Source

log = logging.getLogger(__name__)


class CameraListener(Protocol):
    """Who is told what happens to a live camera. Seconds are those of the run's clock.

    `on_frame` and all outages but the last come from the reader thread, in the order of time; `on_state` comes from
    any thread. No two of `on_state` and `on_outage` run at once. Every call holds up the camera: return quickly.
    An exception ends the camera and comes out of `stop()` or `raise_if_failed()`. Only the InvalidFrame of a
    `retrieve()` that found no picture may be let through: such a frame does not count.
    """

    def on_frame(self, frame: DecodedFrame) -> None:
        """A frame arrived; its `retrieve()` works only during this call."""

    def on_outage(self, start_s: float, end_s: float, reason: GapReason) -> None:
        """No frames came between two moments. Called just before the frame that ends the outage, or by `stop()`."""

    def on_state(self, state: CameraState, detail: str, seconds: float, reason: CameraReason | None = None) -> None:
        """The camera went from one state to another, or is where it was for a reason that this outage had not yet.

        `detail` is one line without credentials that says what to do, `reason` why in one word.
        """


@runtime_checkable
class QualityListener(Protocol):
    """What a CameraListener has besides, if it wants to know of damaged pictures."""

    def on_quality(self, qualities: list[Quality], detail: str, seconds: float) -> None:
        """Pictures began to arrive damaged (`corrupt`), or are whole again (`ok`). From the reader thread.

        It may come during `on_frame`, from a `retrieve()`.
        """


class CameraJournal:
    """Keeps a camera's state and since when frames are missing, and tells the listener what changed.

    The reader, the watchdog and whoever stops the camera call it; one lock lets one report through at a time.

    Args:
        source: The camera.
        listener: Who is told.
    """

    def __init__(self, source: Source, listener: CameraListener) -> None:
        self._source, self._listener = source, listener
        self._lock = threading.RLock()
        self._state: CameraState | None = None
        self._out: tuple[float, GapReason] | None = None
        self._reasons: set[CameraReason | None] = set()  # those of this outage that were told
        self._seen = False
        self._closed = False

    @property
    def flowing(self) -> bool:
        """Whether the camera counts as giving frames."""
        return self._state in ("online", "reconnected")

    def went(
        self,
        state: CameraState,
        gap: GapReason,
        detail: str,
        since_s: float,
        seconds: float,
        reason: CameraReason | None = None,
    ) -> None:
        """Note that frames are missing.

        Args:
            state: What the camera is now.
            gap: What the outage is called; the first of an outage holds.
            detail: One line without credentials.
            since_s: When the last frame came.
            seconds: The time now.
            reason: Why. Of an outage each is told once: a camera that comes back with another password is `ended`
                first and then `unauthorized`, one that is started is all sorts of things.
        """
        with self._lock:
            if self._closed:
                return
            if self._out is None:
                self._out = (since_s, gap)
            if state != self._state or (reason is not None and reason not in self._reasons):
                self._reasons.add(reason)
                self._tell(state, detail, seconds, reason)

    def came(self, detail: str, seconds: float) -> None:
        """Note that a frame with a picture is here: an outage ends."""
        with self._lock:
            if self._closed or (self.flowing and self._out is None):
                return
            self._tell("reconnected" if self._seen else "online", detail, seconds, None)
            self._seen = True
            self._reasons.clear()
            self._end_outage(seconds)

    def left_out(self, start_s: float, end_s: float) -> None:
        """Note that frames came and were not decoded, because there was no time.

        Args:
            start_s: When the last one before them came.
            end_s: When the first one behind them came.
        """
        with self._lock:
            if not self._closed and self._out is None:
                self._listener.on_outage(start_s, max(start_s, end_s), "dropped")

    def looks(self, qualities: list[Quality], detail: str, seconds: float) -> None:
        """Note what pictures look like from now on."""
        with self._lock:
            if self._closed:
                return
            level = logging.INFO if qualities == ["ok"] else logging.WARNING
            log.log(level, "camera %s: picture %s, %s", self._source.name, ", ".join(qualities), detail)
            if isinstance(self._listener, QualityListener):
                self._listener.on_quality(qualities, detail, seconds)

    def close(self, seconds: float) -> None:
        """Report the outage that is not over, and nothing after it."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._end_outage(seconds)

    def mute(self) -> None:
        """Report nothing any more: the listener failed."""
        self._closed = True

    def _tell(self, state: CameraState, detail: str, seconds: float, reason: CameraReason | None) -> None:
        self._state = state
        level = logging.INFO if self.flowing else logging.WARNING
        log.log(level, "camera %s (%s): %s, %s", self._source.name, self._source.shown, state, detail)
        self._listener.on_state(state, detail, seconds, reason)

    def _end_outage(self, seconds: float) -> None:
        if self._out is not None:
            (start_s, reason), self._out = self._out, None
            self._listener.on_outage(start_s, max(start_s, seconds), reason)
