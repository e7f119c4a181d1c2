"""What a graph declares, read like the onnx package reads it, and nothing read into bytes that are no model."""

from __future__ import annotations

import contextlib

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, TypeProto, ValueInfoProto, helper

from edge_runtime.bundle.manifest import TensorSpec
from edge_runtime.bundle.onnx_header import GraphHeader, read_header

TYPES = {
    kind: str(helper.tensor_dtype_to_np_dtype(kind))
    for kind in (*range(1, 8), *range(9, 14), TensorProto.BFLOAT16)
    if kind not in (TensorProto.STRING, TensorProto.COMPLEX64)
}
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
dims = st.one_of(st.none(), names.filter(bool), st.integers(-(2**63), 2**63 - 1))


@st.composite
def values(draw):
    kind = draw(st.sampled_from(sorted(TYPES)))
    return helper.make_tensor_value_info(draw(names), kind, draw(st.lists(dims, max_size=5)), draw(names))


@st.composite
def models(draw):
    inputs, outputs = draw(st.lists(values(), max_size=3)), draw(st.lists(values(), max_size=3))
    weights = helper.make_tensor("w", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], draw(names), inputs, outputs, [weights])
    graph.value_info.extend(draw(st.lists(values(), max_size=2)))
    return helper.make_model(graph, producer_name=draw(names))


def specs(declared) -> list[TensorSpec]:
    """Oracle: as the build writes them into the manifest."""
    return [
        TensorSpec(
            name=value.name,
            dtype=TYPES[value.type.tensor_type.elem_type],
            shape=[dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
        )
        for value in declared
    ]


def oracle(model: onnx.ModelProto) -> GraphHeader:
    return GraphHeader(specs(model.graph.input), specs(model.graph.output))


@given(model=models())
def test_names_types_and_shapes(model):
    assert read_header(model.SerializeToString()) == oracle(model)


@given(first=models(), second=models())
def test_two_models_in_one_are_merged_as_protobuf_merges_them(first, second):
    both = first.SerializeToString() + second.SerializeToString()
    assert read_header(both) == oracle(onnx.ModelProto.FromString(both))


@given(data=st.binary(max_size=200))
def test_any_bytes(data):
    with contextlib.suppress(ValueError):
        assert isinstance(read_header(data), GraphHeader)


@given(model=models(), data=st.data())
def test_a_truncated_model(model, data):
    whole = model.SerializeToString()
    with contextlib.suppress(ValueError):
        read_header(whole[: data.draw(st.integers(0, len(whole)))])


def with_input(value: ValueInfoProto) -> bytes:
    return helper.make_model(helper.make_graph([], "g", [value], [])).SerializeToString()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (ValueInfoProto(name="x"), "'x' is no tensor of a known type"),
        (helper.make_tensor_value_info("x", TensorProto.STRING, [1]), "no tensor of a known type"),
        (helper.make_tensor_value_info("x", TensorProto.FLOAT, None), "'x' states no shape"),
        (helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, [1]), "no tensor of a known type"),
        (helper.make_tensor_value_info("x", TensorProto.FLOAT, [1] * 65), "more than 64 dimensions"),
    ],
)
def test_what_no_graph_of_a_bundle_declares(value, reason):
    with pytest.raises(ValueError, match=reason):
        read_header(with_input(value))


def test_a_type_that_is_two_is_neither():
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    other = ValueInfoProto(type=TypeProto(sequence_type=TypeProto.Sequence(elem_type=value.type)))
    merged = value.SerializeToString() + other.SerializeToString()
    graph = bytes([11 << 3 | 2, len(merged)]) + merged
    with pytest.raises(ValueError, match="no tensor"):
        read_header(bytes([7 << 3 | 2, len(graph)]) + graph)


def test_more_inputs_than_any_graph_has():
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    with pytest.raises(ValueError, match="more than 64 inputs"):
        read_header(helper.make_model(helper.make_graph([], "g", [value] * 65, [])).SerializeToString())
