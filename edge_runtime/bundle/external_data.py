"""Where an ONNX file keeps its weights, read without the onnx package.

A graph may name any path as external data. The edge reads these names before ONNX Runtime opens the graph, so
that a bundle cannot make it read files elsewhere. Only the few fields of onnx.proto that lead to tensors are
followed; everything else is skipped by its length.
"""

from __future__ import annotations

from collections.abc import Iterator

from edge_runtime.bundle.wire import fields, text

# Which fields of a message lead to a tensor, by the numbers of onnx.proto (stable since IR version 3; functions
# since 8).
_LEADS = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}
_DEEPEST = 64
# ONNX Runtime recognises its flatbuffer format by these bytes, whatever the file is called.
_ORT_MAGIC = b"ORTM"


def external_locations(data: bytes) -> set[str]:
    """Every `location` that a serialised ONNX model names as external data.

    Raises:
        ValueError: The bytes are not a protobuf message of the wire format that ONNX uses.
    """
    if data[4:8] == _ORT_MAGIC:
        raise ValueError("it is in ONNX Runtime's own format, whose external data cannot be checked")
    return set(_walk(memoryview(data), "Model", 0))


def _walk(data: memoryview, kind: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise ValueError("nested too deep")
    for number, value in fields(data):
        if isinstance(value, int):
            continue
        if kind == "Tensor" and number == 13:
            if text(value, 1) == "location":
                yield text(value, 2)
        elif number in _LEADS[kind]:
            yield from _walk(value, _LEADS[kind][number], depth + 1)
