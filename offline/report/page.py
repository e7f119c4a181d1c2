"""From what was found to what the page says: the sentences, tables and figures of each section.

Knows the report's content and how to word it; nothing of HTML, which is the template's. A section whose data is
missing does not exist; a figure that is undefined says so, with the reason.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from edge_runtime.stream.locator import LocatorSpec
from offline.hunting.saliency import normalise
from offline.report import charts as figures
from offline.report.content import Cell, Report, ReportVideo, Table
from offline.report.evaluation import as_dict, curves, evaluation_tables, yardstick_table
from offline.report.tsne import MAX_SAMPLES, MIN_SAMPLES, place

#: So many score curves of a split are open; the others are one click away.
OPEN_VIDEOS = 8
#: More score curves than this make the file too large to be sent around.
MAX_VIDEOS = 400

_METRICS = {"lda": "LDA", "kl": "KL", "mmd": "MMD", "nmi": "NMI"}
# What was not used to choose anything comes first.
_ORDER: dict[str, int] = {"test": 0, "validation": 1, "calibration": 2}
_ONE_CLASS = "all scored frames are of one class"


@dataclass(frozen=True, slots=True)
class Tile:
    """A headline figure: what, how much, and what to know about it."""

    name: str
    value: str
    note: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure with what one sees in it and what would be good."""

    title: str
    svg: Markup
    caption: str


