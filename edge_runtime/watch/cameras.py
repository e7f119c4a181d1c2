"""Live cameras side by side: added and removed while running, scored by one loop, on one clock.

One thread reads each camera. One loop, the caller's, scores what they finish and emits every record, so that the
records of a camera are in order and no two threads write.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import msgspec

from edge_runtime.bundle.manifest import Manifest
from edge_runtime.detector import Detector
from edge_runtime.errors import UsageError
from edge_runtime.inference.providers import CPU, find_provider
from edge_runtime.machine import give_back_memory
from edge_runtime.records import EventRecord, GapRecord, Record, SegmentRecord
from edge_runtime.stream.clock import RunClock, rfc3339
from edge_runtime.stream.segments import Segment
from edge_runtime.video.camera import LiveCamera
from edge_runtime.video.sources import Source
from edge_runtime.watch.backlog import Backlog, CameraEnd, Handover, Item, SampledFrames
from edge_runtime.watch.camera import CameraRun, OpenReader, Shared
from edge_runtime.watch.figures import CameraFigures, ScoringCounts
from edge_runtime.watch.options import CameraOptions, RunOptions
from edge_runtime.watch.pace import Pace
from edge_runtime.watch.scoring import Unreachable, Waiting, score_alone, score_together
from edge_runtime.watch.stopping import Stop

log = logging.getLogger(__name__)

# How often the loop looks at the stop request and at cameras that say nothing.
_TICK_S = 0.2
# How often free memory is given back.
_GIVE_BACK_S = 60.0
# More than this gains little on one card, and the first of a batch waits for all of it.
_ON_CARDS = 8


def run_id(manifest: Manifest, clock: RunClock) -> str:
    """What tells a run of a bundle from every other one."""
    started = clock.started_at
    return f"{manifest.bundle_id[:8]}-{started:%Y%m%dT%H%M%S}{started.microsecond // 1000:03d}"


def timed(record: Record, clock: RunClock) -> Record:
    """A live camera's record with the time at which it ended; one that has a time keeps it."""
    if isinstance(record, SegmentRecord | EventRecord | GapRecord):
        return msgspec.structs.replace(record, time=clock.utc(record.end_s))
    return record


def _batch_of(detector: Detector) -> int:
    """How many segments one call takes where nobody said: as many as pay on a GPU, and one on processors."""
    engine = detector.engine
    try:
        on_card = engine is not None and find_provider(engine.provider).device != CPU
    except UsageError:  # an engine of the caller's own
        on_card = False
    return _ON_CARDS if on_card else 1


