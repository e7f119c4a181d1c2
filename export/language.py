"""The truncated decoder: visual tokens to expert features.

Layers above the deepest expert do not exist here. In the deepest layer only the expert heads' own columns of
q, k and v are computed, and q only for the last position. The prompt is baked in as constant embeddings, the
positions as constant rotations; no mask is passed anywhere, because a materialised mask turns fast attention
off and the sequence is plainly causal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_runtime.errors import UsageError
from edge_runtime.stream.segments import SegmentSpec
from models.decoder import Geometry, interleave, split_visual
from models.family import Mllm
from models.heads import HeadRef
from models.prompts import Prompt
from models.weights import Weights


class TruncatedLanguage(nn.Module):
    """The decoder as far as the deepest expert, with a prompt baked in.

    Args:
        mllm: The model; its modules are shared, not copied.
        prompt: The question behind the frames.
        experts: In rank order, distinct, within the geometry.
        segment: How segments are sampled.

    Raises:
        UsageError: An expert does not exist or comes twice.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, mllm: Mllm, prompt: Prompt, experts: Sequence[HeadRef], segment: SegmentSpec) -> None:
        super().__init__()
        geometry = mllm.geometry
        _check(experts, geometry)
        layout = mllm.layout(prompt, segment)
        self.experts = [HeadRef(expert.layer, expert.head) for expert in experts]
        self.geometry = geometry
        self.tokens_per_frame = layout.tokens_per_frame
        self.deepest = max(expert.layer for expert in experts)
        self.before = nn.ParameterList([_constant(mllm.embed(run)) for run in layout.before])
        self.after = _constant(mllm.embed(layout.after))
        self.additions_after = mllm.additions_after
        cos, sin = mllm.decoder.rotation(mllm.positions(layout))
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.layers = nn.ModuleList([DecoderLayer(layer, geometry) for layer in mllm.decoder.layers[: self.deepest]])
        last = [expert.head for expert in self.experts if expert.layer == self.deepest]
        self.last = ExpertHeads(mllm.decoder.layers[self.deepest], geometry, last, mllm.weights)
        self.eval()

    def forward(self, tokens: Tensor) -> Tensor:
        """Run what is left of the decoder. The batch is dynamic, everything else is static.

        Args:
            tokens: (b, n·T, D·(1 + additions)), as the vision graph gives them.

        Returns:
            float32 (b, K·d_h), in the experts' order.
        """
        visual, additions = split_visual(tokens, self.geometry.width, self.additions_after)
        hidden = self._in_sequence(visual, list(self.before), self.after)
        found: dict[HeadRef, Tensor] = {}
        for number, layer in enumerate(self.layers):
            hidden, heads, _ = layer(hidden, self.cos, self.sin)
            found |= {ref: heads[:, ref.head] for ref in self.experts if ref.layer == number}
            if number in additions:
                nothing = [torch.zeros_like(run) for run in self.before]
                hidden = hidden + self._in_sequence(additions[number], nothing, torch.zeros_like(self.after))
        last, _ = self.last(hidden, self.cos, self.sin)
        return self._in_order(found, last)

    def _in_order(self, found: Mapping[HeadRef, Tensor], last: Tensor) -> Tensor:
        """Features (b, d_h) of experts below the deepest layer and those of it, (b, heads, d_h): all, (b, K·d_h)."""
        deepest = {HeadRef(self.deepest, head): last[:, place] for place, head in enumerate(self.last.heads)}
        every = {**found, **deepest}
        return torch.cat([every[ref] for ref in self.experts], dim=1).to(torch.float32)

    def _in_sequence(self, visual: Tensor, before: Sequence[Tensor], after: Tensor) -> Tensor:
        """Visual tokens (b, n·T, D) between runs of text (1, s, D): the whole sequence, (b, s, D)."""
        batch, width = visual.shape[0], visual.shape[2]
        groups = visual.reshape(batch, len(before), self.tokens_per_frame, width)
        return torch.cat([*interleave(before, groups), after.expand(batch, -1, -1)], dim=1)


#: Rotated keys, and values, of some positions in one layer: (b, heads, s, d_h) each.
KeysValues = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Before:
    """What one layer has of the positions before the running ones.

    Attributes:
        keys: (b, heads, p, d_h), rotated.
        values: (b, heads, p, d_h).
        mask: bool (s, p + s): which positions each of the s running ones sees.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor

    def followed_by(self, own: KeysValues) -> KeysValues:
        """Those of all p + s positions."""
        return torch.cat([self.keys, own[0]], dim=2), torch.cat([self.values, own[1]], dim=2)


class DecoderLayer(nn.Module):
    """One whole decoder layer, made of the model's own modules, that also hands out its head features."""

    def __init__(self, layer: Any, geometry: Geometry) -> None:
        super().__init__()
        self.layer = layer
        self.geometry = geometry

    def forward(
        self, hidden: Tensor, cos: Tensor, sin: Tensor, before: Before | None = None
    ) -> tuple[Tensor, Tensor, KeysValues]:
        """Run the layer.

        Args:
            hidden: (b, s, D).
            cos: (1, s, d_h).
            sin: (1, s, d_h).
            before: What stands before these positions; None where nothing does.

        Returns:
            The layer's output (b, s, D), the head features at the last position (b, H, d_h), and the keys and values
            of these positions.
        """
        attention = self.layer.self_attn
        normed = self.layer.input_layernorm(hidden)
        query = _norm(attention, "q_norm", _split(attention.q_proj, normed, self.geometry.heads))
        key = _norm(attention, "k_norm", _split(attention.k_proj, normed, self.geometry.kv_heads))
        own = _rotate(key, cos, sin), _split(attention.v_proj, normed, self.geometry.kv_heads)
        keys, values = own if before is None else before.followed_by(own)
        mixed = functional.scaled_dot_product_attention(
            _rotate(query, cos, sin),
            keys,
            values,
            attn_mask=None if before is None else before.mask,
            is_causal=before is None,
            scale=float(attention.scaling),
            enable_gqa=self.geometry.queries_per_kv > 1,
        )
        mixed = mixed.transpose(1, 2)  # (b, s, H, d)
        hidden = hidden + attention.o_proj(mixed.reshape(*mixed.shape[:2], -1))
        hidden = hidden + self.layer.mlp(self.layer.post_attention_layernorm(hidden))
        return hidden, mixed[:, -1], own