@dataclass(frozen=True, slots=True)
class Titled:
    """A table with its heading and its explanation."""

    title: str
    table: Table
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page. `remarks` are sentences on what is not there, and why; `points` a list of sentences."""

    anchor: str
    title: str
    lead: str
    figures: tuple[Drawn, ...] = ()
    tables: tuple[Titled, ...] = ()
    remarks: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    points: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Card:
    """One video: its score curve, its peaks, and how it came out (`good`: as it should)."""

    name: str
    outcome: str
    good: bool | None
    facts: str
    svg: Markup
    thumbnails: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Fold:
    """Videos that one click shows."""

    title: str
    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """The videos of one split."""

    title: str
    tally: str
    open: tuple[Card, ...]
    folds: tuple[Fold, ...]


def page(report: Report) -> dict[str, Any]:
    """What the template needs."""
    return {
        "title": report.title,
        "summary": _summary(report),
        "notes": report.notes,
        "tiles": _tiles(report),
        "sections": [section for make in _SECTIONS for section in make(report)],
    }


def not_none(value: Cell) -> str:
    """A cell as text: floats with three digits, None as "not defined"."""
    if value is None:
        return "not defined"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    if not math.isfinite(value):
        raise ValueError(f"{value} is no figure to report; what is not defined is None")
    if value != 0 and abs(value) < 0.001:
        return f"{value:.1e}"
    return f"{value:.3f}" if abs(value) < 1000 else not_none(round(value))


def _summary(report: Report) -> str:
    manifest, hunt = report.manifest, report.hunt
    if hunt is None:
        return (
            f"{len(manifest.experts)} expert heads of {manifest.source_model.name} are read to tell normal from "
            "anomalous footage. The model is frozen and writes no text; at the edge, the layers above the deepest "
            "expert do not run."
        )
    return (
        f"{len(hunt.experts)} expert heads, found among the {hunt.layers * hunt.heads} heads of {hunt.layers} layers "
        f"of {manifest.source_model.name}, are read to tell normal from anomalous footage. The model is frozen and "
        "writes no text; at the edge, the layers above the deepest expert do not run."
    )


def _tiles(report: Report) -> list[Tile]:
    manifest, point = report.manifest, report.operating_point
    segment = manifest.segment
    depth = max(expert.layer for expert in manifest.experts) + 1
    waits = f"After each segment of {segment.duration_s:.1f} s"
    if report.locator == "full":
        waits += f"; in low-latency mode {manifest.locators.low_latency.lookahead * segment.duration_s:.1f} s"
    return [
        *_headline(report),
        Tile("Decision delay", f"{point.lookahead * segment.duration_s:.1f} s", waits),
        Tile("Depth", f"{depth} of {manifest.geometry.layers}", "Decoder layers that run"),
    ]


def _headline(report: Report) -> Iterator[Tile]:
    """The figures on the videos that nothing was chosen on, where there are some; else those of the validation."""
    if "test" in report.evaluations:
        content = as_dict(report.evaluations["test"])
        series = content["series"].get("smoothed", next(iter(content["series"].values())))
        point = series["f1"].get("calibrated")
        interval = series["intervals"].get("auc")
        values = (series["auc"], series["average_precision"], None if point is None else point["f1"])
        split, videos, frames = "Test", content["videos"], content["frames"]
        spread = "" if interval is None else f", 95 % between {interval['low']:.3f} and {interval['high']:.3f}"
        why = f"On the test split, {_ONE_CLASS}"
    else:
        validation = report.manifest.validation
        values = (validation.auc, validation.ap, validation.f1)
        split, videos, frames, spread = "Validation", validation.videos, validation.frames, ""
        why = f"On the validation split, {_ONE_CLASS}"
        if validation.videos == 0:
            why = "There is no validation split with known event times"
    notes = (
        f"{split}; 0.5 is chance, 1 is perfect{spread}",
        f"{split}, over frames",
        f"{split}, at the calibrated threshold",
    )
    for name, value, note in zip(("Frame AUC", "Average precision", "F1"), values, notes, strict=True):
        yield Tile(name, not_none(value), why if value is None else note)
    yield Tile(split, f"{not_none(videos)} / {not_none(frames)}", "Videos / frames judged")


def _experts(report: Report) -> Iterator[Section]:
    hunt = report.hunt
    if hunt is None:
        yield _kept_experts(report)
        return
    metrics = {name: normalise(metric).mean(axis=0) for name, metric in hunt.saliency.items()}
    mean, spread = hunt.score.mean(axis=0), hunt.score.std(axis=0)
    rows = tuple(
        (
            rank, e.layer, e.head, e.rss, float(mean[e.layer, e.head]), float(spread[e.layer, e.head]),
            *(float(metric[e.layer, e.head]) for metric in metrics.values()),
        )
        for rank, e in enumerate(hunt.experts, start=1)
    )  # fmt: skip
    columns = ("rank", "layer", "head", "RSS", "mean", "deviation", *(_METRICS[name] for name in metrics))
    drawn = [
        Drawn(
            "Robust saliency of every head",
            figures.head_map("rss", "Heat map of the robust saliency score", hunt.rss, hunt.experts),
            "One cell per head, layer 0 at the bottom: the deeper the colour, the better and the "
            "more steadily the head "
            "separates the classes. The numbered squares are the experts, by rank. A few deep cells on a pale ground "
            "are what the method hopes for.",
        ),
        Drawn(
            "The four metrics",
            figures.metric_maps(
                "metrics",
                "Four heat maps, one for each saliency metric",
                [(_METRICS[name], metric) for name, metric in metrics.items()],
                hunt.experts,
            ),
            "Each metric scaled to 0…1 over all heads of a prompt, then averaged over the prompts; the dots are the "
            "experts. Good experts are deep in all four, so that no single metric decides.",
        ),
    ]
    remarks = []
    if len(hunt.prompts) > 1:
        drawn.append(
            Drawn(
                f"Stability over {len(hunt.prompts)} prompts",
                figures.stability(
                    "stability", "Mean saliency against its deviation", hunt.score, hunt.penalty, hunt.experts
                ),
                "Each dot is a head: to the right it separates better, further down it depends less "
                "on how the question is "
                f"worded. Everything right of the dashed line (mean minus {hunt.penalty:g} deviations) is an expert; "
                "good experts lie far to the right and low.",
            )
        )
    else:
        remarks.append("Stability over prompts is not shown: there is one prompt.")
    yield Section(
        "experts",
        "The expert heads",
        f"RSS is the mean saliency over the prompts minus {hunt.penalty:g} standard deviations. The bundle asks with "
        f"the prompt “{report.manifest.prompt.name}”: {report.manifest.prompt.text}",
        tuple(drawn),
        (Titled("Experts by rank", Table(columns, rows)),),
        tuple(remarks),
    )


def _kept_experts(report: Report) -> Section:
    """The experts of a recalibrated bundle: the maps they were chosen from stayed with the first bundle."""
    rows = tuple((rank, e.layer, e.head, e.rss) for rank, e in enumerate(report.manifest.experts, start=1))
    return Section(
        "experts",
        "The expert heads",
        f"As hunted when the bundle was first built. The bundle asks with the prompt "
        f"“{report.manifest.prompt.name}”: {report.manifest.prompt.text}",
        tables=(Titled("Experts by rank", Table(("rank", "layer", "head", "RSS"), rows)),),
    )


def _separation(report: Report) -> Iterator[Section]:
    embedding = report.embedding
    if embedding is None:
        return
    title, lead = "What the experts see", "Samples that lie close to each other look alike to the heads."
    if len(embedding.videos) < MIN_SAMPLES:
        remark = f"{len(embedding.videos)} samples are too few to be drawn; {MIN_SAMPLES} are needed."
        yield Section("separation", title, lead, remarks=(remark,))
        return
    kept = np.unique(
        np.linspace(0, len(embedding.videos) - 1, min(len(embedding.videos), MAX_SAMPLES)).astype(np.intp)
    )
    maps = [
        (name, place(features[kept]))
        for name, features in (("expert heads", embedding.expert), ("last layer, all heads", embedding.last_layer))
    ]
    shown = f"{len(kept)} of {len(embedding.videos)}" if len(kept) < len(embedding.videos) else f"{len(kept)}"
    yield Section(
        "separation",
        title,
        lead,
        (
            Drawn(
                "t-SNE of the features",
                figures.two_maps("tsne", "Samples by class in two dimensions", maps, embedding.labels[kept]),
                f"{shown} samples of {len(set(embedding.videos))} videos, on the left by the experts' "
                "features, on the right "
                "by those of all heads of the last layer. Good is where the classes part, and part "
                "better on the left. "
                "Only neighbourhood counts in such a map: distances between far groups and axes mean nothing.",
            ),
        ),
    )


def _curves(report: Report) -> Iterator[Section]:
    threshold = report.operating_point.threshold
    drawn, remarks = [], []
    for split in ("test", "validation"):
        videos = [video for video in report.videos if video.split == split]
        if not videos:
            continue
        pooled = curves(videos)
        if pooled is None:
            remarks.append(f"ROC and precision-recall of the {split} split are not defined: {_ONE_CLASS}.")
            continue
        drawn.append(
            Drawn(
                f"{split.capitalize()}: every operating point",
                figures.operating_curves(
                    f"curves-{split}", "ROC curve and precision-recall curve", pooled.series, threshold
                ),
                f"{not_none(pooled.frames)} frames of {pooled.videos} videos. AUC "
                f"{not_none(pooled.auc_smoothed)} smoothed, "
                f"{not_none(pooled.auc_raw)} raw. Good curves pass close to the upper left (ROC) and the upper right "
                "(precision-recall) corner; the grey lines are chance, the dots are the calibrated threshold.",
            )
        )
    if drawn or remarks:
        yield Section(
            "curves",
            "How well frames are told apart",
            "Frames of all videos with known event times; gaps are left out.",
            tuple(drawn),
            remarks=tuple(remarks),
        )


def _evaluation(report: Report) -> Iterator[Section]:
    if not report.evaluations:
        return
    leads, tables, remarks = [], [], []
    if (table := yardstick_table(report.evaluations)) is not None:
        tables.append(
            Titled(
                "Between what is too simple and what is possible",
                table,
                "The trivial baselines know nothing of what they see: what they reach is no merit of a model. A "
                "ceiling knows the truth about every segment: what it misses is lost by cutting into segments.",
            )
        )
    for split in sorted(report.evaluations, key=_ORDER.__getitem__):
        lead, of_split, left_out = evaluation_tables(report.evaluations[split])
        leads.append(f"{split.capitalize()}: {lead}")
        tables += [Titled(f"{split.capitalize()}: {title}", table, caption) for title, table, caption in of_split]
        remarks += [f"{split.capitalize()}: {remark}" for remark in left_out]
    yield Section("evaluation", "Evaluation", " ".join(leads), tables=tuple(tables), remarks=tuple(remarks))


def drawn_order(videos: Sequence[ReportVideo]) -> list[ReportVideo]:
    """Test before validation, anomalous before normal. Of very many, only the first `MAX_VIDEOS` are drawn."""
    return sorted(videos, key=lambda video: (_ORDER[video.split], video.label == "normal"))


def _videos(report: Report) -> Iterator[Section]:
    if not report.videos:
        return
    videos = drawn_order(report.videos)
    shown, groups = videos[:MAX_VIDEOS], []
    numbered = {(video.split, video.name): number for number, video in enumerate(shown)}
    for split in _ORDER:
        of_split = [video for video in shown if video.split == split]
        if not of_split:
            continue
        first = _first(of_split)

        def cards(some: Sequence[ReportVideo]) -> tuple[Card, ...]:
            point = report.operating_point
            return tuple(_card(one, f"video-{numbered[one.split, one.name]}", point) for one in some)

        rest = [video for video in of_split if video not in first]
        folds = [
            Fold(f"{len(folded)} more {label} video{'s' if len(folded) > 1 else ''}", cards(folded))
            for label in ("anomalous", "normal")
            if (folded := [video for video in rest if video.label == label])
        ]
        title = f"{split.capitalize()}: {len(of_split)} video{'s' if len(of_split) > 1 else ''}"
        groups.append(Group(title, _tally(of_split), cards(first), tuple(folds)))
    left_out = len(videos) - len(shown)
    yield Section(
        "videos",
        "Video by video",
        "Good is a curve that rises over the dashed threshold in the shaded stretches and nowhere else. "
        "The pictures are taken where the score is highest.",
        remarks=(f"{left_out} further videos are not drawn, to keep this file small.",) if left_out else (),
        groups=tuple(groups),
    )


def _first(videos: Sequence[ReportVideo]) -> list[ReportVideo]:
    """Those that are open from the start: mostly anomalous ones, and some normal ones beside them."""
    anomalous = [video for video in videos if video.label == "anomalous"]
    normal = [video for video in videos if video.label == "normal"]
    quiet = min(len(normal), max(OPEN_VIDEOS // 4, OPEN_VIDEOS - len(anomalous)))
    return [*anomalous[: OPEN_VIDEOS - quiet], *normal[:quiet]]


def _tally(videos: Sequence[ReportVideo]) -> str:
    """How a split came out, in a sentence."""
    timed = [video for video in videos if video.timed]
    events = sum(len(video.events) for video in timed)
    counts = [_found_and_false(video) for video in timed]
    found, false = sum(found for found, _ in counts), sum(false for _, false in counts)
    normal = [video for video in videos if video.label == "normal"]
    quiet = sum(not video.detected for video in normal)
    parts = [f"{found} of {events} events found"] if events else []
    parts += [f"{false} false alarm{'' if false == 1 else 's'}"] if timed else []
    parts += [f"{quiet} of {len(normal)} normal videos quiet"] if normal else []
    return ", ".join(parts) + "." if parts else ""


def _card(video: ReportVideo, name: str, locator: LocatorSpec) -> Card:
    def seconds(spans: tuple[tuple[int, int], ...]) -> list[tuple[float, float]]:
        return [(start / video.fps, end / video.fps) for start, end in spans]

    outcome, good = _outcome(video)
    gaps = sum(score is None for score in video.scores)
    facts = [f"{video.frames / video.fps:.1f} s", f"{not_none(video.frames)} frames"]
    if video.peak is not None:
        facts.append(f"peak {video.peak:.2f}")
    if video.detected:
        alarmed = sum(end - start for start, end in video.detected) / video.frames
        facts.append(f"alarm during {100 * alarmed:.0f} %")
    if gaps:
        facts.append(f"{gaps} segment{'s' if gaps > 1 else ''} not scored")
    return Card(
        name=video.name,
        outcome=outcome,
        good=good,
        facts=", ".join(facts),
        svg=figures.score_curve(
            name,
            f"Score over time: {outcome}",
            seconds=video.frames / video.fps,
            segments=seconds(video.segments),
            scores=video.scores,
            smoothed=video.smoothed,
            threshold=locator.threshold,
            events=seconds(video.events),
            detected=seconds(video.detected),
        ),
        thumbnails=tuple(
            (f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}", caption)
            for _, caption, jpeg in video.thumbnails
        ),
    )


def _outcome(video: ReportVideo) -> tuple[str, bool | None]:
    """What happened in a video, and whether it should have."""
    if not video.timed:
        found = len(video.detected)
        return (f"{found} detected, real times unknown" if found else "nothing detected"), bool(found)
    found, false = _found_and_false(video)
    alarms = f"{false} false alarm{'s' if false > 1 else ''}" if false else ""
    if video.label == "normal":
        return alarms or "quiet, as it should be", not false
    text = f"{found} of {len(video.events)} event{'s' if len(video.events) > 1 else ''} found"
    return ", ".join(filter(None, (text, alarms))), found == len(video.events) and not false


def _found_and_false(video: ReportVideo) -> tuple[int, int]:
    """Events that a detection touches, and detections that touch no event."""
    found = sum(any(a < end and start < b for a, b in video.detected) for start, end in video.events)
    return found, sum(all(b <= start or end <= a for start, end in video.events) for a, b in video.detected)


def _depth(report: Report) -> Iterator[Section]:
    if not report.depth or report.hunt is None:
        return
    rows = tuple((point.max_layer, point.auc, point.f1, f"{100 * point.cost:.0f} %") for point in report.depth)
    undefined = any(point.auc is None for point in report.depth)
    yield Section(
        "depth",
        "Depth against accuracy",
        "Layers above the deepest expert never run, so a shallower hunt is a faster bundle (--max-layer).",
        (
            Drawn(
                "What each depth gives, and costs",
                figures.depth_figure(
                    "depth", "AUC and F1 against the deepest layer", report.depth, report.hunt.layers - 1
                ),
                "Above: frame AUC and best F1 on the validation split, before smoothing, when only "
                "layers up to this one "
                "are hunted. Below: the share of the decoder's layers that then runs. Good is the "
                "leftmost point on the "
                "plateau.",
            ),
        ),
        (Titled("The same in figures", Table(("deepest layer", "AUC", "best F1", "layers run"), rows)),),
        (f"Where AUC and F1 are not defined, {_ONE_CLASS}.",) if undefined else (),
    )


def _calibration(report: Report) -> Iterator[Section]:
    points = report.calibration_curve
    if not points:
        return
    yield Section(
        "calibration",
        "How many labels it takes",
        "The hunt and the scorer repeated on a part of the calibration data.",
        (
            Drawn(
                "AUC against the share of labels",
                figures.calibration_figure("calibration", "AUC against the share of the calibration data", points),
                "A curve that is flat on the right says that more labels of this kind would change "
                "little; one that still "
                "rises says that labelling pays.",
            ),
        ),
        remarks=tuple(
            f"With {samples} samples the AUC is not defined: {_ONE_CLASS}, or the samples were."
            for _, samples, auc in points
            if auc is None
        ),
    )


def _ablation(report: Report) -> Iterator[Section]:
    ablation = report.ablation
    if ablation is None:
        return
    remarks = []
    if ablation.revision != report.manifest.source_model.revision:
        remarks.append(
            f"The ablation was run with other weights ({ablation.revision}) than this bundle was built from "
            f"({report.manifest.source_model.revision}).",
        )
    yield Section(
        "ablation",
        "What each part of the method is worth",
        f"The full method first; each further row changes one thing. {ablation.judged_on}",
        tables=(Titled("Ablation", ablation.table, " ".join(ablation.notes)),),
        remarks=tuple(remarks),
    )


def _absent(report: Report) -> Iterator[Section]:
    if report.absent:
        yield Section(
            "absent",
            "Not in this report",
            "What there was nothing to show of, and how to get it.",
            points=report.absent,
        )


def _parity(report: Report) -> Iterator[Section]:
    # A count among figures.
    parity = report.manifest.parity.items()
    measured = tuple((name, int(value) if name == "segments" else value) for name, value in parity)
    if measured:
        yield Section(
            "parity",
            "Parity of the exported graphs",
            "Measured at build time: how far the exported graphs are from the model they came from.",
            tables=(Titled("Parity", Table(("measured", "value"), measured)),),
        )


def _provenance(report: Report) -> Iterator[Section]:
    manifest = report.manifest
    source, geometry, segment, scorer = manifest.source_model, manifest.geometry, manifest.segment, manifest.scorer
    locators = tuple(
        (
            name, spec.sigma, spec.threshold, spec.lookahead, spec.f1 if spec.calibrated else "not calibrated"
        )
        for name, spec in (("full", manifest.locators.full), ("low_latency", manifest.locators.low_latency))
    )  # fmt: skip
    facts: tuple[tuple[str, str], ...] = (
        ("model", source.name),
        ("revision", source.revision),
        ("architecture", source.architecture),
        ("licence", source.licence),
        (
            "geometry",
            f"{geometry.layers} layers x {geometry.heads} heads of {geometry.head_dim}, width {geometry.width}",
        ),
        ("segment", f"{segment.frames} frames, {segment.sampled} of them seen, at {segment.fps:g} fps"),
        ("pixels", f"{manifest.pixels.size} x {manifest.pixels.size}, {manifest.pixels.interpolation}"),
        ("precision", f"vision {manifest.graphs.vision.precision}, language {manifest.graphs.language.precision}"),
        ("scorer", f"fitted on {scorer.samples} samples ({scorer.unit}), {scorer.anomalous} of them anomalous"),
        ("built", manifest.created),
        *((f"version of {name}", version) for name, version in sorted(manifest.producer.items())),
    )
    yield Section(
        "provenance",
        "What was run, and how to repeat it",
        "The bundle's manifest says the same for machines.",
        tables=(
            Titled(
                "Operating points",
                Table(
                    ("locator", "sigma, segments", "threshold", "lookahead, segments", "F1 at calibration"), locators
                ),
            ),
            Titled("Model and versions", Table(("what", "value"), facts)),
        ),
        commands=report.commands,
    )


_SECTIONS = (
    _curves,
    _videos,
    _experts,
    _separation,
    _evaluation,
    _ablation,
    _depth,
    _calibration,
    _parity,
    _provenance,
    _absent,
)
