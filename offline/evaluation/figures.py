"""Judges scores against a dataset: over all frames, by class, by video, by event, raw and smoothed.

The same ruler for this project's scores and for anyone's from `scores.json`. What is undefined is None; what could
not be judged is left out by name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.errors import DatasetError
from offline.arrays import BoolArray, Float64Array
from offline.data.dataset import Video, check_frames
from offline.data.scores import VideoScores
from offline.data.spans import spans
from offline.evaluation.bootstrap import Interval, Resampling, bootstrap_intervals, rank, weighted_figures
from offline.evaluation.metrics import (
    EventCounts,
    F1Point,
    average_precision,
    best_f1,
    detection_delays,
    f1_at,
    false_alarms,
    frame_auc,
    match_events,
    pr_auc_trapezoid,
)
from offline.evaluation.yardsticks import Yardsticks

IOUS = (0.3, 0.5, 0.7)

#: Name of the operating point that has the best F1 on the judged videos themselves: an upper bound.
BEST = "best F1"

_RESAMPLING = Resampling()

_KINDS = (
    re.compile(r".*_label_([A-Z0-9]+)"),
    re.compile(r"(?:calibration|validation|test)_\d+_(.+)"),
    re.compile(r"([^\W\d_]+(?:[_ -][^\W\d_]+)*)[_ -]*\d"),
)


@dataclass(frozen=True, slots=True)
class EventFigures:
    """How events come out at one threshold, over all videos with known timing.

    Attributes:
        threshold: Above it is an alarm.
        events: How many real ones there are.
        detected: How many of them have an alarmed frame.
        delay_s: Mean time from an event's start to its first alarmed frame, over the detected events; None without
            a frame rate.
        false_alarms: Alarms that touch no event.
        false_alarms_per_hour: Per hour of scored footage; None without a frame rate.
        at_iou: Events found, missed and made up, by temporal IoU.
    """

    threshold: float
    events: int
    detected: int
    delay_s: float | None
    false_alarms: int
    false_alarms_per_hour: float | None
    at_iou: dict[float, EventCounts]


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """Frame figures of one class: its anomalous videos against all normal ones. None where undefined."""

    videos: int
    auc: float | None
    average_precision: float | None
    pr_auc_trapezoid: float | None
    best_f1: float | None


@dataclass(frozen=True, slots=True)
class VideoFigures:
    """One video. `auc` needs both classes in it; `peak` and `mean` are over its scored frames."""

    name: str
    label: str
    kind: str
    frames: int
    unscored_frames: int
    abnormal_frames: int | None
    auc: float | None
    peak: float | None
    mean: float | None


@dataclass(frozen=True, slots=True)
class SeriesFigures:
    """All figures of one series of scores (raw or smoothed)."""

    auc: float | None
    average_precision: float | None
    pr_auc_trapezoid: float | None
    best_f1: F1Point | None
    f1: dict[str, F1Point | None]
    video_auc: float | None
    intervals: dict[str, Interval | None]
    events: dict[str, EventFigures]
    classes: dict[str, ClassFigures]
    videos: tuple[VideoFigures, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was judged, what had to be left out, and the figures of each series.

    Attributes:
        videos: How many were judged.
        anomalous: How many of them are anomalous.
        frames: How many frames they have.
        abnormal_frames: How many of those lie in events.
        untimed: Anomalous videos of unknown timing: in no frame or event figure, only in `video_auc`.
        unscored: Frames in gaps, by video: in no figure at all.
        unscored_events: Events that lie in gaps entirely.
        series: Figures by series, `raw` and maybe `smoothed`.
        beside: What to read the figures against, where that was measured.
    """

    videos: int
    anomalous: int
    frames: int
    abnormal_frames: int
    untimed: tuple[str, ...]
    unscored: dict[str, int]
    unscored_events: int
    series: dict[str, SeriesFigures]
    beside: Yardsticks | None = None

    def to_dict(self) -> dict[str, Any]:
        """Give everything as JSON takes it: no NaN, None where undefined.

        `baselines` and `ceilings` are None where they were not measured, `remarks` says what is not there and why,
        `verdict` what the language model adds to its visual tokens, where that was measured.
        """
        content = asdict(replace(self, beside=None))
        del content["beside"]
        beside: dict[str, Any] = {"baselines": None, "ceilings": None, "remarks": [], "verdict": None}
        content |= beside if self.beside is None else self.beside.to_dict()
        for name, series in self.series.items():
            for point, figures in series.events.items():
                content["series"][name]["events"][point]["at_iou"] = {
                    str(iou): {
                        **asdict(counts),
                        "precision": counts.precision,
                        "recall": counts.recall,
                        "f1": counts.f1,
                    }
                    for iou, counts in figures.at_iou.items()
                }
            content["series"][name]["videos"] = list(content["series"][name]["videos"])
        content["untimed"] = list(self.untimed)
        return content


