"""Checkpoint folders with every fault they may have: one line that names the thing, never a random weight."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import Shape, write_checkpoint
from oracle import seeing, some_frames
from safetensors.torch import load_file, save_file
from transformers import InternVLForConditionalGeneration

from edge_runtime.errors import CheckpointError, UsageError
from models.loading import choose_device, fingerprint, load
from models.prompts import PROMPTS

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("whole"), Shape(layers=2))


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def tensor_name(folder: Path, ending: str) -> str:
    return next(name for name in load_file(folder / WEIGHTS) if name.endswith(ending))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def refusal(name: Path | str) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(str(name), "cpu")
    message = str(caught.value)
    assert "\n" not in message
    assert str(name) in message
    return message


def edit_config(folder: Path, **values: object) -> None:
    document = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(document | values))


def test_the_whole_folder_loads_and_says_what_it_is(whole: Path) -> None:
    mllm = load(str(whole), "cpu")
    assert mllm.source.name == whole.name  # no path of this machine
    assert mllm.source.architecture == "InternVLForConditionalGeneration"
    assert mllm.source.licence == "unknown"
    assert mllm.fingerprint == fingerprint(whole)
    assert mllm.source.revision == f"sha256:{mllm.fingerprint[:16]}"


def test_a_card_tells_the_licence(folder: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    assert load(str(folder), "cpu").source.licence == "apache-2.0"


def test_the_built_in_models_licence_is_ours() -> None:
    assert load("reference", "cpu").source.licence == "apache-2.0"


def test_no_tokenizer(folder: Path) -> None:
    for path in folder.glob("*token*"):
        path.unlink()
    assert "tokenizer" in refusal(folder)


def test_no_chat_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    assert "chat template" in refusal(folder)


def test_no_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    assert "no weights" in refusal(folder)


@pytest.mark.parametrize("family", ["llava", "internvl_chat", None])
def test_an_unsupported_family(family: str | None, folder: Path) -> None:
    edit_config(folder, model_type=family)
    assert repr(str(family)) in refusal(folder)


def test_a_config_that_cannot_be_exported_is_refused_before_weights_are_read(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"no weights at all")
    edit_config(folder, vision_feature_layer=-2)
    assert "vision_feature_layer" in refusal(folder)


@pytest.mark.parametrize("error", [MemoryError(), KeyError(), ValueError("\n\nthe first line\nthe second")], ids=repr)
def test_an_error_while_loading_is_told_in_one_line(
    error: Exception, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_named: object) -> None:
        raise error

    monkeypatch.setattr(InternVLForConditionalGeneration, "_from_config", fail)
    reason = "the first line" if isinstance(error, ValueError) else type(error).__name__
    assert refusal(whole) == f"{whole}: transformers cannot load it ({reason})"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(value: float, folder: Path) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors[tensor_name(folder, "layers.1.self_attn.o_proj.weight")][3, 2] = value

    change_weights(folder, spoil)
    message = refusal(folder)
    assert "layers.1.self_attn.o_proj.weight" in message
    assert "not finite" in message


@pytest.mark.parametrize(
    "ending", ["layers.0.mlp.up_proj.weight", "q_proj.bias", "cls_token", "multi_modal_projector.linear_1.weight"]
)
def test_a_missing_tensor_is_not_made_up(ending: str, folder: Path) -> None:
    def drop(tensors: dict[str, torch.Tensor]) -> None:
        del tensors[tensor_name(folder, ending)]

    change_weights(folder, drop)
    message = refusal(folder)
    assert "missing" in message
    assert ending in message


def test_a_tensor_of_another_shape(folder: Path) -> None:
    def halve(tensors: dict[str, torch.Tensor]) -> None:
        name = tensor_name(folder, "layers.0.mlp.up_proj.weight")
        tensors[name] = tensors[name][:7].clone()

    change_weights(folder, halve)
    refusal(folder)


@pytest.mark.parametrize("keep", [0, 7, 0.3, 0.99])
def test_truncated_weights(keep: float, folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    refusal(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe", b"null"])
def test_a_config_that_is_no_json_object(content: bytes, folder: Path) -> None:
    (folder / "config.json").write_bytes(content)
    assert "config.json" in refusal(folder)


def test_no_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert "config.json" in refusal(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]"])
def test_a_damaged_tokenizer(content: bytes, folder: Path) -> None:
    (folder / "tokenizer.json").write_bytes(content)
    refusal(folder)


@pytest.mark.parametrize("name", ["nowhere", "/no/such/folder", "./a/b", "../model", "", "a/b/c"])
def test_a_folder_that_does_not_exist(name: str) -> None:
    with pytest.raises(CheckpointError, match="no such folder") as caught:
        load(name, "cpu")
    assert "\n" not in str(caught.value)


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("x")
    refusal(tmp_path / "model")


def test_a_hub_id_without_a_network_is_refused_at_once(tmp_path: Path) -> None:
    code = "import sys\nfrom models.loading import locate\nlocate('nobody/no-such-model')"
    environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("edge_runtime.errors.CheckpointError: nobody/no-such-model")


def test_the_fingerprint_follows_content_and_nothing_else(folder: Path) -> None:
    before = fingerprint(folder)
    (folder / "README.md").write_text("a card computes nothing")
    moved = Path(shutil.copytree(folder, folder.parent / "elsewhere"))
    assert fingerprint(moved) == before
    for name in ("config.json", WEIGHTS, "tokenizer.json", "chat_template.jinja", "preprocessor_config.json"):
        content = (moved / name).read_bytes()
        (moved / name).write_bytes(content + b" ")
        assert fingerprint(moved) != before, name
        (moved / name).write_bytes(content)
    assert fingerprint(moved) == before


def test_checking_says_how_far_it_is(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    load(str(folder), "cpu", progress=lambda done, total: told.append((done, total)))
    assert {total for _, total in told} == {2 * (folder / WEIGHTS).stat().st_size}
    done = [one for one, _ in told]
    assert done == sorted(done)
    assert len(set(done)) > 10
    assert done[-1] == told[-1][1]


def test_weights_in_half_precision_load_as_float32(whole: Path, folder: Path) -> None:
    def round_to_half(tensors: dict[str, torch.Tensor]) -> None:
        tensors |= {name: value.to(torch.bfloat16) for name, value in tensors.items()}

    change_weights(folder, round_to_half)
    edit_config(folder, dtype="bfloat16")
    frames = some_frames(1, 2, 32)
    found = load(str(folder), "cpu", "float32").head_features(frames, PROMPTS[:1], seeing(2))
    wanted = load(str(whole), "cpu").head_features(frames, PROMPTS[:1], seeing(2))
    assert found.dtype == np.float32
    # Rounded weights, not rounded arithmetic: the features of a bfloat16 run have 8 bits only.
    assert (found != torch.from_numpy(found).to(torch.bfloat16).float().numpy()).mean() > 0.9
    assert np.abs(found - wanted).max() < 0.2 * np.abs(wanted).max()


def test_devices() -> None:
    assert choose_device("cpu") == "cpu"
    assert choose_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(UsageError, match="tpu"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="--device cpu"):
            choose_device("cuda")
