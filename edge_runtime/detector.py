"""Frames in, records out: one model, many streams. Opens no camera.

frames -> segments -> sampled pixels -> probability -> smoothed -> event
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self, get_args

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from edge_runtime.bundle.reader import Bundle
from edge_runtime.errors import InferenceFailed, InvalidFrame, UsageError
from edge_runtime.inference.encoder import FrameEncoder, SegmentEncoder
from edge_runtime.inference.engine import Engine
from edge_runtime.inference.engines import open_engine
from edge_runtime.inference.growing import GrowingEngine, GrowingSequence
from edge_runtime.inference.scorer import ScorerGraph
from edge_runtime.inference.selftest import check_engine
from edge_runtime.records import GapReason, Record
from edge_runtime.repeats import RepeatedTrouble
from edge_runtime.stream.alarm import Alarm
from edge_runtime.stream.locator import LOCATORS
from edge_runtime.stream.pixels import Color, Picture, UInt8Array, check_picture, prepare
from edge_runtime.stream.segmenter import Segmenter, interrupt, segmenter_for
from edge_runtime.stream.segments import Clock, Encode, Gap, PreparePixels, ReadAgain, Segment, SegmentSpec
from edge_runtime.stream.timestamps import check_seconds
from edge_runtime.stream.track import LocatedStream

log = logging.getLogger(__name__)

# seen(camera, segment, features (K·d,), probability): told of every scored segment; it neither waits nor raises.
Seen = Callable[[str, Segment, NDArray[np.float32], float], None]


class FeatureScorer(Protocol):
    """What may stand in for the bundle's own scorer."""

    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """As of `Detector.probabilities`."""


class Stream:
    """One camera's frames, in order. Made by `Detector.stream`; not to be shared between threads.

    Attributes:
        camera: Its name.
        segmenter: What cuts its frames.
        encoder: What it remembers of encoded frames, and how many they were; None where each segment is encoded by
            itself.
    """

    def __init__(
        self,
        camera: str,
        detector: Detector,
        segmenter: Segmenter,
        located: LocatedStream,
        spec: SegmentSpec,
        encode: Encode = "batch",
        reuse_unchanged: float | None = None,
    ) -> None:
        self.camera = camera
        self.segmenter = segmenter
        self._detector = detector
        self._located = located
        self._spec = spec
        self._pixels = detector.bundle.manifest.pixels
        self._flushed = False
        self.encoder = detector.encoder(encode, reuse_unchanged, spec.overlap)
        self._ahead = self.encoder if encode == "eager" else None

    @property
    def alarm(self) -> Alarm:
        """What makes events: the locator's threshold alone, unless another was set.

        Any thread may set one; it holds from the next segment that becomes final.
        """
        return self._located.alarm

    @alarm.setter
    def alarm(self, alarm: Alarm) -> None:
        self._located.alarm = alarm

    def push(self, frame: Picture, seconds: float, color: Color = "bgr") -> list[Record]:
        """Take one frame; returns the records that became final with it, most often none.

        Args:
            frame: uint8 (h, w, 3), or `Nv12` or `I420`. It may change its size from frame to frame, and its memory
                may be reused afterwards.
            seconds: Its time, which never goes back. With `clock="time"` it cuts the segments: use a monotonic
                clock.
            color: Order of its channels, `bgr` or `rgb`; left out for planes.

        Raises:
            InvalidFrame: No such picture, or no such time; the stream is unchanged.
            UsageError: The stream was flushed, or its detector was closed.
        """
        check_picture(frame, color)
        return self.push_lazy(lambda: prepare(frame, self._pixels, color), seconds)

    def push_lazy(self, frame: PreparePixels, seconds: float) -> list[Record]:
        """As `push`, for a frame that is prepared only if the model will see it."""
        self._check_open()
        records = self._take(self.segmenter.push(frame, seconds))
        if self._ahead is not None:
            self._detector.encode(self.camera, self.segmenter.sampled, self._ahead)
        return records

    def gap(
        self, start_s: float, end_s: float, reason: GapReason = "lost", read_again: ReadAgain | None = None
    ) -> list[Record]:
        """Say that no frames came from `start_s` to `end_s`; the running segment ends before it.

        Args:
            start_s: On the clock of the pushed frames.
            end_s: Not before `start_s`, nor before the newest frame.
            reason: `stalled`, `lost`, `undecodable`, `dropped` or `unscored`.
            read_again: As of `FrameSegmenter.flush`.

        Raises:
            UsageError: No such times or reason, or the stream was flushed; the stream is unchanged.
        """
        self._check_open()
        if reason not in get_args(GapReason):
            raise UsageError(f"unknown reason of a gap {reason!r}; choose from {', '.join(get_args(GapReason))}")
        try:
            start, end = check_seconds(start_s), check_seconds(end_s)
        except InvalidFrame as error:
            raise UsageError(f"a gap lies between two times in seconds, got {start_s!r} to {end_s!r}") from error
        if (last_s := self.segmenter.last_s) is not None:
            # A watchdog's clock reading may lie a little before the newest frame's.
            start = max(start, last_s)
        if end < start:
            raise UsageError(f"a gap ends after it starts and after the newest frame, got {start_s!r} to {end_s!r}")
        return self._take(interrupt(self.segmenter, self._spec, start, end, reason, read_again))

    def idle(self, seconds: float) -> list[Record]:
        """Say that no frame has come until `seconds`: an event must not stay open until a lost camera returns."""
        if self._flushed:
            return []
        records = self._take(self.segmenter.idle(seconds))
        if self.segmenter.is_open:
            return records
        return records + self._located.idle(seconds, self._spec.step_s)

    def score_item(self, item: Segment | Gap) -> list[Record]:
        """Score one finished segment, or note a gap; for callers that cut segments elsewhere.

        A segment that the graphs cannot score becomes a gap (reason `unscored`), never a score.
        """
        score = None
        if isinstance(item, Segment):
            score = self._detector.score_segment(self.camera, item, self.encoder)
        return self._located.take(item, score)

    def flush(self, read_again: ReadAgain | None = None) -> list[Record]:
        """End the stream: the tail is scored, what waited for later segments becomes final, events end.

        Args:
            read_again: As of `FrameSegmenter.flush`.
        """
        if self._flushed:
            return []
        # Where a file cannot give its frames again this raises, and the stream can still be flushed.
        rest = self.segmenter.flush(read_again)
        self._flushed = True
        return [*self._take(rest), *self._located.flush()]

    def _take(self, items: Sequence[Segment | Gap]) -> list[Record]:
        return [record for item in items for record in self.score_item(item)]

    def _check_open(self) -> None:
        if self._flushed:
            raise UsageError(f"the stream {self.camera!r} was flushed; open a new one with detector.stream(…)")


