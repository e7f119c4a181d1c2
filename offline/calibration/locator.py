"""The locator's two operating points, chosen on validation videos.

Smoothing is the edge's own (`edge_runtime.stream.locator.smooth`); this only searches its parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.manifest import Locators
from edge_runtime.stream.locator import LocatorSpec, radius, smooth
from offline.arrays import Float64Array
from offline.console import Progress
from offline.data.dataset import Video
from offline.data.scores import VideoScores

SIGMAS: tuple[float, ...] = (0.0, *(round(float(sigma), 10) for sigma in np.linspace(0.5, 3.0, 11)))
THRESHOLDS: Float64Array = np.round(np.linspace(0.1, 0.9, 81), 10)
# What the paper uses where nothing can be calibrated.
DEFAULT_SIGMA, DEFAULT_THRESHOLD = 1.5, 0.65


@dataclass(frozen=True, slots=True, eq=False)
class ScoredVideo:
    """One validation video with known times.

    Attributes:
        scores: One a segment, None is a gap.
        frames: How many a segment has, (S,).
        anomalous_frames: How many of them are anomalous, (S,).
    """

    scores: Sequence[float | None]
    frames: NDArray[np.int64]
    anomalous_frames: NDArray[np.int64]

    @classmethod
    def of(cls, video: Video, scores: VideoScores) -> ScoredVideo:
        """Count a video's labels by segment. DatasetError where its times are unknown."""
        labels = video.frame_labels(scores.frames)
        return cls(
            scores=[value for _, _, value in scores.segments],
            frames=np.array([end - start for start, end, _ in scores.segments]),
            anomalous_frames=np.array([int(labels[start:end].sum()) for start, end, _ in scores.segments]),
        )


def calibrate(videos: Sequence[ScoredVideo], progress: Progress | None = None) -> Locators:
    """Choose both operating points by the best frame-level F1; the defaults where F1 is undefined.

    F1 is undefined without an anomalous frame or without a normal one: then there is nothing to separate.
    """
    # Frames in gaps have no score: they cannot be found and do not count.
    scored = [(video, np.array([score is not None for score in video.scores], dtype=bool)) for video in videos]
    anomalous = sum(int(video.anomalous_frames[known].sum()) for video, known in scored)
    frames = sum(int(video.frames[known].sum()) for video, known in scored)
    if anomalous in (0, frames):
        return default_locators()
    steps = 2 * len(SIGMAS)
    found = []
    for number, ahead in enumerate((True, False)):
        best: LocatorSpec | None = None
        highest = 0.0
        for step, sigma in enumerate(SIGMAS):
            lookahead = radius(sigma) if ahead else 0
            f1 = f1_curve(videos, sigma, lookahead)
            threshold, value = best_threshold(f1)
            # A tie stays with the smaller sigma, which comes first.
            if best is None or value > highest:
                highest = value
                best = LocatorSpec(sigma=sigma, threshold=threshold, lookahead=lookahead, calibrated=True, f1=value)
            if progress is not None:
                progress(number * len(SIGMAS) + step + 1, steps)
        assert best is not None
        found.append(best)
    return Locators(full=found[0], low_latency=found[1])


def f1_curve(videos: Sequence[ScoredVideo], sigma: float, lookahead: int) -> Float64Array:
    """Compute frame-level F1 at every one of THRESHOLDS, (81,); frames in gaps are left out."""
    scores, frames, anomalous = [], [], []
    for video in videos:
        for place, value in enumerate(smooth(video.scores, sigma, lookahead)):
            if value is not None:
                scores.append(value)
                frames.append(int(video.frames[place]))
                anomalous.append(int(video.anomalous_frames[place]))
    alarm = np.asarray(scores)[None, :] > THRESHOLDS[:, None]  # (81, S)
    hits = (alarm * np.asarray(anomalous)).sum(axis=1)
    alarms = (alarm * np.asarray(frames)).sum(axis=1)
    # F1 = 2TP / (alarms + positives): 0 where nothing is hit.
    return np.asarray(2.0 * hits / (alarms + sum(anomalous)), dtype=np.float64)


def best_threshold(f1: Float64Array) -> tuple[float, float]:
    """Find the threshold of the highest F1, and that F1; of equals the one nearest 0.5, then the lower."""
    best = np.flatnonzero(f1 == f1.max())
    place = min(best, key=lambda i: (round(abs(float(THRESHOLDS[i]) - 0.5), 10), THRESHOLDS[i]))
    return float(THRESHOLDS[place]), float(f1[place])


def default_locators() -> Locators:
    """Give σ = 1.5, τ = 0.65, and the same kernel cut to the past; marked as not calibrated."""
    return Locators(
        full=LocatorSpec(
            sigma=DEFAULT_SIGMA, threshold=DEFAULT_THRESHOLD, lookahead=radius(DEFAULT_SIGMA), calibrated=False
        ),
        low_latency=LocatorSpec(sigma=DEFAULT_SIGMA, threshold=DEFAULT_THRESHOLD, lookahead=0, calibrated=False),
    )
