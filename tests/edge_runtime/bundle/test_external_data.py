"""The small protobuf reader against the onnx package, and against bytes that are no model."""

from __future__ import annotations

import contextlib

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edge_runtime.bundle.external_data import external_locations


def external(location: str, name: str = "w") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[2])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in [("offset", "0"), ("location", location), ("length", "8")]:
        tensor.external_data.add(key=key, value=value)
    return tensor


def plain(name: str = "p") -> TensorProto:
    return helper.make_tensor(name, TensorProto.FLOAT, [2], [1.0, 2.0])


def sparse(values: TensorProto, indices: TensorProto) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=values, indices=indices, dims=[4])


def all_tensors(message) -> list[TensorProto]:
    """Oracle: every TensorProto reachable from a message, by protobuf's own reflection."""
    found = [message] if isinstance(message, TensorProto) else []
    for field, value in message.ListFields():
        if field.message_type is not None:
            repeated = getattr(field, "is_repeated", None)
            children = value if (repeated if repeated is not None else field.label == 3) else [value]
            found += [tensor for child in children for tensor in all_tensors(child)]
    return found


def oracle(model: onnx.ModelProto) -> set[str]:
    values = [
        entry.value for tensor in all_tensors(model) for entry in tensor.external_data if entry.key == "location"
    ]
    # protobuf hands out text that is not UTF-8 as bytes.
    return {value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value for value in values}


locations = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
tensors = st.one_of(locations.map(external), st.just(plain()))


@st.composite
def attributes(draw, depth: int):
    attribute = onnx.AttributeProto(name="a", doc_string=draw(locations))
    kind = draw(st.sampled_from(["t", "tensors", "sparse", "sparses", "ints", *(["g", "graphs"] if depth else [])]))
    if kind == "t":
        attribute.t.CopyFrom(draw(tensors))
    elif kind == "tensors":
        attribute.tensors.extend(draw(st.lists(tensors, max_size=2)))
    elif kind == "sparse":
        attribute.sparse_tensor.CopyFrom(sparse(draw(tensors), draw(tensors)))
    elif kind == "sparses":
        attribute.sparse_tensors.add().CopyFrom(sparse(draw(tensors), draw(tensors)))
    elif kind == "ints":
        attribute.ints.extend(draw(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5)))
    elif kind == "g":
        attribute.g.CopyFrom(draw(graphs(depth - 1)))
    else:
        attribute.graphs.extend(draw(st.lists(graphs(depth - 1), max_size=2)))
    return attribute


@st.composite
def nodes(draw, depth: int):
    node = helper.make_node("If", ["c"], ["y"], name=draw(locations))
    node.attribute.extend(draw(st.lists(attributes(depth), max_size=2)))
    return node


@st.composite
def graphs(draw, depth: int = 2):
    graph = onnx.GraphProto(name=draw(locations))
    graph.node.extend(draw(st.lists(nodes(depth), max_size=2)))
    graph.initializer.extend(draw(st.lists(tensors, max_size=2)))
    for pair in draw(st.lists(st.tuples(tensors, tensors), max_size=1)):
        graph.sparse_initializer.add().CopyFrom(sparse(*pair))
    graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3]))
    return graph


@st.composite
def models(draw):
    model = onnx.ModelProto(ir_version=10, producer_name=draw(locations), model_version=draw(st.integers(0, 2**62)))
    model.graph.CopyFrom(draw(graphs()))
    for body in draw(st.lists(st.lists(nodes(1), max_size=2), max_size=2)):
        function = model.functions.add(name="f", domain="d")
        function.node.extend(body)
        function.attribute_proto.extend(draw(st.lists(attributes(1), max_size=1)))
    for graph in draw(st.lists(graphs(1), max_size=1)):
        model.training_info.add().initialization.CopyFrom(graph)
        model.training_info[0].algorithm.CopyFrom(graph)
    model.metadata_props.add(key="location", value="/not/a/tensor")
    return model


@settings(max_examples=150)
@given(model=models())
def test_every_place_where_a_tensor_can_be(model):
    assert external_locations(model.SerializeToString()) == oracle(model)


@given(model=models(), data=st.data())
def test_a_truncated_model_is_refused_or_a_shorter_one(model, data):
    whole = model.SerializeToString()
    part = whole[: data.draw(st.integers(0, len(whole)))]
    try:
        found = external_locations(part)
    except ValueError:
        return
    # Cut between two fields it is a model again; then protobuf reads the same.
    assert found == oracle(onnx.ModelProto.FromString(part))


@given(model=models(), data=st.data())
def test_a_damaged_model_never_hides_a_location_from_us(model, data):
    """What protobuf can read of changed bytes, we have read too, or refused the file."""
    damaged = bytearray(model.SerializeToString())
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(damaged) - 1), st.integers(0, 255)), max_size=4)
    ):
        damaged[place] = value
    try:
        seen = oracle(onnx.ModelProto.FromString(bytes(damaged)))
    except DecodeError:
        seen = set()
    with contextlib.suppress(ValueError):
        assert seen <= external_locations(bytes(damaged))


@settings(max_examples=300)
@given(data=st.binary(max_size=300))
def test_any_bytes_end_in_a_set_or_a_value_error(data):
    with contextlib.suppress(ValueError):
        assert isinstance(external_locations(data), set)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes, high_bits: int = 0) -> bytes:
    return varint(number << 3 | 2 | high_bits) + varint(len(content)) + content


def test_a_field_number_with_bits_that_other_parsers_drop_is_refused():
    entry = field(1, b"location") + field(2, b"/etc/passwd")
    graph = field(5, field(13, entry))
    assert external_locations(field(7, graph)) == {"/etc/passwd"}
    with pytest.raises(ValueError, match="out of range"):
        external_locations(field(7, graph, high_bits=1 << 32))


@pytest.mark.parametrize(
    "data",
    [
        b"\x80" * 40,  # a number without end
        varint(7 << 3 | 2) + varint(2**62) + b"x",  # longer than the file
        b"\x3b",  # a group
        varint(7 << 3 | 1) + b"1234567",  # half a fixed64
        b"\x02\x00",  # field 0
        b"\x00\x00\x00\x00ORTM\x00\x00",  # ONNX Runtime's own format
    ],
)
def test_what_is_no_onnx_file(data):
    with pytest.raises(ValueError, match=r".+"):
        external_locations(data)


def test_nesting_without_end_is_refused():
    graph = b""
    for _ in range(100):
        graph = field(1, field(5, field(6, graph)))
    with pytest.raises(ValueError, match="deep"):
        external_locations(field(7, graph))


def test_a_saved_model_names_its_weights(tmp_path):
    weights = helper.make_tensor("w", TensorProto.FLOAT, [1000], np.zeros(1000, np.float32).tobytes(), raw=True)
    graph = helper.make_graph([], "g", [], [], [weights])
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx", save_as_external_data=True, location="m.onnx.data")
    assert external_locations((tmp_path / "m.onnx").read_bytes()) == {"m.onnx.data"}
