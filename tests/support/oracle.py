"""Head features by the longest way round: one full pass of plain transformers a prompt, nothing shared."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.prompts import Prompt
from models.transformers_mllm import TransformersMllm


@torch.inference_mode()
def plain_head_features(mllm: TransformersMllm, frames: NDArray[np.uint8], prompt: Prompt) -> NDArray[np.float32]:
    """uint8 (b, F, S, S, 3) to (b, L, H, d_h), by hooks of its own on the whole transformers model."""
    layers = mllm.plain.model.language_model.layers
    config = mllm.plain.config.text_config
    caught: dict[int, torch.Tensor] = {}

    def hook(layer: int) -> Any:
        return lambda module, inputs: caught.__setitem__(layer, inputs[0][:, -1].clone())

    handles = [layer.self_attn.o_proj.register_forward_pre_hook(hook(i)) for i, layer in enumerate(layers)]
    try:
        mllm.plain(**mllm.plain_inputs(frames, prompt))
    finally:
        for handle in handles:
            handle.remove()
    stacked = torch.stack([caught[layer] for layer in range(len(layers))], dim=1)
    return stacked.reshape(len(frames), len(layers), config.num_attention_heads, -1).numpy()


def some_frames(batch: int, frames: int, size: int, seed: int = 0) -> NDArray[np.uint8]:
    """Random pictures, uint8 (b, F, S, S, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (batch, frames, size, size, 3), dtype=np.uint8)
