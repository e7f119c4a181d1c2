"""The top of the page: a sentence, and the figures to look at first."""

from __future__ import annotations

from collections.abc import Iterator

from edge_runtime.bundle.summary import latency_s
from offline.report.content import Report
from offline.report.sections.parts import ONE_CLASS, Tile, not_none
from offline.report.tables import as_dict


def summary(report: Report) -> str:
    """Say in a sentence or two what the bundle is."""
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


def tiles(report: Report) -> list[Tile]:
    """Make the headline figures."""
    manifest, point = report.manifest, report.operating_point
    segment = manifest.segment
    depth = max(expert.layer for expert in manifest.experts) + 1
    waits = f"After each {'stride' if segment.overlap > 1 else 'segment'} of {segment.step_s:.1f} s"
    if report.locator == "full":
        waits += f"; in low-latency mode {latency_s(manifest.locators.low_latency, segment):.1f} s"
    return [
        *_headline(report),
        Tile("Decision delay", f"{latency_s(point, segment):.1f} s", waits),
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
        why = f"On the test split, {ONE_CLASS}"
    else:
        validation = report.manifest.validation
        values = (validation.auc, validation.ap, validation.f1)
        split, videos, frames, spread = "Validation", validation.videos, validation.frames, ""
        why = f"On the validation split, {ONE_CLASS}"
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
