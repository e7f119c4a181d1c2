"""Live cameras side by side: added and removed while running, scored by one loop, on one clock.

One thread reads each camera. One loop, the caller's, scores what they finish and emits every record, so that the
records of a camera are in order and no two threads write.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import msgspec

from edge_runtime.bundle.manifest import Manifest
from edge_runtime.detector import Detector
from edge_runtime.errors import UsageError
from edge_runtime.records import CameraRecord, EventRecord, GapRecord, Record, SegmentRecord
from edge_runtime.stream.clock import RunClock, rfc3339
from edge_runtime.stream.segmenter import segmenter_for
from edge_runtime.stream.segments import Gap, Segment
from edge_runtime.video.camera import LiveCamera
from edge_runtime.video.journal import CameraListener
from edge_runtime.video.sources import Source
from edge_runtime.watch.backlog import Backlog, CameraEnd, SampledFrames
from edge_runtime.watch.feed import CameraFeed
from edge_runtime.watch.mask import MaskedFrames
from edge_runtime.watch.options import CameraOptions, RunOptions
from edge_runtime.watch.stopping import Stop
from edge_runtime.watch.tally import Tally

log = logging.getLogger(__name__)

# How often the loop looks at the stop request and at cameras that say nothing.
_TICK_S = 0.2
# A camera whose read blocks is left behind after this long.
_STOP_CAMERA_S = 0.5


def run_id(manifest: Manifest, clock: RunClock) -> str:
    """What tells a run of a bundle from every other one."""
    started = clock.started_at
    return f"{manifest.bundle_id[:8]}-{started:%Y%m%dT%H%M%S}{started.microsecond // 1000:03d}"


def timed(record: Record, clock: RunClock) -> Record:
    """A live camera's record with the time at which it ended; one that has a time keeps it."""
    if isinstance(record, SegmentRecord | EventRecord | GapRecord):
        return msgspec.structs.replace(record, time=clock.utc(record.end_s))
    return record


class CameraReader(Protocol):
    """What reads one live camera; `LiveCamera` for real."""

    def start(self) -> None:
        """Begin; returns at once."""

    def stop(self, timeout_s: float | None = None) -> bool:
        """End; False when it still blocks after `timeout_s` and is left behind."""

    def raise_if_failed(self) -> None:
        """Raise what ended the reader, if something did."""

    def require_online(self, timeout_s: float | None = None) -> None:
        """Wait for the first frame. SourceUnavailable if the first attempt failed."""


OpenReader = Callable[[Source, CameraListener, RunClock], CameraReader]


@dataclass(frozen=True, slots=True)
class Shared:
    """What all cameras of a run share.

    Attributes:
        detector: What scores.
        backlog: Where finished segments wait.
        clock: The run's.
        options: The run's.
        open_reader: Makes the reader of a camera.
    """

    detector: Detector
    backlog: Backlog
    clock: RunClock
    options: RunOptions
    open_reader: OpenReader


