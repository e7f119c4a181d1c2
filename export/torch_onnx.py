"""A torch module to an ONNX file with its weights beside it."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from edge_runtime.bundle.manifest import TensorSpec

log = logging.getLogger(__name__)

OPSET = 23


def export_module(module: nn.Module, sample: Tensor, path: Path, input_name: str, output_name: str) -> None:
    """Export with a dynamic first dimension to `path`, weights in `<path>.data`.

    Args:
        module: What is exported; it takes one tensor and gives one.
        sample: An input with a first dimension of at least 2 (with 1 the exporter would take it for a constant).
        path: The file.
        input_name: The name of the graph's input.
        output_name: The name of its output.
    """
    assert sample.shape[0] >= 2
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(),
                (sample,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[input_name],
                output_names=[output_name],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                verbose=False,
            )
    finally:
        quiet.setLevel(level)
    assert program is not None
    save(program.model_proto, path)


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph and its weights, without the traces of the machine that made it.

    The exporter notes source files and line numbers at every node: they would put this machine's paths into a
    bundle and make equal graphs differ in their bytes.

    Args:
        model: The graph; its notes are removed.
        path: The file; weights go to `<path>.data`, which is there even where it is empty.
    """
    _forget(model.graph)
    del model.metadata_props[:]
    for function in model.functions:
        del function.metadata_props[:]
        for node in function.node:
            del node.metadata_props[:]
            node.doc_string = ""
    location = path.name + ".data"
    path.with_name(location).unlink(missing_ok=True)
    onnx.save_model(
        model,
        str(path),
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=location,
        size_threshold=256,
    )
    # A graph without a single large tensor leaves no data file; the bundle's layout always has one.
    path.with_name(location).touch()


def tensor_specs(path: Path) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """Inputs and outputs of an ONNX file as the manifest states them."""
    graph = onnx.load(str(path), load_external_data=False).graph
    return [_spec(value) for value in graph.input], [_spec(value) for value in graph.output]


def _spec(value: Any) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = [dim.dim_param or int(dim.dim_value) for dim in tensor.shape.dim]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    return TensorSpec(name=value.name, dtype=str(dtype), shape=shape)


def _forget(graph: onnx.GraphProto) -> None:
    del graph.metadata_props[:]
    graph.doc_string = ""
    for values in (graph.value_info, graph.input, graph.output, graph.initializer):
        for value in values:
            value.doc_string = ""
            del value.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                _forget(attribute.g)
