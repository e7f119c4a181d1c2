"""A model deployed at every precision: near the model, and the decoder's outlier found and left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import smolvlm_checkpoints
import torch
from checkpoints import Shape, write_checkpoint
from llava_checkpoints import LlavaShape, write_llava
from oracle import seeing, some_frames
from qwen_checkpoints import write_qwen2_5_vl, write_qwen3_vl
from safetensors.torch import load_file, save_file

from edge_runtime.errors import ParityError
from edge_runtime.inference.precisions import PRECISIONS
from export.deploy import Deployment, deploy
from export.parity import centred_cosine, expert_features
from models.families.internvl import InternVL
from models.heads import HeadRef
from models.loading import load
from models.prompts import PROMPTS
from models.weights import WEIGHTS

EXPERTS = [HeadRef(1, 0), HeadRef(0, 3)]
FRAMES = some_frames(4, 2, 32)
# The least centred cosine of this model, which is untrained and small.
NEAR = {"fp32": 1 - 1e-6, "bf16": 0.99, "fp16": 0.9999, "int8": 0.98}


def job(model: Path, folder: Path, provider: str) -> Deployment:
    mllm = load(str(model), "cpu")
    assert isinstance(mllm, InternVL)
    folder.mkdir(exist_ok=True)
    return Deployment(mllm, PROMPTS[0], EXPERTS, seeing(2), FRAMES, folder, provider)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model"), Shape(layers=2))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_gives_nearly_what_the_model_gives_on_both_engines(
    precision: str, model: Path, tmp_path: Path
) -> None:
    work = job(model, tmp_path / "graphs", "openvino")
    deployed = deploy(work, precision, lambda _text: None)  # type: ignore[arg-type]
    wanted = expert_features(work.mllm, PROMPTS[0], EXPERTS, FRAMES, seeing(2))
    assert centred_cosine(wanted, deployed.graphs.features(FRAMES)) >= NEAR[precision]
    assert deployed.parity.relative <= PRECISIONS[precision].parity_tolerance
    assert {deployed.vision.precision, deployed.language.precision} <= {precision, "bf16"}


def some_model(family: str, folder: Path) -> Path:
    if family == "llava_onevision":
        return write_llava(folder, LlavaShape())
    if family == "smolvlm":
        return smolvlm_checkpoints.write_checkpoint(folder, smolvlm_checkpoints.Shape())
    return write_qwen3_vl(folder) if family == "qwen3_vl" else write_qwen2_5_vl(folder)


@pytest.mark.parametrize("family", ["llava_onevision", "smolvlm", "qwen2_5_vl", "qwen3_vl"])
def test_the_graphs_of_every_family_can_be_rounded(family: str, tmp_path: Path) -> None:
    """Their products have other names and places: nothing that is none, or that nobody watched, may stop a build."""
    mllm = load(str(some_model(family, tmp_path / "model")), "cpu")
    sampled = 2 * mllm.frames_per_group
    random = np.random.default_rng(0)
    shape = (3, sampled, mllm.pixels.height, mllm.pixels.width, 3)
    frames = random.integers(0, 256, shape, dtype=np.uint8)
    folder = tmp_path / "graphs"
    folder.mkdir()
    experts = [HeadRef(1, 0), HeadRef(0, 1)]
    work = Deployment(mllm, PROMPTS[0], experts, seeing(sampled), frames, folder, "openvino")
    deployed = deploy(work, "int8", lambda _text: None)
    assert deployed.vision.precision == "int8"
    assert deployed.parity.min_cosine > 0.99
    # Watched or not, a product is one of the graph's.
    assert all(name and not name.startswith("val_") for name in deployed.vision.kept + deployed.language.kept)


def test_a_layer_with_an_outlier_stays_and_is_named(model: Path, tmp_path: Path) -> None:
    """One channel in front of the product down is huge: 8 bits have no room for it and the others."""
    weights = load_file(model / WEIGHTS)
    other = tmp_path / "outlier"
    other.mkdir()
    for file in model.iterdir():
        if file.name != WEIGHTS:
            (other / file.name).write_bytes(file.read_bytes())
    up, down = (next(name for name in weights if f"layers.0.mlp.{part}_proj" in name) for part in ("up", "down"))
    weights[up][0] *= 3e4
    weights[down][:, 0] /= 3e4
    save_file(
        {name: value.contiguous() for name, value in weights.items()}, other / WEIGHTS, metadata={"format": "pt"}
    )
    said: list[str] = []
    deployed = deploy(job(other, tmp_path / "graphs", "openvino"), "int8", said.append)
    assert "layers.0.layer.mlp.down_proj" in deployed.language.kept
    assert deployed.vision.precision == "int8"
    assert any("products in int8" in text for text in said)


def test_a_graph_that_is_not_the_models_is_refused_at_any_precision(model: Path, tmp_path: Path, monkeypatch) -> None:
    work = job(model, tmp_path / "graphs", "cpu")
    monkeypatch.setattr(
        "export.deploy.expert_features",
        lambda *_: np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32),
    )
    with pytest.raises(ParityError, match="the bundle was not written"):
        deploy(work, "bf16", lambda _text: None)


def test_the_centred_cosine_sees_what_the_plain_one_hides():
    random = np.random.default_rng(0)
    told, common = random.normal(size=(50, 20)), 1000 * random.normal(size=20)
    wanted = (common + told).astype(np.float32)
    got = (common + random.normal(size=(50, 20))).astype(np.float32)
    plain = float((wanted * got).sum() / np.linalg.norm(wanted) / np.linalg.norm(got))
    assert plain > 0.9999
    assert abs(centred_cosine(wanted, got)) < 0.1
    assert centred_cosine(wanted, wanted + 7) == pytest.approx(1)
    assert torch.allclose(torch.tensor(centred_cosine(wanted, -wanted)), torch.tensor(-1.0), atol=1e-6)
