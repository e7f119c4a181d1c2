"""Products in 8-bit integers, as QuantizeLinear and DequantizeLinear around them (QDQ), which every engine knows.

Weights: symmetric, a scale for every output channel. Activations: unsigned with a zero point, one scale for the whole
tensor, from the range that calibration segments showed; what lies beyond is clipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.products import Product, constant, products, read, shape_of

# Symmetric: -128 is not used, so that no product of two extremes needs another bit.
_MOST = 127
_STEPS = 255


@dataclass(frozen=True, slots=True)
class Range:
    """What an activation's values lie between."""

    low: float
    high: float

    @property
    def scale(self) -> float:
        """Of one step of 255; zero is always a step."""
        width = max(self.high, 0.0) - min(self.low, 0.0)
        return width / _STEPS if width > 0 else 1.0

    @property
    def zero_point(self) -> int:
        """The step that stands for zero."""
        return round(-min(self.low, 0.0) / self.scale)


def round_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round a matrix, float32 (K, N), to 8 bits.

    Returns:
        int8 (K, N), and the scale of every column, float32 (N,).
    """
    scales = weight.abs().amax(dim=0) / _MOST
    scales[scales == 0] = 1.0
    return torch.round(weight / scales).clamp_(-_MOST, _MOST).to(torch.int8), scales


def quantise(model: ir.Model, ranges: Mapping[str, Range]) -> None:
    """Compute some products in 8-bit integers.

    Args:
        model: The graph.
        ranges: What their activations lie between, by the product's name; products without stay as they are.
    """
    graph = model.graph
    rounded: dict[tuple[int, Range], ir.Value] = {}
    for product in products(graph):
        if (seen := ranges.get(product.name)) is None:
            continue
        activation = product.node.inputs[0]
        assert activation is not None
        # Products of one activation share its rounding, where they were shown the same values.
        key = (id(activation), seen)
        if key not in rounded:
            rounded[key] = _round_activation(graph, product, activation, seen)
        product.node.replace_input_with(0, rounded[key])
        product.node.replace_input_with(1, _rounded_weight(graph, product))


def _round_activation(graph: ir.Graph, product: Product, activation: ir.Value, seen: Range) -> ir.Value:
    name = f"{product.name}.input"
    scale = constant(graph, f"{name}.scale", ir.DataType.FLOAT, (), lambda: np.array(seen.scale, np.float32))
    zero = constant(graph, f"{name}.zero", ir.DataType.UINT8, (), lambda: np.array(seen.zero_point, np.uint8))
    down = ir.node("QuantizeLinear", [activation, scale, zero])
    up = ir.node("DequantizeLinear", [down.outputs[0], scale, zero])
    for node, suffix, dtype in ((down, "uint8", ir.DataType.UINT8), (up, "float32", ir.DataType.FLOAT)):
        node.outputs[0].name = f"{name}.{suffix}"
        node.outputs[0].type, node.outputs[0].shape = ir.TensorType(dtype), activation.shape
    graph.insert_before(product.node, [down, up])
    return up.outputs[0]


def _rounded_weight(graph: ir.Graph, product: Product) -> ir.Value:
    old = product.weight
    name, shape = old.name or "", shape_of(old)
    del graph.initializers[name]
    weight = _Rounded(old)
    scales = constant(graph, f"{name}.scale", ir.DataType.FLOAT, shape[1:], weight.scales)
    values = constant(graph, name, ir.DataType.INT8, shape, weight.values)
    up = ir.node("DequantizeLinear", [values, scales], attributes={"axis": 1})
    up.outputs[0].name = f"{name}.float32"
    up.outputs[0].type, up.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(shape)
    graph.insert_before(product.node, [up])
    return up.outputs[0]


class _Rounded:
    """A weight that is read once for both of what is written of it, one after the other."""

    def __init__(self, weight: ir.Value) -> None:
        self._weight = weight
        self._kept: Tensor | None = None

    def scales(self) -> NDArray[np.generic]:
        self._kept, scales = self._round()
        return scales.numpy()

    def values(self) -> NDArray[np.generic]:
        kept, self._kept = self._kept, None
        return (self._round()[0] if kept is None else kept).numpy()

    def _round(self) -> tuple[Tensor, Tensor]:
        return round_weight(torch.from_numpy(np.asarray(read(self._weight), np.float32)))