class CameraRun:
    """One live camera of a run: its source, reader, segmenter, located stream and tally, on the run's clock.

    Args:
        source: The camera.
        shared: What it shares with the other cameras. Its queue in the backlog is made here.
        run: Goes into the ids of events.
        own: What was chosen for this camera.
    """

    def __init__(self, source: Source, shared: Shared, run: str, own: CameraOptions) -> None:
        manifest, options = shared.detector.bundle.manifest, shared.options
        spec = shared.detector.cutting(options.stride)
        self.source = source
        self.encoder = shared.detector.encoder(options.encode, options.reuse_unchanged, spec.overlap)
        self.tally = Tally(None if options.reuse_unchanged is None else self.encoder)
        self.leaving = False
        self._shared = shared
        self._step_s = spec.step_s
        self._located = shared.detector.located(source.name, own.locator or options.locator, run, options.stride)
        segmenter = segmenter_for(spec, options.clock or "time", sparing=True)
        self.feed = CameraFeed(
            source.name, segmenter, spec, manifest.pixels, shared.backlog, options.encode, shared.clock
        )
        listener = self.feed if own.mask is None else MaskedFrames(self.feed, own.mask)
        self.reader = shared.open_reader(source, listener, shared.clock)
        shared.backlog.add(source.name)

    @property
    def name(self) -> str:
        """The camera's name."""
        return self.source.name

    def take(self, item: Segment | Gap | CameraRecord, score: float | None) -> list[Record]:
        """Take what comes next out of the backlog, a segment with its score; returns what became final."""
        return [item] if isinstance(item, CameraRecord) else self._located.take(item, score)

    def idle(self) -> list[Record]:
        """Ask a camera that gives no frames for what became final by that."""
        # Asked in this order: once silent, a feed puts nothing more in before it says otherwise.
        if not self.feed.silent or not self._shared.backlog.is_empty(self.name):
            return []
        return self._located.idle(self._shared.clock.now_s(), self._step_s)

    def stop(self) -> bool:
        """Stop reading, and put what there is of the running segment into the backlog. False: left behind."""
        try:
            return self.reader.stop(_STOP_CAMERA_S)
        finally:
            self.feed.finish()

    def flush(self) -> list[Record]:
        """The camera has ended; returns the rest."""
        return self._located.flush()