@dataclass(frozen=True, slots=True)
class _Judged:
    """One video with the scores of its series, frame by frame. `labels` is None where the timing is unknown."""

    video: Video
    scored: BoolArray
    labels: BoolArray | None
    scores: Float64Array
    fps: float | None


def class_of(video: Video) -> str:
    """Tell what kind of anomaly a video shows, by its name; a normal video is `normal`.

    `Abuse028_x264.mp4` is Abuse, `…_label_B2-0-0.mp4` is B2, `test_003_fall.mp4` is fall: a code after
    `_label_`, or what follows split and number, or the words before the first number, or the folder's name.
    """
    if not video.anomalous:
        return "normal"
    path = Path(video.name)
    for pattern in _KINDS:
        match = pattern.match(path.stem)
        if match is not None:
            return match[1]
    return path.parent.name or path.stem


def evaluate_scores(
    videos: Iterable[Video],
    raw: Mapping[str, VideoScores],
    smoothed: Mapping[str, VideoScores] | None = None,
    *,
    thresholds: Mapping[str, float] | None = None,
    fps: float | Mapping[str, float] | None = None,
    resampling: Resampling = _RESAMPLING,
) -> Evaluation:
    """Judge scores by video name.

    Args:
        videos: Those to be judged, usually one split; scores of others are ignored.
        raw: Scores of every video.
        smoothed: The same, smoothed; None where they are not to be judged.
        thresholds: Named operating points, as {"calibrated": 0.65}; "best F1" is added.
        fps: Frames per second, of all videos or by name; without it times and rates are None.
        resampling: How intervals over videos are found.

    Raises:
        DatasetError: Scores are missing or contradict the dataset; the message names the video.
    """
    judged = tuple(videos)
    if not judged:
        raise DatasetError("no videos to judge; is the split empty?")
    if thresholds is not None and BEST in thresholds:
        raise ValueError(f"{BEST!r} is the name of the point that is found here")
    if not all(math.isfinite(threshold) for threshold in (thresholds or {}).values()):
        raise ValueError(f"thresholds must be finite, got {thresholds}")
    raw_series = [_judge(video, raw, fps) for video in judged]
    series = {"raw": raw_series}
    if smoothed is not None:
        series["smoothed"] = [_judge(video, smoothed, fps) for video in judged]
        for first, second in zip(raw_series, series["smoothed"], strict=True):
            if not np.array_equal(first.scored, second.scored):
                raise DatasetError(f"{first.video.name}: raw and smoothed scores have other frames or other gaps")
    kinds = {video.name: class_of(video) for video in judged}
    return Evaluation(
        videos=len(judged),
        anomalous=sum(video.anomalous for video in judged),
        frames=sum(len(item.scores) for item in raw_series),
        abnormal_frames=sum(int(item.labels.sum()) for item in raw_series if item.labels is not None),
        untimed=tuple(video.name for video in judged if not video.timed),
        unscored={item.video.name: int((~item.scored).sum()) for item in raw_series if not item.scored.all()},
        unscored_events=sum(len(item.video.events) - len(_events(item)) for item in raw_series),
        series={name: _figures(items, kinds, dict(thresholds or {}), resampling) for name, items in series.items()},
    )


def _judge(video: Video, scores: Mapping[str, VideoScores], fps: float | Mapping[str, float] | None) -> _Judged:
    if video.name not in scores:
        raise DatasetError(f"{video.name}: no scores for it; score it, or judge a manifest without it")
    found = scores[video.name]
    check_frames(video, found.frames)
    expanded = found.expand()
    rate = fps.get(video.name) if isinstance(fps, Mapping) else fps
    if isinstance(fps, Mapping) and rate is None:
        raise DatasetError(f"{video.name}: no frame rate for it; give one, or none at all")
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise DatasetError(f"{video.name}: {rate} is no frame rate; give frames per second, above 0")
    return _Judged(
        video=video,
        scored=~np.isnan(expanded),
        labels=video.frame_labels(found.frames) if video.timed else None,
        scores=expanded,
        fps=rate,
    )


