"""What a shallower hunt would cost in accuracy, for every depth at which one could stop.

The figures are those of the raw probabilities: depth is chosen before a locator is calibrated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import FeatureError, UsageError
from offline.arrays import BoolArray, Floating
from offline.console import Progress
from offline.evaluation.bootstrap import Ranked, weighted_figures
from offline.extraction.extract import Extracted
from offline.extraction.features import FeatureSet
from offline.hunting.hunt import Hunt, Selection


class ProbabilityModel(Protocol):
    """A fitted classifier, as scikit-learn has it."""

    def predict_proba(self, X: Any, /) -> Any:
        """Give features (V, K·d) their probabilities (V, 2), column 1 is anomalous."""


Fit = Callable[[Floating, BoolArray], ProbabilityModel]
"""Fits a scorer: features (N, K·d) in expert order, labels bool (N,)."""


@dataclass(frozen=True, slots=True)
class DepthPoint:
    """How well a hunt in layers 0 to `max_layer` scores the validation frames.

    Attributes:
        max_layer: The deepest layer that was hunted.
        auc: Frame AUC of the raw probabilities; None where the validation frames are all of one class.
        f1: The best over all thresholds, otherwise the same.
        cost: Share of the decoder's layers that run, which is up to the deepest expert.
    """

    max_layer: int
    auc: float | None
    f1: float | None
    cost: float

    def __post_init__(self) -> None:
        if self.max_layer < 0:
            raise ValueError(f"layers are counted from 0, got max_layer {self.max_layer}")
        for name in ("auc", "f1"):
            value = getattr(self, name)
            if value is not None and not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} at max_layer {self.max_layer} must lie in 0..1, got {value}")
        if not (math.isfinite(self.cost) and self.cost > 0):
            raise ValueError(f"the cost at max_layer {self.max_layer} must be positive, got {self.cost}")


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """Validation units (segments, or whole videos) and the frames they stand for.

    Attributes:
        features: (V, M, L, H, d); may be a memory map, one head at a time is read.
        frames: How many frames a unit has, (V,) integers.
        anomalous_frames: How many of them are anomalous, (V,) integers.
    """

    features: Floating
    frames: NDArray[np.integer]
    anomalous_frames: NDArray[np.integer]

    def __post_init__(self) -> None:
        if self.features.ndim != 5 or 0 in self.features.shape:
            raise FeatureError(
                f"validation features have shape {self.features.shape}; "
                "expected (units, prompts, layers, heads, head_dim), none of them 0"
            )
        count = (self.features.shape[0],)
        if self.frames.shape != count or self.anomalous_frames.shape != count:
            raise FeatureError(
                f"{count[0]} validation units, but frame counts {self.frames.shape} "
                f"and anomalous frame counts {self.anomalous_frames.shape}"
            )
        wrong = (self.anomalous_frames < 0) | (self.anomalous_frames > self.frames)
        if wrong.any():
            unit = int(wrong.argmax())
            raise FeatureError(
                f"validation unit {unit}: {self.anomalous_frames[unit]} of {self.frames[unit]} frames are anomalous"
            )

    @classmethod
    def of(cls, extracted: Sequence[Extracted]) -> Units:
        """Count the frames of all units of some videos. DatasetError for videos whose times are unknown."""
        frames, anomalous = [], []
        for one in extracted:
            labels = one.video.frame_labels(one.frames)
            frames += [int(end - start) for start, end in one.spans]
            anomalous += [int(labels[start:end].sum()) for start, end in one.spans]
        return cls(np.concatenate([one.features for one in extracted]), np.array(frames), np.array(anomalous))


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """What hunts are tried on: fitted on one set of features, judged on another.

    Attributes:
        calibration: What is hunted in and fitted on.
        validation: What is judged on.
        fit: Fits a scorer.
    """

    calibration: FeatureSet
    validation: Units
    fit: Fit


def depth_curve(
    hunt: Hunt,
    trial: Trial,
    top_k: int | None = None,
    *,
    prompt: str | None = None,
    decoder_layers: int | None = None,
    progress: Progress | None = None,
) -> list[DepthPoint]:
    """Hunt, fit and judge once for every depth, from the shallowest that has `top_k` heads to `hunt`'s own.

    Depths at which the same experts win under the same prompt share one fit.

    Args:
        hunt: The hunt, in all layers in question.
        trial: The features of that hunt, and those to judge on; layers above the hunted ones may be there and are
            not looked at.
        top_k: How many experts; as many as the hunt has by default.
        prompt: Keep this one at every depth, instead of choosing it anew.
        decoder_layers: Of the whole model, what `cost` is a share of; the hunted layers by default.
        progress: Counts depths.

    Raises:
        FeatureError: The features are not those of the hunt, or the scorer gives anything but probabilities.
        UsageError: An argument is out of range.
    """
    top_k = len(hunt.experts) if top_k is None else top_k
    decoder_layers = hunt.layers if decoder_layers is None else decoder_layers
    _check_trial(hunt, trial)
    if decoder_layers < hunt.layers:
        raise UsageError(f"decoder_layers {decoder_layers} is less than the {hunt.layers} layers that were hunted")
    if not 1 <= top_k <= hunt.layers * hunt.heads:
        raise UsageError(f"top_k {top_k} is out of range; {hunt.layers * hunt.heads} heads were hunted")

    shallowest = -(-top_k // hunt.heads) - 1
    depths = range(shallowest, hunt.layers)
    known: dict[tuple[int, ...], tuple[float | None, float | None]] = {}
    curve = []
    for done, max_layer in enumerate(depths, start=1):
        found = hunt.again(Selection(top_k, hunt.penalty, max_layer, prompt))
        # In rank order, so that the last point is exactly the build's own scorer.
        key = (found.prompts.index(found.prompt), *(i for e in found.experts for i in (e.layer, e.head)))
        if key not in known:
            known[key] = judge_experts(found, trial)
        auc, f1 = known[key]
        curve.append(DepthPoint(max_layer, auc, f1, cost=(found.depth + 1) / decoder_layers))
        if progress is not None:
            progress(done, len(depths))
    return curve


def judge_experts(found: Hunt, trial: Trial) -> tuple[float | None, float | None]:
    """Fit a scorer on the experts' calibration features, and judge it on the validation units.

    Returns:
        Frame AUC and best F1, as `unit_figures`.

    Raises:
        FeatureError: The scorer gives anything but probabilities.
    """
    prompt = found.prompts.index(found.prompt)
    scorer = trial.fit(_concatenated(trial.calibration.features, prompt, found), trial.calibration.labels)
    scores = _probabilities(scorer, _concatenated(trial.validation.features, prompt, found))
    return unit_figures(scores, trial.validation.frames, trial.validation.anomalous_frames)


def unit_figures(
    scores: Floating, frames: NDArray[np.integer], anomalous_frames: NDArray[np.integer]
) -> tuple[float | None, float | None]:
    """Judge units whose frames all have the unit's score.

    Equal to `metrics.frame_auc` and `metrics.best_f1` on the expanded frames, in O(V log V).

    Args:
        scores: (V,).
        frames: How many frames a unit has, (V,).
        anomalous_frames: How many of them are anomalous, (V,).

    Returns:
        Frame AUC and best F1; (None, None) where all frames are of one class.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = Ranked(
        video=order,
        positive=anomalous_frames[order].astype(np.float64),
        negative=(frames - anomalous_frames)[order].astype(np.float64),
        last=np.flatnonzero(np.diff(scores[order], append=-np.inf)),
    )
    figures = weighted_figures(ranked, np.ones(len(scores)))
    return (None, None) if figures is None else (figures[0], figures[3])


