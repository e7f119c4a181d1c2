"""How many labels it takes."""

from __future__ import annotations

from collections.abc import Iterator

from offline.report import charts
from offline.report.content import Report
from offline.report.sections.parts import ONE_CLASS, Drawn, Section


def labels(report: Report) -> Iterator[Section]:
    """Show what more labels would give."""
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
                charts.calibration_figure("calibration", "AUC against the share of the calibration data", points),
                "A curve that is flat on the right says that more labels of this kind would change "
                "little; one that still "
                "rises says that labelling pays.",
            ),
        ),
        remarks=tuple(
            f"With {samples} samples the AUC is not defined: {ONE_CLASS}, or the samples were."
            for _, samples, auc in points
            if auc is None
        ),
    )
