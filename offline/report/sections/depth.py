"""What each depth gives, and costs."""

from __future__ import annotations

from collections.abc import Iterator

from offline.report import charts
from offline.report.content import Report, Table
from offline.report.sections.parts import ONE_CLASS, Drawn, Section, Titled


def depth(report: Report) -> Iterator[Section]:
    """Show what a shallower hunt would give, and cost."""
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
                charts.depth_figure(
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
        (f"Where AUC and F1 are not defined, {ONE_CLASS}.",) if undefined else (),
    )
