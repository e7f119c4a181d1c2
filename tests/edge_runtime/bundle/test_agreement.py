"""A manifest and graphs that are not of one build are refused at opening, by the name of the file that disagrees."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from msgspec import UNSET
from onnx import TensorProto, helper
from resealed import edit

from edge_runtime.bundle.golden import GOLDEN
from edge_runtime.bundle.reader import Bundle
from edge_runtime.errors import BundleRefused
from edge_runtime.inference import sessions


@pytest.fixture
def copy(bundle_dir, tmp_path) -> Path:
    """A bundle that may be changed."""
    return Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))


@pytest.fixture(autouse=True)
def no_session(monkeypatch):
    monkeypatch.setattr(sessions, "load_onnxruntime", lambda: pytest.fail("a session was opened"))


def refused(path: Path, *words: str) -> None:
    with pytest.raises(BundleRefused) as caught:
        Bundle.open(path)
    assert [word for word in words if word not in str(caught.value)] == []
    assert str(caught.value).isprintable()
    assert caught.value.exit_code == 3


def change_graph(path: Path, file: str, change) -> None:
    """Change a graph, and seal the bundle again with a manifest that says what it said."""
    model = onnx.load(path / file, load_external_data=False)
    change(model.graph)
    (path / file).write_bytes(model.SerializeToString())
    edit(path, lambda document: None)


def state(graph: str, which: str, **changes):
    """A change of what the manifest states of one input or output."""

    def change(document):
        document["graphs"][graph][which][0] |= changes

    return change


class TestTheManifestAgainstItsGraphs:
    @pytest.mark.parametrize("sampled", [1, 8, 17, 100_000])
    def test_another_number_of_sampled_frames(self, copy, sampled):
        edit(copy, lambda document: document["segment"].update(sampled=sampled))
        refused(copy, "language.onnx", "tokens float32 [any, 256, 192]", f"segment.sampled {sampled}")

    @pytest.mark.parametrize("size", [95, 448, 8192])
    def test_a_size_that_the_graph_does_not_take(self, copy, size):
        def change(document):
            document["pixels"]["size"] = size
            document["graphs"]["vision"]["inputs"][0]["shape"][2:4] = [size, size]

        edit(copy, change)
        refused(copy, "vision.onnx", "frames uint8 [any, 1, 96, 96, 3]", f"[any, 1, {size}, {size}, 3]")

    @pytest.mark.parametrize("side", ["height", 0])
    def test_a_size_that_is_left_free(self, copy, side):
        def change(document):
            document["graphs"]["vision"]["inputs"][0]["shape"][2] = side

        edit(copy, change)
        refused(copy, "vision.onnx" if side else "manifest.json")

    def test_a_missing_expert(self, copy):
        edit(copy, lambda document: document["experts"].pop())
        refused(copy, "language.onnx", "features float32 [any, 160]", "4 experts", "head_dim 32", "[any, 128]")

    def test_another_head_width(self, copy):
        edit(copy, lambda document: document["geometry"].update(head_dim=64))
        refused(copy, "language.onnx", "[any, 160]", "head_dim 64", "[any, 320]")

    @pytest.mark.parametrize(
        ("graph", "which", "changes"),
        [
            ("vision", "inputs", {"name": "pictures"}),
            ("vision", "inputs", {"dtype": "float32"}),
            ("vision", "inputs", {"shape": ["batch", 2, 96, 96, 3]}),
            ("vision", "inputs", {"shape": [1, 1, 96, 96, 3]}),
            ("vision", "outputs", {"name": "patches"}),
            ("vision", "outputs", {"shape": ["batch", 16]}),
            ("vision", "outputs", {"shape": ["batch", 16, 193]}),
            ("language", "inputs", {"name": "frames"}),
            ("language", "inputs", {"shape": ["batch", "tokens", 192]}),
            ("language", "outputs", {"name": "\x1b[31m\u202e"}),
            ("language", "outputs", {"dtype": "float16"}),
            ("growing", "inputs", {"name": "frames"}),
            ("growing", "outputs", {"shape": ["batch", 161]}),
        ],
    )
    def test_what_it_states_otherwise(self, copy, graph, which, changes):
        edit(copy, state(graph, which, **changes))
        refused(copy, f"{graph}.onnx: its {which} are", "manifest.json says")

    @pytest.mark.parametrize(
        ("which", "place", "changes"),
        [
            ("input", 0, {"name": "frames"}),
            ("input", 1, {"name": "places"}),
            ("output", 0, {"name": "values"}),
            ("output", 1, {"name": "state"}),
        ],
    )
    def test_a_growing_form_of_another_kind(self, copy, which, place, changes):
        def rename(graph):
            value = getattr(graph, which)[place]
            for node in graph.node:
                node.input[:] = [changes["name"] if name == value.name else name for name in node.input]
                node.output[:] = [changes["name"] if name == value.name else name for name in node.output]
            value.name = changes["name"]

        change_graph(copy, "growing.onnx", rename)
        edit(copy, lambda document: document["graphs"]["growing"][f"{which}s"][place].update(changes))
        refused(copy, f"growing.onnx: its {which}s are", "expected is", changes["name"])

    def test_a_growing_form_of_more_groups(self, copy):
        edit(copy, lambda document: document["graphs"]["growing"]["ends"].append(10_000))
        refused(copy, "graphs.growing.ends has 17 entries for 16 groups")

    def test_a_bundle_without_a_growing_form_is_whole(self, copy):
        for name in ("growing.onnx", "growing.onnx.data"):
            (copy / name).unlink()

        def change(document):
            del document["graphs"]["growing"]
            document["files"] = [entry for entry in document["files"] if not entry["path"].startswith("growing.")]

        edit(copy, change)
        assert Bundle.open(copy).manifest.graphs.growing is UNSET

    def test_one_too_many(self, copy):
        edit(copy, lambda document: document["graphs"]["language"]["inputs"].append(
            {"name": "more", "dtype": "float32", "shape": []}
        ))  # fmt: skip
        refused(copy, "language.onnx", "more float32 []")

    def test_none(self, copy):
        edit(copy, lambda document: document["graphs"]["language"].update(outputs=[]))
        refused(copy, "language.onnx", "manifest.json says none")

    def test_another_name_of_a_free_dimension_is_no_difference(self, copy):
        edit(copy, state("language", "inputs", shape=["b", 256, 192]))
        Bundle.open(copy)

    def test_the_graphs_of_another_role(self, copy):
        def swap(document):
            graphs = document["graphs"]
            graphs["vision"]["file"], graphs["language"]["file"] = "language.onnx", "vision.onnx"

        edit(copy, swap)
        refused(copy, "language.onnx: its inputs are tokens")


class TestTheGraphs:
    @pytest.mark.parametrize("file", ["vision.onnx", "language.onnx", "scorer.onnx"])
    @pytest.mark.parametrize("which", ["input", "output"])
    def test_renamed(self, copy, file, which):
        def rename(graph):
            getattr(graph, which)[0].name = "other\x1b\u202e"

        change_graph(copy, file, rename)
        refused(copy, file, "other\\x1b\\u202e")

    @pytest.mark.parametrize("file", ["vision.onnx", "language.onnx", "scorer.onnx"])
    def test_of_another_width(self, copy, file):
        def widen(graph):
            graph.input[0].type.tensor_type.shape.dim[-1].dim_value += 1

        change_graph(copy, file, widen)
        refused(copy, file)

    @pytest.mark.parametrize("file", ["vision.onnx", "language.onnx", "scorer.onnx"])
    def test_of_a_fixed_batch(self, copy, file):
        def fix(graph):
            graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1

        change_graph(copy, file, fix)
        refused(copy, file)

    def test_of_no_tensor(self, copy):
        value = helper.make_tensor_sequence_value_info("frames", TensorProto.FLOAT, [1])
        change_graph(copy, "vision.onnx", lambda graph: graph.input[0].CopyFrom(value))
        refused(copy, "vision.onnx", "'frames' is no tensor")

    def test_a_scorer_may_give_more(self, copy):
        label = helper.make_tensor_value_info("label", TensorProto.INT64, ["n"])
        change_graph(copy, "scorer.onnx", lambda graph: graph.output.insert(0, label))
        Bundle.open(copy)

    def test_a_scorer_of_one_column(self, copy):
        def narrow(graph):
            graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1

        change_graph(copy, "scorer.onnx", narrow)
        refused(copy, "scorer.onnx", "probabilities float32 [any, 1]", "[any, 2]")


class TestGolden:
    @pytest.mark.parametrize("segments", [0, 3])
    def test_none_or_too_many_segments(self, copy, segments):
        """Of none, a bench could not take one after another."""
        arrays = {
            name: np.resize(array, (segments, *array.shape[1:])) for name, array in np.load(copy / GOLDEN).items()
        }
        np.savez(copy / GOLDEN, **arrays)
        edit(copy, lambda document: None)
        refused(copy, "golden.npz")

    def test_of_another_build(self, copy):
        arrays = dict(np.load(copy / GOLDEN))
        np.savez(copy / GOLDEN, **(arrays | {"features": arrays["features"][:, :-1]}))
        edit(copy, lambda document: None)
        refused(copy, "golden.npz", "features is float32 (2, 159)", "(segments, 160)")
