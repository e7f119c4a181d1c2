"""A torch module to an ONNX file with its weights beside it."""

from __future__ import annotations

import errno
import functools
import logging
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn

from edge_runtime.bundle.manifest import TensorSpec
from edge_runtime.files import free_space
from models.weights import Weights

log = logging.getLogger(__name__)

OPSET = 23

#: A change to a graph, in place.
Pass = Callable[[ir.Model], None]


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """One input of a graph.

    Attributes:
        name: What it is called.
        sample: One that the module takes. Free dimensions are at least 2 there: 1 would become a constant.
        free: The names of its first dimensions, which may be of any length; equal names are of equal length.
    """

    name: str
    sample: Tensor
    free: tuple[str, ...] = ("batch",)


def export_module(
    module: nn.Module,
    inputs: Sequence[Given],
    outputs: Sequence[str],
    path: Path,
    weights: Weights | None = None,
    passes: Sequence[Pass] = (),
    beside: Path | None = None,
) -> None:
    """Export to `path`, weights in `<path>.data`.

    Weights that are not in memory stay where they are: the graph is traced without them, and each is read when it is
    written. So a graph may be larger than the memory.

    Args:
        module: What is exported; it takes the inputs in order, and gives a tensor, or several as a tuple.
        inputs: What it takes.
        outputs: The names of what it gives.
        path: The file.
        weights: Those of the model that the module is made of, where they are not in memory.
        passes: What is done to the graph before it is written, in order; they see weights that are not read yet.
        beside: As of `save`.

    Raises:
        CheckpointError: A weight cannot be read.
        OSError: A file cannot be written.
    """
    given = {name: one for name, one in module.eval().named_parameters() if one.is_meta or one.dim() == 2}
    # Inputs of the traced graph: as constants, the exporter would fold and merge them by values that are not there,
    # and matrices would lose their names. Memory that nobody touches is none.
    stand_ins = [torch.empty(one.shape, dtype=one.dtype) for one in given.values()]
    program = _trace(_WithWeights(module, list(given)), inputs, stand_ins, outputs)
    for value, (name, one) in zip(list(program.graph.inputs)[len(inputs) :], given.items(), strict=True):
        program.graph.inputs.remove(value)
        if not value.uses():
            # A part of a module that was folded into another one.
            continue
        _give_weight(program.graph, value, name, functools.partial(_read, one, weights))
    for change in passes:
        change(program)
    save(program, path, beside)


def _read(parameter: nn.Parameter, weights: Weights | None) -> Tensor:
    if not parameter.is_meta:
        return parameter.detach().cpu()
    assert weights is not None, "a weight is not in memory"
    return weights.read(weights.name_of(parameter))


class _WithWeights(nn.Module):
    """A module some of whose weights are given with its inputs."""

    def __init__(self, module: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.module = module
        self.names = names

    def forward(self, samples: Sequence[Tensor], given: Sequence[Tensor]) -> Any:
        """What the module gives with these weights, in the order of the names."""
        return torch.func.functional_call(self.module, dict(zip(self.names, given, strict=True)), tuple(samples))


def _trace(module: nn.Module, inputs: Sequence[Given], given: Sequence[Tensor], outputs: Sequence[str]) -> ir.Model:
    """The module as a graph whose further inputs are the given weights."""
    lengths = {name: torch.export.Dim(name, min=1) for one in inputs for name in one.free}
    free = [{place: lengths[name] for place, name in enumerate(one.free)} for one in inputs]
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                ([one.sample for one in inputs], list(given)),
                dynamo=True,
                opset_version=OPSET,
                input_names=[*(one.name for one in inputs), *(f"weight{number}" for number in range(len(given)))],
                output_names=list(outputs),
                dynamic_shapes=(free, [None] * len(given)),
                verbose=False,
            )
    finally:
        quiet.setLevel(level)
    assert program is not None
    _name_lengths(program.model.graph, inputs)
    return program.model


def _name_lengths(graph: ir.Graph, inputs: Sequence[Given]) -> None:
    """Call free dimensions what they are; the exporter numbers them."""
    values = list(graph.inputs)[: len(inputs)]
    names = {
        str(side): name
        for value, one in zip(values, inputs, strict=True)
        for side, name in zip(value.shape or (), one.free, strict=False)
    }
    for value in (*graph.inputs, *(made for node in graph.all_nodes() for made in node.outputs)):
        if value.shape is not None:
            value.shape = ir.Shape([names.get(str(side), side) for side in value.shape])


