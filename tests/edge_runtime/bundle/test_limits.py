"""What no real bundle asks for is refused, whoever signed it; what exporters write is not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper
from resealed import edit

from edge_runtime.bundle.limits import check_operators, segment_bytes
from edge_runtime.bundle.manifest import MANIFEST, read_manifest, seal
from edge_runtime.bundle.reader import Bundle
from edge_runtime.errors import BundleRefused


def model(*nodes: onnx.NodeProto, functions: list[onnx.FunctionProto] | None = None) -> bytes:
    graph = helper.make_graph(list(nodes), "g", [], [])
    return bytes(helper.make_model(graph, functions=functions or []).SerializeToString())


def body() -> onnx.GraphProto:
    return helper.make_graph([helper.make_node("Neg", ["a"], ["b"])], "inner", [], [])


def test_operators_that_compute_are_taken() -> None:
    check_operators(model(helper.make_node("Add", ["a", "b"], ["c"])), "g.onnx")
    check_operators(model(helper.make_node("Scaler", ["a"], ["b"], domain="ai.onnx.ml")), "g.onnx")
    check_operators(model(helper.make_node("Add", ["a", "b"], ["c"], domain="ai.onnx")), "g.onnx")


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (helper.make_node("Loop", ["a"], ["b"], body=body()), "'Loop', which runs a graph"),
        (helper.make_node("If", ["a"], ["b"], then_branch=body(), else_branch=body()), "'If'"),
        (helper.make_node("Scan", ["a"], ["b"], body=body(), num_scan_inputs=1), "'Scan'"),
        (helper.make_node("Loop", ["a"], ["b"]), "'Loop'"),
        (helper.make_node("SequenceMap", ["a"], ["b"], body=body()), "'SequenceMap'"),
        (helper.make_node("Novel", ["a"], ["b"], inside=body()), "'Novel', which runs a graph"),
        (helper.make_node("Novel", ["a"], ["b"], inside=[body(), body()]), "'Novel', which runs a graph"),
        (helper.make_node("EPContext", ["a"], ["b"], domain="com.microsoft"), "'com.microsoft:EPContext'"),
        (helper.make_node("Add", ["a"], ["b"], domain="ai.onnx\n"), "a domain that is not allowed"),
        (helper.make_node("Add", ["a"], ["b"], domain="com.evil"), "'com.evil:Add'"),
    ],
)
def test_others_are_refused_by_name(node: onnx.NodeProto, words: str) -> None:
    with pytest.raises(BundleRefused, match=words) as caught:
        check_operators(model(helper.make_node("Neg", ["x"], ["y"]), node), "g.onnx")
    assert str(caught.value).isprintable()


def test_a_graph_that_stands_in_two_parts_is_read_in_both() -> None:
    # Other parsers join a message that stands twice.
    whole = model(helper.make_node("Neg", ["x"], ["y"])) + model(helper.make_node("Loop", ["a"], ["b"], body=body()))
    assert len(onnx.load_model_from_string(whole).graph.node) == 2
    with pytest.raises(BundleRefused, match="'Loop'"):
        check_operators(whole, "g.onnx")


def test_functions_are_refused() -> None:
    opsets = [helper.make_opsetid("", 22)]
    function = helper.make_function("", "Add", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], opsets)
    with pytest.raises(BundleRefused, match="defines a function 'Add' of its own"):
        check_operators(model(functions=[function]), "g.onnx")


@pytest.fixture
def copy(bundle_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle_dir, tmp_path / "bundle"))


def test_a_bundle_whose_graph_loops_is_refused(copy: Path) -> None:
    graph = onnx.load(copy / "scorer.onnx")
    graph.graph.node.append(helper.make_node("Loop", ["", ""], ["again"], body=body()))
    (copy / "scorer.onnx").write_bytes(graph.SerializeToString())
    edit(copy, lambda document: None)
    with pytest.raises(BundleRefused, match=r"scorer\.onnx: has the operator 'Loop'"):
        Bundle.open(copy)


def more_files(document: dict[str, Any]) -> None:
    document["files"] += [{"path": f"f{number}", "sha256": "", "bytes": 0} for number in range(1001)]


def put(*keys: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: Any) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("geometry", "layers", value=2000), "geometry.layers must lie in 1..1000, got 2000"),
        (put("geometry", "head_dim", value=0), "geometry.head_dim"),
        (put("geometry", "width", value=2**40), "geometry.width"),
        (put("prompt", "text", value="x" * 100_001), "the length of prompt.text"),
        (put("segment", "sampled", value=100_000), "one segment would take"),
        (more_files, "the number of files"),
    ],
)
def test_numbers_that_no_bundle_has(copy: Path, change: Callable[[dict[str, Any]], None], words: str) -> None:
    def whole(document: dict[str, Any]) -> None:
        if words.startswith("one segment"):
            size = 8192
            document["pixels"]["size"] = size
            document["segment"]["frames"] = document["segment"]["sampled"] = 100_000
            document["graphs"]["vision"]["inputs"][0]["shape"][2:4] = [size, size]
        change(document)

    edit(copy, whole)
    with pytest.raises(BundleRefused, match=words):
        Bundle.open(copy)


@pytest.mark.parametrize("count", [-1, 2**50])
def test_files_of_impossible_sizes(copy: Path, count: int) -> None:
    document = json.loads((copy / MANIFEST).read_text())
    document["files"][0]["bytes"] = count
    # Sealed by hand: `edit` would put the true sizes back.
    (copy / MANIFEST).write_bytes(seal(document))
    with pytest.raises(BundleRefused, match="bytes must lie in"):
        Bundle.open(copy)


def test_a_signature_that_is_listed_would_sign_itself(copy: Path) -> None:
    (copy / "manifest.sig").write_text("x")
    edit(copy, lambda document: document["files"].append({"path": "manifest.sig", "sha256": "", "bytes": 0}))
    with pytest.raises(BundleRefused, match=r"files lists manifest\.sig"):
        Bundle.open(copy)


def test_a_segment_takes_what_its_arrays_take(bundle_dir: Path) -> None:
    manifest = read_manifest((bundle_dir / MANIFEST).read_bytes())
    frames = manifest.segment.sampled * manifest.pixels.height * manifest.pixels.width * 3
    assert frames < segment_bytes(manifest) < 2**28
