"""Frames in, records out: one model, many streams. Knows the stages and their order; opens no camera.

frames -> segments -> sampled pixels -> probability -> smoothed -> event
"""

from __future__ import annotations

import logging
import math
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.reader import Bundle
from edge_runtime.errors import InferenceFailed, UsageError
from edge_runtime.inference.onnx_engine import OnnxEngine
from edge_runtime.inference.scorer import ScorerGraph
from edge_runtime.records import GapReason, Record
from edge_runtime.stream.by_count import FrameSegmenter
from edge_runtime.stream.by_time import TimeSegmenter
from edge_runtime.stream.locator import LOCATORS
from edge_runtime.stream.pixels import Color, UInt8Array, check_color, check_frame, prepare
from edge_runtime.stream.segmenter import interrupt
from edge_runtime.stream.segments import Clock, Gap, PreparePixels, ReadAgain, Segment
from edge_runtime.stream.track import LocatedStream, SegmentTimes

log = logging.getLogger(__name__)


class Stream:
    """One camera's frames, in order. Made by `Detector.stream`; not to be shared between threads."""

    def __init__(
        self,
        camera: str,
        detector: Detector,
        segmenter: FrameSegmenter | TimeSegmenter,
        located: LocatedStream,
    ) -> None:
        self.camera = camera
        self.segmenter = segmenter
        self._detector = detector
        self._located = located
        self._spec = detector.bundle.manifest.segment
        self._pixels = detector.bundle.manifest.pixels
        self._last: tuple[int, float] | None = None
        self._flushed = False

    def push(self, frame: UInt8Array, seconds: float, color: Color = "bgr") -> list[Record]:
        """Take one frame; returns the records that became final with it, most often none.

        frame: uint8 (h, w, 3), its channels in the order `color`; it may change its size from frame to frame,
        and its memory may be reused afterwards. seconds: its time, which never goes back (with `clock="time"`
        it cuts the segments; use a monotonic clock). Raises InvalidFrame, and the stream is unchanged.
        """
        check_frame(frame)
        check_color(color)
        return self.push_lazy(lambda: prepare(frame, self._pixels, color), seconds)

    def push_lazy(self, frame: PreparePixels, seconds: float) -> list[Record]:
        """As `push`, for a frame that is prepared only if the model will see it."""
        self._check_open()
        records: list[Record] = []
        for item in self.segmenter.push(frame, seconds):
            records += self.score_item(item)
        return records

    def gap(
        self, start_s: float, end_s: float, reason: GapReason = "lost", read_again: ReadAgain | None = None
    ) -> list[Record]:
        """Say that no frames came from `start_s` to `end_s`; the running segment ends before it.

        read_again: as of `FrameSegmenter.flush`.
        """
        self._check_open()
        start_s, end_s = float(start_s), float(end_s)
        if (last_s := self.segmenter.last_s) is not None:
            # A watchdog's clock reading may lie a little before the newest frame's.
            start_s = max(start_s, last_s)
        if not (math.isfinite(start_s) and math.isfinite(end_s) and end_s >= start_s):
            raise UsageError(f"a gap ends after it starts and after the newest frame, got {start_s} to {end_s}")
        records: list[Record] = []
        for item in interrupt(self.segmenter, self._spec, start_s, end_s, reason, read_again):
            records += self.score_item(item)
        return records

    def idle(self, seconds: float) -> list[Record]:
        """Say that no frame has come until `seconds`: an event must not stay open until a lost camera returns.

        Whoever cuts segments elsewhere calls that segmenter's `idle` first: a segment that is running there would
        come too late for its neighbours' smoothed scores.
        """
        if self._flushed:
            return []
        records: list[Record] = []
        if isinstance(self.segmenter, TimeSegmenter):
            for item in self.segmenter.idle(seconds):
                records += self.score_item(item)
        if self._last is None or self.segmenter.is_open:
            return records
        index, end_s = self._last
        passed = int((seconds - end_s) // self._spec.duration_s)
        # The hole will take round(pause / duration) places, and at least one.
        return records + (self._located.advance_to(index + passed - 1) if passed > 1 else [])

    def score_item(self, item: Segment | Gap) -> list[Record]:
        """Score one finished segment, or note a hole; for callers that cut segments elsewhere.

        A segment that the graphs cannot score becomes a gap (reason `dropped`), never a score.
        """
        if isinstance(item, Gap):
            self._last = (item.index + item.segments - 1, item.end_s)
            return self._located.gap(item)
        self._last = (item.index, item.end_s)
        try:
            score = float(self._detector.score(item.pixels[None])[0])
        except InferenceFailed as error:
            log.error("%s: segment %d could not be scored: %s", self.camera, item.index, error)
            return self._located.gap(Gap(item.index, 1, item.start_s, item.end_s, "dropped"))
        return self._located.push(SegmentTimes.of(item), score)

    def flush(self, read_again: ReadAgain | None = None) -> list[Record]:
        """End the stream: the tail is scored, what waited for later segments becomes final, events end."""
        if self._flushed:
            return []
        records: list[Record] = []
        # Where a file cannot give its frames again this raises, and the stream can still be flushed.
        clips = self.segmenter.flush(read_again)
        self._flushed = True
        for clip in clips:
            records += self.score_item(clip)
        return records + self._located.flush()

    def _check_open(self) -> None:
        if self._flushed:
            raise UsageError(f"the stream {self.camera!r} was flushed; open a new one with detector.stream(…)")


class Detector:
    """One loaded bundle for any number of streams.

    provider: `auto`, `cpu`, `cuda`, `tensorrt` or `openvino`. threads: of ONNX Runtime, default its own choice.
    Raises BundleRefused, MissingExtra, ProviderUnavailable. Streams of one detector may run in different
    threads; the graphs are shared.
    """

    def __init__(self, bundle: Bundle, provider: str = "auto", threads: int | None = None) -> None:
        self.bundle = bundle
        graphs = bundle.manifest.graphs
        self.engine: OnnxEngine | None = OnnxEngine(
            bundle.file(graphs.vision.file),
            bundle.file(graphs.language.file),
            provider,
            threads,
            group=graphs.frames_per_group,
        )
        self._scorer: ScorerGraph | None = ScorerGraph(bundle.file(bundle.manifest.scorer.file))

    def stream(
        self,
        name: str,
        locator: str = "full",
        clock: Clock = "time",
        length: int | None = None,
        sparing: bool = False,
        run: str = "",
    ) -> Stream:
        """Open a stream of frames.

        locator: `full` smooths over later segments too and answers later; `low_latency` answers at once.
        clock: `time` cuts by the pushed timestamps (live cameras), `frames` counts frames (files).
        length: a file's number of frames, where known, spares work. sparing: see TimeSegmenter.
        run: goes into the events' ids, so that those of a camera differ from run to run.
        """
        if locator not in LOCATORS:
            raise UsageError(f"unknown locator {locator!r}; choose from {', '.join(LOCATORS)}")
        if clock not in ("frames", "time"):
            raise UsageError(f"unknown clock {clock!r}; choose from frames, time")
        manifest = self.bundle.manifest
        segmenter = (
            FrameSegmenter(manifest.segment, length)
            if clock == "frames"
            else TimeSegmenter(manifest.segment, sparing)
        )
        located = LocatedStream(name, manifest.locators.named(locator), run or manifest.bundle_id[:8])
        return Stream(name, self, segmenter, located)

    def score(self, frames: UInt8Array) -> NDArray[np.float32]:
        """Probability that each segment is anomalous. frames: uint8 (b, F, S, S, 3). Returns (b,)."""
        graphs = self.engine  # another thread may close the detector meanwhile
        if graphs is None:
            raise UsageError("the detector was closed")
        return self.probabilities(graphs.features(frames))

    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """The scorer alone. features: float32 (b, K·d). Returns (b,)."""
        scorer = self._scorer
        if scorer is None:
            raise UsageError("the detector was closed")
        return scorer.probabilities(features)

    def abandon(self) -> None:
        """Make every scoring fail from now on, the one in progress included; from any thread, and for good.

        What streams still hold then comes out as gaps (reason `dropped`): for a program that must end at once.
        """
        graphs = self.engine
        if graphs is not None:
            graphs.abandon()

    def close(self) -> None:
        """Give the graphs' memory back. Streams of this detector cannot score any more."""
        self.engine = self._scorer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
