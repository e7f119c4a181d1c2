"""Graphs of a few nodes for passes to work on, and what they give in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.torch_onnx import Given, Pass, export_module

ROWS, WIDTH, WIDER = 50, 16, 24


class Layers(nn.Module):
    """Two linear layers whose sum is scaled, with a residual: what InternViT does behind its attention."""

    def __init__(self, between: Callable[[Tensor], Tensor] = torch.tanh) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(WIDTH, WIDER), nn.Linear(WIDER, WIDTH)
        self.factor = nn.Parameter(torch.rand(WIDTH))
        self.between = between

    def forward(self, values: Tensor) -> Tensor:
        """(b, s, 16) to the same."""
        return values + self.factor * self.second(self.between(self.first(values)))


def exported(module: nn.Module, folder: Path, *passes: Pass) -> Path:
    """The module as an ONNX file, after these passes."""
    path = folder / f"graph{len(list(folder.glob('*.onnx')))}.onnx"
    export_module(module, [Given("given", torch.zeros(2, ROWS, WIDTH))], ["made"], path, passes=passes)
    return path


def ran(path: Path, given: NDArray[np.float32]) -> NDArray[np.float32]:
    """What it gives on the CPU."""
    made = onnxruntime.InferenceSession(str(path)).run(None, {"given": given})[0]
    return np.asarray(made)


def some_values(seed: int = 0) -> NDArray[np.float32]:
    """float32 (2, 50, 16), the same each time."""
    return np.random.default_rng(seed).normal(size=(2, ROWS, WIDTH)).astype(np.float32)


def operators(path: Path) -> list[str]:
    """The operators of a graph, in order."""
    return [node.op_type for node in ir.load(path).graph]