def _give_weight(graph: ir.Graph, value: ir.Value, name: str, read: Callable[[], Tensor]) -> None:
    """Make an input an initializer that is read when it is written; turned where the graph only ever turns it."""
    turns = [usage.node for usage in value.uses()]
    turned = bool(turns) and all(_is_turn(node) for node in turns)

    def load() -> ir.TensorProtocol:
        found = read()
        # Stored as the product takes it: turning at the edge costs a second copy there.
        return ir.tensor((found.T if turned else found).contiguous().numpy(), name=name)

    shape = [int(side) for side in (value.shape or ir.Shape(())).numpy()]
    dtype = value.dtype or ir.DataType.FLOAT
    constant = ir.LazyTensor(load, dtype, ir.Shape(shape[::-1] if turned else shape), name=name)
    weight = ir.Value(name=name, shape=constant.shape, type=ir.TensorType(dtype), const_value=constant)
    graph.register_initializer(weight)
    for node in turns if turned else ():
        node.outputs[0].replace_all_uses_with(weight)
        graph.remove(node, safe=True)
    if not turned:
        value.replace_all_uses_with(weight)


def _is_turn(node: ir.Node) -> bool:
    """Whether a node exchanges the two axes of a matrix."""
    permutation = node.attributes.get("perm")
    return node.op_type == "Transpose" and permutation is not None and list(permutation.as_ints()) == [1, 0]


def save(model: ir.Model, path: Path, beside: Path | None = None) -> None:
    """Write a graph and its weights, one tensor at a time, without the traces of the machine that made it.

    The exporter notes source files and line numbers at every node: they would put this machine's paths into a
    bundle and make equal graphs differ in their bytes.

    Args:
        model: The graph; its notes are removed.
        path: The file; weights go to `<path>.data`, which is there even where it is empty.
        beside: A graph in the same folder that was written before: weights that are the same there are not written
            a second time.
    """
    model.metadata_props.clear()
    model.doc_string = None
    for function in model.functions.values():
        function.metadata_props.clear()
        function.doc_string = None
    model.graph.metadata_props.clear()
    model.graph.doc_string = None
    for graph in (model.graph, *(function.graph for function in model.functions.values())):
        for value in (*graph.inputs, *graph.initializers.values()):
            _forget(value)
        for node in graph.all_nodes():
            _forget(node)
            for value in node.outputs:
                _forget(value)
    known = {} if beside is None else _written(beside)
    own = [value for value in model.graph.initializers.values() if not _share(value, known)]
    location = path.name + ".data"
    path.with_name(location).unlink(missing_ok=True)
    _require_space(own, path.parent)
    large = [value for value in own if value.const_value is not None and value.const_value.nbytes > _INLINE]
    moved = ir.external_data.convert_tensors_to_external(
        [value.const_value for value in large if value.const_value is not None], path.parent, location
    )
    for value, tensor in zip(large, moved, strict=True):
        value.const_value = tensor
    ir.save(model, path)
    # A graph without a single large tensor leaves no data file; the bundle's layout always has one.
    path.with_name(location).touch()


# Bytes of the largest tensor that stays in the graph's own file.
_INLINE = 256


def _written(path: Path) -> dict[str, ir.ExternalTensor]:
    """The weights that a graph keeps outside its own file, by name."""
    constants = ((name, value.const_value) for name, value in ir.load(path).graph.initializers.items())
    return {name: constant for name, constant in constants if isinstance(constant, ir.ExternalTensor)}


def _share(value: ir.Value, known: Mapping[str, ir.ExternalTensor]) -> bool:
    """Make a constant one that is written already, where they are equal; whether they are."""
    own, there = value.const_value, known.get(value.name or "")
    if own is None or there is None or (own.dtype, list(own.shape)) != (there.dtype, list(there.shape)):
        return False
    if own.tobytes() != there.tobytes():
        return False
    value.const_value = there
    return True


def _require_space(constants: Sequence[ir.Value], folder: Path) -> None:
    """Raise OSError before gigabytes are written that will not fit."""
    needed = sum(one.const_value.nbytes for one in constants if one.const_value is not None)
    if (free := free_space(folder)) < needed:
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {needed:,} bytes are needed, {free:,} are free")


def _forget(part: ir.Node | ir.Value) -> None:
    part.metadata_props.clear()
    part.doc_string = None


def tensor_specs(path: Path) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """Inputs and outputs of an ONNX file as the manifest states them."""
    graph = onnx.load(str(path), load_external_data=False).graph
    return [_spec(value) for value in graph.input], [_spec(value) for value in graph.output]


def _spec(value: Any) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = [dim.dim_param or int(dim.dim_value) for dim in tensor.shape.dim]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    return TensorSpec(name=value.name, dtype=str(dtype), shape=shape)
