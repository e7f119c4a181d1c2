"""What each part of the method is worth."""

from __future__ import annotations

from collections.abc import Iterator

from offline.report.content import Report
from offline.report.sections.parts import Section, Titled


def ablation(report: Report) -> Iterator[Section]:
    """Show the ablation table."""
    shown = report.ablation
    if shown is None:
        return
    remarks = []
    if shown.revision != report.manifest.source_model.revision:
        remarks.append(
            f"The ablation was run with other weights ({shown.revision}) than this bundle was built from "
            f"({report.manifest.source_model.revision}).",
        )
    yield Section(
        "ablation",
        "What each part of the method is worth",
        f"The full method first; each further row changes one thing. {shown.judged_on}",
        tables=(Titled("Ablation", shown.table, " ".join(shown.notes)),),
        remarks=tuple(remarks),
    )
