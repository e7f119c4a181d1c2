"""Vision towers as a row of stages, so that a large one can run with the weights of one stage in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


class Block(nn.Module):
    """One layer of a tower, as a stage.

    Args:
        layer: transformers' own.
        arguments: What it takes besides the hidden states.
    """

    def __init__(self, layer: nn.Module, **arguments: Any) -> None:
        super().__init__()
        self.layer = layer
        self.arguments = arguments

    def forward(self, hidden: Tensor) -> tuple[Tensor]:
        """(n, P, W) to the same."""
        return (self.layer(hidden, **self.arguments),)


class VisionTower(nn.Module):
    """uint8 RGB frames to visual tokens.

    Args:
        stages: Run one after the other. Each takes the tensors that the one before it gives, the first one the
            frames, uint8 (n, g, H, W, 3); the last one gives the tokens alone, (n, T, D·(1 + additions)). Groups of
            frames never mix: the first axis of every tensor is n.
    """

    def __init__(self, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.eval().requires_grad_(False)

    def forward(self, frames: Tensor) -> Tensor:
        """Run all stages; see the class."""
        state: tuple[Tensor, ...] = (frames,)
        for stage in self.stages:
            state = stage(*state)
        (tokens,) = state
        return tokens
