"""The figures of the evaluation, and what they are read against."""

from __future__ import annotations

from collections.abc import Iterator

from offline.report.content import Report
from offline.report.sections.parts import SPLIT_ORDER, Section, Titled
from offline.report.tables import as_dict, evaluation_tables, yardstick_table


def evaluation(report: Report) -> Iterator[Section]:
    """Show the figures of every split, and what to read them against."""
    if not report.evaluations:
        return
    leads, tables, remarks = [], [], []
    if (table := yardstick_table(report.evaluations)) is not None:
        tables.append(
            Titled(
                "Between what is too simple and what is possible",
                table,
                "The trivial baselines know nothing of what they see: what they reach is no merit of a model. Visual "
                "tokens alone are what the language model is given: what they reach is no merit of its heads. A "
                "ceiling knows the truth about every segment: what it misses is lost by cutting into segments.",
            )
        )
    for split in sorted(report.evaluations, key=SPLIT_ORDER.__getitem__):
        lead, of_split, left_out = evaluation_tables(report.evaluations[split])
        verdict = as_dict(report.evaluations[split]).get("verdict")
        leads.append(f"{split.capitalize()}: {lead}" + ("" if verdict is None else f" {verdict}"))
        tables += [Titled(f"{split.capitalize()}: {title}", table, caption) for title, table, caption in of_split]
        remarks += [f"{split.capitalize()}: {remark}" for remark in left_out]
    yield Section("evaluation", "Evaluation", " ".join(leads), tables=tuple(tables), remarks=tuple(remarks))
