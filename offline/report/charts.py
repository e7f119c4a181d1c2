"""The report's figures: each function draws one and returns it as inline `<svg>`.

A new one is called from its section in `offline.report.sections`. No name given by a user is drawn here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from models.heads import HeadRef
from offline.arrays import BoolArray, Float64Array, Floating
from offline.hunting.against_random import Compared
from offline.hunting.depth import DepthPoint
from offline.hunting.permutation import Permuted
from offline.hunting.sampling import SamplingPoint
from offline.report.svg import Ink, inline_svg

# Pale to deep: readable on a light and on a dark page, and the warm marks of the experts stand out on all of it.
_HEAT = LinearSegmentedColormap.from_list("heat", ["#e8f1f5", "#8fc1d4", "#3a86a8", "#12507a", "#0a2a4a"])

# The most points of a curve that a figure of this width can show.
_CURVE_POINTS = 400


def head_map(name: str, says: str, values: Floating, experts: Sequence[HeadRef]) -> Markup:
    """Draw a heat map of one value per head, (L, H), with the experts framed and numbered by rank."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        picture = _heat(axes, values, experts, ranks=True)
        axes.set_xlabel("head")
        axes.set_ylabel("layer")
        bar = figure.colorbar(picture, ax=axes, fraction=0.05, pad=0.02)
        bar.outline.set_visible(False)

    return inline_svg(name, says, min(520, max(220, 130 + 11 * values.shape[0])), paint)


