"""A bundle run over whole videos, by the edge's own detector."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.errors import BundleRefused, SourceUnavailable
from edge_runtime.inference.engine import Engine, engine_key
from edge_runtime.records import GapRecord, Record, SegmentRecord
from edge_runtime.video.file import VideoFile
from edge_runtime.watch.files import run_through
from offline.console import Console
from offline.data.cache import EntryStore, open_store
from offline.data.contents import sought
from offline.data.dataset import Dataset, Video, check_frames
from offline.data.scores import VideoScores
from offline.data.segments import leave_out
from offline.evaluation.kept import KeptRuns, Said


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


class BundleWorker:
    """Runs a bundle on one video after the other, by one detector.

    Args:
        bundle: What is run.
        running: How.
        store: Where what it says is kept, and taken from where it is there; None for nowhere.
    """

    def __init__(self, bundle: Bundle, running: Running, store: EntryStore | None = None) -> None:
        self._running = running
        self._detector = Detector(bundle, provider=running.provider)
        #: Made of the graphs by those who use them for something else; see offline.extraction.workers.Loaded.
        self.extractors: dict[str, Any] = {}
        self.name = f"the bundle by {self.held.provider}"
        how = {"bundle": bundle.manifest.bundle_id, "locator": running.locator, "stride": running.stride}
        self._kept = None if store is None else KeptRuns(store, how | engine_key(self.held))

    @property
    def held(self) -> Engine:
        """Runs the bundle's graphs."""
        assert self._detector.engine is not None
        return self._detector.engine

    def run(self, video: Video) -> tuple[int, VideoRun]:
        """Run one video.

        Returns:
            The number of frames that were run, and what the bundle said.

        Raises:
            SourceUnavailable: It cannot be read.
            DatasetError: The file contradicts the manifest.
            OutputFailed: The store cannot be read.
        """
        said, frames = self._say(video)
        check_frames(video, said.frames)
        raw, smoothed = scores_of(video.name, said.frames, said.records)
        return frames, VideoRun(video, said.fps, said.records, raw, smoothed)

    def _say(self, video: Video) -> tuple[Said, int]:
        kept = self._kept
        if kept is None:
            with video.on_disk() as path:
                said = _run_video(self._detector, path, self._running)
            return said, said.frames
        name = video.path.stem
        with sought(video, kept.store, partial(kept.get, name)) as asked:
            if asked.known is not None:
                return asked.known, 0
            said = _run_video(self._detector, asked.path, self._running)
        if not any(isinstance(record, GapRecord) and record.reason == "unscored" for record in said.records):
            # What failed may not fail again.
            kept.put(name, asked.content, said)
        return said, said.frames

    def close(self) -> None:
        """Close the detector."""
        self._detector.close()


def run_videos(
    bundle: Bundle, videos: Dataset, running: Running, console: Console, store: EntryStore | None = None
) -> list[VideoRun]:
    """Run a bundle on every video, by one detector.

    Args:
        bundle: What is run.
        videos: On what.
        running: How.
        console: Shows a bar.
        store: As of BundleWorker.

    Returns:
        One entry a video, in their order, without those that were left out as unreadable.

    Raises:
        SourceUnavailable: A video cannot be read, and unreadable ones are not to be skipped.
        DatasetError: A file contradicts the manifest.
        OutputFailed: The store cannot be read.
    """
    runs = []
    with closing(BundleWorker(bundle, running, store)) as worker, console.bar("Scoring", "video") as progress:
        for done, video in enumerate(videos):
            progress(done, len(videos), video.name)
            try:
                _, run = worker.run(video)
            except SourceUnavailable as error:
                leave_out(error, running.skip_unreadable)
                console.say(f"left out: {error}")
                continue
            tell_of_gaps(video.name, run.records, console)
            runs.append(run)
        progress(len(videos), len(videos))
    return runs


@dataclass(frozen=True, slots=True, eq=False)
class RunTask:
    """One video for a worker that has opened a bundle.

    Attributes:
        video: The video, its path from wherever that is.
    """

    video: Video

    def do(self, loaded: BundleWorker) -> tuple[int, VideoRun]:
        """See BundleWorker.run."""
        return loaded.run(self.video)


@dataclass(frozen=True, slots=True)
class BundleRecipe:
    """A bundle, as a worker of an executor loads it.

    Attributes:
        bundle: Its folder, the same on all machines.
        bundle_id: Of the one that is meant.
        running: How it is run.
        store: As of BundleWorker, where all machines find it.
    """

    bundle: Path
    bundle_id: str
    running: Running
    store: Path | None = None

    @property
    def gpu(self) -> bool:
        """Whether it would use a GPU."""
        return self.running.provider in {"auto", "cuda", "tensorrt"}

    def open(self, share: float) -> BundleWorker:
        """Load it. Its memory is not planned: `share` counts for nothing.

        Raises:
            BundleRefused: It is another one on this machine.
        """
        bundle = Bundle.open(self.bundle)
        if bundle.manifest.bundle_id != self.bundle_id:
            raise BundleRefused(
                f"{self.bundle}: {bundle.manifest.bundle_id[:12]} on {socket.gethostname()} and "
                f"{self.bundle_id[:12]} where the command was started; copy the bundle to all machines"
            )
        return BundleWorker(bundle, self.running, None if self.store is None else open_store(self.store))


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


def _run_video(detector: Detector, path: Path, running: Running) -> Said:
    pixels, segment = detector.bundle.manifest.pixels, detector.bundle.manifest.segment
    with VideoFile(path) as video:
        stream = detector.stream(
            path.stem,
            locator=running.locator,
            clock="frames",
            length=video.frame_count_hint,
            stride=running.stride,
        )
        records = tuple(run_through(video, stream, pixels, segment.fps))
        return Said(records, video.count_frames(), segment.fps if video.fps is None else video.fps)
