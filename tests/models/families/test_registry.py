"""A second family is a class and a row of the table: it is hunted and exported without a change anywhere else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from oracle import plain_head_features, seeing, some_frames
from toy_family import ADDITIONS_AFTER, SIZE, TOY, Toy, write_toy

from edge_runtime.errors import CheckpointError
from edge_runtime.inference.onnx_engine import OnnxEngine
from export.graphs import export_language, export_vision
from export.publish import LANGUAGE, VISION
from models.families.registry import FAMILIES, Family, family_of
from models.heads import HeadRef
from models.layerwise import Sequences
from models.loading import load
from models.prompts import PROMPTS
from models.states import State

FRAMES = 3
SEEN = seeing(FRAMES)
KNOWN = ", ".join(sorted(FAMILIES))


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """A checkpoint of a family that is registered only while it is loaded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, "toy", TOY)
        mllm = load(str(write_toy(tmp_path_factory.mktemp("toy"))), "cpu")
    assert isinstance(mllm, Toy)
    return mllm


@pytest.fixture(scope="module")
def toy_vision(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vision")
    export_vision(toy, folder)
    return folder / VISION


def test_a_family_is_known_by_its_row_alone(toy: Toy, tmp_path: Path) -> None:
    assert toy.source.architecture == "ToyForConditionalGeneration"
    (tmp_path / "config.json").write_text('{"model_type": "toy"}')
    with pytest.raises(CheckpointError, match=f"'toy' is not supported; supported: {KNOWN}"):
        load(str(tmp_path), "cpu")


def test_the_hunt_sees_what_hooks_on_its_untouched_model_see(toy: Toy) -> None:
    frames = some_frames(2, FRAMES, SIZE)
    found = toy.head_features(frames, PROMPTS, SEEN)
    for number, prompt in enumerate(PROMPTS):
        wanted = plain_head_features(toy, frames, prompt)
        assert np.abs(found[:, number] - wanted).max() <= 1e-5 * np.abs(wanted).max(), prompt.name


@pytest.mark.parametrize(
    "heads",
    [((3, 1), (1, 2), (2, 0)), ((1, 3), (0, 0)), ((0, 2),)],
    ids=["above-all-additions", "between-them", "below-them"],
)
def test_its_graphs_give_what_hooks_on_its_untouched_model_see(
    heads: tuple[tuple[int, int], ...], toy: Toy, toy_vision: Path, tmp_path: Path
) -> None:
    experts = [HeadRef(layer, head) for layer, head in heads]
    export_language(toy, PROMPTS[2], experts, SEEN, tmp_path)
    graphs = OnnxEngine(toy_vision, tmp_path / LANGUAGE, provider="cpu")
    for batch in (1, 3):
        frames = some_frames(batch, FRAMES, SIZE, seed=batch)
        every = plain_head_features(toy, frames, PROMPTS[2])
        wanted = np.concatenate([every[:, expert.layer, expert.head] for expert in experts], axis=1)
        found = graphs.features(frames)
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("left_out", ["positions", "additions"])
def test_the_oracle_notices_what_is_left_out(left_out: str, toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = some_frames(1, FRAMES, SIZE)
    wanted = plain_head_features(toy, frames, PROMPTS[0])
    if left_out == "positions":
        monkeypatch.setattr(toy, "positions", lambda layout: torch.arange(layout.length)[None])
    else:
        enter = Sequences.enter

        def without_additions(self: Sequences, tokens: torch.Tensor) -> State:
            return {name: one for name, one in enter(self, tokens).items() if not name.startswith("addition")}

        monkeypatch.setattr(Sequences, "enter", without_additions)
    found = toy.head_features(frames, PROMPTS[:1], SEEN)[:, 0]
    above = min(ADDITIONS_AFTER) + 1
    assert np.abs(found[:, above:] - wanted[:, above:]).max() > 1e-2 * np.abs(wanted).max()


@pytest.mark.parametrize("kind", ["llava", "InternVL", "", None, 3, ["internvl"]])
def test_an_unknown_model_type_is_named_beside_those_that_are_known(kind: object) -> None:
    with pytest.raises(CheckpointError) as caught:
        family_of({"model_type": kind})
    assert str(caught.value) == f"model_type {str(kind)!r} is not supported; supported: {KNOWN}"


@pytest.mark.parametrize("decoder", ["qwen3_moe", "granite", "no such decoder", 7])
def test_a_decoder_that_cannot_be_truncated_is_refused_before_any_weight_is_looked_at(
    decoder: object, tmp_path: Path
) -> None:
    document = {"model_type": "internvl", "text_config": {"model_type": decoder}}
    # Nothing else is in the folder: no tokenizer and no weights.
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError) as caught:
        load(str(tmp_path), "cpu")
    assert str(caught.value) == (
        f"{tmp_path}: InternVL with a {decoder!r} decoder (text_config.model_type) is not supported; "
        "supported: qwen2, qwen3, llama"
    )


@pytest.mark.parametrize("config", [{}, {"text_config": None}, {"text_config": {}}])
def test_a_config_that_names_no_decoder_has_the_familys_usual_one(config: dict[str, object]) -> None:
    FAMILIES["internvl"].check_decoder(config)


def test_a_text_config_that_is_no_object_is_refused() -> None:
    with pytest.raises(CheckpointError, match="text_config"):
        FAMILIES["internvl"].check_decoder({"text_config": ["qwen2"]})


def test_every_row_leads_to_classes_that_fit() -> None:
    for kind, family in FAMILIES.items():
        assert isinstance(family, Family)
        assert family.load_model_class().config_class.model_type == kind
        assert not getattr(family.load_adapter(), "__abstractmethods__", None)


def test_reading_the_table_imports_neither_transformers_nor_a_family() -> None:
    code = (
        "import sys, models.families.registry\n"
        "print([name for name in sys.modules if name in ('transformers', 'models.families.internvl')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
