"""What fewer frames a segment would give."""

from __future__ import annotations

from collections.abc import Iterator

from offline.report import charts
from offline.report.content import Report, Table
from offline.report.sections.parts import ONE_CLASS, Drawn, Section, Titled


def frames(report: Report) -> Iterator[Section]:
    """Show accuracy against how many frames of a segment the model sees."""
    points = report.sampling
    if not points:
        return
    most = max(point.sampled for point in points)
    rows = tuple((p.sampled, p.auc, p.f1, f"{100 * p.sampled / most:.0f} %") for p in points)
    yield Section(
        "frames",
        "Frames against accuracy",
        "A model that sees fewer frames of a segment is about as much faster (--sampled); hunt and scorer were "
        "repeated with each number.",
        (
            Drawn(
                "What each number of frames gives",
                charts.sampling_figure(
                    "frames", "AUC and F1 against the sampled frames", points, report.manifest.segment.sampled
                ),
                "Frame AUC and best F1 on the validation split, before smoothing. Good is the leftmost point on the "
                "plateau.",
            ),
        ),
        (Titled("The same in figures", Table(("sampled frames", "AUC", "best F1", "visual tokens"), rows)),),
        (f"Where AUC and F1 are not defined, {ONE_CLASS}.",) if any(point.auc is None for point in points) else (),
    )
