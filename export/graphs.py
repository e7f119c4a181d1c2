"""The two graphs of a model, written into a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

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
    size, group = mllm.pixels.size, mllm.frames_per_group
    # The content of a sample does not matter, its shape does; two of each, because one would become a constant.
    pictures = torch.zeros(2, group, size, size, 3, dtype=torch.uint8)
    export_module(mllm.vision, pictures, folder / VISION, "frames", "tokens")
    with torch.no_grad():
        width = mllm.vision(pictures).shape[-1]
    tokens = torch.zeros(2, frames // group * mllm.tokens_per_frame, width)
    export_module(TruncatedLanguage(mllm, prompt, experts, frames), tokens, folder / LANGUAGE, "tokens", "features")
