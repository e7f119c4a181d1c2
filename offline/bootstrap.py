"""How far a figure would move with other videos: percentile intervals by bootstrap over videos.

Frames of one video are not independent, so whole videos are drawn. Knows labels and scores, not whose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline.metrics import BoolArray, FloatArray, check_scores

FIGURES = ("auc", "average_precision", "pr_auc_trapezoid", "best_f1")


@dataclass(frozen=True, slots=True)
class Interval:
    """A percentile interval, and from how many draws (those in which the figure was defined)."""

    low: float
    high: float
    draws: int


@dataclass(frozen=True, slots=True)
class Ranked:
    """Frames of all videos by falling score, equal (video, score) frames counted together."""

    video: NDArray[np.intp]  # (g,) which video the group is from
    positive: NDArray[np.float64]  # (g,) abnormal frames in it
    negative: NDArray[np.float64]  # (g,) normal frames in it
    last: NDArray[np.intp]  # (v,) last group of each distinct score


def bootstrap_intervals(
    videos: Sequence[tuple[BoolArray, FloatArray]], *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, Interval | None]:
    """Intervals of the frame-level figures in `FIGURES`, over draws of the videos with replacement.

    videos: (labels (n_i,), scores (n_i,)) each. A draw with one class only leaves all figures undefined and
    is left out; with fewer than half of the draws left, or fewer than two videos, the interval is None. The
    frames are sorted once and only reweighted per draw: O(n log n + draws * g), g distinct (video, score)
    pairs.
    """
    if draws < 1 or not 0 < level < 1:
        raise ValueError(f"need draws >= 1 and a level in (0, 1), got {draws} and {level}")
    if len(videos) < 2:
        return dict.fromkeys(FIGURES)
    ranked = rank(videos)
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(draws):
        weight = np.bincount(random.integers(len(videos), size=len(videos)), minlength=len(videos))
        row = weighted_figures(ranked, weight.astype(np.float64))
        if row is not None:
            rows.append(row)
    if 2 * len(rows) < draws:
        return dict.fromkeys(FIGURES)
    tail = (1 - level) / 2
    low, high = np.quantile(np.array(rows), [tail, 1 - tail], axis=0)
    return {name: Interval(float(low[i]), float(high[i]), len(rows)) for i, name in enumerate(FIGURES)}


def weighted_figures(ranked: Ranked, weight: FloatArray) -> tuple[float, float, float, float] | None:
    """The `FIGURES` where video i counts weight[i] times; None with one class only.

    The same definitions as in `offline.metrics`, on curves that need no sorting.
    """
    factor = weight[ranked.video]
    hits = np.cumsum(factor * ranked.positive)[ranked.last]
    errors = np.cumsum(factor * ranked.negative)[ranked.last]
    real, other = hits[-1], errors[-1]
    if not real or not other:
        return None
    alarms = hits + errors
    # The highest scores may belong to videos that were not drawn: no alarm yet, so no operating point.
    drawn = alarms > 0
    hits, errors, alarms = hits[drawn], errors[drawn], alarms[drawn]
    recall, fall_out, precision = hits / real, errors / other, hits / alarms
    step = np.diff(recall, prepend=0.0)
    roc = np.trapezoid(np.concatenate(([0.0], recall)), np.concatenate(([0.0], fall_out)))
    # scikit-learn's curve starts at precision 1, recall 0.
    trapezoid = np.sum(step * (precision + np.concatenate(([1.0], precision[:-1]))) / 2)
    return (
        float(roc),
        float(np.sum(step * precision)),
        float(trapezoid),
        float(np.max(2 * hits / (alarms + real))),
    )


def rank(videos: Sequence[tuple[BoolArray, FloatArray]]) -> Ranked:
    """Sort the frames of all videos by score, once for all draws. DatasetError for one that is not finite."""
    owner: list[NDArray[np.intp]] = []
    value: list[FloatArray] = []
    positive: list[NDArray[np.float64]] = []
    count: list[NDArray[np.intp]] = []
    for index, (labels, scores) in enumerate(videos):
        check_scores(scores, f"video {index}")
        # Segment scores repeat over their frames: 48 times less to add up in every draw.
        distinct, group, frames = np.unique(scores, return_inverse=True, return_counts=True)
        owner.append(np.full(len(distinct), index, dtype=np.intp))
        value.append(distinct)
        hits = np.bincount(group, weights=labels, minlength=len(distinct))
        positive.append(hits.astype(np.float64))
        count.append(frames)
    values = np.concatenate(value)
    order = np.argsort(-values, kind="stable")
    values, positives = values[order], np.concatenate(positive)[order]
    return Ranked(
        video=np.concatenate(owner)[order],
        positive=positives,
        negative=np.concatenate(count)[order] - positives,
        last=np.flatnonzero(np.diff(values, append=-np.inf)),
    )
