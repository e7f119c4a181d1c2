"""What a shallower hunt would cost in accuracy, for every depth at which one could stop.

Knows features, labels and how many frames a unit stands for; nothing of models, videos or smoothing. The
figures are those of the raw probabilities: depth is chosen before a locator is calibrated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import FeatureError, UsageError
from offline.evaluation.bootstrap import Ranked, weighted_figures
from offline.hunting.hunt import Hunt, select

BoolArray = NDArray[np.bool_]
Floating = NDArray[np.floating]

Progress = Callable[[int, int], None]
"""Called with the depths done so far and all depths."""


class Fitted(Protocol):
    """A scorer as scikit-learn has it."""

    def predict_proba(self, X: Any, /) -> Any:
        """Features (V, K·d) to probabilities (V, 2), column 1 is anomalous."""


Fit = Callable[[Floating, BoolArray], Fitted]
"""Fits a scorer: features (N, K·d) in expert order, labels bool (N,)."""


@dataclass(frozen=True, slots=True)
class DepthPoint:
    """How well a hunt in layers 0 to `max_layer` scores the validation frames.

    auc, f1 (the best over all thresholds): frame level, raw probabilities; None where the validation frames are
    all of one class. cost: share of the decoder's layers that run, which is up to the deepest expert.
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

    features: (V, M, L, H, d), floating point; frames, anomalous_frames: (V,) integers, with
    0 <= anomalous_frames <= frames. Features may be a memory map: one head at a time is read.
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


def depth_curve(
    hunt: Hunt,
    calibration: tuple[Floating, BoolArray],
    validation: Units,
    top_k: int | None = None,
    *,
    fit: Fit,
    prompt: str | None = None,
    decoder_layers: int | None = None,
    progress: Progress | None = None,
) -> list[DepthPoint]:
    """Hunt, fit and judge once for every depth, from the shallowest that has `top_k` heads to `hunt`'s own.

    calibration: features (N, M, L, H, d) and labels bool (N,), those of the hunt (layers above the hunted ones
    may be there and are not looked at). top_k: experts, as many as the hunt has by default. prompt: keep this
    one at every depth instead of choosing it anew. decoder_layers: of the whole model, what `cost` is a share
    of; the hunted layers by default. Depths at which the same experts win under the same prompt share one fit.

    Raises `FeatureError` where the features are not those of the hunt or the scorer gives anything but
    probabilities, `UsageError` for arguments out of range.
    """
    features, labels = calibration
    top_k = len(hunt.experts) if top_k is None else top_k
    decoder_layers = hunt.layers if decoder_layers is None else decoder_layers
    _check(hunt, features, "calibration")
    _check(hunt, validation.features, "validation")
    if labels.dtype != np.bool_ or labels.shape != features.shape[:1]:
        raise FeatureError(f"labels are {labels.dtype} {labels.shape}; expected bool ({features.shape[0]},)")
    if decoder_layers < hunt.layers:
        raise UsageError(f"decoder_layers {decoder_layers} is less than the {hunt.layers} layers that were hunted")
    if not 1 <= top_k <= hunt.layers * hunt.heads:
        raise UsageError(f"top_k {top_k} is out of range; {hunt.layers * hunt.heads} heads were hunted")

    shallowest = -(-top_k // hunt.heads) - 1
    depths = range(shallowest, hunt.layers)
    known: dict[tuple[int, ...], tuple[float | None, float | None]] = {}
    curve = []
    for done, max_layer in enumerate(depths, start=1):
        found = select(
            hunt.saliency,
            hunt.prompts,
            hunt.head_dim,
            top_k=top_k,
            penalty=hunt.penalty,
            max_layer=max_layer,
            prompt=prompt,
        )
        m = found.prompts.index(found.prompt)
        layers = [expert.layer for expert in found.experts]
        heads = [expert.head for expert in found.experts]
        # In rank order, so that the last point is exactly the build's own scorer.
        key = (m, *layers, *heads)
        if key not in known:
            scorer = fit(_concatenated(features, m, layers, heads), labels)
            scores = _probabilities(scorer, _concatenated(validation.features, m, layers, heads))
            known[key] = unit_figures(scores, validation.frames, validation.anomalous_frames)
        auc, f1 = known[key]
        curve.append(DepthPoint(max_layer, auc, f1, cost=(found.depth + 1) / decoder_layers))
        if progress is not None:
            progress(done, len(depths))
    return curve


def unit_figures(
    scores: Floating, frames: NDArray[np.integer], anomalous_frames: NDArray[np.integer]
) -> tuple[float | None, float | None]:
    """Frame-level AUC and best F1 of units whose frames all have the unit's score.

    scores, frames, anomalous_frames: (V,). Equal to `metrics.frame_auc` and `metrics.best_f1` on the expanded
    frames, in O(V log V). (None, None) where all frames are of one class.
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


def _concatenated(features: Floating, prompt: int, layers: list[int], heads: list[int]) -> Floating:
    """(n, M, L, H, d) -> (n, K·d), head after head in rank order."""
    return np.concatenate(
        [features[:, prompt, layer, head] for layer, head in zip(layers, heads, strict=True)], axis=1
    )


def _probabilities(scorer: Fitted, features: Floating) -> Floating:
    """(V, K·d) -> (V,), or `FeatureError`."""
    both = np.asarray(scorer.predict_proba(features))
    if both.shape != (len(features), 2) or not np.isfinite(both).all():
        raise FeatureError(
            f"the scorer gave {both.shape} for {len(features)} units; expected finite probabilities (units, 2)"
        )
    anomalous: Floating = both[:, 1]
    return anomalous


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