def metric_maps(name: str, says: str, maps: Sequence[tuple[str, Floating]], experts: Sequence[HeadRef]) -> Markup:
    """Draw one small heat map per metric, on one scale from 0 to 1; `maps` are (title, (L, H)) each."""

    def paint(figure: Figure) -> None:
        grid = figure.subplots(-(-len(maps) // 2), 2, sharex=True, sharey=True, squeeze=False)
        for axes in grid.flat[len(maps) :]:
            axes.set_visible(False)
        for axes, (title, values) in zip(grid.flat, maps, strict=False):
            _heat(axes, values, experts, ranks=False)
            axes.set_title(title)
        figure.supxlabel("head", fontsize=10.5, color=Ink.MUTED)
        figure.supylabel("layer", fontsize=10.5, color=Ink.MUTED)

    return inline_svg(name, says, min(520, max(260, 150 + 12 * maps[0][1].shape[0])), paint)


def stability(name: str, says: str, score: Floating, penalty: float, experts: Sequence[HeadRef]) -> Markup:
    """Draw mean against standard deviation over the prompts, each head a dot; `score` is (M, L, H)."""
    mean, spread = score.mean(axis=0), score.std(axis=0)

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        chosen = np.zeros(mean.shape, dtype=np.bool_)
        chosen[[e.layer for e in experts], [e.head for e in experts]] = True
        axes.scatter(
            mean[~chosen], spread[~chosen], s=13, color=Ink.SECOND, alpha=0.5, linewidths=0, label="other heads"
        )
        axes.scatter(mean[chosen], spread[chosen], s=44, color=Ink.WARM, linewidths=0, label="experts")
        for rank, expert in enumerate(experts, start=1):
            place = float(mean[expert.layer, expert.head]), float(spread[expert.layer, expert.head])
            axes.annotate(str(rank), place, xytext=(6, 3), textcoords="offset points")
        last = float((mean - penalty * spread)[chosen].min())
        top = max(1e-3, float(spread.max()) * 1.12)
        axes.plot(
            [last, last + penalty * top],
            [0, top],
            color=Ink.MUTED,
            linewidth=1,
            linestyle="--",
            label="RSS of the last expert",
        )
        axes.set_ylim(-0.04 * top, top)
        axes.set_xlabel("mean saliency over the prompts")
        axes.set_ylabel("standard deviation")
        _legend_above(axes, columns=3)

    return inline_svg(name, says, 300, paint)


def two_maps(name: str, says: str, maps: Sequence[tuple[str, Floating]], labels: BoolArray) -> Markup:
    """Draw samples in two dimensions, by class; `maps` are (title, (n, 2)) each, labels (n,)."""

    def paint(figure: Figure) -> None:
        for axes, (title, places) in zip(figure.subplots(1, len(maps), squeeze=False).flat, maps, strict=True):
            # Shape as well as colour: not everyone tells these colours apart.
            for mask, colour, marker, text in (
                (~labels, Ink.ACCENT, "o", "normal"),
                (labels, Ink.WARM, "^", "anomalous"),
            ):
                axes.scatter(
                    places[mask, 0],
                    places[mask, 1],
                    s=22,
                    color=colour,
                    marker=marker,
                    alpha=0.75,
                    linewidths=0,
                    label=text,
                )
            axes.set_title(title)
            axes.set_xticks([])
            axes.set_yticks([])
        handles, texts = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, texts, loc="outside lower center", ncols=2)

    return inline_svg(name, says, 240, paint)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreCurve:
    """Scores of one video over time, which is in seconds.

    Attributes:
        seconds: How long the video is.
        segments: Start and end of each segment.
        scores: One a segment, None in a gap.
        smoothed: The same, smoothed.
        threshold: Of the locator.
        events: Start and end of each real event.
        detected: Start and end of each detected event.
    """

    seconds: float
    segments: Sequence[tuple[float, float]]
    scores: Sequence[float | None]
    smoothed: Sequence[float | None]
    threshold: float
    events: Sequence[tuple[float, float]]
    detected: Sequence[tuple[float, float]]


def score_curve(name: str, says: str, curve: ScoreCurve) -> Markup:
    """Draw a video's scores over time: real events shaded, detected events as bars above."""

    def paint(figure: Figure) -> None:
        # Fixed margins: there may be hundreds of these, and finding the margins takes half of the drawing time.
        figure.set_layout_engine("none")
        axes = figure.subplots(gridspec_kw={"left": 0.07, "right": 0.985, "bottom": 0.26, "top": 0.97})
        for start, end in curve.events:
            axes.axvspan(start, end, ymax=1 / 1.16, facecolor=Ink.WARM, alpha=0.16, linewidth=0)
        if curve.detected:
            axes.broken_barh(
                [(start, end - start) for start, end in curve.detected],
                (1.06, 0.08),
                facecolor=Ink.DETECTED,
                linewidth=0,
            )
        edges = np.array(curve.segments, dtype=np.float64).reshape(-1, 2)
        raw, even = _with_gaps(curve.scores), _with_gaps(curve.smoothed)
        # A step is drawn from its segment's start to its end; between two segments that do not touch is nothing.
        axes.hlines(raw, edges[:, 0], edges[:, 1], color=Ink.SECOND, linewidth=1.3, alpha=0.9)
        marker = "o" if len(edges) <= 60 else ""
        axes.plot(edges.mean(axis=1), even, color=Ink.ACCENT, marker=marker, markersize=3)
        axes.axhline(curve.threshold, color=Ink.TEXT, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xlim(0, curve.seconds)
        axes.set_ylim(0, 1.16)
        axes.set_yticks([0, 0.5, 1])
        axes.set_xlabel("seconds")

    return inline_svg(name, says, 160, paint)


def operating_curves(
    name: str, says: str, curves: Sequence[tuple[str, BoolArray, Floating]], threshold: float
) -> Markup:
    """Draw ROC and precision-recall curve side by side; the dot is the first series at the threshold.

    Args:
        name: Unique on the page.
        says: What one sees.
        curves: (title, labels (n,), scores (n,)) each, both classes in each.
        threshold: Of the dot.
    """
    from sklearn.metrics import precision_recall_curve, roc_curve

    def paint(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        left.plot([0, 1], [0, 1], color=Ink.LINE, linewidth=1)
        for (title, labels, scores), colour, style in zip(
            curves, (Ink.ACCENT, Ink.SECOND), ("-", (0, (5, 2))), strict=False
        ):
            fall_out, recall, _ = roc_curve(labels, scores)
            left.plot(*_thinned(fall_out, recall), color=colour, linestyle=style, label=title)
            precision, recall, _ = precision_recall_curve(labels, scores)
            right.plot(*_thinned(recall, precision), color=colour, linestyle=style)
        _, labels, scores = curves[0]
        right.axhline(float(labels.mean()), color=Ink.LINE, linewidth=1)
        alarm = scores > threshold
        found = float((alarm & labels).sum() / labels.sum())
        left.plot([float((alarm & ~labels).sum() / (~labels).sum())], [found], "o", color=Ink.WARM)
        if alarm.any():
            right.plot([found], [float(labels[alarm].mean())], "o", color=Ink.WARM)
        left.set(title="ROC", xlabel="normal frames alarmed", ylabel="anomalous frames alarmed")
        right.set(title="Precision and recall", xlabel="recall", ylabel="precision")
        for axes in (left, right):
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        handles, texts = left.get_legend_handles_labels()
        figure.legend(handles, texts, loc="outside lower center", ncols=2)

    return inline_svg(name, says, 250, paint)


def depth_figure(name: str, says: str, curve: Sequence[DepthPoint], chosen: int) -> Markup:
    """Draw AUC and F1 against the deepest layer hunted, and below it the share of the decoder that then runs."""
    layers = [point.max_layer for point in curve]

    def paint(figure: Figure) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.4, 1))
        above.plot(
            layers, _with_gaps([p.auc for p in curve]), color=Ink.ACCENT, marker="o", markersize=3.5, label="AUC"
        )
        above.plot(
            layers, _with_gaps([p.f1 for p in curve]), color=Ink.SECOND, marker="s", markersize=3.5, label="best F1"
        )
        for axes in (above, below):
            axes.axvline(chosen, color=Ink.WARM, linewidth=1, linestyle="--", label="this bundle")
        _legend_above(above, columns=3)
        below.bar(layers, [100 * point.cost for point in curve], color=Ink.MUTED, alpha=0.45, width=0.7)
        below.set_ylabel("layers run, %")
        below.set_xlabel("deepest layer that was hunted")
        below.xaxis.set_major_locator(MaxNLocator(integer=True))

    return inline_svg(name, says, 330, paint)


def sampling_figure(name: str, says: str, points: Sequence[SamplingPoint], chosen: int) -> Markup:
    """Draw AUC and F1 against how many frames of a segment are seen."""
    counts = [point.sampled for point in points]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        for values, color, marker, label in (
            ([p.auc for p in points], Ink.ACCENT, "o", "AUC"),
            ([p.f1 for p in points], Ink.SECOND, "s", "best F1"),
        ):
            axes.plot(counts, _with_gaps(values), color=color, marker=marker, markersize=4, label=label)
        axes.axvline(chosen, color=Ink.WARM, linewidth=1, linestyle="--", label="this bundle")
        _legend_above(axes, columns=3)
        axes.set_xscale("log", base=2)
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
        axes.set_xlabel("frames of a segment that the model sees")

    return inline_svg(name, says, 260, paint)


def calibration_figure(name: str, says: str, points: Sequence[tuple[float, int, float | None]]) -> Markup:
    """Draw AUC against the fraction of the calibration data; `points` are (fraction, samples, AUC) each."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        fractions = [100 * fraction for fraction, _, _ in points]
        axes.plot(fractions, _with_gaps([auc for _, _, auc in points]), color=Ink.ACCENT, marker="o", markersize=4)
        for fraction, (_, samples, auc) in zip(fractions, points, strict=True):
            if auc is not None:
                axes.annotate(
                    f"n = {samples}", (fraction, auc), xytext=(0, 7), textcoords="offset points", ha="center"
                )
        axes.margins(x=0.12, y=0.22)
        if max(fractions) > 10 * min(fractions):
            axes.set_xscale("log")
        axes.set_xticks(fractions, [f"{fraction:g}" for fraction in fractions])
        axes.minorticks_off()
        axes.set_xlabel("share of the calibration data, %")
        axes.set_ylabel("AUC")

    return inline_svg(name, says, 260, paint)


def permuted_figure(name: str, says: str, permuted: Permuted) -> Markup:
    """Draw the best heads' AUC under permuted labels as a histogram, and the true labels' as a line."""

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.hist(permuted.permuted, bins=20, color=Ink.SECOND, alpha=0.7, label="permuted labels")
        axes.axvline(permuted.auc, color=Ink.WARM, label="true labels")
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.set_xlabel("AUC of the best head")
        axes.set_ylabel("labellings")
        _legend_above(axes, columns=2)

    return inline_svg(name, says, 220, paint)


def random_figure(name: str, says: str, compared: Compared) -> Markup:
    """Draw the AUC of random heads as a strip of dots, and that of the hunted ones as a line."""
    # Up and down in turn, so that dots on one place can be counted. Not at random: the same input, the same bytes.
    heights = [(0.0, 0.5, -0.5, 0.25, -0.25)[rank % 5] for rank in range(len(compared.random))]

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.scatter(
            sorted(compared.random), heights, s=26, color=Ink.SECOND, alpha=0.7, linewidths=0, label="random heads"
        )
        axes.axvline(compared.mean, color=Ink.MUTED, linewidth=1, linestyle="--", label="their mean")
        axes.axvline(compared.hunted, color=Ink.WARM, label="hunted heads")
        axes.set_ylim(-1, 1)
        axes.set_yticks([])
        axes.set_xlabel("AUC")
        _legend_above(axes, columns=3)

    return inline_svg(name, says, 150, paint)


def _heat(axes: Axes, values: Floating, experts: Sequence[HeadRef], *, ranks: bool) -> AxesImage:
    layers, heads = values.shape
    # "none" keeps one pixel a head; the browser enlarges it with sharp edges.
    picture = axes.imshow(values, cmap=_HEAT, aspect="auto", origin="lower", interpolation="none")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axes.set_xlim(-0.5, heads - 0.5)
    axes.set_ylim(-0.5, layers - 0.5)
    for rank, expert in enumerate(experts, start=1):
        axes.plot(
            [expert.head], [expert.layer], "s" if ranks else "o", markersize=13 if ranks else 5, clip_on=False,
            markerfacecolor=Ink.WARM, markeredgecolor=Ink.CARD, markeredgewidth=1,
        )  # fmt: skip
        if ranks:
            axes.text(
                expert.head, expert.layer, str(rank), ha="center", va="center_baseline", fontsize=9.5, color=Ink.CARD
            )
    return picture


def _legend_above(axes: Axes, columns: int) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns, columnspacing=1.2, handlelength=1.6)


def _with_gaps(values: Sequence[float | None]) -> Float64Array:
    """None becomes NaN, at which a line is interrupted."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _thinned(x: Floating, y: Floating) -> tuple[Floating, Floating]:
    """The curve at as many points as can be seen, its ends among them."""
    if len(x) <= _CURVE_POINTS:
        return x, y
    keep = np.unique(np.linspace(0, len(x) - 1, _CURVE_POINTS).astype(np.intp))
    return x[keep], y[keep]
