"""The gate between an export and a bundle: measured against hooks, and shut for anything it cannot vouch for."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from checkpoints import Shape, write_checkpoint
from exporting import export_graphs
from onnx import numpy_helper
from oracle import plain_head_features, seeing, some_frames

from edge_runtime.errors import InferenceFailed, ParityError
from edge_runtime.inference.onnx_engine import OnnxEngine
from edge_runtime.inference.precisions import parity_tolerance
from export.parity import Parity, expert_features, measure_parity, require_parity
from export.publish import LANGUAGE, VISION
from export.torch_onnx import save
from models.families.internvl import InternVL
from models.heads import HeadRef
from models.loading import load
from models.prompts import PROMPTS

EXPERTS = [HeadRef(1, 0), HeadRef(0, 3)]
FRAMES = some_frames(4, 2, 32)


@pytest.fixture(scope="module")
def mllm(tmp_path_factory: pytest.TempPathFactory) -> InternVL:
    model = load(str(write_checkpoint(tmp_path_factory.mktemp("model"), Shape(layers=2))), "cpu")
    assert isinstance(model, InternVL)
    return model


@pytest.fixture(scope="module")
def exported(mllm: InternVL, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export_graphs(mllm, PROMPTS[0], EXPERTS, seeing(2), folder)
    return folder


def measured(mllm: InternVL, folder: Path) -> Parity:
    graphs = OnnxEngine(folder / VISION, folder / LANGUAGE, provider="cpu")
    wanted = expert_features(mllm, PROMPTS[0], EXPERTS, FRAMES, seeing(2))
    return measure_parity(wanted, graphs, FRAMES, parity_tolerance(["fp32"]))


def test_a_model_that_computes_in_half_precision_is_compared_in_float32(mllm: InternVL, exported: Path) -> None:
    wanted = measured(mllm, exported)
    mllm.weights.convert(torch.bfloat16)
    try:
        assert measured(mllm, exported) == wanted
        assert mllm.dtype == torch.bfloat16
    finally:
        mllm.weights.convert(torch.float32)


def with_weight(exported: Path, folder: Path, graph: str, factor: float) -> Path:
    """A copy of the export in which the largest weight of one graph is multiplied."""
    shutil.copytree(exported, folder)
    model = onnx.load(str(folder / graph))
    floats = [one for one in model.graph.initializer if one.data_type == onnx.TensorProto.FLOAT]
    largest = max(floats, key=lambda one: int(np.prod(one.dims)))
    largest.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(largest) * np.float32(factor), largest.name))
    save(ir.from_proto(model), folder / graph)
    return folder


def test_a_true_export_passes_and_its_figures_are_those_of_the_plain_model(mllm: InternVL, exported: Path) -> None:
    parity = measured(mllm, exported)
    require_parity(parity)
    every = plain_head_features(mllm, FRAMES, PROMPTS[0]).astype(np.float64)
    original = np.concatenate([every[:, one.layer, one.head] for one in EXPERTS], axis=1)
    found = OnnxEngine(exported / VISION, exported / LANGUAGE, provider="cpu").features(FRAMES)
    scale = np.abs(original).max()
    assert parity.segments == 4
    assert parity.scale == pytest.approx(scale, rel=1e-5)
    assert parity.max_abs == pytest.approx(np.abs(found - original).max(), abs=2e-6 * scale)
    assert parity.relative == parity.max_abs / parity.scale <= 1e-5
    assert parity.min_cosine == pytest.approx(1.0, abs=1e-9)
    assert parity.to_dict()["tolerance"] == 1e-4


@pytest.mark.parametrize("graph", [VISION, LANGUAGE])
def test_one_changed_weight_is_found_and_measured(graph: str, mllm: InternVL, exported: Path, tmp_path: Path) -> None:
    parity = measured(mllm, with_weight(exported, tmp_path / "broken", graph, 1.1))
    assert parity.relative > 1e-3
    with pytest.raises(ParityError) as caught:
        require_parity(parity)
    assert f"{parity.relative:.3g}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_graph_that_gives_nan_does_not_pass(mllm: InternVL, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(InferenceFailed, match="not finite"):
        measured(mllm, with_weight(exported, tmp_path / "broken", LANGUAGE, float("nan")))


def figures(relative: float) -> Parity:
    return Parity(segments=8, scale=1.0, max_abs=relative, relative=relative, min_cosine=1.0, tolerance=1e-4)


@pytest.mark.parametrize("relative", [float("nan"), float("inf"), 1.001e-4])
def test_the_gate_is_shut(relative: float) -> None:
    with pytest.raises(ParityError):
        require_parity(figures(relative))


@pytest.mark.parametrize("relative", [0.0, 1e-7, 1e-4])
def test_the_gate_is_open(relative: float) -> None:
    require_parity(figures(relative))
