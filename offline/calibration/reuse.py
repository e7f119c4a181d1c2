"""What `--reuse-unchanged` would do at the edge: the validation videos scored again with reused tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_runtime.bundle.manifest import REUSE
from edge_runtime.inference.encoder import FrameEncoder
from edge_runtime.inference.engine import Engine
from edge_runtime.inference.scorer import ScorerGraph
from edge_runtime.stream.overlap import covering_means
from offline.arrays import Float64Array
from offline.calibration.cost import AucChange, auc_change
from offline.calibration.fit import Fitted
from offline.console import Progress
from offline.data.segments import read_segments
from offline.extraction.extract import Extracted, Extraction


@dataclass(frozen=True, slots=True, eq=False)
class Reuse:
    """How the edge would score.

    Attributes:
        graphs: The bundle's.
        scorer: The bundle's.
        group: g, how many frames the vision graph takes together.
        threshold: As `reuse_unchanged` of `Detector.stream`, in grey levels.
    """

    graphs: Engine
    scorer: ScorerGraph
    group: int
    threshold: float


@dataclass(frozen=True, slots=True)
class ReuseCost:
    """What reuse gives, against every frame encoded.

    Attributes:
        threshold: Up to how many grey levels frames were alike.
        groups: Of frames, that would all be encoded without reuse.
        share: Of them, those that reused tokens.
        score_change: The largest change of a segment's probability.
        auc: Change of the frame AUC of raw scores.
    """

    threshold: float
    groups: int
    share: float
    score_change: float
    auc: AucChange

    def to_dict(self) -> dict[str, float]:
        """As the manifest states it, among the figures of parity."""
        figures = {
            "threshold": self.threshold,
            "groups": float(self.groups),
            "share": self.share,
            "score_change": self.score_change,
        } | self.auc.to_dict()
        return {REUSE + name: value for name, value in figures.items()}

    def __str__(self) -> str:
        return (
            f"{100 * self.share:.1f} % of {self.groups} groups of frames reuse tokens, "
            f"scores change by {self.score_change:.3f} at most{self.auc}"
        )


def measure_reuse(
    fitted: Fitted, extraction: Extraction, reuse: Reuse, seed: int = 0, progress: Progress | None = None
) -> ReuseCost:
    """Score the validation videos again, each as the stream that the edge would see, and compare.

    Args:
        fitted: What was fitted on the graphs, at least one validation video among it.
        extraction: How videos are cut.
        reuse: How the edge would score.
        seed: Of the draws.
        progress: Counts videos.

    Raises:
        InferenceFailed: A graph failed.
        SourceUnavailable: A video cannot be read any more.
    """
    before, after, encoders = [], [], []
    videos = fitted.validation_units
    for done, one in enumerate(videos):
        if progress is not None:
            progress(done, len(videos), one.video.name)
        encoders.append(FrameEncoder.of_stream(reuse.group, extraction.segment.sampled, reuse.threshold))
        before.append(np.array([score for _, _, score in fitted.scored[one.video.name].segments], dtype=np.float64))
        after.append(_scores(one, extraction, reuse, encoders[-1]))
    if progress is not None:
        progress(len(videos), len(videos), "")
    # Segments that overlap share frames anyway: only what they do not share can be spared.
    groups = sum(encoder.asked if extraction.segment.overlap == 1 else encoder.met for encoder in encoders)
    return ReuseCost(
        threshold=reuse.threshold,
        groups=groups,
        share=1 - sum(encoder.encoded for encoder in encoders) / groups,
        score_change=max(float(np.abs(a - b).max()) for a, b in zip(after, before, strict=True)),
        auc=auc_change(videos, before, after, seed),
    )


def _scores(one: Extracted, extraction: Extraction, reuse: Reuse, encoder: FrameEncoder) -> Float64Array:
    """Raw scores of one video's segments, in order."""
    scores = []
    for segment in read_segments(one.video.path, extraction.pixels, extraction.segment):
        features = encoder.features(reuse.graphs, segment.pixels[None])
        scores.append(float(reuse.scorer.probabilities(features)[0]))
    return np.array(covering_means(scores, one.overlap), dtype=np.float64)