class ExpertHeads(nn.Module):
    """The deepest layer's expert heads and nothing else: their rows of q, k and v, the query at one position.

    Args:
        layer: The model's own decoder layer.
        geometry: Its sizes.
        heads: The experts in it.
        weights: The model's; only the heads' own rows are read.

    Attributes:
        rows_of: The weights that `query`, `key` and `value` are rows of, by the model's own names.
    """

    def __init__(self, layer: Any, geometry: Geometry, heads: Sequence[int], weights: Weights) -> None:
        super().__init__()
        attention = layer.self_attn
        self.heads = list(heads)
        self.geometry = geometry
        self.scaling = float(attention.scaling)
        self.norm = layer.input_layernorm
        self.q_norm = getattr(attention, "q_norm", None)
        self.k_norm = getattr(attention, "k_norm", None)
        groups = sorted({head // geometry.queries_per_kv for head in heads})
        self.group_of = [groups.index(head // geometry.queries_per_kv) for head in heads]
        self.groups = len(groups)
        parts = {"query": attention.q_proj, "key": attention.k_proj, "value": attention.v_proj}
        self.rows_of = {name: weights.name_of(whole.weight) for name, whole in parts.items()}
        self.query = _rows(attention.q_proj, self.heads, geometry.head_dim, weights)
        self.key = _rows(attention.k_proj, groups, geometry.head_dim, weights)
        self.value = _rows(attention.v_proj, groups, geometry.head_dim, weights)

    def forward(
        self, hidden: Tensor, cos: Tensor, sin: Tensor, before: Before | None = None
    ) -> tuple[Tensor, KeysValues]:
        """Run the expert heads.

        Args:
            hidden: (b, s, D).
            cos: (1, s, d_h).
            sin: (1, s, d_h).
            before: As of `DecoderLayer`; its mask is not needed.

        Returns:
            Their features at the last position (b, heads, d_h), in the order of `heads`, and the keys and values of
            these positions.
        """
        normed = self.norm(hidden)
        query = _split(self.query, normed[:, -1:], len(self.heads))
        key = _split(self.key, normed, self.groups)
        query = self.q_norm(query) if self.q_norm is not None else query
        key = self.k_norm(key) if self.k_norm is not None else key
        query = _rotate(query, cos[:, -1:], sin[:, -1:])
        own = _rotate(key, cos, sin), _split(self.value, normed, self.groups)
        keys, values = own if before is None else before.followed_by(own)
        if self.group_of != list(range(self.groups)):
            keys, values = keys[:, self.group_of], values[:, self.group_of]
        # One query that sees every position: causal would silently mean "sees the first position only".
        mixed = functional.scaled_dot_product_attention(query, keys, values, is_causal=False, scale=self.scaling)
        return mixed[:, :, 0], own


def _check(experts: Sequence[HeadRef], geometry: Geometry) -> None:
    if not experts or len(set(experts)) != len(experts):
        raise UsageError(f"experts must be distinct and at least one, got {list(experts)}")
    for expert in experts:
        if expert.layer >= geometry.layers or expert.head >= geometry.heads:
            raise UsageError(f"{expert} does not exist in {geometry.layers} layers of {geometry.heads} heads")


def _constant(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value.detach().clone(), requires_grad=False)


def _rows(projection: nn.Linear, heads: Sequence[int], width: int, weights: Weights) -> nn.Linear:
    """The rows of a projection that belong to some heads, as a projection of its own."""
    rows = [row for head in heads for row in range(head * width, (head + 1) * width)]
    # Made without memory, and given its rows: the constructor would draw random ones.
    part = nn.Linear(projection.in_features, len(rows), bias=projection.bias is not None, device="meta")
    part.weight = _constant(weights.read(weights.name_of(projection.weight), rows))
    if projection.bias is not None:
        part.bias = _constant(weights.read(weights.name_of(projection.bias))[rows])
    return part


def _split(projection: nn.Module, hidden: Tensor, heads: int) -> Tensor:
    """What a projection gives, by head: (b, s, D) to (b, heads, s, d_h)."""
    batch, length = hidden.shape[0], hidden.shape[1]
    return projection(hidden).reshape(batch, length, heads, -1).transpose(1, 2)  # type: ignore[no-any-return]


def _norm(attention: Any, name: str, heads: Tensor) -> Tensor:
    """Qwen3 normalises queries and keys per head; the other decoders have no such module."""
    module = getattr(attention, name, None)
    return heads if module is None else module(heads)


def _rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of (b, heads, s, d_h) in the half-split form of transformers."""
    half = heads.shape[-1] // 2
    turned = torch.cat([-heads[..., half:], heads[..., :half]], dim=-1)
    return heads * cos.unsqueeze(1) + turned * sin.unsqueeze(1)
