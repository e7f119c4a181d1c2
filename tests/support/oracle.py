"""Head features by the longest way round: one full pass of plain transformers a prompt, nothing shared."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_runtime.stream.segments import SegmentSpec
from models.prompts import Prompt
from models.transformers_mllm import TransformersMllm


@torch.inference_mode()
def plain_head_features(mllm: TransformersMllm, frames: NDArray[np.uint8], prompt: Prompt) -> NDArray[np.float32]:
    """uint8 (b, F, H, W, 3) to (b, L, H, d_h), by hooks of its own on the whole transformers model."""
    inputs = mllm.plain_inputs(frames, prompt, seeing(frames.shape[1]))
    return hooked(mllm.plain, mllm.language, inputs)


@torch.inference_mode()
def hooked(plain: Any, language: Any, inputs: dict[str, Any]) -> NDArray[np.float32]:
    """What enters every output projection of a transformers model at the last position, (b, L, H, d_h)."""
    caught: dict[int, torch.Tensor] = {}

    def hook(layer: int) -> Any:
        return lambda module, inputs: caught.__setitem__(layer, inputs[0][:, -1].clone())

    handles = [layer.self_attn.o_proj.register_forward_pre_hook(hook(i)) for i, layer in enumerate(language.layers)]
    try:
        plain(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    stacked = torch.stack([caught[layer] for layer in range(len(language.layers))], dim=1)
    return stacked.unflatten(-1, (plain.config.text_config.num_attention_heads, -1)).float().numpy()


def seeing(sampled: int, frames: int = 48, fps: float = 15.0) -> SegmentSpec:
    """Segments of which so many frames are seen."""
    return SegmentSpec(frames=frames, sampled=sampled, fps=fps)


def some_frames(batch: int, frames: int, size: int | tuple[int, int], seed: int = 0) -> NDArray[np.uint8]:
    """Random pictures, uint8 (b, F, H, W, 3)."""
    height, width = (size, size) if isinstance(size, int) else size
    return np.random.default_rng(seed).integers(0, 256, (batch, frames, height, width, 3), dtype=np.uint8)
