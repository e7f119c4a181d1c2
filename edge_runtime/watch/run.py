"""Sources to records: files one after another, live cameras side by side. Knows when to read, score, write and stop.

One thread reads each live camera; one loop, the caller's, scores what they finish and writes every record.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edge_runtime.detector import Detector, Stream
from edge_runtime.errors import FootageIncomplete, HeadHuntError, SourceUnavailable, UsageError, VideoUnreadable
from edge_runtime.records import CameraRecord, EventRecord, GapRecord, Record, SegmentRecord
from edge_runtime.stream.clock import RunClock
from edge_runtime.stream.segmenter import segmenter_for
from edge_runtime.stream.segments import Clock
from edge_runtime.video.camera import LiveCamera
from edge_runtime.video.file import VideoFile
from edge_runtime.video.footage import lazy_frames, read_again_from
from edge_runtime.video.sources import Source
from edge_runtime.watch.backlog import Backlog, Item
from edge_runtime.watch.feed import CameraFeed

log = logging.getLogger(__name__)

# How often a live run looks at the stop request and at cameras that say nothing.
_TICK_S = 0.2
# A camera whose read blocks is left behind: the process ends soon after.
_STOP_CAMERAS_S = 0.5
# From this ratio of a file's rate to the bundle's, 48 frames are another length of time than at calibration.
_OTHER_RATE = 1.25

Write = Callable[[Record], None]
# progress(camera, frames done, frames in all or None, frames a second of the file)
Progress = Callable[[str, int, int | None, float], None]


class Stop(Protocol):
    """Whether to stop; a threading.Event will do."""

    def is_set(self) -> bool:
        """True from the moment on when the run should end."""


@dataclass(slots=True)
class Tally:
    """What a camera's records came to."""

    counts: Counter[str] = field(default_factory=Counter)

    def add(self, record: Record) -> None:
        """Count one record."""
        if isinstance(record, SegmentRecord):
            self.counts["segments"] += 1
        elif isinstance(record, GapRecord):
            self.counts[record.reason] += 1
            self.counts["gaps"] += 1
        elif isinstance(record, EventRecord) and record.state == "new":
            self.counts["events"] += 1

    def __str__(self) -> str:
        return ", ".join(f"{self.counts[what]} {what}" for what in ("segments", "events", "gaps"))


def check_sources(sources: Sequence[Source]) -> None:
    """UsageError for what cannot run together: nothing, one name twice, files beside live cameras."""
    if not sources:
        raise UsageError("no camera was given; add --camera SRC")
    names = Counter(source.name for source in sources)
    twice = sorted(name for name, count in names.items() if count > 1)
    if twice:
        raise UsageError(f"two cameras are called {twice[0]!r}; name them: --camera gate=SRC --camera yard=SRC")
    if len({source.live for source in sources}) > 1:
        raise UsageError("files end and live cameras do not; run them with two commands")


