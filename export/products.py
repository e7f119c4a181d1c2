"""The matrix products of an exported graph: where the weights are, and most of the time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

WEIGHT = ".weight"


@dataclass(frozen=True, slots=True)
class Product:
    """A product of an activation (…, K) with a constant matrix (K, N).

    Attributes:
        node: The MatMul.
        weight: Its second input, an initializer.
    """

    node: ir.Node
    weight: ir.Value

    @property
    def name(self) -> str:
        """Of the layer, as the exported module calls it."""
        return (self.weight.name or "").removesuffix(WEIGHT)


def products(graph: ir.Graph) -> Iterator[Product]:
    """Find the products of a graph, in order."""
    for node in list(graph):
        if node.op_type != "MatMul" or node.domain:
            continue
        weight = node.inputs[1]
        if weight is not None and weight.is_initializer() and weight.const_value is not None and rank(weight) == 2:
            yield Product(node, weight)


def rank(value: ir.Value) -> int | None:
    """How many dimensions a value has; None where the graph does not say."""
    return None if value.shape is None else len(value.shape)


def read(value: ir.Value) -> NDArray[np.generic]:
    """A constant's values; its file is read now."""
    assert value.const_value is not None
    return value.const_value.numpy()


def constant(
    graph: ir.Graph, name: str, dtype: ir.DataType, shape: tuple[int, ...], make: Callable[[], NDArray[np.generic]]
) -> ir.Value:
    """Add a constant whose values are made when it is written.

    Args:
        graph: Where it goes.
        name: A name that no other constant has.
        dtype: Its type.
        shape: Its shape.
        make: Makes the values, of this type and shape.
    """
    lazy = ir.LazyTensor(lambda: ir.tensor(make(), dtype=dtype, name=name), dtype, ir.Shape(shape), name=name)
    value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype), const_value=lazy)
    graph.register_initializer(value)
    return value


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """A constant's shape."""
    assert value.shape is not None
    return tuple(int(side) for side in value.shape.numpy())


def drop_unused(graph: ir.Graph) -> None:
    """Remove constants that nothing takes any more."""
    for name in [name for name, value in graph.initializers.items() if not value.uses()]:
        del graph.initializers[name]
