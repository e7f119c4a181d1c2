"""The trivial baselines of a manifest, as far as its videos allow. Knows files and splits; compares nothing.

They are company for a result, not the result: what is missing for them is told in a sentence and stops nothing.
A file that contradicts the manifest is an error all the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edge_runtime.errors import SourceUnavailable
from offline.console import Console
from offline.data.dataset import Dataset, Video, check_frames
from offline.data.scores import VideoScores
from offline.evaluation.baselines import FEW_SHOT, FewShot, Motion, baseline_scores, measure


@dataclass(frozen=True, slots=True)
class Baselines:
    """scores: by baseline and video. remarks: why some are not there, a sentence each."""

    scores: Mapping[str, Mapping[str, VideoScores]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def measure_baselines(
    judged: Sequence[Video], calibration: Dataset, console: Console, segment_frames: int = 48
) -> Baselines:
    """Decode all videos once and score the judged ones.

    calibration: the split that the few-shot baseline is fitted on; without both classes in it, or where one of
    its videos cannot be read, there is none. Raises DatasetError where a video contradicts the manifest.
    """
    if absent := _absent(judged):
        return Baselines(remarks=(f"trivial baselines not computed: {absent}",))
    fitted_on, reason = _to_fit(calibration)
    motions: dict[str, Motion] = {}
    videos = {video.name: video for video in (*judged, *fitted_on)}
    names = {video.name for video in judged}
    with console.bar("Trivial baselines", "video") as progress:
        for done, video in enumerate(videos.values()):
            progress(done, len(videos), video.name)
            try:
                motion = measure(video.path, video.name, segment_frames)
            except SourceUnavailable as error:
                if video.name in names:
                    return Baselines(remarks=(f"trivial baselines not computed: {error}",))
                reason = reason if reason is not None else str(error)
                continue
            check_frames(video, motion.frames)
            motions[video.name] = motion
        progress(len(videos), len(videos))
    few_shot = FewShot.fit(fitted_on, motions) if reason is None else None
    remarks = () if reason is None else (f"{FEW_SHOT} not computed: {reason}",)
    return Baselines(baseline_scores(judged, motions, few_shot), remarks)


def _absent(videos: Sequence[Video]) -> str | None:
    absent = [video.name for video in videos if not os.path.isfile(video.path)]
    if not absent:
        return None
    return f"{len(absent)} of {len(videos)} video files are not there, the first is {absent[0]}"


def _to_fit(calibration: Dataset) -> tuple[tuple[Video, ...], str | None]:
    """The videos to fit on, or none and the reason."""
    videos = calibration.videos
    missing = {"normal", "anomalous"} - {video.label for video in videos}
    if not videos:
        return (), "the manifest has no calibration split"
    if missing:
        return (), f"the calibration split has no {min(missing)} video"
    if absent := _absent(videos):
        return (), f"of the calibration split, {absent}"
    return videos, None