class LiveRun:
    """A run over live cameras. `serve` is the loop; `add` and `remove` may be called from other threads meanwhile.

    Args:
        detector: What scores.
        emit: Takes every record, in each camera's order, in the thread of `serve`; what it raises ends the run.
        options: Of the run.
        clock: Of the run; all times count from its start.
        open_reader: Makes the reader of a camera.
        must_answer: Whether `serve` ends where no camera answers its first attempt.

    Attributes:
        run_id: What the ids of events begin with.
        left_behind: Names of cameras whose reader was still blocked when it was stopped. Its thread is a daemon
            in native code: the process should end without taking the interpreter apart.
    """

    def __init__(
        self,
        detector: Detector,
        emit: Callable[[Record], None],
        options: RunOptions,
        clock: RunClock | None = None,
        open_reader: OpenReader = LiveCamera,
        must_answer: bool = True,
    ) -> None:
        self._must_answer = must_answer
        self._detector = detector
        self._emit = emit
        self._clock = clock or RunClock()
        # All segments that run at once end together where a camera's frames do.
        self._backlog = Backlog(1 + detector.cutting(options.stride).overlap)
        self._shared = Shared(detector, self._backlog, self._clock, options, open_reader)
        self._cameras: dict[str, CameraRun] = {}
        self._changing = threading.Lock()
        self._times: Counter[str] = Counter()
        self._answered = self._ended = False
        self.left_behind: list[str] = []
        # Ids of events must differ from run to run: index and camera repeat, the moment of the start does not.
        self.run_id = run_id(detector.bundle.manifest, self._clock)
        log.info("started at %s; start_s and end_s count from here", rfc3339(self._clock.started_at))

    @property
    def names(self) -> list[str]:
        """Names of the cameras, in the order in which they were added."""
        with self._changing:
            return list(self._cameras)

    def add(self, source: Source, options: CameraOptions | None = None) -> None:
        """Start a camera. Its times are on the run's axis, whenever it comes.

        Args:
            source: The camera.
            options: What was chosen for this one.

        Raises:
            UsageError: A camera of that name is there already, or the run has ended.
        """
        with self._changing:
            if self._ended:
                raise UsageError(f"the run has ended; camera {source.name!r} needs a new one")
            if (other := self._cameras.get(source.name)) is not None:
                wait = "is still ending; add it again when it has" if other.leaving else "is running already"
                raise UsageError(f"a camera called {source.name!r} {wait}, or give this one another name")
            self._times[source.name] += 1
            # A camera that comes a second time counts its segments from 0 again: its events need other ids.
            run = self.run_id if (times := self._times[source.name]) == 1 else f"{self.run_id}.{times}"
            camera = CameraRun(source, self._shared, run, options or CameraOptions())
            # There before its first frame is: the loop looks it up by its name.
            self._cameras[source.name] = camera
            try:
                camera.reader.start()
            except BaseException:
                del self._cameras[source.name]
                self._backlog.remove(source.name)
                raise

    def remove(self, name: str) -> None:
        """Stop a camera. What it finished is still scored and emitted by `serve`, then its stream ends.

        Raises:
            UsageError: There is no camera of that name.
        """
        with self._changing:
            camera = self._cameras.get(name)
            if camera is None or camera.leaving:
                others = [other for other, run in self._cameras.items() if not run.leaving]
                raise UsageError(f"there is no camera called {name!r}; there are {', '.join(others) or 'none'}")
            camera.leaving = True
        try:
            self._stop_reading([camera])
        finally:
            # Whatever its reader failed with: a camera that is leaving has an end.
            self._backlog.put(name, CameraEnd())

    def close(self) -> None:
        """Stop reading all cameras, and take no more; `serve` does this at its end."""
        with self._changing:
            self._ended = True
        self._stop_reading(self._running())

    def serve(self, stop: Stop) -> None:
        """Score and emit until `stop` is set, then what the cameras have finished by then.

        Raises:
            SourceUnavailable: No camera answered its first attempt, and one must.
            Exception: What `emit` raises, at once; the cameras are stopped all the same.
        """
        try:
            while not stop.is_set():
                self._score_one(_TICK_S)
                self._look_after()
        finally:
            self.close()
        while self._score_one(0.0):
            pass
        for camera in self._running():
            self._end(camera)

    def _score_one(self, timeout_s: float) -> bool:
        """Score and emit the next thing that waits; False where nothing came."""
        taken = self._backlog.take(timeout_s)
        if taken is None:
            return False
        name, item = taken
        camera = self._cameras[name]
        if isinstance(item, CameraEnd):
            self._end(camera)
            return True
        if isinstance(item, SampledFrames):
            if camera.encoder is not None:
                self._detector.encode(name, item.pixels, camera.encoder)
            return True
        # Two steps, so that one call can score segments of several cameras.
        score = self._detector.score_segment(name, item, camera.encoder) if isinstance(item, Segment) else None
        self._tell(camera, camera.take(item, score))
        return True

    def _look_after(self) -> None:
        cameras = self._running()
        for camera in cameras:
            camera.reader.raise_if_failed()
            self._tell(camera, camera.idle())
        self._backlog.sum_up_drops()
        self._detector.sum_up_unscored()
        self._answered = self._answered or any(camera.feed.answered for camera in cameras)
        if self._must_answer and cameras and not self._answered and all(camera.feed.refused for camera in cameras):
            # One camera that is down must not keep the others from running; none at all is a mistake.
            cameras[0].reader.require_online(1.0)

    def _tell(self, camera: CameraRun, records: Iterable[Record]) -> None:
        for record in records:
            self._emit(timed(record, self._clock))
            camera.tally.add(record)

    def _end(self, camera: CameraRun) -> None:
        self._tell(camera, camera.flush())
        seconds, about = self._clock.now_s(), {"camera": camera.name}
        log.info("%s: %s, in %.1f s", camera.name, camera.tally, seconds, extra=about)
        with self._changing:
            del self._cameras[camera.name]
            self._backlog.remove(camera.name)

    def _running(self) -> list[CameraRun]:
        with self._changing:
            return list(self._cameras.values())

    def _stop_reading(self, cameras: Sequence[CameraRun]) -> None:
        """Stop all at once. What a reader failed with is raised when all are stopped; the first, of several."""
        if not cameras:
            return

        def stop(camera: CameraRun) -> Exception | None:
            try:
                if not camera.stop() and camera.name not in self.left_behind:
                    self.left_behind.append(camera.name)
            except Exception as error:  # noqa: BLE001  one reader's failure must not hide that another is blocked
                return error
            return None

        with ThreadPoolExecutor(len(cameras)) as pool:
            failures = [failure for failure in pool.map(stop, cameras) if failure is not None]
        if failures:
            raise failures[0]
