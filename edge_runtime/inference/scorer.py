"""Expert features to the probability of an anomaly, in this process whatever runs the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_runtime.errors import InferenceFailed, first_line
from edge_runtime.inference.engine import FloatArray
from edge_runtime.inference.sessions import open_session


class ScorerGraph:
    """Expert features to the probability of an anomaly."""

    def __init__(self, path: Path, threads: int | None = 1) -> None:
        # A few thousand multiplications: the CPU is the right place whatever runs the model.
        self._session = open_session(path, "cpu", threads)

    def probabilities(self, features: FloatArray) -> FloatArray:
        """features: float32 (b, K·d). Returns (b,), in [0, 1]. Raises InferenceFailed where it is not."""
        try:
            (both,) = self._session.run(["probabilities"], {"features": features})
            column = np.asarray(both, dtype=np.float32).reshape(len(features), 2)[:, 1]
        except Exception as error:
            raise InferenceFailed(f"the scorer failed: {first_line(error)}") from error
        if not ((column >= 0) & (column <= 1)).all():
            raise InferenceFailed("the scorer gave a probability outside 0..1")
        return column
