"""The scorer: logistic regression on the concatenated expert features."""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

import numpy as np

from edge_runtime.errors import FeatureError
from offline.arrays import BoolArray, Floating

ScorerName = Literal["logistic", "log-odds", "gaussians"]
"""`logistic` regression on K·d features side by side, as in the paper; the others are in `log_odds`."""

SCORERS: Final[tuple[ScorerName, ...]] = get_args(ScorerName)

# Strong L2: a few dozen samples of K·d_h (160 to 640) features are always separable.
REGULARISATION = 0.01


def fit_scorer(features: Floating, labels: BoolArray, seed: int = 0) -> Any:
    """Fit standardisation and logistic regression (L2), classes weighted to count alike.

    Args:
        features: (N, K·d_h) in expert order.
        labels: bool (N,), both classes.
        seed: Of the solver.

    Returns:
        A scikit-learn Pipeline whose `predict_proba` column 1 is the probability of an anomaly.

    Raises:
        FeatureError: Features are not finite, or the labels are of one class.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(features) != len(labels):
        raise FeatureError(f"{len(features)} feature vectors for {len(labels)} labels")
    if not np.isfinite(features).all():
        raise FeatureError("features to fit the scorer on are not finite; extract them again")
    if labels.all() or not labels.any():
        one = "anomalous" if labels.any() else "normal"
        raise FeatureError(f"all {len(labels)} calibration samples are {one}; the scorer needs both classes")
    scorer = make_pipeline(
        StandardScaler(),
        LogisticRegression(C=REGULARISATION, class_weight="balanced", max_iter=2000, random_state=seed),
    )
    # The graph computes in float32; so does the fit, or a score near the threshold could differ.
    scorer.fit(np.asarray(features, dtype=np.float32), labels.astype(np.int64))
    return scorer
