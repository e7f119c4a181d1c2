"""The vision towers of Qwen2.5-VL and Qwen3-VL for frames of one size: their stages, and what is constant in them.

Both cut groups of frames into patches, keep the patches of a square of neighbours (a unit, which becomes one token)
next to each other, and turn queries and keys by the patches' rows and columns. For one size all of that is constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.normalisation import Normalisation
from models.weights import Weights

#: How many windows of how many patches attend within themselves, one kind behind the other.
Windows = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Grid:
    """One group of frames in patches.

    Attributes:
        rows: Of patches.
        columns: Of patches.
        patch: Pixels a side of a patch.
        merge: Patches a side of a unit.
    """

    rows: int
    columns: int
    patch: int
    merge: int

    @property
    def patches(self) -> int:
        """P."""
        return self.rows * self.columns

    @property
    def units(self) -> int:
        """T, tokens of a group."""
        return self.patches // self.merge**2

    @property
    def thw(self) -> Tensor:
        """As transformers writes one group, (1, 3)."""
        return torch.tensor([[1, self.rows, self.columns]])


def places(grid: Grid, units: Tensor | None = None) -> Tensor:
    """Row and column of each patch in the order of the tower, (P, 2).

    Args:
        grid: The patches.
        units: The order of the units, (T,); None for row by row.
    """
    from transformers.vision_utils import get_vision_position_ids

    found: Tensor = get_vision_position_ids(grid.thw, grid.merge)
    return found if units is None else found.reshape(grid.units, -1, 2)[units].reshape(-1, 2)


class FoldedPatches(nn.Linear):
    """A patch embedding that takes raw pixels, (…, g·p·p·3), and gives what the tower's gives of normalised ones.

    w·(x/255 − mean)/std + b is another product with x. It stays float32, because x goes up to 255.

    Args:
        convolution: The tower's Conv3d over (3, g, p, p).
        normalisation: Of the pixels.
        weights: Of the model.
    """

    def __init__(self, convolution: Any, normalisation: Normalisation, weights: Weights) -> None:
        def read(parameter: Tensor) -> Tensor:
            return weights.read(weights.name_of(parameter), dtype=torch.float32).double()

        weight = read(convolution.weight)
        scale, shift = (
            torch.tensor(values, dtype=torch.float64).reshape(1, 3, 1, 1, 1)
            for values in (normalisation.std, normalisation.mean)
        )
        bias = -(weight * shift / scale).sum(dim=(1, 2, 3, 4))
        if convolution.bias is not None:
            bias = bias + read(convolution.bias)
        # Pixels lie in memory with their channels last.
        flat = (weight / (255.0 * scale)).permute(0, 2, 3, 4, 1).flatten(1)
        super().__init__(flat.shape[1], flat.shape[0], device="meta")
        self.weight = nn.Parameter(flat.float(), requires_grad=False)
        self.bias = nn.Parameter(bias.float(), requires_grad=False)


class Embed(nn.Module):
    """Pixels to patch embeddings in the order of the tower.

    Args:
        patches: The patch embedding.
        grid: The patches.
        order: Row and column of each in the order of the tower, (P, 2).
        weights: Of the model; they say what it computes in.
        positions: What is added to each patch, (P, W), where the tower adds anything.
    """

    def __init__(
        self, patches: FoldedPatches, grid: Grid, order: Tensor, weights: Weights, positions: Tensor | None = None
    ) -> None:
        super().__init__()
        self.patches = patches
        self.grid = grid
        self._weights = weights
        self.order: Tensor
        self.register_buffer("order", order[:, 0] * grid.columns + order[:, 1], persistent=False)
        self.register_buffer("positions", positions, persistent=False)

    def forward(self, frames: Tensor) -> tuple[Tensor]:
        """uint8 (n, g, H, W, 3) to (n, P, W)."""
        grid, group = self.grid, frames.shape[1]
        pixels = frames.float().reshape(-1, group, grid.rows, grid.patch, grid.columns, grid.patch * 3)
        flat = pixels.permute(0, 2, 4, 1, 3, 5).reshape(-1, grid.patches, group * grid.patch**2 * 3)
        dtype = self._weights.dtype
        hidden = self.patches(flat.index_select(1, self.order)).to(dtype)
        return (hidden if self.positions is None else hidden + self.positions.to(dtype),)


class Turns(nn.Module):
    """Cosines and sines of the patches' places, (P, d_h) each; one for all layers of a tower."""

    def __init__(self, rotary: Any, order: Tensor) -> None:
        super().__init__()
        cos, sin = rotary(torch.zeros(1), order)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)


class VisionBlock(nn.Module):
    """One layer of a tower. transformers' own goes through windows one by one; here all of a size are a batch.

    Args:
        layer: transformers' own.
        turns: Of its patches.
        windows: What attends within itself; all patches of a group where it is one window.
    """

    def __init__(self, layer: Any, turns: Turns, windows: Windows) -> None:
        super().__init__()
        self.layer = layer
        self.turns = turns
        self.windows = windows

    def forward(self, hidden: Tensor, *additions: Tensor) -> tuple[Tensor, ...]:
        """(n, P, W) to the same; additions pass."""
        hidden = hidden + self._attend(self.layer.norm1(hidden))
        hidden = hidden + self.layer.mlp(self.layer.norm2(hidden))
        return hidden, *additions

    def _attend(self, normed: Tensor) -> Tensor:
        # The same in both families.
        from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

        attention = self.layer.attn
        heads, patches = attention.num_heads, normed.shape[1]
        query, key, value = (
            one.reshape(-1, patches, heads, attention.head_dim) for one in attention.qkv(normed).chunk(3, dim=-1)
        )
        query, key = apply_rotary_pos_emb_vision(query, key, self.turns.cos, self.turns.sin)
        mixed, start = [], 0
        for count, length in self.windows:
            end = start + count * length
            queries, keys, values = (
                one[:, start:end].reshape(-1, length, heads, attention.head_dim).transpose(1, 2)
                for one in (query, key, value)
            )
            part = functional.scaled_dot_product_attention(queries, keys, values, scale=float(attention.scaling))
            mixed.append(part.transpose(1, 2).reshape(-1, count * length, heads * attention.head_dim))
            start = end
        projected: Tensor = attention.proj(torch.cat(mixed, dim=1))
        return projected


def as_tokens(merged: Tensor, tokens: int) -> Tensor:
    """What a merger gives, (n·T, D), group by group, (n, T, D)."""
    return merged.reshape(-1, tokens, merged.shape[-1])


class Merge(nn.Module):
    """Units to tokens.

    Args:
        merger: transformers' own.
        tokens: T.
        units: The order of the units in the tower, (T,); None for row by row.
    """

    def __init__(self, merger: Any, tokens: int, units: Tensor | None = None) -> None:
        super().__init__()
        self.merger = merger
        self.tokens = tokens
        self.order: Tensor | None
        self.register_buffer("order", None if units is None else torch.argsort(units), persistent=False)

    def forward(self, hidden: Tensor, *additions: Tensor) -> tuple[Tensor]:
        """(n, P, W), and additions (n, T, D), to tokens row by row, (n, T, D·(1 + additions))."""
        tokens = as_tokens(self.merger(hidden), self.tokens)
        tokens = tokens if self.order is None else tokens.index_select(1, self.order)
        return (torch.cat([tokens, *additions], dim=-1) if additions else tokens,)
