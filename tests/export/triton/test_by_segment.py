"""The vision graph that a server runs gives what the bundle's own gives, by segment instead of by group of frames."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from edge_runtime.bundle.external_data import external_locations
from edge_runtime.inference.engine import join_groups, split_groups
from export.triton.by_segment import write_by_segment
from export.triton.repository import write_repository


@pytest.fixture(scope="module")
def served(bundle, tmp_path_factory):
    from triton_server import here

    repository = tmp_path_factory.mktemp("models") / "models"
    written = write_repository(bundle, repository, here(backend="onnxruntime"))
    return repository / f"{written.base}_vision" / "1" / "model.onnx"


@pytest.mark.parametrize(("segments", "frames"), [(1, 16), (3, 16), (2, 1), (1, 5)])
def test_it_gives_the_same_tokens_for_any_number_of_segments_and_frames(bundle, served, segments, frames):
    pixels = bundle.manifest.pixels
    rng = np.random.default_rng(segments * 100 + frames)
    given = rng.integers(0, 256, (segments, frames, pixels.height, pixels.width, 3), dtype=np.uint8)
    group = bundle.manifest.graphs.frames_per_group
    own = onnxruntime.InferenceSession(str(bundle.file("vision.onnx")))
    changed = onnxruntime.InferenceSession(str(served))
    (expected,) = own.run(["tokens"], {"frames": split_groups(given, group)})
    (found,) = changed.run(["tokens"], {"frames": given})
    np.testing.assert_array_equal(found, join_groups(expected, segments))


def test_its_weights_are_the_bundles_own_files(bundle, served):
    locations = external_locations(served.read_bytes())
    assert locations
    for location in locations:
        assert (served.parent / location).samefile(bundle.path / location)


def test_groups_of_several_frames_stay_together(tmp_path):
    """A graph whose groups are pairs: each token is the sum over its pair."""
    from onnx import TensorProto, helper

    from edge_runtime.bundle.manifest import GraphSpec, TensorSpec

    frames = helper.make_tensor_value_info("frames", TensorProto.UINT8, ["n", 2, 1, 4, 3])
    tokens = helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["n", 4, 3])
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2])
    nodes = [
        helper.make_node("Cast", ["frames"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["wide", "axes"], ["tokens"], keepdims=0),
    ]
    graph = helper.make_graph(nodes, "pairs", [frames], [tokens], [axes])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]), tmp_path / "vision.onnx")

    class Graphs:
        vision = GraphSpec(
            file="vision.onnx",
            precision="fp32",
            inputs=[TensorSpec(name="frames", dtype="uint8", shape=["n", 2, 1, 4, 3])],
            outputs=[TensorSpec(name="tokens", dtype="float32", shape=["n", 4, 3])],
        )

    class Manifest:
        graphs = Graphs

    write_by_segment(tmp_path / "vision.onnx", Manifest, tmp_path / "served.onnx")  # type: ignore[arg-type]
    given = np.random.default_rng(0).integers(0, 256, (2, 6, 1, 4, 3), dtype=np.uint8)
    (found,) = onnxruntime.InferenceSession(str(tmp_path / "served.onnx")).run(None, {"frames": given})
    expected = given.reshape(2, 3, 2, 4, 3).sum(axis=2, dtype=np.float32).reshape(2, 12, 3)
    np.testing.assert_array_equal(found, expected)
