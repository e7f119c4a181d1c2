"""Expert features to the probability of an anomaly, in this process whatever runs the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_runtime.errors import InferenceFailed
from edge_runtime.inference.engine import FloatArray, failed
from edge_runtime.inference.providers import CPU
from edge_runtime.inference.sessions import open_session


class ScorerGraph:
    """The logistic regression of a bundle, opened on the CPU."""

    def __init__(self, path: Path, threads: int | None = 1) -> None:
        # A few thousand multiplications: the CPU is the right place whatever runs the model.
        self._session = open_session(path, CPU, threads)

    def probabilities(self, features: FloatArray) -> FloatArray:
        """Probability that each segment is anomalous.

        Args:
            features: float32 (b, K·d), in expert order.

        Returns:
            float32 (b,), in [0, 1].

        Raises:
            InferenceFailed: The graph failed, or gave something else than probabilities.
        """
        try:
            (both,) = self._session.run(["probabilities"], {"features": features})
            column = np.asarray(both, dtype=np.float32).reshape(len(features), 2)[:, 1]
        except Exception as error:
            raise failed(error, "the scorer failed") from error
        if not ((column >= 0) & (column <= 1)).all():
            raise InferenceFailed("the scorer gave a probability outside 0..1")
        return column
