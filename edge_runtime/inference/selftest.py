"""Whether this machine computes what the builder's did: an engine's answers against a bundle's golden segments."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.reader import Golden
from edge_runtime.errors import BundleRefused, InferenceFailed
from edge_runtime.inference.engine import Engine, FloatArray, LossyEngine, TwoSteps
from edge_runtime.inference.precisions import PRECISIONS
from edge_runtime.inference.providers import find_provider

# The scorer: float32 (b, K·d) to (b,).
Probabilities = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, slots=True)
class Difference:
    """One stage's largest difference from the builder's values.

    Attributes:
        stage: `tokens`, `features` or `probabilities`; `compressed`, the features of frames
            that travelled as JPEG, where they do.
        max_abs: The largest absolute difference.
        scale: What it is measured against: the largest value of its kind, or 1 for probabilities.
        tolerance: The largest relative difference that is allowed.
    """

    stage: str
    max_abs: float
    scale: float
    tolerance: float

    @property
    def relative(self) -> float:
        """max_abs / scale."""
        return self.max_abs / self.scale

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance. Not a number never is."""
        return self.relative <= self.tolerance


def tolerance(precisions: Iterable[str], provider: str) -> float:
    """The largest relative difference that graphs of these precisions may show on this provider."""
    return max([find_provider(provider).tolerance, *(PRECISIONS[name].golden_tolerance for name in precisions)])


def self_test(
    engine: Engine, golden: Golden, precisions: Iterable[str], probabilities: Probabilities
) -> list[Difference]:
    """Compare tokens, features and probabilities of all golden segments with the builder's.

    Args:
        engine: What is tested.
        golden: The bundle's golden segments.
        precisions: Those of the graphs, which decide what is allowed.
        probabilities: The scorer.

    Returns:
        One difference a stage, in the order of the stages; whether they pass is for the caller to ask.

    Raises:
        InferenceFailed: A graph failed.
        BundleRefused: The golden arrays have other shapes than what the engine gives.
    """
    return compare(engine, golden, tolerance(precisions, engine.provider), probabilities)


def compare(engine: Engine, golden: Golden, allowed: float, probabilities: Probabilities) -> list[Difference]:
    """The self-test with a tolerance of the caller's; see `self_test`."""
    graphs: TwoSteps = engine.lossless if isinstance(engine, LossyEngine) else engine
    tokens = graphs.tokens(golden.frames)
    features = graphs.language(tokens)
    differences = [
        _difference("tokens", tokens, golden.tokens, allowed),
        _difference("features", features, golden.features, allowed),
        _difference("probabilities", probabilities(features), golden.probabilities, allowed, scale=1.0),
    ]
    if isinstance(engine, LossyEngine) and engine.loss > 0:
        # The way that frames really take, too. Encoders of JPEG differ a little from each other.
        lost = _difference(
            "compressed",
            engine.features(golden.frames),
            golden.features,
            allowed + 1.5 * engine.loss,
        )
        differences.append(lost)
    return differences


def check_engine(
    engine: Engine, golden: Golden, precisions: Iterable[str], probabilities: Probabilities
) -> list[Difference]:
    """The self-test on the first golden segment alone, for the opening of a bundle: one segment's time.

    Args:
        engine: What is tested.
        golden: The bundle's golden segments.
        precisions: Those of the graphs.
        probabilities: The scorer.

    Returns:
        What was measured.

    Raises:
        InferenceFailed: A graph failed, or a stage gives other values than the builder's; the message holds the
            stage, what was measured, what is allowed and the ways out.
        BundleRefused: The golden arrays have other shapes than what the engine gives.
    """
    first = Golden(golden.frames[:1], golden.tokens[:1], golden.features[:1], golden.probabilities[:1])
    differences = self_test(engine, first, precisions, probabilities)
    # What comes first is at fault: a stage computes with what the one before it gave.
    for found in differences:
        if not found.passed:
            raise InferenceFailed(
                f"self-test: the {found.stage} of the golden segment differ from the builder's by "
                f"{found.relative:.3g} of their scale on the provider {engine.provider}, allowed are "
                f"{found.tolerance:g}; see `hh-edge verify`, choose another --provider, "
                "or leave this test out (`hh-edge run --no-self-test`, Detector(self_test=False))"
            )
    return differences


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
