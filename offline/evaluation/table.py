"""An evaluation as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from offline.evaluation.bootstrap import Interval
from offline.evaluation.figures import Evaluation, EventFigures, SeriesFigures
from offline.evaluation.metrics import F1Point
from offline.evaluation.verdict import TOKENS_ALONE
from offline.evaluation.yardsticks import Yardstick

UNDEFINED = "undefined"

_FRAME_ROWS = (
    ("AUC (ROC, all frames)", "auc"),
    ("AP (step-wise)", "average_precision"),
    ("AP (trapezoid under the PR curve)", "pr_auc_trapezoid"),
)


def evaluation_text(evaluation: Evaluation, *, each_video: bool = False) -> str:
    """Lay an evaluation out as a table for the terminal, without a newline at the end.

    Args:
        evaluation: What was judged.
        each_video: Whether every video gets a line.
    """
    blocks = [_summary(evaluation), _frames(evaluation), _beside(evaluation)]
    first = next(iter(evaluation.series.values()))
    for point in first.events:
        blocks.append(_events(point, {name: series.events[point] for name, series in _with(evaluation, point)}))
    blocks.append(_classes(evaluation))
    if each_video:
        blocks.append(_videos(evaluation))
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _with(evaluation: Evaluation, point: str) -> list[tuple[str, SeriesFigures]]:
    return [(name, series) for name, series in evaluation.series.items() if point in series.events]


def _summary(evaluation: Evaluation) -> list[str]:
    normal = evaluation.videos - evaluation.anomalous
    lines = [
        f"{evaluation.videos} videos ({evaluation.anomalous} anomalous, {normal} normal), "
        f"{evaluation.frames:,} frames, {evaluation.abnormal_frames:,} abnormal"
    ]
    if evaluation.untimed:
        lines.append(
            f"left out of frame and event figures, timing unknown: {len(evaluation.untimed)} videos: "
            + _some(evaluation.untimed)
        )
    if evaluation.unscored:
        names = [f"{name} ({count})" for name, count in evaluation.unscored.items()]
        lines.append(
            f"left out of every figure, not scored: {sum(evaluation.unscored.values()):,} frames in "
            f"{len(names)} videos: {_some(names)}; {evaluation.unscored_events} events lie in them entirely"
        )
    return lines


def _frames(evaluation: Evaluation) -> list[str]:
    rows = [["frames", *evaluation.series]]
    for title, key in _FRAME_ROWS:
        rows.append(
            [title, *(_with_interval(getattr(s, key), s.intervals.get(key)) for s in evaluation.series.values())]
        )
    rows.append(["best F1", *(_best(series) for series in evaluation.series.values())])
    first = next(iter(evaluation.series.values()))
    for name in first.f1:
        rows.append([f"F1 at {name}", *(_point(series.f1[name]) for series in evaluation.series.values())])
    rows.append(["AUC of videos (peak score)", *(_number(s.video_auc) for s in evaluation.series.values())])
    return aligned(rows)


def _beside(evaluation: Evaluation) -> list[str]:
    """Baselines under every series, then the ceilings, then what is not there."""
    beside = evaluation.beside
    if beside is None:
        return []
    lines: list[str] = []
    for series in evaluation.series:
        rows = [[f"beside {series}, all frames", "AUC", "system minus it", "AP (step-wise)"]]
        rows += [[name, *_compared(of[series])] for name, of in beside.baselines.items() if series in of]
        # A ceiling depends on the segments alone: it is the same for every series, and told once.
        if series == list(evaluation.series)[-1]:
            rows += [[name, *_compared(of)] for name, of in beside.ceilings.items()]
        if len(rows) > 1:
            lines += ([""] if lines else []) + aligned(rows)
    lines += [f"{name}: {meaning}" for name, meaning in beside.meanings.items()]
    lines += [f"{name}: {how}" for name, how in TOKENS_ALONE.items() if name in beside.baselines]
    lines += beside.remarks
    return lines if beside.verdict is None else [*lines, *([""] if lines else []), beside.verdict]


def _compared(of: Yardstick) -> list[str]:
    minus, interval = of.minus.get("auc"), of.minus_intervals.get("auc")
    signed = "" if interval is None else f" [{_signed(interval.low)}, {_signed(interval.high)}]"
    return [
        _with_interval(of.auc, of.intervals.get("auc")),
        "" if minus is None else _signed(minus) + signed,
        _with_interval(of.average_precision, of.intervals.get("average_precision")),
    ]


def _events(point: str, figures: Mapping[str, EventFigures]) -> list[str]:
    rows = [[f"events at {point}", *(f"{name} > {value.threshold:.4g}" for name, value in figures.items())]]
    for iou in next(iter(figures.values())).at_iou:
        counts = [value.at_iou[iou] for value in figures.values()]
        rows.append(
            [
                f"precision / recall / F1 at IoU {iou}",
                *(f"{_number(c.precision, 2)} / {_number(c.recall, 2)} / {_number(c.f1, 2)}" for c in counts),
            ]
        )
    rows.append(["detected", *(f"{value.detected} of {value.events}" for value in figures.values())])
    rows.append(["mean detection delay, s", *(_number(value.delay_s, 2) for value in figures.values())])
    rows.append(["false alarms per hour", *(_number(value.false_alarms_per_hour, 2) for value in figures.values())])
    return aligned(rows)


def _classes(evaluation: Evaluation) -> list[str]:
    first = next(iter(evaluation.series.values()))
    if not first.classes:
        return []
    rows = [["class, against all normal videos", "videos"]]
    for name in evaluation.series:
        rows[0] += [f"AUC {name}", f"AP {name}"]
    for kind, figures in first.classes.items():
        row = [kind, str(figures.videos)]
        for series in evaluation.series.values():
            row += [_number(series.classes[kind].auc), _number(series.classes[kind].average_precision)]
        rows.append(row)
    return aligned(rows)


def _videos(evaluation: Evaluation) -> list[str]:
    names = list(evaluation.series)
    rows = [["video", "label", "frames", "abnormal"]]
    for name in names:
        rows[0] += [f"AUC {name}", f"peak {name}"]
    for each in zip(*(evaluation.series[name].videos for name in names), strict=True):
        abnormal = "unknown" if each[0].abnormal_frames is None else str(each[0].abnormal_frames)
        row = [each[0].name, each[0].label, str(each[0].frames), abnormal]
        for video in each:
            row += [_number(video.auc), _number(video.peak)]
        rows.append(row)
    return aligned(rows)


def _best(series: SeriesFigures) -> str:
    best = series.best_f1
    if best is None:
        return UNDEFINED
    return f"{_with_interval(best.f1, series.intervals.get('best_f1'))} at > {best.threshold:.4g}"


def _point(point: F1Point | None) -> str:
    return UNDEFINED if point is None else f"{point.f1:.4f} at > {point.threshold:.4g}"


def _with_interval(value: float | None, interval: Interval | None) -> str:
    return _number(value) + (f" [{interval.low:.4f}, {interval.high:.4f}]" if interval is not None else "")


def _number(value: float | None, digits: int = 4) -> str:
    return UNDEFINED if value is None else f"{value:.{digits}f}"


def _signed(value: float) -> str:
    # Rounded first: a difference of rounding errors is no -0.0000.
    return f"{round(value, 4) + 0.0:+.4f}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align rows in columns, names to the left and figures to the right; the first row is the header."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for index, row in enumerate(rows):
        cells = [
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
        if index == 0:
            lines.append("-" * (sum(widths) + 2 * (len(widths) - 1)))
    return lines
