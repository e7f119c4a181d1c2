"""How good a bundle is on whole videos, run by the edge's own detector; or any system's stored scores.

Knows bundles and datasets; the ruler is `evaluation.figures`, what is beside it `evaluation.yardsticks`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.errors import DatasetError, SourceUnavailable, UsageError
from edge_runtime.records import GapRecord, Record, SegmentRecord
from edge_runtime.video.file import VideoFile
from edge_runtime.video.footage import lazy_frames, read_again_from
from offline.console import Console
from offline.data.dataset import Dataset, Split, Video, check_frames
from offline.data.scores import VideoScores, read_scores, write_scores
from offline.evaluation.figures import Evaluation, evaluate_scores
from offline.evaluation.trivial import Baselines, measure_baselines
from offline.evaluation.yardsticks import yardsticks


def run_video(detector: Detector, path: Path, locator: str) -> tuple[list[Record], int, float]:
    """Records of one file, its number of frames and its frame rate. Raises SourceUnavailable, VideoUnreadable."""
    pixels, segment = detector.bundle.manifest.pixels, detector.bundle.manifest.segment
    with VideoFile(path) as video:
        stream = detector.stream(path.stem, locator=locator, clock="frames", length=video.frame_count_hint)
        records: list[Record] = []
        for _, frame, seconds in lazy_frames(video, pixels, segment.fps):
            records += stream.push_lazy(frame, seconds)
        records += stream.flush(read_again_from(video, pixels))
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


@dataclass(frozen=True, slots=True)
class VideoRun:
    """What a bundle said about one video. smoothed: by its locator. fps: the segments', if it states none."""

    video: Video
    fps: float
    records: tuple[Record, ...]
    raw: VideoScores
    smoothed: VideoScores


def run_videos(
    bundle: Bundle, videos: Dataset, console: Console, locator: str, provider: str, skip_unreadable: bool
) -> list[VideoRun]:
    """Run a bundle on every video, in their order, by one detector.

    skip_unreadable: leave unreadable videos out and say so; otherwise SourceUnavailable. Raises DatasetError for a
    file that contradicts the manifest.
    """
    runs = []
    with Detector(bundle, provider=provider) as detector, console.bar("Scoring", "video") as progress:
        for done, video in enumerate(videos):
            progress(done, len(videos), video.name)
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
            runs.append(VideoRun(video, fps, tuple(records), *scores_of(video.name, frames, records)))
        progress(len(videos), len(videos))
    return runs


def evaluate_bundle(
    bundle_path: Path,
    dataset: Dataset,
    console: Console,
    locator: str = "full",
    provider: str = "auto",
    skip_unreadable: bool = False,
    scores_output: Path | None = None,
    calibration: Dataset | None = None,
) -> Evaluation:
    """Run a bundle on every video and judge its scores.

    dataset: one split. scores_output: write the raw scores there as `scores.json`. calibration: the split (it may
    be empty) that the few-shot one of the trivial baselines is fitted on; None leaves all of them out. Raises
    HeadHuntError.
    """
    bundle = Bundle.open(bundle_path)
    runs = run_videos(bundle, dataset, console, locator, provider, skip_unreadable)
    judged = [run.video for run in runs]
    raw = {run.video.name: run.raw for run in runs}
    smoothed = {run.video.name: run.smoothed for run in runs}
    rates = {run.video.name: run.fps for run in runs}
    if not judged:
        raise DatasetError(f"{dataset.path}: no video of this split could be scored")
    if scores_output is not None:
        write_scores(raw.values(), scores_output)
    _require_two_classes(dataset.path, judged, raw)
    at = bundle.manifest.locators.named(locator)
    series = {"raw": raw, "smoothed": smoothed}
    measured = Baselines()
    if calibration is not None:
        measured = measure_baselines(judged, calibration, console, bundle.manifest.segment.frames)
    # What smoothing alone gives is given to the baselines, too.
    calm = {
        name: {video: scores.smoothed(at.sigma, at.lookahead) for video, scores in of.items()}
        for name, of in measured.scores.items()
    }
    result = evaluate_scores(judged, raw, smoothed, thresholds={"calibrated": at.threshold}, fps=rates)
    peers = {"raw": measured.scores, "smoothed": calm}
    return replace(result, beside=yardsticks(judged, series, peers, measured.remarks))


def evaluate_stored(
    scores: Path,
    dataset: Dataset,
    split: Split,
    console: Console,
    threshold: float | None = None,
    baselines: bool = True,
) -> Evaluation:
    """Judge one split by a `scores.json` of any system.

    dataset: all splits. threshold: an operating point to report. baselines: measure the trivial ones, where the
    video files are there. Raises HeadHuntError.
    """
    if threshold is not None and not math.isfinite(threshold):
        raise UsageError(f"threshold {threshold} is no score; give a finite number")
    videos = dataset.split(split)
    raw = read_scores(scores, dataset)
    points = None if threshold is None else {"given": threshold}
    result = evaluate_scores(videos, raw, thresholds=points)
    _require_two_classes(dataset.path, videos.videos, raw)
    measured = measure_baselines(videos.videos, dataset.split("calibration"), console) if baselines else Baselines()
    beside = yardsticks(videos.videos, {"raw": raw}, {"raw": measured.scores}, measured.remarks)
    return replace(result, beside=beside)


def _require_two_classes(manifest: Path, judged: Sequence[Video], scores: Mapping[str, VideoScores]) -> None:
    """By what was judged in the end: frames as decoded, without videos that could not be read."""
    frames = {video.name: scores[video.name].frames for video in judged}
    Dataset(manifest, tuple(judged)).require_two_classes(judged[0].split, frames)
