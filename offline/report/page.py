"""The page from top to bottom: which sections it has, in which order.

A section whose data is missing does not exist; a figure that is undefined says so, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from offline.report.content import Report
from offline.report.sections.ablation import ablation
from offline.report.sections.curves import curves
from offline.report.sections.depth import depth
from offline.report.sections.evaluation import evaluation
from offline.report.sections.experts import experts
from offline.report.sections.frames import frames
from offline.report.sections.headline import summary, tiles
from offline.report.sections.labels import labels
from offline.report.sections.parts import Section
from offline.report.sections.provenance import absent, parity, provenance
from offline.report.sections.separation import separation
from offline.report.sections.videos import videos

#: Each makes a section, or none where the report has nothing to show in it.
SECTIONS: tuple[Callable[[Report], Iterator[Section]], ...] = (
    curves,
    videos,
    experts,
    separation,
    evaluation,
    ablation,
    depth,
    frames,
    labels,
    parity,
    provenance,
    absent,
)


def page(report: Report) -> dict[str, Any]:
    """Give the template what it needs."""
    return {
        "title": report.title,
        "summary": summary(report),
        "notes": report.notes,
        "tiles": tiles(report),
        "sections": [section for make in SECTIONS for section in make(report)],
    }
