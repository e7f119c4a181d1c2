"""Head features of a decoder layer, caught where they enter the output projection.

The feature of head k is its slice of the input of `self_attn.o_proj` at the last position (the head's output
before the heads are mixed), of width d_h.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def capture_heads(output_projection: nn.Module) -> Iterator[list[Tensor]]:
    """While open, every forward pass appends the layer's head features to the yielded list.

    The hook is removed at the end, whatever happens in between.

    Args:
        output_projection: `o_proj` of one layer.

    Yields:
        A list of tensors (b, H·d_h), one a pass.
    """
    caught: list[Tensor] = []

    def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        caught.append(inputs[0][:, -1].detach())

    handle = output_projection.register_forward_pre_hook(hook)
    try:
        yield caught
    finally:
        handle.remove()
