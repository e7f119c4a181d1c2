"""A bundle's scores of whole videos, by the edge's own detector, and how good they are.

Knows bundles and datasets; the ruler is `offline.evaluation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_runtime.bundle import Bundle
from edge_runtime.detector import Detector
from edge_runtime.errors import DatasetError, SourceUnavailable
from edge_runtime.footage import lazy_frames, recall_from
from edge_runtime.records import GapRecord, Record, SegmentRecord
from edge_runtime.videofile import VideoFile
from offline.console import Console
from offline.dataset import Dataset, Video, check_frames
from offline.evaluation import Evaluation, evaluate_scores
from offline.scores import VideoScores, write_scores


def run_video(detector: Detector, path: Path, locator: str) -> tuple[list[Record], int, float]:
    """Records of one file, its number of frames and its frame rate. Raises SourceUnavailable, VideoUnreadable."""
    pixels, segment = detector.bundle.manifest.pixels, detector.bundle.manifest.segment
    with VideoFile(path) as video:
        stream = detector.stream(path.stem, locator=locator, clock="frames", length=video.frame_count_hint)
        records: list[Record] = []
        for _, frame, seconds in lazy_frames(video, pixels, segment.fps):
            records += stream.push_lazy(frame, seconds)
        records += stream.flush(recall_from(video, pixels))
        video.check_complete()
        return records, video.count_frames(), segment.fps if video.fps is None else video.fps


def scores_of(name: str, frames: int, records: Sequence[Record]) -> tuple[VideoScores, VideoScores]:
    """Raw and smoothed scores of one video from its records; what is in no segment record is a gap."""
    raw: list[tuple[int, int, float | None]] = []
    smoothed: list[tuple[int, int, float | None]] = []
    reached = 0
    for record in records:
        if isinstance(record, SegmentRecord):
            if record.start_frame > reached:
                raw.append((reached, record.start_frame, None))
                smoothed.append((reached, record.start_frame, None))
            raw.append((record.start_frame, record.end_frame, record.score))
            smoothed.append((record.start_frame, record.end_frame, record.smoothed))
            reached = record.end_frame
    if reached < frames:
        raw.append((reached, frames, None))
        smoothed.append((reached, frames, None))
    return VideoScores(name, frames, tuple(raw)), VideoScores(name, frames, tuple(smoothed))


def evaluate_bundle(
    bundle_path: Path,
    dataset: Dataset,
    console: Console,
    locator: str = "full",
    provider: str = "auto",
    skip_unreadable: bool = False,
    scores_output: Path | None = None,
) -> Evaluation:
    """Run a bundle on every video and judge its scores.

    scores_output: write the raw scores there as `scores.json`. Raises HeadHuntError.
    """
    raw: dict[str, VideoScores] = {}
    smoothed: dict[str, VideoScores] = {}
    rates: dict[str, float] = {}
    judged: list[Video] = []
    bundle = Bundle.open(bundle_path)
    with Detector(bundle, provider=provider) as detector, console.bar("Scoring", "video") as progress:
        for done, video in enumerate(dataset):
            progress(done, len(dataset), video.name)
            try:
                records, frames, fps = run_video(detector, video.path, locator)
            except SourceUnavailable as error:
                if not skip_unreadable:
                    raise type(error)(f"{error}; or leave such videos out with --skip-unreadable") from error
                console.say(f"left out: {error}")
                continue
            check_frames(video, frames)
            if any(isinstance(record, GapRecord) for record in records):
                console.say(f"{video.name}: some segments could not be scored; they are in no figure")
            raw[video.name], smoothed[video.name] = scores_of(video.name, frames, records)
            rates[video.name] = fps
            judged.append(video)
        progress(len(dataset), len(dataset))
    if not judged:
        raise DatasetError(f"{dataset.path}: no video of this split could be scored")
    if scores_output is not None:
        write_scores(raw.values(), scores_output)
    threshold = bundle.manifest.locators.named(locator).threshold
    return evaluate_scores(judged, raw, smoothed, thresholds={"calibrated": threshold}, fps=rates)
