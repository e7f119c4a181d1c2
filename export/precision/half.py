"""Weights of 16 bits: bfloat16 that is widened where it is used, or a graph in float16 from end to end."""

from __future__ import annotations

from collections.abc import Set

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from export.products import constant, drop_unused, products, read, shape_of

_WIDE, _NARROW = ir.DataType.FLOAT, ir.DataType.FLOAT16


def store_bfloat16(model: ir.Model, leave: Set[str] = frozenset()) -> None:
    """Keep the weights of the products in bfloat16, each with a cast to float32 behind it.

    The graph's types stay float32, so that every engine can run it; those that compute in bfloat16 (OpenVINO) are
    told to when they load it, and lose nothing of the weights.

    Args:
        model: The graph.
        leave: Products that stay as they are, by name.
    """
    graph = model.graph
    for product in products(graph):
        if product.name in leave:
            continue
        old = product.weight
        name, shape = old.name or "", shape_of(old)
        del graph.initializers[name]
        narrow = constant(graph, name, ir.DataType.BFLOAT16, shape, lambda old=old: _bfloat16(old))  # type: ignore[misc]
        cast = ir.node("Cast", [narrow], attributes={"to": _WIDE})
        cast.outputs[0].name = f"{name}.float32"
        cast.outputs[0].type, cast.outputs[0].shape = ir.TensorType(_WIDE), ir.Shape(shape)
        graph.insert_before(product.node, [cast])
        old.replace_all_uses_with(cast.outputs[0])


def to_float16(model: ir.Model) -> None:
    """Make everything between the graph's input and its output float16, weights and activations.

    Norms and softmax compute in float32 inside, as their operators say (`stash_type`). What the graph takes and
    gives keeps its type. A constant beyond float16's range becomes infinite, and the parity check says so.
    """
    graph = model.graph
    for name, value in list(graph.initializers.items()):
        if value.dtype != _WIDE:
            continue
        shape = shape_of(value)
        del graph.initializers[name]
        narrow = constant(graph, name, _NARROW, shape, lambda old=value: _float16(old))  # type: ignore[misc]
        value.replace_all_uses_with(narrow)
    for node in graph.all_nodes():
        if node.op_type == "Cast" and node.attributes["to"].as_int() == _WIDE:
            node.attributes["to"] = ir.AttrInt64("to", _NARROW)
        for value in node.outputs:
            if value.dtype == _WIDE:
                value.dtype = _NARROW
    for given in graph.inputs:
        if given.dtype == _WIDE:
            _cast_input(graph, given)
    for place, found in enumerate(graph.outputs):
        if found.dtype == _NARROW:
            _cast_output(graph, place, found)
    drop_unused(graph)


def _cast_input(graph: ir.Graph, given: ir.Value) -> None:
    cast = ir.node("Cast", [given], attributes={"to": _NARROW})
    cast.outputs[0].name = f"{given.name}.float16"
    cast.outputs[0].type, cast.outputs[0].shape = ir.TensorType(_NARROW), given.shape
    users = [(use.node, use.idx) for use in given.uses() if use.node is not cast]
    graph.insert_before(next(iter(graph)), [cast])
    for node, place in users:
        node.replace_input_with(place, cast.outputs[0])


def _cast_output(graph: ir.Graph, place: int, found: ir.Value) -> None:
    name = found.name
    found.name = f"{name}.float16"
    cast = ir.node("Cast", [found], attributes={"to": _WIDE})
    cast.outputs[0].name = name
    cast.outputs[0].type, cast.outputs[0].shape = ir.TensorType(_WIDE), found.shape
    graph.append(cast)
    graph.outputs[place] = cast.outputs[0]


def _bfloat16(value: ir.Value) -> NDArray[np.generic]:
    return read(value).astype(ml_dtypes.bfloat16)


def _float16(value: ir.Value) -> NDArray[np.generic]:
    with np.errstate(over="ignore"):
        return read(value).astype(np.float16)
