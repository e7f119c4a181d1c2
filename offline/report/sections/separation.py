"""How the classes part, as the heads see them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from offline.report import charts
from offline.report.content import Report
from offline.report.sections.parts import Drawn, Section
from offline.report.tsne import MAX_SAMPLES, MIN_SAMPLES, place


def separation(report: Report) -> Iterator[Section]:
    """Show the samples in two dimensions, as the heads see them."""
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
                charts.two_maps("tsne", "Samples by class in two dimensions", maps, embedding.labels[kept]),
                f"{shown} samples of {len(set(embedding.videos))} videos, on the left by the experts' "
                "features, on the right "
                "by those of all heads of the last layer. Good is where the classes part, and part "
                "better on the left. "
                "Only neighbourhood counts in such a map: distances between far groups and axes mean nothing.",
            ),
        ),
    )
