"""The two graphs of a model, written into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from export.language import TruncatedLanguage
from export.publish import LANGUAGE, VISION
from export.torch_onnx import export_module
from models.family import Mllm
from models.heads import HeadRef
from models.prompts import Prompt


def export_graphs(mllm: Mllm, prompt: Prompt, experts: Sequence[HeadRef], frames: int, folder: Path) -> None:
    """Write `vision.onnx` and `language.onnx` with their weights beside them, float32.

    Args:
        mllm: The model.
        prompt: Baked into the language graph.
        experts: In rank order.
        frames: F, which is static in the language graph; batches are dynamic.
        folder: An existing folder.

    Raises:
        UsageError: An expert does not exist or comes twice.
    """
    export_vision(mllm, folder)
    export_language(mllm, prompt, experts, frames, folder)


def export_vision(mllm: Mllm, folder: Path) -> None:
    """Write `vision.onnx` into an existing folder."""
    export_module(mllm.vision, _pictures(mllm), folder / VISION, "frames", "tokens")


def export_language(mllm: Mllm, prompt: Prompt, experts: Sequence[HeadRef], frames: int, folder: Path) -> None:
    """Write `language.onnx`; see `export_graphs`."""
    with torch.no_grad():
        width = mllm.vision(_pictures(mllm)).shape[-1]
    tokens = torch.zeros(2, frames // mllm.frames_per_group * mllm.tokens_per_frame, width)
    export_module(TruncatedLanguage(mllm, prompt, experts, frames), tokens, folder / LANGUAGE, "tokens", "features")


def _pictures(mllm: Mllm) -> Tensor:
    """A sample whose shape matters, not its content; two pictures, because one would become a constant."""
    size = mllm.pixels.size
    return torch.zeros(2, mllm.frames_per_group, size, size, 3, dtype=torch.uint8)