def _segments(items: Sequence[tuple[str, Item]]) -> int:
    return sum(isinstance(item, Segment) for _, item in items)


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
        scoring: What the loop counts.
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
        self._options = options
        self._clock = clock or RunClock()
        self._pace = Pace(detector.cutting(options.stride).step_s)
        self._backlog = Backlog(dropped=self._pace.dropped)
        self._most = options.max_batch or _batch_of(detector)
        self._shared = Shared(detector, self._backlog, self._clock, options, open_reader)
        self._cameras: dict[str, CameraRun] = {}
        self._changing = threading.Lock()
        self._times: Counter[str] = Counter()
        self._answered = self._ended = False
        self._gave_back_s = 0.0
        self._unreachable = Unreachable()
        self.scoring = ScoringCounts()
        self.left_behind: list[str] = []
        # Ids of events must differ from run to run: index and camera repeat, the moment of the start does not.
        self.run_id = run_id(detector.bundle.manifest, self._clock)
        if options.figures is not None:
            options.figures.follow(self)
        log.info("started at %s; start_s and end_s count from here", rfc3339(self._clock.started_at))

    @property
    def names(self) -> list[str]:
        """Names of the cameras, in the order in which they were added."""
        with self._changing:
            return list(self._cameras)

    @property
    def bundle_id(self) -> str:
        """Of the bundle that scores cameras without one of their own."""
        return self._detector.bundle.manifest.bundle_id

    @property
    def started_at(self) -> datetime:
        """When it began, in UTC."""
        return self._clock.started_at

    def figures(self) -> list[CameraFigures]:
        """What is counted of each camera, but of those that are leaving. Any thread may ask."""
        return [camera.figures() for camera in self._running() if not camera.leaving]

    def add(self, source: Source, chosen: CameraOptions | None = None) -> None:
        """Start a camera. Its times are on the run's axis, whenever it comes.

        Args:
            source: The camera.
            chosen: What is chosen for it alone.

        Raises:
            UsageError: A camera of that name is there already, or the run has ended.
        """
        chosen = chosen or CameraOptions()
        if (sites := self._options.sites) is not None:
            # Reads a file: outside the lock, which who scores waits for.
            locator = chosen.locator or self._options.locator
            sites.prepare(source.name, chosen.detector or self._detector, locator, self._options.stride)
        with self._changing:
            if self._ended:
                raise UsageError(f"the run has ended; camera {source.name!r} needs a new one")
            if (other := self._cameras.get(source.name)) is not None:
                wait = "is still ending; add it again when it has" if other.leaving else "is running already"
                raise UsageError(f"a camera called {source.name!r} {wait}, or give this one another name")
            self._times[source.name] += 1
            # A camera that comes a second time counts its segments from 0 again: its events need other ids.
            run = self.run_id if (times := self._times[source.name]) == 1 else f"{self.run_id}.{times}"
            camera = CameraRun(source, self._shared, run, chosen)
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

    def exchange(self, before: Detector, after: Detector, place: Path | None = None) -> None:
        """Let another bundle score what one scores now, from the next frame of each camera on. Any thread.

        No frame is lost by it: what the bundle before has begun it scores. `uses` tells when it has.

        Args:
            before: What scores now.
            after: What shall.
            place: As of the options of the cameras that are meant; None are those that the run's bundle scores.

        Raises:
            UsageError: The run's stride does not go with the bundle; nothing has changed.
        """
        after.cutting(self._options.stride)
        with self._changing:
            if self._detector is before and place is None:
                self._detector, self._shared = after, replace(self._shared, detector=after)
            cameras = [
                one
                for one in self._cameras.values()
                if one.handed_to is before and one.bundle == place and not one.leaving
            ]
            runs = []
            for camera in cameras:
                self._times[camera.name] += 1
                runs.append(f"{self.run_id}.{self._times[camera.name]}")
        # A reader's lock is not waited for inside of ours.
        for camera, run in zip(cameras, runs, strict=True):
            camera.hand_over(after, run)

    def uses(self, detector: Detector) -> bool:
        """Whether anything is or will be scored by a detector. Any thread."""
        with self._changing:
            used = {id(self._detector)}
            for camera in self._cameras.values():
                used |= {id(camera.detector), id(camera.handed_to)}
        return id(detector) in used

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
                self._score_next(_TICK_S)
                self._look_after()
                if self._options.alive is not None:
                    self._options.alive()
        finally:
            self.close()
        while self._score_next(0.0):
            pass
        for camera in self._running():
            self._end(camera)

    def _score_next(self, timeout_s: float) -> bool:
        """Score and emit what waits next; False where nothing came."""
        taken = self._taken(timeout_s)
        self._unreachable.begin()
        scores = self._scores(taken)
        for place, (name, item) in enumerate(taken):
            camera = self._cameras[name]
            if isinstance(item, CameraEnd):
                self._end(camera)
            elif isinstance(item, Handover):
                self._tell(camera, camera.take_over(item))
            elif isinstance(item, SampledFrames):
                engine = camera.detector.engine
                if camera.encoder is not None and not self._unreachable.lasts(engine):
                    begun_s = time.perf_counter()
                    error = camera.detector.encode(name, item.pixels, camera.encoder)
                    took_s = time.perf_counter() - begun_s
                    if error is not None:
                        self._unreachable.note(engine, error, took_s)
                    self.scoring.ahead_s += took_s
            elif isinstance(item, Segment) and camera.encoder is not None:
                # Behind what of it was encoded ahead.
                one = Waiting(name, item, camera.detector, camera.encoder)
                score = score_alone(one, self.scoring.scored, self._unreachable)
                self._tell(camera, camera.take(item, score))
            else:
                self._tell(camera, camera.take(item, scores.get(place)))
        if (segments := _segments(taken)) > 0:
            self._pace.scored(segments, len(self._cameras))
        return bool(taken)

    def _taken(self, timeout_s: float) -> list[tuple[str, Item]]:
        """What is done next: up to a batch of segments, and what comes before them."""
        first = self._backlog.take(timeout_s)
        if first is None:
            return []
        taken = [first]
        if self._most > 1 and isinstance(first[1], Segment) and self._options.max_wait_ms > 0:
            self._backlog.wait_for_segments(self._most - 1, self._options.max_wait_ms / 1000)
        while self._most > _segments(taken) > 0 and (more := self._backlog.take(0.0)) is not None:
            taken.append(more)
            if isinstance(more[1], Handover):
                # What comes behind it is not scored by the same detector.
                break
        return taken

    def _scores(self, taken: Sequence[tuple[str, Item]]) -> dict[int, float | None]:
        """Scores of the segments among them of which nothing may be encoded yet, by their places."""
        segments = {
            place: Waiting(name, item, self._cameras[name].detector)
            for place, (name, item) in enumerate(taken)
            if isinstance(item, Segment) and self._cameras[name].encoder is None
        }
        scores = score_together(list(segments.values()), self.scoring.scored, self._unreachable)
        return dict(zip(segments, scores, strict=True))

    def _look_after(self) -> None:
        cameras = self._running()
        for camera in cameras:
            camera.reader.raise_if_failed()
            self._tell(camera, camera.idle())
            if self._options.rate is not None and (rate := camera.new_rate()) is not None:
                self._options.rate(camera.name, rate)
        self._backlog.sum_up_drops()
        if (now_s := self._clock.now_s()) - self._gave_back_s >= _GIVE_BACK_S:
            self._gave_back_s = now_s
            give_back_memory()
        for detector in {id(one): one for one in (self._detector, *(camera.detector for camera in cameras))}.values():
            detector.sum_up_unscored()
        self._answered = self._answered or any(camera.feed.answered for camera in cameras)
        if self._must_answer and cameras and not self._answered and all(camera.feed.refused for camera in cameras):
            # One camera that is down must not keep the others from running; none at all is a mistake.
            cameras[0].reader.require_online(1.0)

    def _tell(self, camera: CameraRun, records: Iterable[Record]) -> None:
        for record in records:
            if isinstance(record, SegmentRecord):
                camera.decision.observe(max(0.0, self._clock.now_s() - record.end_s))
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