def _concatenated(features: Floating, prompt: int, found: Hunt) -> Floating:
    """(n, M, L, H, d) -> (n, K·d), expert after expert in rank order. Head by head: it may be a memory map."""
    return np.concatenate([features[:, prompt, e.layer, e.head] for e in found.experts], axis=1)


def _probabilities(scorer: ProbabilityModel, features: Floating) -> Floating:
    """(V, K·d) -> (V,), or `FeatureError`."""
    both = np.asarray(scorer.predict_proba(features))
    if both.shape != (len(features), 2) or not np.isfinite(both).all():
        raise FeatureError(
            f"the scorer gave {both.shape} for {len(features)} units; expected finite probabilities (units, 2)"
        )
    anomalous: Floating = both[:, 1]
    return anomalous


def _check_trial(hunt: Hunt, trial: Trial) -> None:
    features, labels = trial.calibration.features, trial.calibration.labels
    _check(hunt, features, "calibration")
    _check(hunt, trial.validation.features, "validation")
    if labels.dtype != np.bool_ or labels.shape != features.shape[:1]:
        raise FeatureError(f"labels are {labels.dtype} {labels.shape}; expected bool ({features.shape[0]},)")


def _check(hunt: Hunt, features: Floating, name: str) -> None:
    if (
        features.ndim != 5
        or features.shape[1] != len(hunt.prompts)
        or features.shape[2] < hunt.layers
        or features.shape[3:] != (hunt.heads, hunt.head_dim)
    ):
        raise FeatureError(
            f"{name} features have shape {features.shape}; the hunt was in "
            f"(…, {len(hunt.prompts)}, {hunt.layers}, {hunt.heads}, {hunt.head_dim})"
        )
