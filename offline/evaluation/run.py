"""A bundle run over whole videos, by the edge's own detector."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.errors import BundleRefused, SourceUnavailable
from edge_runtime.records import GapRecord, Record, SegmentRecord
from edge_runtime.video.file import VideoFile
from edge_runtime.watch.files import run_through
from offline.console import Console
from offline.data.dataset import Dataset, Video, check_frames
from offline.data.scores import VideoScores
from offline.data.segments import or_leave_out


@dataclass(frozen=True, slots=True)
class VideoRun:
    """What a bundle said about one video.

    Attributes:
        video: The video.
        fps: Its frame rate; the segments' where the file states none.
        records: What the stream wrote.
        raw: Scores of its segments.
        smoothed: The same, as the locator smoothed them.
    """

    video: Video
    fps: float
    records: tuple[Record, ...]
    raw: VideoScores
    smoothed: VideoScores


@dataclass(frozen=True, slots=True)
class Running:
    """How a bundle is run.

    Attributes:
        locator: `full` or `low_latency`.
        provider: Of ONNX Runtime; `auto` takes the best.
        skip_unreadable: Whether videos that cannot be read are reported and left out, instead of an error.
        stride: As of `Detector.stream`.
    """

    locator: str = "full"
    provider: str = "auto"
    skip_unreadable: bool = False
    stride: int | None = None


def run_videos(bundle: Bundle, videos: Dataset, running: Running, console: Console) -> list[VideoRun]:
    """Run a bundle on every video, by one detector.

    Returns:
        One entry a video, in their order, without those that were left out as unreadable.

    Raises:
        SourceUnavailable: A video cannot be read, and unreadable ones are not to be skipped.
        DatasetError: A file contradicts the manifest.
    """
    runs = []
    with Detector(bundle, provider=running.provider) as detector, console.bar("Scoring", "video") as progress:
        for done, video in enumerate(videos):
            progress(done, len(videos), video.name)
            try:
                with video.on_disk() as path:
                    records, frames, fps = _run_video(detector, path, running)
            except SourceUnavailable as error:
                if not running.skip_unreadable:
                    raise or_leave_out(error) from error
                console.say(f"left out: {error}")
                continue
            check_frames(video, frames)
            tell_of_gaps(video.name, records, console)
            runs.append(_run(video, records, frames, fps))
        progress(len(videos), len(videos))
    return runs


class BundleWorker:
    """Runs a bundle on one video after the other, by one detector.

    Args:
        recipe: What is run.
    """

    def __init__(self, recipe: BundleRecipe) -> None:
        self._running = recipe.running
        bundle = Bundle.open(recipe.bundle)
        if bundle.manifest.bundle_id != recipe.bundle_id:
            raise BundleRefused(
                f"{recipe.bundle}: {bundle.manifest.bundle_id[:12]} on {socket.gethostname()} and "
                f"{recipe.bundle_id[:12]} where the command was started; copy the bundle to all machines"
            )
        self._detector = Detector(bundle, provider=recipe.running.provider)

    def run(self, video: Video) -> tuple[int, VideoRun]:
        """Run one video.

        Returns:
            Its number of frames, and what the bundle said.

        Raises:
            SourceUnavailable: It cannot be read.
            DatasetError: The file contradicts the manifest.
        """
        with video.on_disk() as path:
            records, frames, fps = _run_video(self._detector, path, self._running)
        check_frames(video, frames)
        return frames, _run(video, records, frames, fps)


@dataclass(frozen=True, slots=True)
class BundleRecipe:
    """A bundle, as a worker of an executor loads it.

    Attributes:
        bundle: Its folder, the same on all machines.
        bundle_id: Of the one that is meant.
        running: How it is run.
    """

    bundle: Path
    bundle_id: str
    running: Running

    @property
    def gpu(self) -> bool:
        """Whether it would use a GPU."""
        return self.running.provider in {"auto", "cuda", "tensorrt"}

    def open(self, share: float) -> BundleWorker:
        """Load it. Its memory is not planned: `share` counts for nothing."""
        return BundleWorker(self)


def _run(video: Video, records: Sequence[Record], frames: int, fps: float) -> VideoRun:
    raw, smoothed = scores_of(video.name, frames, records)
    return VideoRun(video, fps, tuple(records), raw, smoothed)


def tell_of_gaps(name: str, records: Sequence[Record], console: Console) -> None:
    """Say where segments of a video could not be scored."""
    if any(isinstance(record, GapRecord) for record in records):
        console.say(f"{name}: some segments could not be scored; they are in no figure")


def scores_of(name: str, frames: int, records: Sequence[Record]) -> tuple[VideoScores, VideoScores]:
    """Take raw and smoothed scores of one video from its records; what is in no segment record is a gap."""
    found = [record for record in records if isinstance(record, SegmentRecord)]
    spans = [(record.start_frame, record.end_frame) for record in found]
    return (
        VideoScores.of_segments(name, frames, spans, [record.score for record in found]),
        VideoScores.of_segments(name, frames, spans, [record.smoothed for record in found]),
    )


def _run_video(detector: Detector, path: Path, running: Running) -> tuple[list[Record], int, float]:
    """Records of one file, its number of frames and its frame rate."""
    pixels, segment = detector.bundle.manifest.pixels, detector.bundle.manifest.segment
    with VideoFile(path) as video:
        stream = detector.stream(
            path.stem,
            locator=running.locator,
            clock="frames",
            length=video.frame_count_hint,
            stride=running.stride,
        )
        records = list(run_through(video, stream, pixels, segment.fps))
        return records, video.count_frames(), segment.fps if video.fps is None else video.fps
