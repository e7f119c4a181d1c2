"""Whether the exported graphs give what the model gives; an export only counts when they do."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ParityError
from edge_runtime.inference.engine import Engine
from edge_runtime.stream.segments import SegmentSpec
from models.family import Mllm
from models.heads import HeadRef
from models.prompts import Prompt
from models.sweep import Sweep


@dataclass(frozen=True, slots=True)
class Parity:
    """Exported features against hooks on the plain model.

    Attributes:
        segments: How many were compared.
        scale: Largest magnitude of a feature of the model.
        max_abs: Largest difference.
        relative: max_abs / scale.
        min_cosine: Cosine between the two, of the worst segment.
        tolerance: What `relative` may be.
    """

    segments: int
    scale: float
    max_abs: float
    relative: float
    min_cosine: float
    tolerance: float

    def to_dict(self) -> dict[str, float]:
        """As the manifest states it."""
        return {
            "segments": float(self.segments),
            "scale": self.scale,
            "max_abs": self.max_abs,
            "relative": self.relative,
            "min_cosine": self.min_cosine,
            "tolerance": self.tolerance,
        }


def expert_features(
    mllm: Mllm, prompt: Prompt, experts: Sequence[HeadRef], frames: NDArray[np.uint8], segment: SegmentSpec
) -> NDArray[np.float32]:
    """What the experts of the model itself give in float32, whatever it computes in while heads are hunted.

    A layer is in memory at a time, none above the deepest expert is run, and no weight stays.

    Args:
        mllm: The model.
        prompt: The question.
        experts: In rank order.
        frames: uint8 (B, F, H, W, 3).
        segment: How they were sampled.

    Returns:
        float32 (B, K·d).
    """
    layers = max(expert.layer for expert in experts) + 1
    planned = mllm.sweep
    with mllm.weights.in_float32(), tempfile.TemporaryDirectory() as spill:
        demand = mllm.demand([prompt], segment, layers)
        mllm.sweep = Sweep(demand.largest, len(frames) * demand.state, Path(spill))
        try:
            heads = mllm.head_features(iter(frames), [prompt], segment, layers)[:, 0]  # (B, layers, H, d)
        finally:
            mllm.sweep = planned
    return np.concatenate([heads[:, expert.layer, expert.head] for expert in experts], axis=1)


def measure_parity(
    wanted: NDArray[np.float32], engine: Engine, frames: NDArray[np.uint8], tolerance: float
) -> Parity:
    """Compare on real segments, one at a time.

    Args:
        wanted: float32 (B, K·d), as `expert_features` gives them. The model need not be in memory any more.
        engine: What runs its graphs.
        frames: uint8 (B, F, H, W, 3), B >= 1.
        tolerance: What the difference may be, of the features' scale.

    Raises:
        InferenceFailed: A graph fails, or gives values that are not finite.
    """
    got = [engine.features(segment[None])[0] for segment in frames]
    original, exported = wanted.astype(np.float64), np.stack(got).astype(np.float64)
    scale = float(np.abs(original).max())
    max_abs = float(np.abs(original - exported).max())
    norms = np.linalg.norm(original, axis=1) * np.linalg.norm(exported, axis=1)
    cosine = (original * exported).sum(axis=1) / np.where(norms > 0, norms, 1.0)
    return Parity(
        segments=len(frames),
        scale=scale,
        max_abs=max_abs,
        relative=max_abs / scale if scale > 0 else max_abs,
        min_cosine=float(cosine.min()),
        tolerance=tolerance,
    )


def centred_cosine(wanted: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    """Cosine between two sets of features, each without its mean over the segments.

    Features of all segments are alike for the most part; what tells segments apart is what is left, and a plain
    cosine hides what rounding does to it.

    Args:
        wanted: float32 (B, K·d).
        got: The same segments' from elsewhere.

    Returns:
        1.0 where neither varies; NaN where a value is none.
    """
    one, other = (values.astype(np.float64) - values.astype(np.float64).mean(axis=0) for values in (wanted, got))
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    if norms == 0.0:
        return 1.0 if np.array_equal(one, other) else 0.0
    return float((one * other).sum()) / norms


def require_same(plain: NDArray[np.float32], growing: NDArray[np.float32], tolerance: float) -> None:
    """Let only a growing form of the decoder pass that gives what the plain one does.

    Args:
        plain: Features.
        growing: The same segments', frame by frame.
        tolerance: What the difference may be, of their scale.

    Raises:
        ParityError: The difference is beyond the tolerance or not a number; the message holds it.
    """
    scale = float(np.abs(plain).max()) or 1.0
    relative = float(np.abs(plain.astype(np.float64) - growing).max()) / scale
    if not relative <= tolerance:
        raise ParityError(
            f"the decoder frame by frame gives features that differ from its own by {relative:.3g} of their scale, "
            f"allowed are {tolerance:g}; the bundle was not written"
        )


def require_parity(parity: Parity) -> None:
    """Let only a true export pass.

    Raises:
        ParityError: The difference is beyond the tolerance or not a number; the message holds it.
    """
    # Written so that a NaN does not pass.
    if not parity.relative <= parity.tolerance:
        raise ParityError(
            f"the exported features differ from the model's by {parity.relative:.3g} of their scale on "
            f"{parity.segments} segments, allowed are {parity.tolerance:g}; the bundle was not written"
        )
