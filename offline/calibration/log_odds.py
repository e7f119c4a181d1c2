"""A scorer on what each head says by itself: log-odds head by head, weighed together, folded into one linear layer.

Logistic regression on K·d raw numbers has to tell from a few dozen videos which of hundreds of features matter. Here
each head first gives one number, its own log-odds; what weighs them against each other then has K numbers to learn.
The weights are learned on out-of-fold log-odds, a fold holding whole videos, because a head's log-odds of what it was
fitted on say nothing (stacking, Wolpert 1992). All of it is linear, so the scorer is as large as the usual one, and
exported the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from edge_runtime.errors import FeatureError
from offline.arrays import BoolArray, Float64Array, Floating
from offline.calibration.scorer import REGULARISATION
from offline.data.folds import video_folds

HeadModel = Literal["logistic", "gaussian"]
"""How a head comes to its log-odds: logistic regression, or two Gaussians with one shrunk covariance."""

FOLDS: Final = 5
STRENGTHS: Final = (0.001, 0.01, 0.1, 1.0)
"""Inverse L2 penalties of the weights that are tried, by cross-validation over videos."""


@dataclass(frozen=True, slots=True, eq=False)
class _Linear:
    """Log-odds of K heads: (N, K, d) to (N, K).

    Attributes:
        weights: (K, d).
        offsets: (K,).
    """

    weights: Float64Array
    offsets: Float64Array

    def __call__(self, heads: Float64Array) -> Float64Array:
        said: Float64Array = np.einsum("nkd,kd->nk", heads, self.weights) + self.offsets
        return said


def fit_log_odds(
    features: Floating,
    labels: BoolArray,
    videos: Sequence[str],
    head_dim: int,
    kind: HeadModel = "logistic",
    seed: int = 0,
) -> Any:
    """Fit log-odds head by head, and their weights.

    Args:
        features: (N, K·d) in expert order; K may be all heads there are.
        labels: bool (N,), both classes.
        videos: N names; the samples of one are never in two folds.
        head_dim: d.
        kind: How a head comes to its log-odds.
        seed: Of the folds and the solvers.

    Returns:
        A scikit-learn Pipeline as `fit_scorer` gives it: standardisation, and logistic regression whose coefficients
        are the folded ones.

    Raises:
        FeatureError: Features are not finite or of another width, or a class has fewer than two videos.
    """
    heads = _checked(features, labels, videos, head_dim)
    groups = np.array(videos)
    folds = _folds(labels, groups, seed)
    said = np.empty(heads.shape[:2])
    for train, test in folds:
        said[test] = _fit_heads(heads[train], labels[train], kind, seed)(heads[test])
    each = _fit_heads(heads, labels, kind, seed)
    weights, offset = _weigh(said, labels, folds, seed)
    return _as_scorer(features, (weights[:, None] * each.weights).ravel(), offset + float(weights @ each.offsets))


def _checked(features: Floating, labels: BoolArray, videos: Sequence[str], head_dim: int) -> Float64Array:
    if not len(features) == len(labels) == len(videos):
        raise FeatureError(f"{len(features)} feature vectors for {len(labels)} labels of {len(videos)} samples")
    if head_dim < 1 or features.shape[1] % head_dim:
        raise FeatureError(f"{features.shape[1]} features are not those of whole heads of width {head_dim}")
    if not np.isfinite(features).all():
        raise FeatureError("features to fit the scorer on are not finite; extract them again")
    names = np.array(videos)
    for anomalous, name in ((True, "anomalous"), (False, "normal")):
        if (count := len(set(names[labels == anomalous]))) < 2:
            raise FeatureError(
                f"{count} calibration video with {name} samples; log-odds out of fold need two of each class; "
                "label more, or use --scorer logistic"
            )
    return np.asarray(features, dtype=np.float64).reshape(len(features), -1, head_dim)


def _folds(labels: BoolArray, groups: Any, seed: int) -> list[tuple[Any, Any]]:
    """Folds of whole videos, both classes in every part that is fitted on; each sample is held out once.

    Raises:
        FeatureError: No number of folds leaves both classes everywhere.
    """
    rng = np.random.default_rng(seed)
    anomalous = set(groups[labels])
    order = [
        *rng.permutation(sorted(anomalous)).tolist(),
        *rng.permutation(sorted(set(groups) - anomalous)).tolist(),
    ]
    fold = video_folds(order, groups.tolist(), labels, min(FOLDS, len(order)), least=1)
    if fold is None:
        raise FeatureError(
            f"no split of {len(order)} calibration videos leaves both classes to learn from; label more, "
            "or use --scorer logistic"
        )
    return [(np.flatnonzero(fold != one), np.flatnonzero(fold == one)) for one in np.unique(fold)]


def _fit_heads(heads: Float64Array, labels: BoolArray, kind: HeadModel, seed: int) -> _Linear:
    return _gaussians(heads, labels) if kind == "gaussian" else _logistic(heads, labels, seed)


def _logistic(heads: Float64Array, labels: BoolArray, seed: int) -> _Linear:
    from sklearn.linear_model import LogisticRegression

    mean, spread = heads.mean(axis=0), heads.std(axis=0)
    spread[spread == 0.0] = 1.0
    weights, offsets = np.empty(heads.shape[1:]), np.empty(heads.shape[1])
    for k in range(heads.shape[1]):
        fit = LogisticRegression(C=REGULARISATION, class_weight="balanced", max_iter=2000, random_state=seed)
        fit.fit((heads[:, k] - mean[k]) / spread[k], labels)
        weights[k] = fit.coef_[0] / spread[k]
        offsets[k] = fit.intercept_[0] - weights[k] @ mean[k]
    return _Linear(weights, offsets)


def _gaussians(heads: Float64Array, labels: BoolArray) -> _Linear:
    """Linear discriminants with the Ledoit-Wolf covariance of S_LDA, the classes equally likely (HEC, 2603.24181)."""
    from sklearn.covariance import LedoitWolf

    weights, offsets = np.empty(heads.shape[1:]), np.empty(heads.shape[1])
    for k in range(heads.shape[1]):
        x = heads[:, k]
        abnormal, normal = x[labels].mean(axis=0), x[~labels].mean(axis=0)
        centred = np.where(labels[:, None], x - abnormal, x - normal)
        covariance = LedoitWolf(assume_centered=True, store_precision=False).fit(centred).covariance_
        # A head that does not move within the classes has no covariance to divide by; it then says nothing.
        weights[k] = np.linalg.lstsq(covariance, abnormal - normal, rcond=1e-10)[0]
        offsets[k] = -weights[k] @ (abnormal + normal) / 2
    return _Linear(weights, offsets)


def _weigh(said: Float64Array, labels: BoolArray, folds: Any, seed: int) -> tuple[Float64Array, float]:
    """Weights (K,) of log-odds (N, K), and the constant, of the strength that predicts whole videos best."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    scale = said.std(axis=0)
    scale[scale == 0.0] = 1.0
    x = said / scale

    def fit(rows: Any, strength: float) -> Any:
        weigher = LogisticRegression(C=strength, class_weight="balanced", max_iter=2000, random_state=seed)
        return weigher.fit(x[rows], labels[rows])

    def predicted(strength: float) -> float:
        guess = np.empty(len(x))
        for train, test in folds:
            guess[test] = fit(train, strength).decision_function(x[test])
        return float(roc_auc_score(labels, guess))

    # Of equals the stronger penalty: its weights lie nearer to a plain mean.
    best = STRENGTHS[0] if said.shape[1] == 1 else max(STRENGTHS, key=predicted)
    final = fit(slice(None), best)
    return final.coef_[0] / scale, float(final.intercept_[0])


def _as_scorer(features: Floating, weights: Float64Array, offset: float) -> Any:
    """A linear function of raw features in the form that `fit_scorer` gives: all that follows is the same."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(np.asarray(features, dtype=np.float32))
    # The penalty is that of the weights' prior, which the site's marks are weighed against.
    model = LogisticRegression(C=REGULARISATION)
    model.classes_ = np.array([0, 1])
    model.n_features_in_ = features.shape[1]
    model.n_iter_ = np.array([0])
    model.coef_ = (weights * scaler.scale_)[None]
    model.intercept_ = np.array([offset + weights @ scaler.mean_])
    return make_pipeline(scaler, model)
