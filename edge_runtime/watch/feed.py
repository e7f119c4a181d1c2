"""A live camera's frames, cut into segments that wait to be scored."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from msgspec import UNSET

from edge_runtime.records import CameraReason, CameraRecord, CameraState, GapReason
from edge_runtime.stream.clock import RunClock
from edge_runtime.stream.pixels import PixelSpec, UInt8Array, prepare
from edge_runtime.stream.segmenter import Segmenter, interrupt
from edge_runtime.stream.segments import Encode, Gap, Segment, SegmentSpec
from edge_runtime.video.capture import DecodedFrame
from edge_runtime.watch.backlog import Backlog, SampledFrames


class CameraFeed:
    """Listens to one live camera (see CameraListener), cuts its frames and puts what is finished in the backlog.

    Frames are converted and resized here, in the camera's own thread, and only those that the model will see.

    Args:
        camera: Its name.
        segmenter: Cuts its frames.
        segment: How the bundle cuts.
        pixels: What the model sees of a frame.
        backlog: Where finished segments, gaps and changes of state wait; the camera has a queue there.
        encode: Whether sampled frames go there too, before their segment ends.
        clock: Of the run: records then say what time it was.
        blank: As of `CameraOptions`.
    """

    def __init__(
        self,
        camera: str,
        segmenter: Segmenter,
        segment: SegmentSpec,
        pixels: PixelSpec,
        backlog: Backlog,
        encode: Encode = "batch",
        clock: RunClock | None = None,
        blank: Callable[[UInt8Array], UInt8Array] | None = None,
    ) -> None:
        self.camera = camera
        self._clock = clock
        self._blank = blank
        self._segmenter = segmenter
        self._segment, self._pixels = segment, pixels
        self._backlog = backlog
        self._eager = encode == "eager"
        self._told = 0
        self._lock = threading.Lock()
        self._closed = False
        self._end_s = 0.0
        self._state: CameraState | None = None
        self._answered = False

    @property
    def silent(self) -> bool:
        """Whether the camera gives no frames; then nothing of it waits in the segmenter either."""
        return self._state in ("stalled", "offline")

    @property
    def refused(self) -> bool:
        """Whether it was tried and has not given one frame yet."""
        return self._state == "offline" and not self._answered

    @property
    def answered(self) -> bool:
        """Whether it has ever given a frame."""
        return self._answered

    def on_frame(self, frame: DecodedFrame) -> None:
        """Take one frame.

        Raises:
            InvalidFrame: It turns out to have no picture.
        """
        with self._lock:
            if not self._closed:
                self._put(self._segmenter.push(partial(self._prepare, frame), frame.seconds))
                if self._eager:
                    self._tell_sampled()

    def on_outage(self, start_s: float, end_s: float, reason: GapReason) -> None:
        """Put a gap where frames were missing, behind the segment that ended before it."""
        with self._lock:
            if not self._closed:
                start_s = max(start_s, self._end_s)
                end_s = max(start_s, end_s)
                self._put(interrupt(self._segmenter, self._segment, start_s, end_s, reason))

    def on_state(self, state: CameraState, detail: str, seconds: float, reason: CameraReason | None = None) -> None:
        """Pass on a change of state. When frames stop, the running segment ends: it must not wait for the camera."""
        with self._lock:
            if self._closed:
                return
            if state in ("stalled", "offline"):
                self._put(self._segmenter.interrupt(0))
            self._backlog.put(
                self.camera,
                CameraRecord(
                    camera=self.camera,
                    state=state,
                    detail=detail,
                    reason=reason or UNSET,
                    time=self._clock.utc(seconds) if self._clock else UNSET,
                ),
            )
            self._answered = self._answered or state in ("online", "reconnected")
            self._state = state

    def finish(self) -> None:
        """The run ends: what there is of the running segment is put in the backlog, and nothing after it."""
        with self._lock:
            if not self._closed:
                self._put(self._segmenter.flush())
                self._closed = True

    def _prepare(self, frame: DecodedFrame) -> UInt8Array:
        picture = frame.retrieve()
        return prepare(picture if self._blank is None else self._blank(picture), self._pixels)

    def _tell_sampled(self) -> None:
        sampled = self._segmenter.sampled
        if len(sampled) != self._told:
            self._told = len(sampled)
            if sampled:
                self._backlog.put(self.camera, SampledFrames(tuple(sampled)))

    def _put(self, items: list[Segment] | list[Segment | Gap]) -> None:
        for item in items:
            self._end_s = item.end_s
            self._backlog.put(self.camera, item)
