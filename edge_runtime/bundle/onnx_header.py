"""What an ONNX file takes and gives, read without the onnx package: names, types and shapes; no weight is touched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edge_runtime.bundle.manifest import TensorSpec
from edge_runtime.bundle.wire import fields, message, messages, text

# TensorProto.DataType as numpy calls them, which is how a manifest states them.
_DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    16: "bfloat16",
}
# Far more than any graph of a bundle has: a damaged file must not fill the memory with them.
_MOST = 64


@dataclass(frozen=True, slots=True)
class GraphHeader:
    """What one graph takes and gives.

    Attributes:
        inputs: In the order of the file. In a shape, a name or 0 is a free dimension.
        outputs: Likewise.
    """

    inputs: list[TensorSpec]
    outputs: list[TensorSpec]


def read_header(data: bytes) -> GraphHeader:
    """Inputs and outputs of a serialised ONNX model.

    Raises:
        ValueError: It is no ONNX model, or an input or output is not a tensor of a known type and rank.
    """
    graph = message(memoryview(data), 7)
    return GraphHeader(_tensors(graph, 11, "inputs"), _tensors(graph, 12, "outputs"))


def _tensors(graph: memoryview, number: int, what: str) -> list[TensorSpec]:
    return [_tensor(value) for value in _few(messages(graph, number), what)]


def _tensor(value: memoryview) -> TensorSpec:
    """A ValueInfoProto: name 1, type 2; in the type tensor_type 1; in it elem_type 1 and shape 2; in that dim 1."""
    name, kind = text(value, 1), message(value, 2)
    # Beside tensor_type there is its denotation, 6; the other fields are sequences, maps and the like.
    others = {number for number, _ in fields(kind)} - {1, 6}
    tensor = message(kind, 1)
    dtype = 0
    for number, found in fields(tensor):
        if number == 1 and isinstance(found, int):
            dtype = found
    if others or dtype not in _DTYPES:
        raise ValueError(f"{name!r} is no tensor of a known type")
    if not any(True for _ in messages(tensor, 2)):
        raise ValueError(f"{name!r} states no shape")
    dims = _few(messages(message(tensor, 2), 1), "dimensions")
    return TensorSpec(name=name, dtype=_DTYPES[dtype], shape=[_dim(dim) for dim in dims])


def _dim(dim: memoryview) -> int | str:
    """A Dimension: dim_value 1 or dim_param 2, of which the last one counts; neither is 0."""
    value: int | str = 0
    for number, found in fields(dim):
        if number == 1 and isinstance(found, int):
            value = found if found < 2**63 else found - 2**64
        elif number == 2 and isinstance(found, memoryview):
            value = bytes(found).decode("utf-8", "surrogateescape") or 0
    return value


def _few(found: Iterator[memoryview], what: str) -> Iterator[memoryview]:
    for number, value in enumerate(found):
        if number == _MOST:
            raise ValueError(f"it has more than {_MOST} {what}")
        yield value
