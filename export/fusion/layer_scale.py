"""Folds a constant factor behind a linear layer into its weights (InternViT's layer scale)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.products import Product, constant, drop_unused, products, rank, read, shape_of


def fold_layer_scales(model: ir.Model) -> None:
    """Turn `factor * (x W + bias)` into `x (W · factor) + bias · factor` where nothing else takes the unscaled sum.

    The products are those of the same numbers in another order: results differ by float32's rounding.
    """
    graph = model.graph
    for product in products(graph):
        found = _scaled(product)
        if found is None:
            continue
        added, bias, multiplied, factor = found
        _replace(graph, product.node, product.weight, lambda weight, by: weight * by[None, :], factor)
        _replace(graph, added, bias, lambda values, by: values * by, factor)
        multiplied.outputs[0].replace_all_uses_with(added.outputs[0])
        graph.remove(multiplied, safe=True)
    drop_unused(graph)


def _scaled(product: Product) -> tuple[ir.Node, ir.Value, ir.Node, ir.Value] | None:
    """The addition and the factor behind a product, where it has both and nobody else looks in between."""
    added = _only_user(product.node, "Add")
    bias = None if added is None else _constant_of(added)
    multiplied = None if added is None else _only_user(added, "Mul")
    factor = None if multiplied is None else _constant_of(multiplied)
    if added is None or bias is None or multiplied is None or factor is None:
        return None
    width = shape_of(product.weight)[1:]
    if shape_of(factor) != width or shape_of(bias) != width or len(product.weight.uses()) != 1:
        return None
    return (added, bias, multiplied, factor)


def _only_user(node: ir.Node, op_type: str) -> ir.Node | None:
    users = [use.node for use in node.outputs[0].uses()]
    return users[0] if len(users) == 1 and users[0].op_type == op_type else None


def _constant_of(node: ir.Node) -> ir.Value | None:
    """The one-dimensional constant that a node adds or multiplies by."""
    for value in node.inputs:
        if value is not None and value.is_initializer() and value.const_value is not None and rank(value) == 1:
            return value
    return None


def _replace(
    graph: ir.Graph,
    node: ir.Node,
    old: ir.Value,
    scale: Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]],
    factor: ir.Value,
) -> None:
    """Give a node a scaled constant under the old one's name."""
    name, shape = old.name or "", shape_of(old)
    place = [value is old for value in node.inputs].index(True)
    if len(old.uses()) == 1:
        del graph.initializers[name]
    else:
        name += ".scaled"

    def make() -> NDArray[np.generic]:
        return scale(np.asarray(read(old), np.float32), np.asarray(read(factor), np.float32))

    node.replace_input_with(place, constant(graph, name, ir.DataType.FLOAT, shape, make))