class Detector:
    """One loaded bundle for any number of streams; a context manager around its memory.

    Streams of one detector may run in different threads; the graphs are shared.

    Args:
        bundle: What `Bundle.open` returned.
        provider: `auto`, or a name of the table of providers, such as `cpu` or `cuda`.
        threads: Processor threads of ONNX Runtime for one segment; its own choice by default.
        engine: What runs the graphs instead of ONNX Runtime here. It stays the caller's: `close` leaves it open.
        self_test: Run one golden segment and compare it with what the builder's machine computed.
        growing: Open the decoder in its growing form where the bundle has it. Streams that encode eagerly then run it
            frame by frame as well, and hold its keys and values; others take a little longer.

    Raises:
        BundleRefused: A graph cannot be loaded, or golden segments are missing.
        MissingExtra: ONNX Runtime is not installed.
        ProviderUnavailable: The provider is not the one that would run.
        InferenceFailed: The self-test gave other values than the builder's machine.

    Attributes:
        bundle: The bundle.
        engine: What runs its graphs; None when it was closed.
        owns_engine: Whether `close` closes the engine; whoever shares it sets this to False, and closes it.
        seen: Told of every segment that was scored, in the thread that scored it.
        site_scorer: Scores instead of the bundle's own scorer, where one is set; any thread may change it.
    """

    def __init__(
        self,
        bundle: Bundle,
        provider: str = "auto",
        threads: int | None = None,
        *,
        engine: Engine | None = None,
        self_test: bool = True,
        growing: bool = False,
    ) -> None:
        self.bundle = bundle
        self.owns_engine = engine is None
        growing = growing and bundle.manifest.graphs.growing is not UNSET
        self.engine: Engine | None = engine if engine is not None else open_engine(bundle, provider, threads, growing)
        self._grows = growing and isinstance(self.engine, GrowingEngine)
        self._scorer: ScorerGraph | None = ScorerGraph(bundle.file(bundle.manifest.scorer.file))
        self.seen: list[Seen] = []
        self.site_scorer: FeatureScorer | None = None
        self._unscored: dict[str, RepeatedTrouble] = {}
        self._abandoned = False
        self._told_of_stride = False
        if self_test:
            try:
                self.self_test()
            except BaseException:
                self.close()
                raise

    def self_test(self) -> None:
        """Run one golden segment and compare it with what the builder's machine computed.

        Raises:
            BundleRefused: Golden segments are missing, or do not fit what the engine gives.
            InferenceFailed: The values differ; the message says where, by how much, and the ways out.
            UsageError: The detector was closed.
        """
        if self.engine is None:
            raise UsageError("the detector was closed")
        graphs = self.bundle.manifest.graphs
        precisions = (graphs.vision.precision, graphs.language.precision)
        check_engine(self.engine, self.bundle.golden(), precisions, self._by_graph)

    def stream(
        self,
        name: str,
        locator: str = "full",
        clock: Clock = "time",
        length: int | None = None,
        sparing: bool = False,
        run: str = "",
        encode: Encode = "batch",
        stride: int | None = None,
        reuse_unchanged: float | None = None,
    ) -> Stream:
        """Open a stream of frames.

        Args:
            name: Of the camera, in its records.
            locator: `full` smooths over later segments too and answers later; `low_latency` answers at once.
            clock: `time` cuts by the pushed timestamps (live cameras), `frames` counts frames (files).
            length: A file's number of frames, where known, spares work.
            sparing: See TimeSegmenter.
            run: Goes into the events' ids, so that those of a camera differ from run to run.
            encode: `eager` encodes each sampled frame when it is pushed, so that a segment's end waits for the
                language graph alone, or for a small part of it in a detector that is `growing`; `batch` encodes all
                of a segment at its end, which takes less time in all.
            stride: Frames from the start of one segment to that of the next, a divisor of a segment's frames; the
                bundle's own by default. A record is one stride long, its score the mean of all that cover it.
            reuse_unchanged: Frames that differ by at most so many grey levels, on average in the block of 16 x 16
                pixels where they differ most, from the frame that was encoded last take its tokens. With 0 only
                identical pixels do, which is exact; None encodes every frame.

        Raises:
            UsageError: No such name, locator, clock, way to encode, stride or grey levels, or it was closed.
        """
        if encode not in get_args(Encode):
            raise UsageError(f"unknown way to encode {encode!r}; choose from {', '.join(get_args(Encode))}")
        spec = self.cutting(stride)
        segmenter = segmenter_for(spec, clock, length, sparing)
        located = self.located(name, locator, run, stride)
        return Stream(name, self, segmenter, located, spec, encode, reuse_unchanged)

    def located(self, name: str, locator: str = "full", run: str = "", stride: int | None = None) -> LocatedStream:
        """The second step of a stream alone, for callers that cut and score segments themselves.

        Args:
            name: Of the camera, in its records.
            locator: As of `stream`.
            run: As of `stream`.
            stride: As of `stream`.

        Raises:
            UsageError: As of `stream`.
        """
        if not isinstance(name, str) or not name:
            raise UsageError(f"a stream's name must be a text that is not empty, got {name!r}")
        if locator not in LOCATORS:
            raise UsageError(f"unknown locator {locator!r}; choose from {', '.join(LOCATORS)}")
        if self.engine is None:
            raise UsageError("the detector was closed")
        manifest = self.bundle.manifest
        overlap = self.cutting(stride).overlap
        return LocatedStream(name, manifest.locators.named(locator), run or manifest.bundle_id[:8], overlap)

    def cutting(self, stride: int | None = None) -> SegmentSpec:
        """How streams are cut with a stride; once told where that is not what the locators were calibrated with.

        Args:
            stride: As of `stream`.

        Raises:
            UsageError: As of `stream`.
        """
        calibrated = self.bundle.manifest.segment
        spec = calibrated.striding(stride)
        if spec.step != calibrated.step and not self._told_of_stride:
            self._told_of_stride = True
            log.warning(
                "stride %d: the locators were calibrated at %d, and their sigma counts strides; "
                "`hh-offline recalibrate --stride %d` fits them",
                spec.step,
                calibrated.step,
                spec.step,
            )
        return spec

    def score(self, frames: UInt8Array) -> NDArray[np.float32]:
        """Probability that each segment is anomalous.

        Args:
            frames: uint8 (b, F, H, W, 3).

        Returns:
            float32 (b,).

        Raises:
            InferenceFailed: A graph failed, or gave values that are not finite.
            UsageError: The detector was closed.
        """
        engine = self.engine  # another thread may close the detector meanwhile
        if engine is None:
            raise UsageError("the detector was closed")
        return self.probabilities(engine.features(frames))

    def encoder(
        self, encode: Encode, reuse_unchanged: float | None = None, overlap: int = 1
    ) -> SegmentEncoder | None:
        """Make what a stream remembers of encoded frames; None where each segment is encoded by itself.

        Args:
            encode: As of `stream`.
            reuse_unchanged: As of `stream`.
            overlap: How many segments cover a frame.

        Raises:
            UsageError: No such grey levels.
        """
        if encode == "batch" and reuse_unchanged is None and overlap == 1:
            return None
        manifest = self.bundle.manifest
        graphs = manifest.graphs
        encoder = FrameEncoder.of_stream(graphs.frames_per_group, manifest.segment.sampled, reuse_unchanged)
        if encode == "eager" and self._grows and graphs.growing is not UNSET:
            return GrowingSequence(encoder, graphs.growing, graphs.tokens_per_group)
        return encoder

    def encode(self, camera: str, frames: Sequence[UInt8Array], encoder: SegmentEncoder) -> InferenceFailed | None:
        """Encode frames that a segment will most likely have. Where that fails, the segment's own scoring says so.

        Args:
            camera: Whose they are.
            frames: The segment's first samples, uint8 (H, W, 3) each.
            encoder: The stream's.

        Returns:
            What it failed with, if it did.

        Raises:
            UsageError: The detector was closed.
        """
        if self.engine is None:
            raise UsageError("the detector was closed")
        try:
            encoder.prepare(self.engine, frames)
        except InferenceFailed as error:
            log.debug("%s: a frame could not be encoded ahead: %s", camera, error)
            return error
        return None

    def score_segment(
        self,
        camera: str,
        segment: Segment,
        encoder: SegmentEncoder | None = None,
        failed: Callable[[InferenceFailed], None] = lambda error: None,
    ) -> float | None:
        """The first step behind a segmenter: a segment's probability, None where the graphs could not give one.

        The first of a stream that fails is logged at once, those after it as a sum once a minute.

        Args:
            camera: Whose it is.
            segment: Its pixels are encoded.
            encoder: What of them is encoded already; None encodes all.
            failed: Told why there is no probability, where there is none.

        Raises:
            UsageError: The detector was closed.
        """
        try:
            if encoder is None and not self.seen:
                return float(self.score(segment.pixels[None])[0])
            features = self._features_of(segment.pixels[None], encoder)
            return self.score_features(camera, segment, features)
        except InferenceFailed as error:
            self.note_unscored(camera, segment, error)
            failed(error)
            return None

    def note_unscored(self, camera: str, segment: Segment, error: InferenceFailed) -> None:
        """Log that a segment could not be scored; see `score_segment`."""
        if self._abandoned:
            # As was asked for: no trouble.
            return
        trouble = self._unscored.get(camera)
        if trouble is None:
            trouble = self._unscored.setdefault(camera, _unscored(camera))
        trouble.happened(f"{camera}: segment {segment.index} could not be scored: {error}")

    def score_features(self, camera: str, segment: Segment, features: NDArray[np.float32]) -> float:
        """Score a segment whose features are there already, and tell `seen`.

        Args:
            camera: Whose it is.
            segment: What the features are of.
            features: float32 (1, K·d), in expert order.

        Raises:
            InferenceFailed: The scorer failed.
            UsageError: The detector was closed.
        """
        probability = float(self.probabilities(features)[0])
        for seen in self.seen:
            seen(camera, segment, features[0], probability)
        return probability

    def _features_of(self, frames: UInt8Array, encoder: SegmentEncoder | None) -> NDArray[np.float32]:
        engine = self.engine
        if engine is None:
            raise UsageError("the detector was closed")
        return engine.features(frames) if encoder is None else encoder.features(engine, frames)

    def sum_up_unscored(self, *, at_once: bool = False) -> None:
        """Log how many segments could not be scored since that was last said, at most once a minute a stream.

        Args:
            at_once: Do not wait for the minute: the streams have ended.
        """
        for trouble in list(self._unscored.values()):
            trouble.sum_up(at_once=at_once)

    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """The scorer alone: the site's where there is one, else the bundle's.

        Args:
            features: float32 (b, K·d), in expert order.

        Returns:
            float32 (b,).
        """
        site = self.site_scorer
        return self._by_graph(features) if site is None else site.probabilities(features)

    def _by_graph(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        scorer = self._scorer
        if scorer is None:
            raise UsageError("the detector was closed")
        return scorer.probabilities(features)

    def abandon(self) -> None:
        """Make every scoring fail from now on, the one in progress included; from any thread, and for good.

        What streams still hold then comes out as gaps (reason `unscored`): for a program that must end at once.
        """
        engine = self.engine
        if engine is not None:
            self._abandoned = True
            engine.abandon()

    def close(self) -> None:
        """Give the graphs' memory back. Streams of this detector cannot score any more."""
        self.sum_up_unscored(at_once=True)
        engine, self.engine, self._scorer = self.engine, None, None
        if engine is not None and self.owns_engine:
            engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _unscored(camera: str) -> RepeatedTrouble:
    def more(count: int, seconds: int) -> str:
        return f"{camera}: {count} more segments could not be scored in the last {seconds} s"

    return RepeatedTrouble(log, logging.ERROR, more)
