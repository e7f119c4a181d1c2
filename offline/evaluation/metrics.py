"""The ruler: how good scores are, frame by frame and event by event. Pure functions on arrays.

A figure
that is undefined (one class only, no events) is None, never a plausible number; a score that is not finite is
a DatasetError. "Alarm" means score > threshold, as the locator decides it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

from edge_runtime.errors import DatasetError
from offline.arrays import BoolArray, Floating
from offline.data.spans import Span


@dataclass(frozen=True, slots=True)
class F1Point:
    """F1 = 2PR / (P + R) of score > `threshold`. `precision` is None where nothing is alarmed."""

    threshold: float
    f1: float
    precision: float | None
    recall: float


@dataclass(frozen=True, slots=True)
class EventCounts:
    """Events found, missed and made up, at one temporal IoU. Adds up over videos."""

    matched: int
    missed: int
    spurious: int

    def __add__(self, other: EventCounts) -> EventCounts:
        return EventCounts(self.matched + other.matched, self.missed + other.missed, self.spurious + other.spurious)

    @property
    def precision(self) -> float | None:
        """Share of the predicted events that are real; None without predictions."""
        predicted = self.matched + self.spurious
        return self.matched / predicted if predicted else None

    @property
    def recall(self) -> float | None:
        """Share of the real events that were found; None without real events."""
        real = self.matched + self.missed
        return self.matched / real if real else None

    @property
    def f1(self) -> float | None:
        """2 matched / (2 matched + missed + spurious); None without real events."""
        if not self.matched + self.missed:
            return None
        return 2 * self.matched / (2 * self.matched + self.missed + self.spurious)


def check_scores(scores: Floating, video: str = "scores") -> None:
    """Raise DatasetError, naming the video, if any score is NaN or infinite."""
    bad = ~np.isfinite(scores)
    if bad.any():
        raise DatasetError(
            f"{video}: {int(bad.sum())} of {scores.size} scores are not finite, the first at index "
            f"{int(bad.argmax())}; leave what was not scored out as a gap"
        )


def frame_auc(labels: BoolArray, scores: Floating) -> float | None:
    """Compute the area under the ROC curve, labels and scores (n,). None unless both classes are there."""
    if not _two_classes(labels, scores):
        return None
    return float(roc_auc_score(labels, scores))


def average_precision(labels: BoolArray, scores: Floating) -> float | None:
    """Compute step-wise AP = Σ (R_i − R_{i−1}) P_i, as in scikit-learn. None unless both classes are there."""
    if not _two_classes(labels, scores):
        return None
    return float(average_precision_score(labels, scores))


def pr_auc_trapezoid(labels: BoolArray, scores: Floating) -> float | None:
    """Compute the trapezoid area under the precision-recall curve: what the XD-Violence papers call AP.

    It interpolates linearly between operating points, which the step-wise AP does not: where scores have many
    ties the two differ, either way. Compare each only with itself. None unless both classes are there.
    """
    if not _two_classes(labels, scores):
        return None
    precision, recall, _ = precision_recall_curve(labels, scores)
    return float(auc(recall, precision))


def f1_at(labels: BoolArray, scores: Floating, threshold: float) -> F1Point | None:
    """Compute F1 of score > threshold. None unless both classes are there."""
    if not _two_classes(labels, scores):
        return None
    alarm = scores > threshold
    hits, alarms, real = int((alarm & labels).sum()), int(alarm.sum()), int(labels.sum())
    precision = hits / alarms if alarms else None
    return F1Point(float(threshold), 2 * hits / (alarms + real), precision, hits / real)


def best_f1(labels: BoolArray, scores: Floating) -> F1Point | None:
    """Find the best F1 over all thresholds, exactly. O(n log n). None unless both classes are there.

    The threshold is the largest score that is not alarmed (below all of them where everything is). Of equal
    F1s the highest threshold wins: fewer alarms.
    """
    if not _two_classes(labels, scores):
        return None
    values, index = np.unique(scores, return_inverse=True)
    count = np.bincount(index, minlength=len(values))
    positive = np.bincount(index, weights=labels, minlength=len(values))
    # Entry i: everything from the i-th lowest value up is alarmed.
    alarms, hits = np.cumsum(count[::-1])[::-1], np.cumsum(positive[::-1])[::-1]
    f1 = 2 * hits / (alarms + labels.sum())
    best = len(values) - 1 - int(np.argmax(f1[::-1]))
    threshold = values[best - 1] if best else np.nextafter(values[0], -np.inf)
    return f1_at(labels, scores, float(threshold))


def temporal_iou(first: Span, second: Span) -> float:
    """Divide the frames in both ranges by the frames in either."""
    shared = max(0, min(first[1], second[1]) - max(first[0], second[0]))
    return shared / (first[1] - first[0] + second[1] - second[0] - shared)


def match_events(real: Sequence[Span], predicted: Sequence[Span], iou: float) -> EventCounts:
    """Match real and predicted events one to one, as many as possible, where their temporal IoU >= `iou`.

    An event found twice counts once, and the second finding is spurious.
    """
    if not 0 < iou <= 1:
        raise ValueError(f"temporal IoU must be in (0, 1], got {iou}")
    matched = 0
    if real and predicted:
        close = [[temporal_iou(a, b) >= iou for b in predicted] for a in real]
        # Maximum, not greedy: below an IoU of 0.5 one event may fit two, and the order must not matter.
        partner = maximum_bipartite_matching(csr_array(np.array(close, dtype=np.int8)), perm_type="column")
        matched = int((partner >= 0).sum())
    return EventCounts(matched, len(real) - matched, len(predicted) - matched)


def detection_delays(real: Sequence[Span], alarm: BoolArray) -> list[int | None]:
    """Count frames from each real event's start to the first alarmed frame inside it; None where it was missed.

    An alarm (n,) that is already on when the event starts has delay 0. The frame's own time counts: the time a system
    needs to fill its segment and look ahead comes on top.
    """
    delays: list[int | None] = []
    for start, end in real:
        inside = alarm[start:end]
        delays.append(int(inside.argmax()) if inside.any() else None)
    return delays


def false_alarms(real: Sequence[Span], predicted: Sequence[Span]) -> int:
    """Count the predicted events that touch no real one."""
    return sum(all(end <= a or b <= start for a, b in real) for start, end in predicted)


def _two_classes(labels: BoolArray, scores: Floating) -> bool:
    if labels.shape != scores.shape or labels.ndim != 1:
        raise ValueError(f"labels {labels.shape} and scores {scores.shape} must be two vectors of one length")
    if labels.dtype != np.bool_:
        raise ValueError(f"labels must be bool, got {labels.dtype}")
    check_scores(scores)
    return bool(labels.any()) and not bool(labels.all())
