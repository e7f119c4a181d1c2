"""The two graphs of a model, each written into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir
import torch
from torch import Tensor, nn

from edge_runtime.stream.segments import SegmentSpec
from export.fusion.layer_scale import fold_layer_scales
from export.language import TruncatedLanguage
from export.precision.rounding import Rounded, Rounding, product_weights
from export.publish import LANGUAGE, VISION
from export.torch_onnx import export_module
from models.family import Mllm
from models.heads import HeadRef
from models.prompts import Prompt

_EXACT = Rounding()


def export_vision(mllm: Mllm, folder: Path, rounding: Rounding = _EXACT) -> Rounded:
    """Write `vision.onnx` with its weights beside it.

    The model's weights leave the memory and its device first: each is read when it is written.

    Args:
        mllm: The model.
        folder: An existing folder.
        rounding: How exactly products are computed.

    Returns:
        What became of the graph.

    Raises:
        CheckpointError: A weight cannot be read.
        OSError: A file cannot be written.
    """
    mllm.to("cpu")
    with mllm.weights.in_float32():
        # The content of a sample does not matter, its shape does; two, because one would become a constant.
        pictures = torch.zeros(2, mllm.frames_per_group, mllm.pixels.height, mllm.pixels.width, 3, dtype=torch.uint8)
        return _export(mllm, mllm.vision, pictures, folder / VISION, ("frames", "tokens"), rounding)


def export_language(
    mllm: Mllm,
    prompt: Prompt,
    experts: Sequence[HeadRef],
    segment: SegmentSpec,
    folder: Path,
    rounding: Rounding = _EXACT,
) -> Rounded:
    """Write `language.onnx`, as `export_vision` does the other.

    Args:
        mllm: The model.
        prompt: Baked into the graph.
        experts: In rank order.
        segment: How segments are sampled; F is static in the graph, batches are dynamic.
        folder: An existing folder.
        rounding: How exactly products are computed.

    Returns:
        What became of the graph.

    Raises:
        UsageError: An expert does not exist or comes twice.
        CheckpointError: A weight cannot be read.
        OSError: A file cannot be written.
    """
    mllm.to("cpu")
    with mllm.weights.in_float32():
        module = TruncatedLanguage(mllm, prompt, experts, segment)
        width = mllm.geometry.width * (1 + len(mllm.additions_after))
        tokens = torch.zeros(2, segment.sampled // mllm.frames_per_group * mllm.tokens_per_frame, width)
        return _export(mllm, module, tokens, folder / LANGUAGE, ("tokens", "features"), rounding)


def _export(
    mllm: Mllm, module: nn.Module, sample: Tensor, path: Path, names: tuple[str, str], rounding: Rounding
) -> Rounded:
    found: list[Rounded] = []
    before: list[str] = []

    def look(model: ir.Model) -> None:
        before.extend(product_weights(model))

    def look_again(model: ir.Model) -> None:
        found.append(Rounded.of(rounding.precision, before, model))

    passes = [fold_layer_scales, look, *rounding.passes(module, mllm.weights), look_again]
    export_module(module, sample, path, *names, mllm.weights, passes)
    return found[0]
