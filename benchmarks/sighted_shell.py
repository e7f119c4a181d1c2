"""SmolLM2 behind a tower that sees: the reference model's own, widened to the language model.

The shells of tests/support/smollm.py have random towers, and next to nothing of a video reaches their heads. Here
tower and projector are the reference model's. Its tokens are centred, turned into the wider space by a random
rotation, which keeps all distances, and made as long as those of words. The language model is untouched: it never
learned to read them.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import InternVLForConditionalGeneration

from models.loading import load
from models.reference import reference_checkpoint
from models.reference.architecture import write_preprocessor
from models.transformers_mllm import TransformersMllm


@torch.no_grad()
def write_sighted(folder: Path, shell: Path, frames: NDArray[np.uint8]) -> None:
    """Write the checkpoint.

    Args:
        folder: Is made.
        shell: An InternVL checkpoint around SmolLM2; its language model and its tokenizer are taken.
        frames: uint8 (n, H, W, 3) RGB of the reference model's size, on which tokens are centred and scaled.
    """
    reference = load("reference", "cpu", "float32")
    assert isinstance(reference, TransformersMllm)
    tokens = reference.visual_tokens(frames).flatten(0, 1)
    seeing, speaking = (
        InternVLForConditionalGeneration.from_pretrained(one, dtype=torch.float32)
        for one in (reference_checkpoint(), shell)
    )
    config = speaking.config
    config.vision_config = seeing.config.vision_config
    config.image_seq_length = seeing.config.image_seq_length
    both = InternVLForConditionalGeneration(config)
    both.model.language_model.load_state_dict(speaking.model.language_model.state_dict())
    both.model.vision_tower.load_state_dict(seeing.model.vision_tower.state_dict())
    words = float(speaking.get_input_embeddings().weight.square().mean().sqrt())
    _widen(both.model.multi_modal_projector, seeing.model.multi_modal_projector, tokens, words)
    shutil.copytree(shell, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    write_preprocessor(folder)
    both.save_pretrained(folder)


def _widen(wide: Any, narrow: Any, tokens: Tensor, length: float) -> None:
    """Let `wide` give s·R·(t - mean) where `narrow` gives t; R has orthonormal columns, and s the length of words."""
    width, own = wide.linear_2.out_features, narrow.linear_2.out_features
    random = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(width, own, generator=random)).Q
    mean = tokens.mean(dim=0)
    # A rotation keeps the length of a token, which then has `width` components.
    rotation *= length * (width / (tokens - mean).square().sum(dim=1).mean()) ** 0.5
    wide.layer_norm.load_state_dict(narrow.layer_norm.state_dict())
    for layer in (wide.linear_1, wide.linear_2):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    # GELU leaves the components that stay 0 as they are.
    wide.linear_1.weight[:own], wide.linear_1.bias[:own] = narrow.linear_1.weight, narrow.linear_1.bias
    wide.linear_2.weight[:, :own] = rotation @ narrow.linear_2.weight
    wide.linear_2.bias[:] = rotation @ (narrow.linear_2.bias - mean)
