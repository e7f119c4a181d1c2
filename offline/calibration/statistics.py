"""What travels with the scorer for the site: its Gaussian prior, and how normal segments score and lie.

Scores and distances of normal segments are those of a scorer, a centre and a covariance that did not see the video:
in-sample ones would be too low, and the edge would call too much unusual.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edge_runtime.bundle.calibration import MOST_SEGMENTS, Calibration, mahalanobis
from edge_runtime.bundle.manifest import Locators
from edge_runtime.errors import FeatureError
from offline.arrays import BoolArray, Float64Array, Floating
from offline.calibration.rules import ScorerRule
from offline.calibration.samples import Samples
from offline.data.scores import VideoScores
from offline.extraction.extract import Extracted

#: Videos are left out one by one, or in so many groups where there are more.
FOLDS = 20
# Of the variance of a standardised feature: a covariance of few samples may have none in some direction.
_FLOOR = 1e-3


def statistics(
    scorer: Any,
    calibration: Sequence[Extracted],
    validation: Sequence[Extracted],
    scored: Mapping[str, VideoScores],
    locators: Locators,
    rule: ScorerRule,
    marked: Samples | None = None,
) -> Calibration:
    """Compute `calibration.npz`.

    Args:
        scorer: What the rule gave for the calibration features.
        calibration: Those.
        validation: Validation videos, segment by segment: the normal ones count as normal segments too.
        scored: Their scores by the scorer, by name.
        locators: As calibrated.
        rule: By which scorers are fitted.
        marked: What else the scorer was fitted on.
    """
    fitted_on = Samples.of(calibration, marked)
    samples, labels = fitted_on.features.astype(np.float64), fitted_on.labels
    mean, scale = np.asarray(scorer[0].mean_, np.float64), np.asarray(scorer[0].scale_, np.float64)
    standardised = (samples - mean) / scale
    weights, diagonal, factor = scorer_prior(scorer[-1], standardised, labels)
    centre, spread, covariance = shrunk_covariance(standardised[~labels])
    scores, distances = [], []
    for group, training in _left_out(calibration, marked):
        try:
            judge = rule.fit(training)
        except FeatureError:
            # What is left without these videos may be too little for the rule, where all of them were just enough.
            judge = scorer
        normal = shrunk_covariance((training.features[~training.labels].astype(np.float64) - mean) / scale)
        for one in group:
            raw = judge.predict_proba(one.features)[:, 1].astype(np.float64)
            scores.append(VideoScores.of_segments(one.video.name, one.frames, one.spans, raw))
            distances.append(mahalanobis((one.features - mean) / scale, *normal))
    for one in validation:
        if not one.video.anomalous:
            scores.append(scored[one.video.name])
            distances.append(mahalanobis((one.features - mean) / scale, centre, spread, covariance))
    smoothed = [
        [_values(one.smoothed(locator.sigma, locator.lookahead)) for one in scores]
        for locator in (locators.full, locators.low_latency)
    ]
    counts = [len(far) for far in distances]
    kept = slice(0, MOST_SEGMENTS)
    return Calibration(
        prior_mean=weights,
        prior_diagonal=diagonal,
        prior_factor=factor,
        mean=mean,
        scale=scale,
        centre=centre,
        covariance_diagonal=spread,
        covariance_factor=covariance,
        normal_scores=_joined([_values(one) for one in scores])[kept],
        normal_smoothed=np.stack([_joined(one) for one in smoothed])[:, kept],
        distances=_joined(distances)[kept],
        videos=np.repeat(np.arange(len(counts)), counts).astype(np.int64)[kept],
    )


def scorer_prior(
    logistic: Any, standardised: Floating, labels: BoolArray
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Laplace's approximation of what the calibration set says of the weights, intercept last.

    The objective that scikit-learn minimises, over C: sum of s_i loss_i + |w|²/(2C), with s_i of balanced classes.

    Args:
        logistic: The fitted LogisticRegression.
        standardised: (N, D), what it was fitted on.
        labels: (N,).

    Returns:
        The weights (D + 1), the diagonal (D + 1) and the factor (min(N, D + 1), D + 1) of their precision.
    """
    weights = np.append(np.asarray(logistic.coef_, np.float64)[0], float(logistic.intercept_[0]))
    with_one = np.column_stack([standardised, np.ones(len(standardised))])
    probabilities = 1 / (1 + np.exp(-(with_one @ weights)))
    balanced = np.where(labels, len(labels) / (2 * labels.sum()), len(labels) / (2 * (~labels).sum()))
    factor = np.sqrt(balanced * probabilities * (1 - probabilities))[:, None] * with_one
    if len(factor) > factor.shape[1]:
        # As many rows as it has columns say the same.
        factor = np.linalg.qr(factor, mode="r")
    diagonal = np.append(np.full(standardised.shape[1], 1 / float(logistic.C)), 0.0)
    return weights, diagonal, factor


def shrunk_covariance(rows: Floating) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Centre and Ledoit-Wolf covariance of samples: (1 - ρ) S + ρ µ I, as diagonal and factor.

    Args:
        rows: (N, D), N >= 1.

    Returns:
        The centre (D), the diagonal (D), which has a floor, and the factor (min(N, D), D).
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    rows = np.asarray(rows, dtype=np.float64)
    centre = rows.mean(axis=0)
    apart = rows - centre
    shrinkage = float(ledoit_wolf_shrinkage(apart, assume_centered=True)) if len(rows) > 1 else 1.0
    factor = np.sqrt((1 - shrinkage) / len(rows)) * apart
    if len(factor) > factor.shape[1]:
        factor = np.linalg.qr(factor, mode="r")
    diagonal = np.full(rows.shape[1], max(shrinkage * float((apart**2).mean()), _FLOOR))
    return centre, diagonal, factor


def _left_out(
    calibration: Sequence[Extracted], marked: Samples | None
) -> Iterator[tuple[Sequence[Extracted], Samples]]:
    """Groups of normal videos, each with all that are not in it; with all where no other has a normal sample."""
    normal = [one for one in calibration if not one.video.anomalous]
    everything = Samples.of(calibration, marked)
    for first in range(min(FOLDS, len(normal))):
        group = normal[first::FOLDS]
        within = {id(one) for one in group}
        rest = [one for one in calibration if id(one) not in within]
        training = Samples.of(rest, marked) if rest else everything
        both = training.labels.any() and not training.labels.all()
        yield group, training if both else everything


def _values(scores: VideoScores) -> Float64Array:
    return np.array([score for _, _, score in scores.segments if score is not None], dtype=np.float64)


def _joined(parts: Sequence[Float64Array]) -> Float64Array:
    return np.concatenate(parts) if parts else np.empty(0)
