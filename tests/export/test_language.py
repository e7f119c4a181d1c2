"""The exported graphs against hooks on plain transformers, over geometries nobody should assume away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import Shape, write_checkpoint
from numpy.typing import NDArray
from oracle import plain_head_features, seeing, some_frames

from edge_runtime.errors import UsageError
from edge_runtime.inference.onnx_engine import OnnxEngine
from export.graphs import export_language, export_vision
from export.language import TruncatedLanguage
from export.publish import LANGUAGE, VISION
from models.families.internvl import InternVL
from models.heads import HeadRef
from models.loading import load
from models.prompts import PROMPTS

FRAMES = 3
SPREAD = ((2, 3), (0, 1), (1, 2), (2, 0), (0, 0))

# (shape, experts in an order that is not sorted)
CASES = {
    "qwen2-grouped-by-2-spread": (Shape(), SPREAD),
    "qwen2-one-kv-wide-heads-last": (
        Shape(kv_heads=1, head_dim=16, tied=True, text={"rope_theta": 50.0}),
        ((2, 3), (2, 1), (2, 2)),
    ),
    "qwen3-qk-norm-all-kv-first": (
        Shape(family="qwen3", kv_heads=4, head_dim=12, vision={"use_qk_norm": True, "norm_type": "rms_norm"}),
        ((0, 2), (0, 0), (0, 3)),
    ),
    "qwen3-six-heads-uneven-groups": (
        Shape(family="qwen3", heads=6, kv_heads=3, head_dim=8, text={"attention_bias": True}),
        ((2, 5), (1, 0), (2, 1), (2, 4)),
    ),
    "llama-grouped-mean-pooling-spread": (
        Shape(
            family="llama",
            head_dim=6,
            text={"attention_bias": True, "mlp_bias": True},
            vision={"use_mean_pooling": True, "use_absolute_position_embeddings": False, "attention_bias": False},
        ),
        SPREAD,
    ),
    "llama-one-layer-one-head": (Shape(family="llama", layers=1, heads=2, kv_heads=1, width=24), ((0, 1),)),
}


def loaded(folder: Path) -> InternVL:
    mllm = load(str(folder), "cpu")
    assert isinstance(mllm, InternVL)
    return mllm


@torch.inference_mode()
def torch_tokens(mllm: InternVL, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Tokens (b, n·T, D) of frames (b, F, S, S, 3) by the module that the export takes."""
    with mllm.weights.held(mllm.vision):
        tokens: torch.Tensor = mllm.vision(torch.from_numpy(frames).flatten(0, 1)[:, None])
    return tokens.reshape(len(frames), -1, tokens.shape[-1]).numpy()


@pytest.fixture(scope="module")
def some_vision(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vision graph that stands in where none is asked: exporting one takes seconds."""
    folder = tmp_path_factory.mktemp("vision")
    export_vision(loaded(write_checkpoint(folder / "model", Shape(layers=1))), folder)
    return folder / VISION


@pytest.mark.parametrize("name", CASES)
def test_the_exported_graphs_give_what_hooks_on_the_plain_model_see(
    name: str, some_vision: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape, heads = CASES[name]
    mllm = loaded(write_checkpoint(tmp_path / "model", shape))
    experts = [HeadRef(layer, head) for layer, head in heads]
    prompt = PROMPTS[-1]
    export_language(mllm, prompt, experts, seeing(FRAMES), tmp_path)
    if shape.vision:
        export_vision(mllm, tmp_path)
    graphs = OnnxEngine(tmp_path / VISION if shape.vision else some_vision, tmp_path / LANGUAGE, provider="cpu")
    if not shape.vision:
        # A tower like the others': its tokens come from torch.
        monkeypatch.setattr(graphs, "tokens", lambda frames: torch_tokens(mllm, frames))
    for batch in (1, 2, 3):
        frames = some_frames(batch, FRAMES, mllm.pixels.size, seed=batch)
        every = plain_head_features(mllm, frames, prompt)
        wanted = np.concatenate([every[:, expert.layer, expert.head] for expert in experts], axis=1)
        found = graphs.features(frames)
        assert found.dtype == np.float32
        assert found.shape == wanted.shape == (batch, len(experts) * mllm.geometry.head_dim)
        assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
        # The features tell these pictures apart; a graph that ignored them could not pass above by being flat.
        if batch > 1:
            assert np.abs(found[0] - found[1]).max() > 1e-3 * np.abs(wanted).max()


def test_layers_above_the_deepest_expert_and_other_heads_are_not_in_the_graph(tmp_path: Path) -> None:
    mllm = loaded(write_checkpoint(tmp_path / "model", Shape(heads=4, kv_heads=2)))
    language = TruncatedLanguage(mllm, PROMPTS[0], [HeadRef(1, 3), HeadRef(0, 0)], seeing(FRAMES))
    width, head_dim = mllm.geometry.width, mllm.geometry.head_dim
    assert len(language.layers) == 1  # layer 0 is whole, layer 1 is cut down, layer 2 is gone
    assert language.last.query.weight.shape == (head_dim, width)
    assert language.last.key.weight.shape == language.last.value.weight.shape == (head_dim, width)


@pytest.mark.parametrize("experts", [[], [HeadRef(0, 0), HeadRef(0, 0)], [HeadRef(3, 0)], [HeadRef(0, 4)]], ids=str)
def test_experts_that_do_not_exist_or_come_twice_are_refused(experts: list[HeadRef], tmp_path: Path) -> None:
    mllm = loaded(write_checkpoint(tmp_path / "model", Shape()))
    with pytest.raises(UsageError):
        TruncatedLanguage(mllm, PROMPTS[0], experts, seeing(FRAMES))
