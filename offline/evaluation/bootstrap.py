"""How far a figure would move with other videos: percentile intervals by bootstrap over videos.

Frames of one video are not independent, so whole videos are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline.arrays import BoolArray, Floating
from offline.evaluation.metrics import check_scores

FIGURES = ("auc", "average_precision", "pr_auc_trapezoid", "best_f1")


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals are found.

    Attributes:
        draws: How often the videos are drawn; 0 for no intervals.
        level: The share of the draws that an interval holds.
        seed: Of the draws: the same seed gives the same ones.
    """

    draws: int = 1000
    level: float = 0.95
    seed: int = 0


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
    videos: Sequence[tuple[BoolArray, Floating]], *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, Interval | None]:
    """Find intervals of the frame-level figures in `FIGURES`, over draws of the videos with replacement.

    The frames are sorted once and only reweighted per draw: O(n log n + draws * g), g distinct (video, score) pairs.

    Args:
        videos: (labels (n_i,), scores (n_i,)) each.
        draws: How many.
        level: The share of the draws that an interval holds.
        seed: Of the draws.

    Returns:
        Intervals by figure. A draw with one class only leaves all figures undefined and is left out; with fewer than
        half of the draws left, or fewer than two videos, the interval is None.
    """
    if draws < 1 or not 0 < level < 1:
        raise ValueError(f"need draws >= 1 and a level in (0, 1), got {draws} and {level}")
    if len(videos) < 2:
        return dict.fromkeys(FIGURES)
    ranked = rank(videos)
    rows = [weighted_figures(ranked, weight) for weight in _drawn(len(videos), draws, seed)]
    return dict(zip(FIGURES, _percentiles([row for row in rows if row is not None], draws, level), strict=True))


def bootstrap_differences(
    first: Sequence[tuple[BoolArray, Floating]],
    second: Sequence[tuple[BoolArray, Floating]],
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval | None]:
    """Find intervals of the differences first − second of the `FIGURES`, on the same draws of the same videos.

    Paired, because most of what moves a figure is which videos there are, and that moves both alike.

    Args:
        first: As in `bootstrap_intervals`.
        second: The same videos in the same order.
        draws: How many.
        level: The share of the draws that an interval holds.
        seed: Of the draws.

    Raises:
        ValueError: The two are not of the same videos.
    """
    if draws < 1 or not 0 < level < 1:
        raise ValueError(f"need draws >= 1 and a level in (0, 1), got {draws} and {level}")
    if len(first) != len(second) or not all(
        np.array_equal(a, b) for (a, _), (b, _) in zip(first, second, strict=True)
    ):
        raise ValueError("the two series are not of the same videos; their difference has no paired interval")
    if len(first) < 2:
        return dict.fromkeys(FIGURES)
    one, other = rank(first), rank(second)
    rows = []
    for weight in _drawn(len(first), draws, seed):
        minuend, subtrahend = weighted_figures(one, weight), weighted_figures(other, weight)
        if minuend is not None and subtrahend is not None:
            rows.append(tuple(a - b for a, b in zip(minuend, subtrahend, strict=True)))
    return dict(zip(FIGURES, _percentiles(rows, draws, level), strict=True))


def bootstrap_f1_at(
    videos: Sequence[tuple[BoolArray, Floating]],
    threshold: float,
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval | None:
    """Find the interval of the F1 of score > `threshold`, which stays what it is in every draw.

    Arguments, and what is undefined, are those of `bootstrap_intervals`.
    """
    if draws < 1 or not 0 < level < 1:
        raise ValueError(f"need draws >= 1 and a level in (0, 1), got {draws} and {level}")
    if len(videos) < 2:
        return None
    alarms = [scores > threshold for _, scores in videos]
    counts = np.array(
        [
            (int((alarm & labels).sum()), int(alarm.sum()), int(labels.sum()), len(labels))
            for alarm, (labels, _) in zip(alarms, videos, strict=True)
        ],
        dtype=np.float64,
    )
    rows = []
    for weight in _drawn(len(videos), draws, seed):
        hits, alarmed, real, frames = weight @ counts
        if 0 < real < frames:
            rows.append((float(2 * hits / (alarmed + real)),))
    return _percentiles(rows, draws, level, width=1)[0]


def _drawn(videos: int, draws: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each video is in a draw, (videos,); the same draws for the same seed, whatever is judged."""
    random = np.random.default_rng(seed)
    for _ in range(draws):
        yield np.bincount(random.integers(videos, size=videos), minlength=videos).astype(np.float64)


def _percentiles(
    rows: Sequence[tuple[float, ...]], draws: int, level: float, width: int = len(FIGURES)
) -> list[Interval | None]:
    """One interval per column; None where fewer than half of the draws are left."""
    if 2 * len(rows) < draws:
        return [None] * width
    tail = (1 - level) / 2
    low, high = np.quantile(np.array(rows), [tail, 1 - tail], axis=0)
    return [Interval(float(low[i]), float(high[i]), len(rows)) for i in range(width)]


def weighted_figures(ranked: Ranked, weight: Floating) -> tuple[float, float, float, float] | None:
    """Compute the `FIGURES` where video i counts weight[i] times; None with one class only.

    The same definitions as in `offline.evaluation.metrics`, on curves that need no sorting.
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


def rank(videos: Sequence[tuple[BoolArray, Floating]]) -> Ranked:
    """Sort the frames of all videos by score, once for all draws. DatasetError for one that is not finite."""
    owner: list[NDArray[np.intp]] = []
    value: list[Floating] = []
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
