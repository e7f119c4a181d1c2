"""A live camera's frames, cut into segments that wait to be scored."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import get_args

from msgspec import UNSET

from edge_runtime.records import CameraReason, CameraRecord, CameraState, GapReason, Quality
from edge_runtime.stream.clock import RunClock
from edge_runtime.stream.pixels import PixelSpec, UInt8Array, prepare
from edge_runtime.stream.quality import QualityWatch
from edge_runtime.stream.segmenter import Segmenter, interrupt
from edge_runtime.stream.segments import Encode, Gap, Segment, SegmentSpec
from edge_runtime.video.capture import DecodedFrame
from edge_runtime.watch.backlog import Backlog, Handover, SampledFrames

log = logging.getLogger(__name__)

# Makes a segmenter that begins with this index and frame.
BeginSegments = Callable[[tuple[int, int]], Segmenter]
# More often no camera comes back in an hour.
_REMEMBERED = 3600


class CameraFeed:
    """Listens to one live camera (see CameraListener), cuts its frames and puts what is finished in the backlog.

    Frames are converted and resized here, in the camera's own thread, and only those that the model will see. About
    two a second of them are looked at, at their full size, for what is wrong with the picture (see QualityWatch);
    where the model sees fewer, one a second is converted for that.

    Args:
        camera: Its name.
        segmenter: Cuts its frames.
        segment: How the bundle cuts.
        pixels: What the model sees of a frame.
        backlog: Where finished segments, gaps and changes of state wait; the camera has a queue there.
        encode: Whether sampled frames go there too, before their segment ends.
        clock: Of the run: records then say what time it was.

    Attributes:
        frames: How many have arrived.
        last_s: When the last one came, in seconds of the run; None before the first.
        reconnections: How often the camera came back.
        reconnected_s: When that was, of the last times, in seconds of the run.
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
    ) -> None:
        self.camera = camera
        self.frames = 0
        self.last_s: float | None = None
        self.reconnections = 0
        self.reconnected_s: deque[float] = deque(maxlen=_REMEMBERED)
        self._clock = clock
        self._segmenter = segmenter
        self._segment, self._pixels = segment, pixels
        self._backlog = backlog
        self._eager = encode == "eager"
        self._told = 0
        # A reader may find a frame to be corrupt while it retrieves it, which it does for this feed.
        self._lock = threading.RLock()
        self._closed = False
        self._end_s = 0.0
        self._state: CameraState | None = None
        self._answered = False
        self._watch = QualityWatch()
        # Whether a quality was ever told.
        self._judged = False
        # What the reader finds, beside what is seen here; what was told since when, as far as segments still ask.
        self._read: tuple[Quality, ...] = ()
        self._drifted = False
        self._told_since: list[tuple[float, tuple[Quality, ...]]] = [(float("-inf"), ())]

    @property
    def quality(self) -> tuple[Quality, ...]:
        """What is wrong with the picture now."""
        return self._told_since[-1][1]

    @property
    def state(self) -> CameraState:
        """What the camera is now."""
        return self._state or "offline"

    @property
    def silent(self) -> bool:
        """Whether the camera gives no frames; then nothing of it waits in the segmenter either."""
        return self._state in ("stalled", "offline")

    @property
    def flowing(self) -> bool:
        """Whether it gives frames now."""
        return self._state in ("online", "reconnected")

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
                self.frames += 1
                self.last_s = frame.seconds
                if frame.cut:
                    # What was seen before the cut comes again, which is no frozen picture.
                    self._watch.interrupt()
                self._watch.pass_by(frame.key)
                if self._watch.overdue(frame.seconds):
                    # Before the segmenter takes it: a frame that turns out to have no picture must not count.
                    picture = frame.retrieve()
                    self._look(picture, frame.seconds)
                    prepared = partial(prepare, picture, self._pixels)
                else:
                    prepared = partial(self._prepare, frame)
                self._put(self._segmenter.push(prepared, frame.seconds))
                if self._eager:
                    self._tell_sampled()

    def on_outage(self, start_s: float, end_s: float, reason: GapReason) -> None:
        """Put a gap where frames were missing, behind the segment that ended before it."""
        with self._lock:
            if not self._closed:
                if reason == "dropped":
                    self._backlog.left_out(self.camera, start_s, end_s)
                self._watch.interrupt()
                start_s = max(start_s, self._end_s)
                end_s = max(start_s, end_s)
                self._put(interrupt(self._segmenter, self._segment, start_s, end_s, reason))

    def on_state(self, state: CameraState, detail: str, seconds: float, reason: CameraReason | None = None) -> None:
        """Pass on a change of state. When frames stop, the running segment ends: it must not wait for the camera."""
        with self._lock:
            if self._closed:
                return
            if state in ("stalled", "offline"):
                self._watch.interrupt()
                self._put(self._segmenter.interrupt(0))
            self._state = state
            if state == "reconnected":
                self.reconnections += 1
                self.reconnected_s.append(seconds)
            self._answered = self._answered or not self.silent
            # Of records that wait too long the last one stays: it should say all.
            self._put_state(state, detail, seconds, reason, with_quality=self._judged and not self.silent)

    def on_quality(self, qualities: Sequence[Quality], detail: str, seconds: float) -> None:
        """Take what the reader finds wrong with its frames; told together with what is seen here."""
        with self._lock:
            if not self._closed:
                self._read = tuple(quality for quality in qualities if quality != "ok")
                self._tell_quality(detail, seconds)

    def on_drift(self, drifted: bool, detail: str, seconds: float, since_s: float | None = None) -> None:
        """Take what is found in what the model sees of its segments; told together with what is seen here.

        Args:
            drifted: Whether its pictures are strange from now on.
            detail: A sentence that says it.
            seconds: When that was found.
            since_s: When it began, where that is known.
        """
        with self._lock:
            if not self._closed:
                self._drifted = drifted
                # Segments are scored some time after they ended; what was told since then stays told.
                self._tell_quality(detail, max(seconds, self._told_since[-1][0]), since_s if drifted else None)

    def hand_over(self, begin: BeginSegments, segment: SegmentSpec, pixels: PixelSpec, handover: Handover) -> bool:
        """Cut for another bundle from the next frame on; what there is of the running segment goes to the one before.

        Args:
            begin: Makes the segmenter, from the index and the frame that it begins with.
            segment: As of the bundle.
            pixels: As of the bundle.
            handover: Put between the two.

        Returns:
            Whether anything will come from it: False once it was finished.
        """
        with self._lock:
            if self._closed:
                return False
            self._put(self._segmenter.flush())
            self._backlog.put(self.camera, handover)
            self._segmenter = begin((self._segmenter.next_index, self._segmenter.frames))
            self._segment, self._pixels, self._told = segment, pixels, 0
            return True

    def finish(self) -> None:
        """The run ends: what there is of the running segment is put in the backlog, and nothing after it."""
        with self._lock:
            if not self._closed:
                self._put(self._segmenter.flush())
                self._closed = True

    def _prepare(self, frame: DecodedFrame) -> UInt8Array:
        picture = frame.retrieve()
        self._look(picture, frame.seconds)
        return prepare(picture, self._pixels)

    def _look(self, picture: UInt8Array, seconds: float) -> None:
        change = self._watch.push(picture, seconds)
        if change is not None:
            self._tell_quality(change.detail, change.seconds)

    def _tell_quality(self, detail: str, seconds: float, since_s: float | None = None) -> None:
        wrong = {*self._watch.qualities, *self._read, *(("drifted",) if self._drifted else ())}
        found: tuple[Quality, ...] = tuple(quality for quality in get_args(Quality) if quality in wrong)
        if found == self.quality:
            return
        log.log(logging.WARNING if found else logging.INFO, "camera %s: %s", self.camera, detail)
        self._told_since.append((seconds, found))
        self._judged = True
        self._put_state(self._state or "online", detail, seconds, None, with_quality=True, since_s=since_s)

    def _put_state(
        self,
        state: CameraState,
        detail: str,
        seconds: float,
        reason: CameraReason | None,
        with_quality: bool,
        since_s: float | None = None,
    ) -> None:
        self._backlog.put(
            self.camera,
            CameraRecord(
                camera=self.camera,
                state=state,
                detail=detail,
                reason=reason or UNSET,
                quality=(list(self.quality) or ["ok"]) if with_quality else UNSET,
                time=self._clock.utc(seconds) if self._clock else UNSET,
                since=self._clock.utc(since_s) if self._clock and since_s is not None else UNSET,
            ),
        )

    def _tell_sampled(self) -> None:
        sampled = self._segmenter.sampled
        if len(sampled) != self._told:
            self._told = len(sampled)
            if sampled:
                self._backlog.put(self.camera, SampledFrames(tuple(sampled)))

    def _put(self, items: list[Segment] | list[Segment | Gap]) -> None:
        for item in items:
            self._end_s = item.end_s
            self._backlog.put(self.camera, self._marked(item) if isinstance(item, Segment) else item)

    def _marked(self, segment: Segment) -> Segment:
        """A segment with all that was told to be wrong between its bounds."""
        # Segments come in order: what was told before the last change before this one is not asked for again.
        while len(self._told_since) > 1 and self._told_since[1][0] <= segment.start_s:
            del self._told_since[0]
        wrong = {quality for since_s, told in self._told_since if since_s < segment.end_s for quality in told}
        if not wrong:
            return segment
        return dataclasses.replace(segment, quality=tuple(one for one in get_args(Quality) if one in wrong))
