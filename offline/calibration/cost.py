"""What a precision costs: the deployed graphs beside the model's own features, through scorers fitted alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edge_runtime.bundle.manifest import REUSE
from edge_runtime.errors import ParityError
from edge_runtime.stream.overlap import covering_means
from export.parity import centred_cosine
from models.heads import HeadRef
from offline.arrays import Float64Array, Floating
from offline.calibration.fit import Fitted
from offline.calibration.rules import ScorerRule
from offline.calibration.samples import Samples
from offline.data.scores import VideoScores
from offline.evaluation.bootstrap import Interval, bootstrap_differences
from offline.evaluation.metrics import frame_auc
from offline.extraction.extract import Extracted

#: A change of AUC below this is refused, unless forced.
WORST_CHANGE = -0.005
#: Figures of a cost that hold for one scorer only.
OF_THE_SCORER = frozenset({"score_change", "auc_change", "auc_change_low", "auc_change_high"})


@dataclass(frozen=True, slots=True)
class AucChange:
    """How much the frame AUC of raw scores on the validation videos changes.

    Attributes:
        change: None where the AUC is not defined.
        interval: Of the change, over paired draws of the videos; None with fewer than two.
    """

    change: float | None = None
    interval: Interval | None = None

    def to_dict(self) -> dict[str, float]:
        """As the manifest states it, among the figures of parity; what is not known is left out."""
        figures = {} if self.change is None else {"auc_change": self.change}
        if self.interval is not None:
            figures |= {"auc_change_low": self.interval.low, "auc_change_high": self.interval.high}
        return figures

    def __str__(self) -> str:
        """Give what a sentence goes on with."""
        said = "" if self.change is None else f", AUC by {self.change:+.4f}"
        if self.interval is not None:
            said += f" ({self.interval.low:+.4f} to {self.interval.high:+.4f})"
        return said


@dataclass(frozen=True, slots=True)
class Cost:
    """What the deployed graphs give, against what the model gives.

    Attributes:
        centred_cosine: Of the expert features, after taking off their mean over segments.
        worst_head: The same of the expert that suffers most.
        score_change: The largest change of a segment's probability.
        auc: Change of the frame AUC of raw scores.
        segments: How many were compared.
    """

    centred_cosine: float
    worst_head: float
    score_change: float
    auc: AucChange
    segments: int

    def to_dict(self) -> dict[str, float]:
        """As the manifest states it, among the figures of parity."""
        return {
            "centred_cosine": self.centred_cosine,
            "centred_cosine_worst_head": self.worst_head,
            "score_change": self.score_change,
            "cost_segments": float(self.segments),
        } | self.auc.to_dict()

    def __str__(self) -> str:
        return (
            f"centred cosine {self.centred_cosine:.4f} (worst head {self.worst_head:.4f}), "
            f"scores change by {self.score_change:.3f} at most{self.auc}"
        )


@dataclass(frozen=True, slots=True, eq=False)
class ModelFeatures:
    """What the model itself gives, of the experts under the bundle's prompt.

    Attributes:
        calibration: Features (U, K·d) of each calibration video, as `Fitted` has them of the graphs.
        validation: Of each validation video.
    """

    calibration: Sequence[Floating]
    validation: Sequence[Floating]

    @classmethod
    def of(
        cls,
        calibration: Sequence[Extracted],
        validation: Sequence[Extracted],
        prompt: int,
        experts: Sequence[HeadRef],
    ) -> ModelFeatures:
        """Take the experts out of features of all heads, (U, M, L, H, d_h) a video."""

        def experts_of(one: Extracted) -> Floating:
            return np.concatenate([one.features[:, prompt, e.layer, e.head] for e in experts], axis=1)

        return cls([experts_of(one) for one in calibration], [experts_of(one) for one in validation])


def measure_cost(model: ModelFeatures, fitted: Fitted, heads: int, rule: ScorerRule) -> Cost:
    """Compare on the validation videos; on the calibration videos where there are none, and then without AUC.

    Args:
        model: The model's own features, of the same videos in the same order.
        fitted: What was fitted on the graphs'.
        heads: K.
        rule: By which scorers are fitted; its seed is that of the draws, too.
    """
    learned = Samples.of(fitted.calibration_units)
    scorer, deployed = rule.fit(replace(learned, features=np.concatenate(model.calibration))), rule.fit(learned)
    judged = fitted.validation_units or fitted.calibration_units
    own = model.validation if fitted.validation_units else model.calibration
    wanted, got = np.concatenate(own), np.concatenate([one.features for one in judged])
    by_head = zip(np.split(wanted, heads, axis=1), np.split(got, heads, axis=1), strict=True)
    before = [_scores(scorer, values, one.overlap) for values, one in zip(own, judged, strict=True)]
    after = [_scores(deployed, one.features, one.overlap) for one in judged]
    return Cost(
        centred_cosine=centred_cosine(wanted, got),
        worst_head=min(centred_cosine(one, other) for one, other in by_head),
        score_change=max(float(np.abs(a - b).max()) for a, b in zip(before, after, strict=True)),
        auc=auc_change(judged, before, after, rule.seed) if fitted.validation_units else AucChange(),
        segments=len(wanted),
    )


def require_bearable(cost: Cost, precision: str, force: bool) -> None:
    """Refuse a precision that costs too much.

    Raises:
        ParityError: The AUC falls by more than 0.005, and it is not forced.
    """
    change = cost.auc.change
    if change is not None and not change >= WORST_CHANGE and not force:
        raise ParityError(
            f"precision {precision} changes the validation AUC by {change:+.4f}, allowed are "
            f"{WORST_CHANGE:+.3f} ({cost}); choose another --precision, or say --force. The bundle was not written"
        )


def of_the_graphs(parity: Mapping[str, float]) -> dict[str, float]:
    """Take the figures of a manifest's parity that stay true with another scorer."""
    return {name: value for name, value in parity.items() if name not in OF_THE_SCORER and not name.startswith(REUSE)}


def _scores(scorer: Any, features: Floating, overlap: int) -> Float64Array:
    """Scores of a video's segments, or of its strides where they overlap."""
    return np.array(covering_means(scorer.predict_proba(features)[:, 1].tolist(), overlap), dtype=np.float64)


def auc_change(
    judged: Sequence[Extracted], before: Sequence[Floating], after: Sequence[Floating], seed: int
) -> AucChange:
    """Measure how much the frame AUC changes from one series of scores to another.

    Args:
        judged: The videos, with known times.
        before: Scores of each one's segments, in order.
        after: The same.
        seed: Of the draws.
    """
    labels = [one.video.frame_labels(one.frames) for one in judged]
    every = np.concatenate(labels)
    ours, own = _by_frame(judged, after), _by_frame(judged, before)
    deployed, exact = frame_auc(every, np.concatenate(ours)), frame_auc(every, np.concatenate(own))
    if deployed is None or exact is None:
        return AucChange()
    paired = [list(zip(labels, series, strict=True)) for series in (ours, own)]
    return AucChange(deployed - exact, bootstrap_differences(paired[0], paired[1], seed=seed)["auc"])


def _by_frame(judged: Sequence[Extracted], scores: Sequence[Floating]) -> list[Floating]:
    return [
        VideoScores.of_segments(one.video.name, one.frames, one.spans, map(float, values)).expand()
        for one, values in zip(judged, scores, strict=True)
    ]
