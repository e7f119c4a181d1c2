"""The graphs of a model, each written into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir
import torch
from torch import Tensor, nn

from edge_runtime.stream.segments import SegmentSpec
from export.fusion.layer_scale import fold_layer_scales
from export.growing import GrowingLanguage
from export.language import TruncatedLanguage
from export.precision.rounding import Rounded, Rounding, product_weights
from export.publish import GROWING, LANGUAGE, VISION
from export.torch_onnx import Given, export_module
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
        return _export(mllm, mllm.vision, [Given("frames", pictures)], ["tokens"], folder / VISION, rounding)


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
        tokens = Given("tokens", _tokens(mllm, segment.sampled // mllm.frames_per_group))
        return _export(mllm, module, [tokens], ["features"], folder / LANGUAGE, rounding)


def export_growing(
    mllm: Mllm,
    prompt: Prompt,
    experts: Sequence[HeadRef],
    segment: SegmentSpec,
    folder: Path,
    rounding: Rounding = _EXACT,
) -> list[int]:
    """Write `growing.onnx`: the decoder of the `language.onnx` that is there, over some positions at a time.

    The weights are those in `language.onnx.data`; what else it needs lies beside it.

    Args:
        mllm: The model.
        prompt: As of `export_language`, and so are the others.
        experts: In rank order.
        segment: How segments are sampled.
        folder: Where `language.onnx` is.
        rounding: How exactly products are computed.

    Returns:
        Where each group of frames ends in the sequence, the last of them with the question.

    Raises:
        UsageError: As of `export_language`.
        CheckpointError: As of `export_language`.
        OSError: As of `export_language`.
    """
    mllm.to("cpu")
    with mllm.weights.in_float32():
        module = GrowingLanguage(mllm, prompt, experts, segment)
        ends = mllm.layout(prompt, segment).group_ends
        inputs = [
            Given("tokens", _tokens(mllm, 1), ("batch", "visual")),
            Given("positions", torch.arange(2, 2 + ends[0]), ("added",)),
            Given("state", torch.zeros(2, 2, module.state_width), ("batch", "known")),
        ]
        _export(mllm, module, inputs, ["features", "grown"], folder / GROWING, rounding, folder / LANGUAGE)
        return ends


def _tokens(mllm: Mllm, groups: int) -> Tensor:
    width = mllm.geometry.width * (1 + len(mllm.additions_after))
    return torch.zeros(2, groups * mllm.tokens_per_frame, width)


def _export(
    mllm: Mllm,
    module: nn.Module,
    inputs: Sequence[Given],
    outputs: Sequence[str],
    path: Path,
    rounding: Rounding,
    beside: Path | None = None,
) -> Rounded:
    found: list[Rounded] = []
    before: list[str] = []

    def look(model: ir.Model) -> None:
        before.extend(product_weights(model))

    def look_again(model: ir.Model) -> None:
        found.append(Rounded.of(rounding.precision, before, model))

    passes = [fold_layer_scales, look, *rounding.passes(module, mllm.weights), look_again]
    export_module(module, inputs, outputs, path, mllm.weights, passes, beside)
    return found[0]
