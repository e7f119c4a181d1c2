"""The two graphs of a model, written into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from edge_runtime.stream.segments import SegmentSpec
from export.language import TruncatedLanguage
from export.publish import LANGUAGE, VISION
from export.torch_onnx import export_module
from models.family import Mllm
from models.heads import HeadRef
from models.prompts import Prompt


def export_graphs(mllm: Mllm, prompt: Prompt, experts: Sequence[HeadRef], segment: SegmentSpec, folder: Path) -> None:
    """Write `vision.onnx` and `language.onnx` with their weights beside them, float32.

    The model's weights leave the memory and its device first: each is read when it is written.

    Args:
        mllm: The model.
        prompt: Baked into the language graph.
        experts: In rank order.
        segment: How segments are sampled; F is static in the language graph, batches are dynamic.
        folder: An existing folder.

    Raises:
        UsageError: An expert does not exist or comes twice.
        CheckpointError: A weight cannot be read.
        OSError: A file cannot be written.
    """
    export_vision(mllm, folder)
    export_language(mllm, prompt, experts, segment, folder)


def export_vision(mllm: Mllm, folder: Path) -> None:
    """Write `vision.onnx` into an existing folder; see `export_graphs`."""
    mllm.to("cpu")
    with mllm.weights.in_float32():
        # The content of a sample does not matter, its shape does; two, because one would become a constant.
        pictures = torch.zeros(2, mllm.frames_per_group, mllm.pixels.height, mllm.pixels.width, 3, dtype=torch.uint8)
        export_module(mllm.vision, pictures, folder / VISION, "frames", "tokens", mllm.weights)


def export_language(
    mllm: Mllm, prompt: Prompt, experts: Sequence[HeadRef], segment: SegmentSpec, folder: Path
) -> None:
    """Write `language.onnx`; see `export_graphs`."""
    mllm.to("cpu")
    with mllm.weights.in_float32():
        module = TruncatedLanguage(mllm, prompt, experts, segment)
        width = mllm.geometry.width * (1 + len(mllm.additions_after))
        tokens = torch.zeros(2, segment.sampled // mllm.frames_per_group * mllm.tokens_per_frame, width)
        export_module(module, tokens, folder / LANGUAGE, "tokens", "features", mllm.weights)