def _figures(
    items: Sequence[_Judged], kinds: Mapping[str, str], thresholds: dict[str, float], resampling: Resampling
) -> SeriesFigures:
    timed = [item for item in items if item.labels is not None and item.scored.any()]
    pairs = [(item.labels[item.scored], item.scores[item.scored]) for item in timed if item.labels is not None]
    labels = np.concatenate([pair[0] for pair in pairs] or [np.zeros(0, dtype=np.bool_)])
    scores = np.concatenate([pair[1] for pair in pairs] or [np.zeros(0)])
    best = best_f1(labels, scores)
    points = dict(thresholds) if best is None else {**thresholds, BEST: best.threshold}
    peaks = [(item.video.anomalous, float(item.scores[item.scored].max())) for item in items if item.scored.any()]
    return SeriesFigures(
        auc=frame_auc(labels, scores),
        average_precision=average_precision(labels, scores),
        pr_auc_trapezoid=pr_auc_trapezoid(labels, scores),
        best_f1=best,
        f1={name: f1_at(labels, scores, threshold) for name, threshold in thresholds.items()},
        video_auc=frame_auc(np.array([label for label, _ in peaks], dtype=np.bool_), np.array([p for _, p in peaks])),
        intervals=bootstrap_intervals(pairs, **asdict(resampling)) if resampling.draws else {},
        events={name: _event_figures(timed, threshold) for name, threshold in points.items()},
        classes=_class_figures([kinds[item.video.name] for item in timed], timed, pairs),
        videos=tuple(_video_figures(item, kinds[item.video.name]) for item in items),
    )


def _events(item: _Judged) -> list[tuple[int, int]]:
    """The video's events of which at least one frame was scored: nobody can find the others."""
    return [(start, end) for start, end in item.video.events if item.scored[start:end].any()]


def _event_figures(items: Sequence[_Judged], threshold: float) -> EventFigures:
    at_iou = dict.fromkeys(IOUS, EventCounts(0, 0, 0))
    real_events, detected, alarms, delays, hours = 0, 0, 0, [], 0.0
    for item in items:
        # NaN > threshold is False: a gap is no alarm, and parts the alarms around it.
        alarm = item.scores > threshold
        real, predicted = _events(item), spans(alarm)
        for iou in IOUS:
            at_iou[iou] += match_events(real, predicted, iou)
        found = [delay for delay in detection_delays(real, alarm) if delay is not None]
        real_events += len(real)
        detected += len(found)
        alarms += false_alarms(real, predicted)
        if item.fps is not None:
            delays += [delay / item.fps for delay in found]
            hours += int(item.scored.sum()) / item.fps / 3600
    return EventFigures(
        threshold=threshold,
        events=real_events,
        detected=detected,
        delay_s=float(np.mean(delays)) if delays else None,
        false_alarms=alarms,
        false_alarms_per_hour=alarms / hours if hours else None,
        at_iou=at_iou,
    )


def _class_figures(
    kinds: Sequence[str], items: Sequence[_Judged], pairs: Sequence[tuple[BoolArray, Float64Array]]
) -> dict[str, ClassFigures]:
    anomalous = sorted({kind for kind, item in zip(kinds, items, strict=True) if item.video.anomalous})
    if not anomalous:
        return {}
    ranked = rank(pairs)
    figures = {}
    for wanted in anomalous:
        inside = [item.video.anomalous and kind == wanted for kind, item in zip(kinds, items, strict=True)]
        weight = np.array([a or not item.video.anomalous for a, item in zip(inside, items, strict=True)], dtype=float)
        found = weighted_figures(ranked, weight)
        figures[wanted] = ClassFigures(sum(inside), *(found if found is not None else (None, None, None, None)))
    return figures


def _video_figures(item: _Judged, kind: str) -> VideoFigures:
    scores = item.scores[item.scored]
    return VideoFigures(
        name=item.video.name,
        label=item.video.label,
        kind=kind,
        frames=len(item.scores),
        unscored_frames=int((~item.scored).sum()),
        abnormal_frames=None if item.labels is None else int(item.labels.sum()),
        auc=None if item.labels is None else frame_auc(item.labels[item.scored], scores),
        peak=float(scores.max()) if scores.size else None,
        mean=float(scores.mean()) if scores.size else None,
    )
