"""What a system must beat: how much the picture moves, how much its brightness changes, and both, few-shot.

Measured per segment on small grey pictures, without any model. The direction is fixed beforehand (more is more
anomalous), because choosing it on the judged videos would be fitting. Scores lie in 0 to 1, so that the locator
can smooth them like any others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from edge_runtime.errors import DatasetError
from edge_runtime.stream.segments import cut
from edge_runtime.video.file import VideoFile
from offline.data.dataset import Video, check_frames
from offline.data.scores import VideoScores
from offline.data.units import UnitChoice

FRAME_DIFFERENCE = "frame difference"
BRIGHTNESS_CHANGE = "brightness change"
FEW_SHOT = "few-shot logistic regression on both"

#: The untrained baselines, in the order of the columns of `Motion.values`.
MEASURES = (FRAME_DIFFERENCE, BRIGHTNESS_CHANGE)

# Enough to see that something moves; noise and compression of single pixels average out.
_WIDTH = 160


@dataclass(frozen=True, slots=True)
class Motion:
    """What was measured in one video.

    Attributes:
        name: The video's name.
        frames: How many frames it has.
        segments: Half-open frame ranges.
        values: (S, 2) in 0..1, a row for each segment, columns as `MEASURES`.
        fps: None where the file states no rate.
    """

    name: str
    frames: int
    segments: tuple[tuple[int, int], ...]
    values: NDArray[np.float64]
    fps: float | None


def measure(path: Path, name: str, segment_frames: int = 48) -> Motion:
    """Measure mean frame difference and brightness change of every segment of a video, the tail included.

    Frame difference: mean |grey_t − grey_{t−1}| over pixels and over the segment's frames, the step into the
    segment included. Brightness change: highest minus lowest mean grey in the segment. Both are shares of full
    scale; the first frame of a video has nothing before it and differs by 0.

    Raises:
        SourceUnavailable: The file cannot be opened.
        VideoUnreadable: It is damaged.
    """
    if segment_frames < 1:
        raise ValueError(f"a segment has at least one frame, got {segment_frames}")
    differences: list[float] = []
    brightness: list[float] = []
    previous: NDArray[Any] | None = None
    with VideoFile(path) as video:
        # The rate is not used: frames are compared with their neighbours, whenever those were.
        for frame in video.frames(fallback_fps=1.0):
            grey = _small_grey(frame.retrieve())
            differences.append(0.0 if previous is None else float(cv2.absdiff(grey, previous).mean()) / 255)
            brightness.append(float(grey.mean()) / 255)
            previous = grey
        video.check_complete()
        fps = video.fps
    segments = tuple(cut(len(differences), segment_frames))
    values = np.array(
        [
            (np.mean(differences[start:end]), max(brightness[start:end]) - min(brightness[start:end]))
            for start, end in segments
        ]
    )
    return Motion(name, len(differences), segments, values, fps)


def scores_of(motion: Motion, measure: str) -> VideoScores:
    """Take one measure as the video's scores: more is more anomalous."""
    return _scores(motion, motion.values[:, MEASURES.index(measure)])


@dataclass(frozen=True, slots=True)
class FewShot:
    """Standardised, class-balanced logistic regression on both measures: the scorer's method without a model."""

    model: Pipeline

    @classmethod
    def fit(cls, videos: Iterable[Video], motions: Mapping[str, Motion], unit: UnitChoice = "auto") -> FewShot:
        """Fit on calibration videos, measured beforehand.

        One sample a segment, labelled by overlap with events, if every video's timing is known and the unit is not
        "video"; otherwise one a video, its mean. DatasetError, naming it, for a video that was not measured, and
        for one class only.
        """
        rows = tuple(videos)
        for video in rows:
            if video.name not in motions:
                raise DatasetError(f"{video.name}: not measured; measure every calibration video first")
            check_frames(video, motions[video.name].frames)
        by_segment = unit != "video" and all(video.timed for video in rows)
        samples: list[NDArray[np.float64]] = []
        labels: list[bool] = []
        for video in rows:
            motion = motions[video.name]
            if by_segment:
                samples.append(motion.values)
                labels += [video.overlaps(start, end) for start, end in motion.segments]
            else:
                samples.append(motion.values.mean(axis=0, keepdims=True))
                labels.append(video.anomalous)
        if len(set(labels)) < 2:
            raise DatasetError(
                f"the few-shot baseline needs both classes, but its {len(rows)} calibration videos have one; "
                "add videos of the other"
            )
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
        return cls(model.fit(np.concatenate(samples), np.array(labels)))

    def scores_of(self, motion: Motion) -> VideoScores:
        """Give the video's probabilities of being anomalous, segment by segment."""
        return _scores(motion, self.model.predict_proba(motion.values)[:, 1])


def baseline_scores(
    videos: Iterable[Video], motions: Mapping[str, Motion], few_shot: FewShot | None = None
) -> dict[str, dict[str, VideoScores]]:
    """Collect scores by baseline and video name, as of any system; without few_shot, the untrained two."""
    rows = tuple(videos)
    for video in rows:
        if video.name not in motions:
            raise DatasetError(f"{video.name}: not measured; measure every video that is to be judged")
    scores = {name: {video.name: scores_of(motions[video.name], name) for video in rows} for name in MEASURES}
    if few_shot is not None:
        scores[FEW_SHOT] = {video.name: few_shot.scores_of(motions[video.name]) for video in rows}
    return scores


def _scores(motion: Motion, values: NDArray[np.float64]) -> VideoScores:
    return VideoScores.of_segments(motion.name, motion.frames, motion.segments, values)


def _small_grey(picture: NDArray[np.uint8]) -> NDArray[Any]:
    """Grey, at most 160 wide, averaged over areas; never enlarged."""
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    height, width = grey.shape
    if width <= _WIDTH:
        return grey
    return cv2.resize(grey, (_WIDTH, max(1, round(height * _WIDTH / width))), interpolation=cv2.INTER_AREA)
