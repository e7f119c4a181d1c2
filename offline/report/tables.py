"""The evaluation's figures as the report's tables, and its frames as curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from offline.arrays import BoolArray, Float64Array
from offline.data.dataset import SPLITS, Split
from offline.evaluation.figures import Evaluation
from offline.evaluation.metrics import frame_auc
from offline.report.content import Cell, ReportVideo, Table

TitledTable = tuple[str, Table, str]

_FIGURES = (
    ("auc", "frame AUC"),
    ("average_precision", "average precision (step-wise)"),
    ("pr_auc_trapezoid", "area under precision-recall (trapezoid)"),
    ("best_f1", "best F1"),
    ("video_auc", "video AUC"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Pooled:
    """The scored frames of all videos with known timing.

    Attributes:
        series: (title, labels (n,), scores (n,)) each, smoothed first.
        videos: How many there are with a scored frame.
        frames: n.
        auc_smoothed: Frame AUC of the smoothed scores.
        auc_raw: Frame AUC of the raw scores.
    """

    series: tuple[tuple[str, BoolArray, Float64Array], ...]
    videos: int
    frames: int
    auc_smoothed: float | None
    auc_raw: float | None


def pool_frames(videos: Sequence[ReportVideo]) -> Pooled | None:
    """Pool the frames of all videos; None where they are of one class, or there are none."""
    labels, raw, smoothed, count = [], [], [], 0
    for video in videos:
        if not video.timed:
            continue
        truth = np.zeros(video.frames, dtype=np.bool_)
        for start, end in video.events:
            truth[start:end] = True
        both = [_by_frame(video, scores) for scores in (video.scores, video.smoothed)]
        scored = np.isfinite(both[0]) & np.isfinite(both[1])
        count += bool(scored.any())
        labels.append(truth[scored])
        raw.append(both[0][scored])
        smoothed.append(both[1][scored])
    if not labels:
        return None
    label, first, second = np.concatenate(labels), np.concatenate(smoothed), np.concatenate(raw)
    auc = frame_auc(label, first)
    if auc is None:
        return None
    return Pooled(
        (("smoothed", label, first), ("raw", label, second)), count, len(label), auc, frame_auc(label, second)
    )


def evaluation_tables(
    evaluation: Evaluation | Mapping[str, Any],
) -> tuple[str, list[TitledTable], tuple[str, ...]]:
    """Lay out an evaluation, or its `to_dict()` form.

    Returns:
        A lead, tables with their titles and captions, and remarks.
    """
    content = as_dict(evaluation)
    series: Mapping[str, Any] = content["series"]
    lead = (
        f"{content['videos']} videos, {content['anomalous']} of them anomalous; {content['frames']} frames, "
        f"{content['abnormal_frames']} of them inside an event."
    )
    tables = [_figures(series)]
    events = _events(series)
    if events.rows:
        tables.append(
            (
                "Events",
                events,
                "An event counts as found at an IoU if a detection overlaps it at least so much. "
                "The delay is the mean time from an event's start to its first alarmed frame.",
            )
        )
    classes = _classes(series)
    if len(classes.rows) > 1:
        tables.append(("By kind of anomaly", classes, "Each kind against all normal videos."))
    return lead, tables, _remarks(content)


def as_dict(evaluation: Evaluation | Mapping[str, Any]) -> Mapping[str, Any]:
    """Bring an evaluation into its `to_dict()` form, which it may be in already."""
    return evaluation.to_dict() if isinstance(evaluation, Evaluation) else evaluation


def yardstick_table(evaluations: Mapping[Split, Evaluation | Mapping[str, Any]]) -> Table | None:
    """Set the bundle's frame AUC beside the trivial baselines' and the ceilings'.

    A column a split, the test split first. Baselines that were smoothed as the bundle was have a row of each kind.

    Returns:
        None where there is nothing to compare with.
    """
    splits = [split for split in reversed(SPLITS) if split in evaluations]
    rows: dict[str, list[Cell]] = {}
    for column, split in enumerate(splits):
        content = as_dict(evaluations[split])
        # None, or not there in files of earlier versions, where nothing was measured beside.
        baselines = {
            name if len(of) == 1 else f"{name}, {series}": figures
            for name, of in (content.get("baselines") or {}).items()
            for series, figures in reversed(of.items())
        }
        ceilings = {f"ceiling, {name}": of for name, of in (content.get("ceilings") or {}).items()}
        own = {f"this bundle, {name}": of for name, of in reversed(content["series"].items())}
        if not (baselines or ceilings):
            continue
        for name, figures in (own | baselines | ceilings).items():
            cells = rows.setdefault(name, [""] * (2 * len(splits)))
            cells[2 * column : 2 * column + 2] = [figures["auc"], _interval(figures["intervals"].get("auc"))]
    if not rows:
        return None
    columns = [text for split in splits for text in (split, "95 % interval")]
    return Table(("frame AUC of", *columns), tuple((name, *cells) for name, cells in rows.items()))


def _by_frame(video: ReportVideo, scores: Sequence[float | None]) -> Float64Array:
    """One score per frame, (frames,); NaN where nothing was scored."""
    values = np.full(video.frames, np.nan)
    for (start, end), score in zip(video.segments, scores, strict=True):
        if score is not None:
            values[start:end] = score
    return values


def _figures(series: Mapping[str, Any]) -> TitledTable:
    rows: list[tuple[Cell, ...]] = []
    for key, title in _FIGURES:
        cells: list[Cell] = [title]
        for figures in series.values():
            value = figures[key]
            if key == "best_f1" and value is not None:
                value = value["f1"]
            cells += [value, _interval(figures["intervals"].get(key))]
        rows.append(tuple(cells))
    for point in dict.fromkeys(name for figures in series.values() for name in figures["f1"]):
        cells = [f"F1, {point}"]
        for figures in series.values():
            at = figures["f1"].get(point)
            cells += [None if at is None else at["f1"], ""]
        rows.append(tuple(cells))
    columns = ["figure"]
    for name in series:
        columns += [name, "95 % interval"]
    # What is undefined everywhere is undefined for one reason, which the caption gives.
    return (
        "Frame-level figures",
        Table(tuple(columns), tuple(rows)),
        "Intervals by bootstrap over videos: with other videos of the same kind, the figure would mostly lie there. "
        "A figure is not defined where all frames (or videos) are of one class.",
    )


def _interval(interval: Mapping[str, Any] | None) -> str:
    return "" if interval is None else f"{interval['low']:.3f} … {interval['high']:.3f}"


def _events(series: Mapping[str, Any]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    ious: tuple[str, ...] = ()
    for name, figures in series.items():
        for point, at in figures["events"].items():
            ious = tuple(at["at_iou"])
            f1s = [at["at_iou"][iou]["f1"] for iou in ious]
            rows.append(
                (
                    f"{name}, {point}", at["threshold"], f"{at['detected']} of {at['events']}", at["delay_s"],
                    at["false_alarms"], at["false_alarms_per_hour"], *f1s,
                )
            )  # fmt: skip
    fixed = ("series, operating point", "threshold", "detected", "delay, s", "false alarms", "per hour")
    return Table((*fixed, *(f"F1 at IoU {iou}" for iou in ious)), tuple(rows))


def _classes(series: Mapping[str, Any]) -> Table:
    # The smoothed series is what an operator gets; raw where there is no other.
    figures = series.get("smoothed", next(iter(series.values())))
    rows = tuple(
        (name, of["videos"], of["auc"], of["average_precision"], of["best_f1"])
        for name, of in figures["classes"].items()
    )
    return Table(("kind", "videos", "frame AUC", "average precision", "best F1"), rows)


def _remarks(content: Mapping[str, Any]) -> tuple[str, ...]:
    remarks = []
    if content["untimed"]:
        remarks.append(
            f"{len(content['untimed'])} anomalous videos have unknown event times; only the video AUC has them."
        )
    if content["unscored"]:
        remarks.append(f"{sum(content['unscored'].values())} frames lie in gaps and are in no figure.")
    if content["unscored_events"]:
        remarks.append(f"{content['unscored_events']} events lie in gaps entirely.")
    # Of evaluations that were compared with something: why some of it is not there.
    remarks += [f"{remark[:1].upper()}{remark[1:]}." for remark in content.get("remarks", ())]
    return tuple(remarks)
