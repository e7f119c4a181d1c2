"""Graph files: what they hold, and that the machine and the moment that made them leave no trace."""

from __future__ import annotations

import getpass
import socket
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from checkpoints import Shape, write_checkpoint
from exporting import export_graphs
from oracle import seeing
from torch import Tensor, nn

from export.publish import LANGUAGE, VISION
from export.torch_onnx import OPSET, Given, export_module, tensor_specs
from models.heads import HeadRef
from models.loading import load
from models.prompts import PROMPTS

ROOT = Path(__file__).parents[2]
EXPERTS = [HeadRef(1, 2), HeadRef(0, 1)]
GRAPH_FILES = (VISION, VISION + ".data", LANGUAGE, LANGUAGE + ".data")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, exported twice from two loads: folders `model`, `one` and `two`."""
    folder = tmp_path_factory.mktemp("graphs")
    write_checkpoint(folder / "model", Shape(layers=2))
    for name in ("one", "two"):
        (folder / name).mkdir()
        export_graphs(load(str(folder / "model"), "cpu"), PROMPTS[0], EXPERTS, seeing(2), folder / name)
    return folder


def test_a_graph_says_nothing_of_the_machine_that_made_it(exported: Path) -> None:
    traces = {str(ROOT), str(exported), "site-packages", "/tmp", str(Path.home()), sys.prefix, ".py"}
    traces |= {name for name in (socket.gethostname(), getpass.getuser()) if len(name) > 6}
    for name in GRAPH_FILES:
        content = (exported / "one" / name).read_bytes()
        for trace in traces - {"", "/"}:
            assert trace.encode() not in content, f"{trace} in {name}"


def test_exporting_twice_gives_the_same_bytes(exported: Path) -> None:
    assert sorted(path.name for path in (exported / "one").iterdir()) == sorted(GRAPH_FILES)
    for name in GRAPH_FILES:
        assert (exported / "one" / name).read_bytes() == (exported / "two" / name).read_bytes(), name


def test_the_graphs_are_valid_and_their_interface_is_as_the_bundle_states(exported: Path) -> None:
    interfaces = {}
    for name in (VISION, LANGUAGE):
        path = exported / "one" / name
        onnx.checker.check_model(str(path), full_check=True)
        graph = onnx.load(str(path))
        assert {entry.domain: entry.version for entry in graph.opset_import}.get("") == OPSET
        inputs, outputs = tensor_specs(path)
        assert len(inputs) == len(outputs) == 1
        interfaces[name] = (inputs[0].name, inputs[0].dtype, inputs[0].shape, outputs[0].name, outputs[0].dtype)
        assert isinstance(inputs[0].shape[0], str), "the batch is a free dimension"
        assert isinstance(outputs[0].shape[0], str)
    assert interfaces[VISION] == ("frames", "uint8", [interfaces[VISION][2][0], 1, 32, 32, 3], "tokens", "float32")
    assert interfaces[LANGUAGE][:2] == ("tokens", "float32")
    assert interfaces[LANGUAGE][2][1:] == [2 * 4, 32]
    assert interfaces[LANGUAGE][3:] == ("features", "float32")


def test_no_weight_is_written_that_nothing_uses(exported: Path) -> None:
    for name in (VISION, LANGUAGE):
        graph = onnx.load(str(exported / "one" / name), load_external_data=False).graph
        used = {value for node in graph.node for value in node.input} | {value.name for value in graph.output}
        assert {weight.name for weight in graph.initializer} <= used, name


def test_no_mask_is_materialised_and_attention_stays_one_operator(exported: Path) -> None:
    nodes = onnx.load(str(exported / "one" / LANGUAGE), load_external_data=False).graph.node
    attention = [node for node in nodes if node.op_type == "Attention"]
    assert len(attention) == 2
    for node in attention:
        assert len(node.input) < 4 or not node.input[3]
    causal = [next((a.i for a in node.attribute if a.name == "is_causal"), 0) for node in attention]
    # The deepest layer has one query that sees every position.
    assert sorted(causal) == [0, 1]


class Scale(nn.Module):
    """A module too small to have a weight worth a data file."""

    def forward(self, value: Tensor) -> Tensor:
        return value * 2.0


def test_a_graph_without_large_weights_still_has_its_data_file(tmp_path: Path) -> None:
    export_module(Scale(), [Given("value", torch.zeros(2, 3))], ["double"], tmp_path / "scale.onnx")
    assert (tmp_path / "scale.onnx.data").read_bytes() == b""
    session = onnxruntime.InferenceSession(str(tmp_path / "scale.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(["double"], {"value": np.ones((5, 3), np.float32)})
    assert (found == np.full((5, 3), 2.0)).all()


def test_an_older_data_file_is_replaced_not_appended_to(tmp_path: Path) -> None:
    layer = nn.Linear(32, 32)
    sizes = []
    for _ in range(2):
        export_module(layer, [Given("value", torch.zeros(2, 32))], ["result"], tmp_path / "layer.onnx")
        sizes.append((tmp_path / "layer.onnx.data").stat().st_size)
    assert sizes[0] == sizes[1] > 0
