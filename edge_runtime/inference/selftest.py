"""Does this machine compute what the builder's did? Knows golden segments and tolerances; prints nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.reader import Golden
from edge_runtime.detector import Detector
from edge_runtime.errors import BundleRefused, InferenceFailed, first_line

# How far a value may be from the builder's, as a share of the largest value of its kind. Weights of 16 or 8 bits
# are rounded at every layer, in an order that differs between processors; so is float32 where a provider
# computes it in a shorter format (TF32 on GPUs, bfloat16 in OpenVINO).
_OF_PRECISION = {"fp32": 1e-3, "fp16": 2e-2, "int8": 5e-2}
_OF_PROVIDER = {"cpu": 1e-3, "cuda": 1e-2, "tensorrt": 2e-2, "openvino": 5e-2}


@dataclass(frozen=True, slots=True)
class Difference:
    """One stage's largest difference from the builder's values. `scale` is what it is measured against."""

    stage: str
    max_abs: float
    scale: float
    tolerance: float

    @property
    def relative(self) -> float:
        """max_abs / scale; probabilities have the scale 1."""
        return self.max_abs / self.scale

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance. Not a number never is."""
        return self.relative <= self.tolerance


def tolerance(precision: str, provider: str) -> float:
    """The largest relative difference that graphs of this precision may show on this provider."""
    return max(_OF_PRECISION[precision], _OF_PROVIDER[provider])


def self_test(detector: Detector, golden: Golden) -> list[Difference]:
    """Run the golden segments through all three graphs and compare every stage with the build's values.

    Raises InferenceFailed where a graph fails, BundleRefused where the golden arrays do not fit the graphs.
    """
    graphs = detector.engine
    if graphs is None:
        raise InferenceFailed("the detector was closed")
    stages = detector.bundle.manifest.graphs
    precisions = [stages.vision.precision, stages.language.precision]
    allowed = max(tolerance(precision, graphs.provider) for precision in precisions)
    try:
        tokens = graphs.tokens(golden.frames)
        features = graphs.language(tokens)
    except Exception as error:
        raise InferenceFailed(f"the graphs failed: {first_line(error)}") from error
    probabilities = detector.score(golden.frames)
    return [
        _difference("tokens", tokens, golden.tokens, allowed),
        _difference("features", features, golden.features, allowed),
        _difference("probabilities", probabilities, golden.probabilities, allowed, scale=1.0),
    ]


def _difference(
    stage: str,
    measured: NDArray[np.float32],
    golden: NDArray[np.float32],
    allowed: float,
    scale: float | None = None,
) -> Difference:
    if measured.shape != golden.shape:
        raise BundleRefused(
            f"golden.npz: {stage} have the shape {golden.shape}, the graphs give {measured.shape}; "
            "build the bundle again"
        )
    exact, given = golden.astype(np.float64), measured.astype(np.float64)
    if scale is None:
        # Values that are all zero differ by their own size.
        scale = float(np.abs(exact).max()) or 1.0
    return Difference(stage, float(np.abs(given - exact).max()), scale, allowed)
