"""The site's scorer: the bundle's own, moved by what operators marked. numpy alone, in milliseconds.

The calibration set says of the weights w: Gaussian, mean w0 (the bundle's scorer), precision A (see
`bundle.calibration`). Marked segments add their likelihood, each as much as a calibration segment, and the new
weights are the most probable ones (MAP). They lie at w0 + A⁻¹ X' a with one number a segment, a = y - p, so that
Newton's method works on as many numbers as there are marked segments, and no number leaves -1..1: marks that can be
separated do not explode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.calibration import CALIBRATION, Calibration, FloatArray
from edge_runtime.errors import BundleRefused, FeatureError, InferenceFailed

BoolArray = NDArray[np.bool_]

# What |y - p - a| may be at the end. Newton's steps double its digits: it takes some ten.
_TOLERANCE = 1e-11
_STEPS = 100
_LEAST_SHARE = 1e-6
_STRONGER = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class SiteScorer:
    """A scorer of weights on standardised features.

    Attributes:
        weights: float64 (D + 1), the intercept last.
        mean: float64 (D).
        scale: float64 (D).
    """

    weights: FloatArray
    mean: FloatArray
    scale: FloatArray

    def probabilities(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Probability that each segment is anomalous; as of `inference.scorer.ScorerGraph`.

        Args:
            features: (b, D), in expert order.

        Returns:
            float32 (b,), in [0, 1].

        Raises:
            InferenceFailed: Features are not finite.
        """
        standardised = (np.asarray(features, dtype=np.float64) - self.mean) / self.scale
        logits = standardised @ self.weights[:-1] + self.weights[-1]
        if not np.isfinite(logits).all():
            raise InferenceFailed("the site's scorer gave a value that is not finite")
        return logistic(logits).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Refit:
    """Weights that were moved by marked segments, and what that does to these.

    Attributes:
        weights: float64 (D + 1), the intercept last.
        before: float64 (m,), their probabilities by the bundle's scorer, which never saw them.
        after: float64 (m,), by the new weights.
        left_out: float64 (m,), by weights that did not see any segment of the same mark.
    """

    weights: FloatArray
    before: FloatArray
    after: FloatArray
    left_out: FloatArray


def refit(
    calibration: Calibration, features: NDArray[np.floating], labels: BoolArray, groups: Sequence[int]
) -> Refit:
    """Move the bundle's scorer by marked segments: O(D³ + m D²) and a few m³.

    Args:
        calibration: Of the bundle.
        features: (m, D), as the graphs give them. m may be 0: the weights are the bundle's then, to the bit.
        labels: bool (m,), True is anomalous. They may be of one class, and contradict each other.
        groups: m numbers, equal for the segments of one mark.

    Raises:
        FeatureError: Features are not finite, or of another size.
        BundleRefused: The prior says nothing of some weight.
    """
    if features.ndim != 2 or features.shape[1] != calibration.feature_size:
        raise FeatureError(
            f"marked features have the shape {features.shape}, the bundle's are of {calibration.feature_size}; "
            "use the feedback of this bundle"
        )
    if len(features) != len(labels) or len(features) != len(groups):
        raise FeatureError(f"{len(features)} marked features have {len(labels)} labels and {len(groups)} groups")
    if not np.isfinite(features).all():
        raise FeatureError("marked features are not finite; delete these marks")
    prior = calibration.prior_mean
    if not len(features):
        nothing = np.empty(0)
        return Refit(prior.copy(), nothing, nothing, nothing)
    rows = np.column_stack([calibration.standardised(features), np.ones(len(features))])
    precision = np.diag(calibration.prior_diagonal) + calibration.prior_factor.T @ calibration.prior_factor
    try:
        ways = np.linalg.solve(precision, rows.T)
    except np.linalg.LinAlgError as error:
        raise BundleRefused(
            f"{CALIBRATION}: says nothing of some weight of the scorer; build the bundle again"
        ) from error
    covariance = rows @ ways
    kernel = np.asarray((covariance + covariance.T) / 2, dtype=np.float64)
    logits = rows @ prior
    moves = solve_marks(kernel, logits, labels)
    left_out = np.empty(len(rows))
    marks = np.asarray(groups)
    for mark in np.unique(marks):
        held = marks == mark
        rest = ~held
        others = solve_marks(kernel[np.ix_(rest, rest)], logits[rest], labels[rest], moves[rest])
        left_out[held] = logits[held] + kernel[np.ix_(held, rest)] @ others
    return Refit(
        weights=prior + ways @ moves,
        before=logistic(logits),
        after=logistic(logits + kernel @ moves),
        left_out=logistic(left_out),
    )


def solve_marks(
    kernel: FloatArray, logits: FloatArray, labels: BoolArray, start: FloatArray | None = None
) -> FloatArray:
    """Find a with a = y - p(logits + kernel a): the only minimum of the log loss plus a' kernel a / 2.

    Args:
        kernel: (m, m), the prior covariance of the rows' logits; symmetric, positive semi-definite.
        logits: (m,), by the prior's mean.
        labels: (m,).
        start: Where to begin, as a solution with more segments; 0 by default.

    Returns:
        (m,), in -1..1.
    """
    moves, found = _newton(kernel, logits, labels, np.zeros(len(logits)) if start is None else start)
    if found:
        return moves
    # Rows far out: all probabilities are 0 or 1 to the last digit, and Newton's steps say little. With a weaker prior
    # covariance they do; its solution leads to that of a stronger one, and so on.
    moves = np.zeros(len(logits))
    weakest = -math.ceil(math.log(max(float(np.abs(kernel).max()), 1.0), _STRONGER)) - 1
    for power in range(weakest, 1):
        moves, found = _newton(kernel * _STRONGER**power, logits, labels, moves)
    return moves


def _newton(kernel: FloatArray, logits: FloatArray, labels: BoolArray, moves: FloatArray) -> tuple[FloatArray, bool]:
    """Newton's method from `moves` on; the best it comes to, and whether that is the minimum."""
    signs = np.where(labels, 1.0, -1.0)

    def objective(tried: FloatArray) -> float:
        moved = kernel @ tried
        return float(np.logaddexp(0.0, -signs * (logits + moved)).sum() + tried @ moved / 2)

    value = objective(moves)
    for _ in range(_STEPS):
        probabilities = logistic(logits + kernel @ moves)
        apart = moves - (labels - probabilities)
        if not len(apart) or np.abs(apart).max() < _TOLERANCE:
            return moves, True
        curvature = probabilities * (1 - probabilities)
        step = -np.linalg.solve(np.eye(len(moves)) + curvature[:, None] * kernel, apart)
        share = 1.0
        # A full step may overshoot far from the minimum; the objective is convex, so that a shorter one helps.
        while (new := objective(moves + share * step)) > value + 1e-13 * abs(value) and share > _LEAST_SHARE:
            share /= 2
        moves = np.asarray(moves + share * step, dtype=np.float64)
        value = new
    return moves, False


def logistic(logits: FloatArray) -> FloatArray:
    """Logits to probabilities, without overflow."""
    shrunk = np.exp(-np.abs(logits))
    values: FloatArray = np.where(logits >= 0, 1.0, shrunk) / (1.0 + shrunk)
    return values


def log_loss(probabilities: FloatArray, labels: BoolArray) -> float | None:
    """Mean log loss; None without samples."""
    if not len(labels):
        return None
    right = np.where(labels, probabilities, 1 - probabilities)
    return float(-np.log(np.maximum(right, 1e-300)).mean())
