"""What a bundle says of its calibration, made up: for stores of a site that need no bundle."""

from __future__ import annotations

import numpy as np

from edge_runtime.bundle.calibration import Calibration

SIZE = 40
ID = "ab" * 32


def calibration(size: int = SIZE) -> Calibration:
    """Of so many features."""
    rng = np.random.default_rng(0)
    return Calibration(
        prior_mean=rng.normal(size=size + 1) / 5,
        prior_diagonal=np.append(np.full(size, 100.0), 0.0),
        prior_factor=rng.normal(size=(20, size + 1)),
        mean=rng.normal(size=size) * 10,
        scale=rng.uniform(0.1, 20.0, size=size),
        centre=np.zeros(size),
        covariance_diagonal=np.ones(size),
        covariance_factor=np.zeros((0, size)),
        normal_scores=np.zeros(0),
        normal_smoothed=np.zeros((2, 0)),
        distances=np.zeros(0),
        videos=np.zeros(0, np.int64),
    )
