"""The vision graph as a server runs it: whole segments in, whole sequences out.

A server makes batches by putting the first dimensions of requests behind each other. The bundle's vision graph has
groups of frames there, the language graph segments; with a reshape before and behind it both have segments.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from edge_runtime.bundle.manifest import Manifest

_FRAMES, _TOKENS = "frames", "tokens"
# Names that no exporter makes.
_INNER = "by_group/"


def write_by_segment(source: Path, manifest: Manifest, target: Path) -> None:
    """Write the vision graph with `frames` [b, f, H, W, 3] and `tokens` [b, f/g·T, D], f any multiple of g.

    Weights stay where they are: the file names the same external data, which has to lie beside it. They are neither
    read nor copied here.

    Args:
        source: The bundle's vision graph.
        manifest: Of the bundle.
        target: The file that is written.

    Raises:
        OSError: It cannot be read or written.
    """
    model = onnx.load(str(source), load_external_data=False)
    graph = model.graph
    spec = manifest.graphs.vision
    group, height, width, channels = (int(dim) for dim in spec.inputs[0].shape[1:])
    _, depth = (int(dim) for dim in spec.outputs[0].shape[1:])
    _rename(graph, {_FRAMES: _INNER + _FRAMES, _TOKENS: _INNER + _TOKENS})

    def constant(name: str, *values: int) -> onnx.NodeProto:
        tensor = helper.make_tensor(_INNER + name, TensorProto.INT64, [len(values)], values)
        return helper.make_node("Constant", [], [_INNER + name], value=tensor)

    before = [
        constant("groups", -1, group, height, width, channels),
        helper.make_node("Reshape", [_FRAMES, _INNER + "groups"], [_INNER + _FRAMES]),
    ]
    after = [
        # The number of segments as it came, and of tokens what is left: frames of a segment may be few.
        helper.make_node("Shape", [_FRAMES], [_INNER + "segments"], start=0, end=1),
        constant("rest", -1, depth),
        helper.make_node("Concat", [_INNER + "segments", _INNER + "rest"], [_INNER + "sequence"], axis=0),
        helper.make_node("Reshape", [_INNER + _TOKENS, _INNER + "sequence"], [_TOKENS]),
    ]
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    kind = graph.output[0].type.tensor_type.elem_type
    del graph.input[:], graph.output[:]
    shape: list[str | int | None] = ["segments", "frames", height, width, channels]
    graph.input.append(helper.make_tensor_value_info(_FRAMES, TensorProto.UINT8, shape))
    graph.output.append(helper.make_tensor_value_info(_TOKENS, kind, ["segments", "visual", depth]))
    target.write_bytes(model.SerializeToString(deterministic=True))


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Give values of the graph other names, in graphs inside it as well."""
    for node in graph.node:
        for values in (node.input, node.output):
            for place, name in enumerate(values):
                values[place] = names.get(name, name)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename(inner, names)
    for info in graph.value_info:
        info.name = names.get(info.name, info.name)