class Runner:
    """Runs a detector over sources and hands every record to `write`, in each camera's order.

    locator: as of `Detector.stream`. clock: default `frames` for files and `time` for live cameras. stop: looked
    at between frames; then what is open is scored and written, and `run` returns.
    """

    def __init__(
        self,
        detector: Detector,
        write: Write,
        stop: Stop,
        *,
        locator: str = "full",
        clock: Clock | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._detector = detector
        self._emit = write
        self._stop = stop
        self._locator = locator
        self._clock = clock
        self._progress = progress
        self._manifest = detector.bundle.manifest
        self._tallies: dict[str, Tally] = {}

    def run(self, sources: Sequence[Source]) -> None:
        """Run to the end of the files, or until stopped.

        Raises UsageError (see `check_sources`), SourceUnavailable for a file that cannot be opened or when no
        live camera answers its first attempt, FootageIncomplete where part of a file could not be scored (the
        other files are run first), and whatever `write` raises, at once.
        """
        check_sources(sources)
        if sources[0].live:
            self._run_cameras(sources)
        else:
            self._run_files(sources)

    def _run_files(self, sources: Sequence[Source]) -> None:
        failed: list[HeadHuntError] = []
        for source in sources:
            if self._stop.is_set():
                break
            try:
                self._run_file(source)
            except (SourceUnavailable, FootageIncomplete) as error:
                if failed:
                    log.error("%s", failed[-1])
                failed.append(error)
        if failed:
            raise failed[-1]

    def _run_file(self, source: Source) -> None:
        segment, pixels = self._manifest.segment, self._manifest.pixels
        clock = self._clock or "frames"
        begun = time.monotonic()
        with VideoFile(Path(source.target)) as video:
            fps = self._rate(source, video.fps, clock)
            stream = self._detector.stream(source.name, self._locator, clock, video.frame_count_hint)
            frames, damage = 0, None
            try:
                for index, frame, seconds in lazy_frames(video, pixels, segment.fps):
                    if self._stop.is_set():
                        # Reading the file again for the tail's own samples could take longer than there is.
                        self._write(source.name, stream.flush(lambda indices: {}))
                        log.info("%s: stopped after %d frames, %s", source.name, frames, self._tally(source.name))
                        return
                    self._write(source.name, stream.push_lazy(frame, seconds))
                    frames = index + 1
                    if self._progress is not None:
                        self._progress(source.name, frames, video.frame_count_hint, fps)
                if not video.complete:
                    video.check_complete()
            except VideoUnreadable as error:
                damage = error

            read_again = read_again_from(video, pixels)
            if damage is not None:
                # The frame that could not be decoded is part of the gap, whatever the container promised.
                promised = max(video.frame_count_hint or 0, frames + 1)
                self._write(source.name, stream.gap(frames / fps, promised / fps, "undecodable", read_again))
            self._write(source.name, stream.flush(read_again))
        tally = self._tally(source.name)
        log.info("%s: %d frames, %s, in %.1f s", source.name, frames, tally, time.monotonic() - begun)
        if damage is not None:
            raise FootageIncomplete(str(damage)) from damage
        if (lost := tally.counts["dropped"]) and not self._stop.is_set():
            raise FootageIncomplete(
                f"{source.shown}: {lost} of {lost + tally.counts['segments']} segments could not be scored; "
                "the log says why, `hh-edge verify` checks the bundle on this machine"
            )

    def _rate(self, source: Source, fps: float | None, clock: Clock) -> float:
        expected = self._manifest.segment.fps
        if fps is None:
            log.warning(
                "%s: states no usable frame rate, times are those of %g frames/s, the bundle's",
                source.shown,
                expected,
            )
            return expected
        if clock == "frames" and not 1 / _OTHER_RATE <= fps / expected <= _OTHER_RATE:
            log.info(
                "%s: %g frames/s, the bundle was calibrated at %g; --clock time cuts segments of that duration",
                source.shown,
                fps,
                expected,
            )
        return fps

    def _run_cameras(self, sources: Sequence[Source]) -> None:
        clock = RunClock()
        started_at = clock.started_at
        # Ids of events must differ from run to run: index and camera repeat, the moment of the start does not.
        token = f"{self._manifest.bundle_id[:8]}-{started_at:%Y%m%dT%H%M%S}{started_at.microsecond // 1000:03d}"
        backlog = Backlog([source.name for source in sources])
        streams = {
            source.name: self._detector.stream(source.name, self._locator, self._clock or "time", run=token)
            for source in sources
        }
        feeds = [self._feed(source, backlog) for source in sources]
        cameras = [LiveCamera(source, feed, clock) for source, feed in zip(sources, feeds, strict=True)]
        log.info("started at %s; start_s and end_s count from here", started_at.isoformat(timespec="milliseconds"))
        try:
            for camera in cameras:
                camera.start()
            self._serve(cameras, feeds, streams, backlog, clock)
        finally:
            _stop_all(cameras)
        for feed in feeds:
            feed.finish()
        while (taken := backlog.take(0.0)) is not None:
            self._handle(streams[taken[0]], taken[1])
        for name, stream in streams.items():
            self._write(name, stream.flush())
            log.info("%s: %s, in %.1f s", name, self._tally(name), clock.now_s())

    def _feed(self, source: Source, backlog: Backlog) -> CameraFeed:
        segment = self._manifest.segment
        segmenter = segmenter_for(segment, self._clock or "time", sparing=True)
        return CameraFeed(source.name, segmenter, segment, self._manifest.pixels, backlog)

    def _serve(
        self,
        cameras: Sequence[LiveCamera],
        feeds: Sequence[CameraFeed],
        streams: dict[str, Stream],
        backlog: Backlog,
        clock: RunClock,
    ) -> None:
        while not self._stop.is_set():
            taken = backlog.take(_TICK_S)
            if taken is not None:
                self._handle(streams[taken[0]], taken[1])
            for camera, feed in zip(cameras, feeds, strict=True):
                camera.raise_if_failed()
                # Asked in this order: once silent, a feed puts nothing more in before it says otherwise.
                if feed.silent and backlog.is_empty(feed.camera):
                    self._write(feed.camera, streams[feed.camera].idle(clock.now_s()))
            if all(feed.refused for feed in feeds):
                # One camera that is down must not keep the others from running; none at all is a mistake.
                cameras[0].require_online(1.0)

    def _handle(self, stream: Stream, item: Item) -> None:
        self._write(stream.camera, [item] if isinstance(item, CameraRecord) else stream.score_item(item))

    def _write(self, camera: str, records: Iterable[Record]) -> None:
        tally = self._tally(camera)
        for record in records:
            self._emit(record)
            tally.add(record)

    def _tally(self, camera: str) -> Tally:
        return self._tallies.setdefault(camera, Tally())


def _stop_all(cameras: Sequence[LiveCamera]) -> None:
    with ThreadPoolExecutor(len(cameras)) as pool:
        list(pool.map(lambda camera: camera.stop(_STOP_CAMERAS_S), cameras))
