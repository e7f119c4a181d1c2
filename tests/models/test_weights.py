"""Weights on demand: what is not needed is not in memory, what is needed is the checkpoint's own, to the bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from checkpoints import Shape, write_checkpoint
from safetensors.torch import load_file, save_file

from edge_runtime.errors import CheckpointError
from models.families.internvl import InternVL
from models.loading import load
from models.weights import INDEX, WEIGHTS, weight_files


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("whole"), Shape(layers=2, tied=True))


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def opened(folder: Path) -> InternVL:
    mllm = load(str(folder), "cpu")
    assert isinstance(mllm, InternVL)
    return mllm


def shard(folder: Path, shards: int = 3) -> list[Path]:
    """Cut the checkpoint's one file into shards with an index, as large checkpoints come."""
    tensors = load_file(folder / WEIGHTS)
    names = sorted(tensors)
    weight_map = {}
    for number in range(shards):
        part = {name: tensors[name].clone() for name in names[number::shards]}
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (folder / WEIGHTS).unlink()
    return sorted({folder / file for file in weight_map.values()})


def in_memory(mllm: InternVL) -> int:
    """How many weights of the model are there."""
    return sum(not parameter.is_meta for parameter in mllm._model.parameters())


def test_an_opened_model_has_no_weight_in_memory(whole: Path) -> None:
    assert in_memory(opened(whole)) == 0


def test_filled_weights_are_those_of_the_file(whole: Path) -> None:
    mllm = opened(whole)
    stored = load_file(whole / WEIGHTS)
    layer = mllm.language.layers[1]
    mllm.weights.fill(layer)
    assert in_memory(mllm) == len(list(layer.parameters()))
    for name, parameter in layer.named_parameters():
        (key,) = [key for key in stored if key.endswith(f"language_model.model.layers.1.{name}")] or [
            key for key in stored if key.endswith(f"layers.1.{name}") and "vision" not in key
        ]
        assert torch.equal(parameter, stored[key]), name
        assert not parameter.is_inference()


def test_held_weights_go_again_and_others_stay(whole: Path) -> None:
    mllm = opened(whole)
    first, second = mllm.language.layers
    mllm.weights.fill(first)
    before = in_memory(mllm)
    with mllm.weights.held(first, second):
        assert in_memory(mllm) == 2 * before
    assert in_memory(mllm) == before
    with pytest.raises(RuntimeError, match="on purpose"), mllm.weights.held(second):
        raise RuntimeError("on purpose")
    assert in_memory(mllm) == before
    mllm.to("cpu")
    assert in_memory(mllm) == 0


def test_tied_weights_are_one_tensor_of_the_file(whole: Path) -> None:
    mllm = opened(whole)
    head, table = mllm.plain.lm_head.weight, mllm.plain.get_input_embeddings().weight
    assert torch.equal(head, table)
    assert not any(key.startswith("lm_head") for key in load_file(whole / WEIGHTS))


def test_only_the_rows_of_the_words_that_occur_are_read(whole: Path) -> None:
    mllm = opened(whole)
    table = next(value for key, value in load_file(whole / WEIGHTS).items() if "embed_tokens" in key)
    ids = [5, 2, 5, 9]
    assert torch.equal(mllm.embed(ids)[0], table[ids])
    assert mllm.embed([]).shape == (1, 0, 32)
    assert in_memory(mllm) == 0


def test_shards_give_what_one_file_gives(whole: Path, folder: Path) -> None:
    shard(folder)
    one, many = opened(whole), opened(folder)
    for name, parameter in one.plain.named_parameters():
        assert torch.equal(parameter, many.plain.get_parameter(name)), name


@pytest.mark.parametrize("fault", ["missing", "cut", "empty"])
def test_a_shard_that_is_not_whole_is_named(fault: str, folder: Path) -> None:
    shards = shard(folder)
    content = shards[1].read_bytes()
    if fault == "missing":
        shards[1].unlink()
    else:
        shards[1].write_bytes(content[: len(content) // 2] if fault == "cut" else b"")
    with pytest.raises(CheckpointError) as caught:
        load(str(folder), "cpu")
    assert shards[1].name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": 3}}'])
def test_an_index_that_says_nothing_is_refused(content: str, folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / INDEX).write_text(content)
    with pytest.raises(CheckpointError, match="index"):
        weight_files(folder)


def test_quantised_weights_are_refused_by_name(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    name = next(key for key in tensors if key.endswith("layers.0.mlp.up_proj.weight"))
    tensors[name] = tensors[name].to(torch.int8)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"layers\.0\.mlp\.up_proj\.weight is stored as I8"):
        load(str(folder), "cpu")


def test_another_number_format_changes_what_is_read_and_not_the_file(whole: Path) -> None:
    mllm = opened(whole)
    mllm.weights.convert(torch.bfloat16)
    layer = mllm.language.layers[0]
    with mllm.weights.held(layer):
        weight = layer.mlp.up_proj.weight
        assert weight.dtype == torch.bfloat16
        mllm.weights.convert(torch.float32)
        assert in_memory(mllm) == 0
    with mllm.weights.held(layer):
        assert torch.equal(layer.mlp.up_proj.weight.to(torch.bfloat16), weight)
