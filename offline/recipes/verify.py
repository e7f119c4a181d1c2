"""Whether a bundle still gives what its source model gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec import UNSET

from edge_runtime.bundle.reader import Bundle
from edge_runtime.errors import CheckpointError
from edge_runtime.inference.engines import fitted_on, open_engine
from edge_runtime.inference.precisions import parity_tolerance
from export.parity import Parity, expert_features, measure_parity
from models.heads import HeadRef
from models.loading import load
from models.prompts import Prompt
from models.transformers_mllm import SYSTEM_NONE
from offline.data.dataset import read_dataset
from offline.data.segments import sample_segments


@dataclass(frozen=True, slots=True)
class Verification:
    """What a verification found.

    Attributes:
        parity: How far the bundle is from the model.
        same_revision: Whether the model is the very one the bundle was made from.
    """

    parity: Parity
    same_revision: bool


def verify(
    bundle_path: Path, model: str | None = None, manifest: Path | None = None, segments: int = 8, device: str = "cpu"
) -> Verification:
    """Compare a bundle's features with those of its source model.

    Args:
        bundle_path: The bundle.
        model: Where the source model is; None takes the name in the bundle.
        manifest: Take segments of these videos; None takes the bundle's golden segments.
        segments: How many to take.
        device: Where the model runs.

    Raises:
        BundleRefused: The bundle is not what its manifest says.
        CheckpointError: The model cannot be used, or has another geometry.
    """
    bundle = Bundle.open(bundle_path)
    stated = bundle.manifest
    said = stated.source_model.system_message
    system_message = None if said is UNSET else said or SYSTEM_NONE
    name = stated.source_model.name if model is None else model
    mllm = load(name, device, system_message=system_message)
    geometry = (mllm.geometry.layers, mllm.geometry.heads, mllm.geometry.head_dim, mllm.geometry.width)
    of = stated.geometry
    if geometry != (of.layers, of.heads, of.head_dim, of.width):
        raise CheckpointError(
            f"{mllm.source.name}: has another geometry {geometry} than the bundle's source model; "
            "name the right one with --model"
        )
    mllm.use_pixels(stated.pixels)
    if manifest is None:
        frames = bundle.golden().frames
    else:
        frames = sample_segments(read_dataset(manifest), mllm.pixels, stated.segment, segments)
    prompt = Prompt(stated.prompt.name, stated.prompt.text)
    experts = [HeadRef(expert.layer, expert.head) for expert in stated.experts]
    wanted = expert_features(mllm, prompt, experts, np.ascontiguousarray(frames), stated.segment)
    precisions = stated.graphs.precisions
    engine = open_engine(bundle, fitted_on(stated))
    parity = measure_parity(wanted, engine, frames, parity_tolerance(precisions))
    return Verification(parity, mllm.source.revision == stated.source_model.revision)
