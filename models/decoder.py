"""The parts of a decoder that a truncated copy needs. Knows transformers' module names; exports nothing itself.

Qwen2, Qwen3 and Llama decoders share these names: `input_layernorm`, `self_attn.{q,k,v,o}_proj`, optional
`self_attn.{q,k}_norm`, `post_attention_layernorm`, `mlp`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Geometry:
    """L layers of H heads (kv_heads of them with keys and values of their own), head width d_h, model width D."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    width: int

    def __post_init__(self) -> None:
        if min(self.layers, self.heads, self.kv_heads, self.head_dim, self.width) < 1:
            raise ValueError(f"a geometry has no zero in it: {self}")
        if self.heads % self.kv_heads:
            raise ValueError(f"{self.heads} heads cannot share {self.kv_heads} key/value heads evenly")

    @property
    def queries_per_kv(self) -> int:
        """How many heads share one key/value head."""
        return self.heads // self.kv_heads


class Decoder:
    """A view on a decoder's layers; the modules stay the model's own."""

    def __init__(self, layers: list[nn.Module], rotary: Any, geometry: Geometry) -> None:
        self.layers = layers
        self.geometry = geometry
        self._rotary = rotary

    @torch.inference_mode()
    def rotation(self, length: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the rotary embedding for positions 0..length-1, each (1, length, d_h)."""
        weight = next(self.layers[0].parameters())
        positions = torch.arange(length, device=weight.device).unsqueeze(0)
        cos, sin = self._rotary(weight.new_zeros(1, 1, self.geometry.width), positions)
        # Not inference tensors: an exported module keeps them as its constants.
        return cos.clone(), sin.clone()
