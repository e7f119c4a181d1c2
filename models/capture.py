"""Head features of a decoder, caught where they enter the output projection.

The feature of head k is its slice of the input of `self_attn.o_proj` at the last position (the head's output
before the heads are mixed), of width d_h.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def capture_heads(output_projections: Sequence[nn.Module], heads: int) -> Iterator[list[Tensor | None]]:
    """While open, every forward pass leaves each layer's head features in the yielded list.

    The hooks are removed at the end, whatever happens in between.

    Args:
        output_projections: `o_proj` of every layer.
        heads: H.

    Yields:
        A list of L tensors (b, H, d_h), None until the first pass.
    """
    caught: list[Tensor | None] = [None] * len(output_projections)

    def keep(layer: int) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            last = inputs[0][:, -1]  # (b, H·d)
            caught[layer] = last.reshape(last.shape[0], heads, -1).detach()

        return hook

    handles = [module.register_forward_pre_hook(keep(layer)) for layer, module in enumerate(output_projections)]
    try:
        yield caught
    finally:
        for handle in handles:
            handle.remove()


def stack_heads(caught: Sequence[Tensor | None]) -> Tensor:
    """The captured list as one float32 tensor (b, L, H, d_h) on the CPU."""
    layers = [layer for layer in caught if layer is not None]
    assert len(layers) == len(caught), "no forward pass went through every layer"
    return torch.stack(layers, dim=1).to("cpu", torch.float32)
