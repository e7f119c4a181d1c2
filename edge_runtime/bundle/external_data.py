"""Where an ONNX file keeps its weights, read without the onnx package. Knows the wire format; runs nothing.

A graph may name any path as external data. The edge reads these names before ONNX Runtime opens the graph, so
that a bundle cannot make it read files elsewhere. Only the few fields of onnx.proto that lead to tensors are
followed; everything else is skipped by its length.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class _Message(NamedTuple):
    """Which fields of one protobuf message lead to a tensor: field number -> message name."""

    fields: dict[int, str]


# Field numbers of onnx.proto (stable since IR version 3; functions since 8).
_LEADS = {
    "Model": _Message({7: "Graph", 20: "Training", 25: "Function"}),
    "Training": _Message({1: "Graph", 2: "Graph"}),
    "Function": _Message({7: "Node", 11: "Attribute"}),
    "Graph": _Message({1: "Node", 5: "Tensor", 15: "Sparse"}),
    "Node": _Message({5: "Attribute"}),
    "Attribute": _Message({5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"}),
    "Sparse": _Message({1: "Tensor", 2: "Tensor"}),
    "Tensor": _Message({13: "Entry"}),
}
_DEEPEST = 64
# ONNX Runtime recognises its flatbuffer format by these bytes, whatever the file is called.
_ORT_MAGIC = b"ORTM"


def external_locations(data: bytes) -> set[str]:
    """Every `location` that a serialised ONNX model names as external data.

    Raises ValueError where the bytes are not a protobuf message of the wire format that ONNX uses.
    """
    if data[4:8] == _ORT_MAGIC:
        raise ValueError("it is in ONNX Runtime's own format, whose external data cannot be checked")
    return set(_walk(memoryview(data), "Model", 0))


def _walk(data: memoryview, kind: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise ValueError("nested too deep")
    for number, value in _fields(data):
        if kind == "Tensor" and number == 13:
            entry = dict(_fields(value))
            if bytes(entry.get(1, b"")) == b"location":
                yield bytes(entry.get(2, b"")).decode("utf-8", "surrogateescape")
        elif number in _LEADS[kind].fields:
            yield from _walk(value, _LEADS[kind].fields[number], depth + 1)


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The length-delimited fields of a message; numbers are skipped."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        if not 8 <= key < 2**32:
            # Other parsers drop the bits above 32, and so would see a field that is passed over here.
            raise ValueError("a field number is out of range")
        wire = key & 7
        if wire == 0:
            _, at = _varint(data, at)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        elif wire == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("a field is longer than the file")
            yield key >> 3, data[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {wire} is not used in ONNX")
        if at > len(data):
            raise ValueError("the file ends inside a field")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("the file ends inside a number")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if byte < 0x80:
            return value, at
