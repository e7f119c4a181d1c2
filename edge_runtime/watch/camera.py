"""One live camera of a run, from its source to its records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from edge_runtime.detector import Detector
from edge_runtime.records import CameraRecord, Record
from edge_runtime.stream.clock import RunClock
from edge_runtime.stream.segmenter import Segmenter, segmenter_for
from edge_runtime.stream.segments import Gap, Segment
from edge_runtime.video.journal import CameraListener
from edge_runtime.video.sources import Source
from edge_runtime.watch.backlog import Backlog, Handover
from edge_runtime.watch.feed import CameraFeed
from edge_runtime.watch.figures import DECISION_S, CameraFigures, Histogram, recent
from edge_runtime.watch.mask import MaskedFrames
from edge_runtime.watch.options import CameraOptions, RunOptions
from edge_runtime.watch.rate import FrameRate
from edge_runtime.watch.tally import Tally

# A camera whose read blocks is left behind after this long.
_STOP_CAMERA_S = 0.5


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
        chosen: What is chosen for it alone.

    Attributes:
        detector: What scores it.
        handed_to: What scores what comes of it now; `detector`, as soon as that has scored what came before.
        bundle: Where a bundle of its own lies; None where the run's scores it.
        decision: From the end of each segment to its record, in seconds.
    """

    def __init__(self, source: Source, shared: Shared, run: str, chosen: CameraOptions) -> None:
        self.source = source
        self._shared, self._locator = shared, chosen.locator or shared.options.locator
        detector, options = chosen.detector or shared.detector, shared.options
        spec = detector.cutting(options.stride)
        self.handed_to, self.bundle = detector, chosen.bundle
        self.leaving = False
        self.decision = Histogram(DECISION_S)
        self._begun_s = shared.clock.now_s()
        self._rate = FrameRate()
        self.feed = CameraFeed(
            source.name,
            segmenter_for(spec, options.clock or "time", sparing=True),
            spec,
            detector.bundle.manifest.pixels,
            shared.backlog,
            options.encode,
            shared.clock,
        )
        self.tally = Tally()
        self._begin(detector, run)
        listener: CameraListener = self.feed
        if options.glimpses is not None:
            listener = options.glimpses.around(source.name, listener)
        if chosen.mask is not None:
            listener = MaskedFrames(listener, chosen.mask)
        self.reader = shared.open_reader(source, listener, shared.clock)
        # All segments that run at once end together where a camera's frames do.
        shared.backlog.add(source.name, chosen.priority, 1 + spec.overlap)

    def _begin(self, detector: Detector, run: str) -> None:
        """Begin a stream of a bundle."""
        options = self._shared.options
        spec = detector.cutting(options.stride)
        self.detector = detector
        self.encoder = detector.encoder(options.encode, options.reuse_unchanged, spec.overlap)
        self.tally.reusing = None if options.reuse_unchanged is None else self.encoder
        self._step_s = spec.step_s
        self._located = detector.located(self.source.name, self._locator, run, options.stride)
        self._site = None
        if options.sites is not None:
            self._site = options.sites.begin(
                detector, self._locator, options.stride, self._located, self.feed.on_drift
            )

    def hand_over(self, detector: Detector, run: str) -> None:
        """Let another bundle score what comes from the next frame on. Any thread, one at a time.

        What the one before has still to score it scores; `take_over` follows when that is done.

        Args:
            detector: With the bundle.
            run: Goes into the ids of its events.

        Raises:
            UsageError: The run's stride does not go with the bundle; nothing has changed.
        """
        options = self._shared.options
        spec = detector.cutting(options.stride)
        if options.sites is not None:
            options.sites.prepare(self.name, detector, self._locator, options.stride)

        def begin(first: tuple[int, int]) -> Segmenter:
            return segmenter_for(spec, options.clock or "time", sparing=True, first=first)

        self._shared.backlog.allow(self.name, 2 + spec.overlap)
        if self.feed.hand_over(begin, spec, detector.bundle.manifest.pixels, Handover(detector, run)):
            self.handed_to = detector

    def take_over(self, handover: Handover) -> list[Record]:
        """All of the bundle before is scored; returns what that made final, and the word that another one scores."""
        records = self._final(self._located.flush())
        if self._site is not None:
            self._site.end()
        self._begin(handover.detector, handover.run)
        bundle_id = handover.detector.bundle.manifest.bundle_id
        told = CameraRecord(
            camera=self.name,
            state=self.feed.state,
            detail=f"is scored by the bundle {bundle_id[:8]} from here on",
            time=self._shared.clock.utc(self._shared.clock.now_s()),
            bundle_id=bundle_id,
        )
        return [*records, told]

    @property
    def name(self) -> str:
        """The camera's name."""
        return self.source.name

    def take(self, item: Segment | Gap | CameraRecord, score: float | None) -> list[Record]:
        """Take what comes next out of the backlog, a segment with its score; returns what became final."""
        return [item] if isinstance(item, CameraRecord) else self._final(self._located.take(item, score))

    def idle(self) -> list[Record]:
        """Ask a camera that gives no frames for what became final by that."""
        # Asked in this order: once silent, a feed puts nothing more in before it says otherwise.
        if not self.feed.silent or not self._shared.backlog.is_empty(self.name):
            return []
        return self._final(self._located.idle(self._shared.clock.now_s(), self._step_s))

    def new_rate(self) -> float | None:
        """Its frames a second, where there is something new to tell; None where there is not, or it is leaving."""
        if self.leaving:
            return None
        return self._rate.look(self.feed.frames, self.feed.flowing, self._shared.clock.now_s())

    def figures(self) -> CameraFigures:
        """What is counted of it. Any thread may ask."""
        feed, now_s = self.feed, self._shared.clock.now_s()
        return CameraFigures(
            name=self.name,
            up=feed.flowing,
            frames=feed.frames,
            last_frame_age_s=max(0.0, now_s - (self._begun_s if feed.last_s is None else feed.last_s)),
            tally=self.tally,
            reconnections=feed.reconnections,
            recent_reconnections=recent(feed.reconnected_s.copy(), now_s),
            quality=feed.quality,
            waiting=self._shared.backlog.waiting(self.name),
            decision=self.decision.distribution(),
        )

    def stop(self) -> bool:
        """Stop reading, and put what there is of the running segment into the backlog. False: left behind."""
        try:
            return self.reader.stop(_STOP_CAMERA_S)
        finally:
            self.feed.finish()

    def flush(self) -> list[Record]:
        """The camera has ended; returns the rest."""
        if self._shared.options.glimpses is not None:
            self._shared.options.glimpses.forget(self.name)
        records = self._final(self._located.flush())
        if self._site is not None:
            self._site.end()
        return records

    def _final(self, records: list[Record]) -> list[Record]:
        return records if self._site is None else self._site.located(records)
