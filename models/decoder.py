"""What a truncated copy of a decoder needs: its layers, its geometry, its rotations, and what enters where.

Qwen2, Qwen3 and Llama decoders share these names: `input_layernorm`, `self_attn.{q,k,v,o}_proj`, optional
`self_attn.{q,k}_norm`, `post_attention_layernorm`, `mlp`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edge_runtime.errors import CheckpointError

# `model_type` of decoders that are nothing but their projections, norms and rotary positions: others scale or gate
# in between, and a copy would silently leave that out.
TRUNCATABLE = ("qwen2", "qwen3", "llama")


#: Cosines and sines of the rotary embedding of a stretch, (1, s, d_h) each.
Rotation = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Geometry:
    """The sizes of a decoder.

    Attributes:
        layers: L.
        heads: H heads a layer.
        kv_heads: How many of them have keys and values of their own; divides `heads`.
        head_dim: d_h, the width of a head; not always width / heads.
        width: D, the width of the model.
    """

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
    """A view on a decoder's layers; the modules stay the model's own.

    Attributes:
        layers: The decoder layers, from the lowest.
        geometry: Their sizes.
    """

    def __init__(self, layers: list[nn.Module], rotary: Any, geometry: Geometry) -> None:
        self.layers = layers
        self.geometry = geometry
        self._rotary = rotary

    # Not under inference mode, whose tensors an exported module could not keep as its constants.
    @torch.no_grad()
    def rotation(self, positions: Tensor, dtype: torch.dtype = torch.float32) -> Rotation:
        """Cosines and sines of the rotary embedding, from the positions alone.

        transformers' modules with scaled rotations remember the longest sequence that they have seen, and rotate the
        next one otherwise; a fresh copy remembers nothing.

        Args:
            positions: Of a whole sequence: (1, s), or (axes, 1, s) where the decoder counts along several axes.
            dtype: Of the result.

        Returns:
            Two tensors (1, s, d_h), on the device of the positions.
        """
        rotary = copy.deepcopy(self._rotary).to(positions.device)
        like = torch.zeros(1, 1, self.geometry.width, dtype=dtype, device=positions.device)
        cos, sin = rotary(like, positions)
        return cos.clone(), sin.clone()


def read_decoder(language: Any, config: Any) -> Decoder:
    """Wrap a loaded decoder. The geometry is its config's and its weights', never assumed.

    Args:
        language: transformers' decoder, with `layers` and `rotary_emb`.
        config: Its config.
    """
    return Decoder(
        list(language.layers),
        language.rotary_emb,
        Geometry(
            layers=len(language.layers),
            heads=int(config.num_attention_heads),
            kv_heads=int(config.num_key_value_heads),
            head_dim=int(language.layers[0].self_attn.head_dim),
            width=int(config.hidden_size),
        ),
    )


def check_attention(config: Any) -> None:
    """Raise CheckpointError where a layer of the decoder does not see every earlier position."""
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or []):
        raise CheckpointError("the decoder uses sliding windows, which cannot be exported; use another")


def interleave(runs: Sequence[Tensor], visual: Tensor) -> list[Tensor]:
    """The pieces of a sequence up to the last visual token, to be concatenated.

    Args:
        runs: n tensors (1, s_i, D), run i standing directly before the visual tokens of group i. May be empty.
        visual: (b, n, T, D).

    Returns:
        Tensors (b, s, D) in the order of the sequence.
    """
    pieces = []
    for index, run in enumerate(runs):
        if run.shape[1]:
            pieces.append(run.expand(visual.shape[0], -1, -1))
        pieces.append(visual[:, index])
    return pieces


def split_visual(tokens: Tensor, width: int, additions_after: Sequence[int]) -> tuple[Tensor, dict[int, Tensor]]:
    """Visual tokens as they enter the sequence, and what is added to them higher up (DeepStack, arXiv 2406.04334).

    Args:
        tokens: (…, D·(1 + additions)): the embedding first, then one part for every layer of `additions_after`.
        width: D.
        additions_after: Layers after which something is added to the hidden states at the visual positions.

    Returns:
        The embeddings (…, D), and for each of those layers its addition (…, D).
    """
    if not additions_after:
        return tokens, {}
    first, *others = torch.split(tokens, width, dim=-1)
    return first, dict(zip(additions_after, others, strict=True))
