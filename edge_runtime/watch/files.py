"""Files through a stream: the one loop that does it, for `hh-edge run`, for evaluation and for extraction."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from edge_runtime.detector import Detector
from edge_runtime.errors import FootageIncomplete, HeadHuntError, SourceUnavailable, VideoUnreadable
from edge_runtime.records import GapReason, Record
from edge_runtime.stream.pixels import PixelSpec
from edge_runtime.stream.segments import Clock, PreparePixels, ReadAgain
from edge_runtime.video.file import VideoFile
from edge_runtime.video.footage import lazy_frames, read_again_from
from edge_runtime.video.sources import Source, check_file
from edge_runtime.watch.mask import MaskedVideo
from edge_runtime.watch.options import CameraOptions, RunOptions
from edge_runtime.watch.stopping import Stop
from edge_runtime.watch.tally import Tally

log = logging.getLogger(__name__)

# From this ratio of a file's rate to the bundle's, 48 frames are another length of time than at calibration.
_OTHER_RATE = 1.25

Emit = Callable[[Record], None]
Item_co = TypeVar("Item_co", covariant=True)
Item = TypeVar("Item")


class FrameStage(Protocol[Item_co]):
    """What a file's frames are pushed into: a detector's `Stream`, or a segmenter alone."""

    def push_lazy(self, frame: PreparePixels, seconds: float) -> Sequence[Item_co]:
        """Take one frame; returns what became final with it."""

    def gap(self, start_s: float, end_s: float, reason: GapReason, read_again: ReadAgain | None) -> Sequence[Item_co]:
        """Take a stretch without frames; returns what became final with it."""

    def flush(self, read_again: ReadAgain | None) -> Sequence[Item_co]:
        """The file has ended; returns the rest."""


def check_files(sources: Sequence[Source]) -> None:
    """Refuse a run of which no file can be opened, before a model is loaded for it.

    Raises:
        SourceUnavailable: Of the first file, where none of them can be read. Live cameras are not looked at.
    """
    failed: list[SourceUnavailable] = []
    for source in sources:
        if source.live:
            return
        try:
            check_file(Path(source.target))
        except SourceUnavailable as error:
            failed.append(error)
    if failed and len(failed) == len(sources):
        for other in failed[1:]:
            log.error("%s", other)
        raise failed[0]


class _Never:
    def is_set(self) -> bool:
        return False


def run_through(
    video: VideoFile,
    stage: FrameStage[Item],
    pixels: PixelSpec,
    fallback_fps: float,
    stop: Stop | None = None,
    frames_done: Callable[[int], None] | None = None,
) -> Iterator[Item]:
    """Push a file's frames through a stage to the end; yields what becomes final.

    Args:
        video: The file.
        stage: What takes its frames.
        pixels: What the model sees of a frame.
        fallback_fps: The rate where the file states none.
        stop: Looked at before every frame; then what is open becomes final without reading the file again.
        frames_done: Called with the number of frames after every frame.

    Raises:
        VideoUnreadable: The file is damaged. Everything that could be read has been yielded before, and a gap
            (reason `undecodable`) in place of the rest.
    """
    stop = stop or _Never()
    read_again = read_again_from(video, pixels)
    frames, damage = 0, None
    try:
        for index, frame, seconds in lazy_frames(video, pixels, fallback_fps):
            if stop.is_set():
                # Reading the file again for the tail's own samples could take longer than there is.
                yield from stage.flush(lambda indices: {})
                return
            yield from stage.push_lazy(frame, seconds)
            frames = index + 1
            if frames_done is not None:
                frames_done(frames)
        if not video.complete:
            video.check_complete()
    except VideoUnreadable as error:
        damage = error
    if damage is not None:
        # The frame that could not be decoded is part of the gap, whatever the container promised.
        promised = max(video.frame_count_hint or 0, frames + 1)
        fps = video.fps or fallback_fps
        yield from stage.gap(frames / fps, promised / fps, "undecodable", read_again)
    yield from stage.flush(read_again)
    if damage is not None:
        raise damage


class FileRun:
    """Files one after another through a detector, each record to `emit`.

    Args:
        detector: What scores.
        emit: Takes every record; what it raises ends the run.
        stop: Looked at between frames.
        options: Of the run.
        own: What was chosen for single files, by the names of their sources.
    """

    def __init__(
        self,
        detector: Detector,
        emit: Emit,
        stop: Stop,
        options: RunOptions,
        own: Mapping[str, CameraOptions] | None = None,
    ) -> None:
        self._own = own or {}
        self._detector = detector
        self._emit = emit
        self._stop = stop
        self._options = options
        self._manifest = detector.bundle.manifest

    def run(self, sources: Sequence[Source]) -> None:
        """Score each file that can be scored, whatever is wrong with the others.

        Raises:
            SourceUnavailable: At least one file could not be opened.
            FootageIncomplete: All could be opened, at least one could not be scored whole.
        """
        failed: list[HeadHuntError] = []
        for source in sources:
            if self._stop.is_set():
                break
            try:
                self._run_file(source)
            except (SourceUnavailable, FootageIncomplete) as error:
                failed.append(error)
                if len(sources) > 1:
                    log.error("%s", error)
        if failed:
            # One error for all: what could not even be opened outweighs what could not be scored whole.
            worst = next((error for error in failed if isinstance(error, SourceUnavailable)), failed[0])
            if len(failed) == 1:
                raise worst
            raise type(worst)(f"{len(failed)} of {len(sources)} files could not be scored whole; the first: {worst}")

    def _run_file(self, source: Source) -> None:
        clock = self._options.clock or "frames"
        begun, done = time.monotonic(), 0
        path, own = Path(source.target), self._own.get(source.name, CameraOptions())
        with VideoFile(path) if own.mask is None else MaskedVideo(path, own.mask) as video:
            fps = self._rate(source, video.fps, clock)
            stream = self._detector.stream(
                source.name,
                own.locator or self._options.locator,
                clock,
                video.frame_count_hint,
                encode=self._options.encode,
                stride=self._options.stride,
                reuse_unchanged=self._options.reuse_unchanged,
            )
            if own.alarm is not None:
                stream.alarm = own.alarm.alarm(stream.alarm.threshold)
            tally = Tally(None if self._options.reuse_unchanged is None else stream.encoder)

            def frames_done(frames: int) -> None:
                nonlocal done
                done = frames
                if self._options.progress is not None:
                    self._options.progress(source.name, frames, video.frame_count_hint, fps)

            damage: VideoUnreadable | None = None
            try:
                for record in run_through(
                    video, stream, self._manifest.pixels, self._manifest.segment.fps, self._stop, frames_done
                ):
                    self._emit(record)
                    tally.add(record)
            except VideoUnreadable as error:
                damage = error
        self._detector.sum_up_unscored(at_once=True)
        ended = "stopped after " if self._stop.is_set() else ""
        log.info("%s: %s%d frames, %s, in %.1f s", source.name, ended, done, tally, time.monotonic() - begun)
        if damage is not None:
            raise FootageIncomplete(str(damage)) from damage
        if (lost := tally.counts["dropped"] + tally.counts["unscored"]) and not self._stop.is_set():
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
