"""The LLaVA-OneVision adapter against transformers' own processor and model: ids, pooling, the newline, graphs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from llava_checkpoints import LlavaShape, llava_processor, write_llava
from oracle import hooked, seeing, some_frames
from processors import processed, use_torchvision
from safetensors.torch import load_file, save_file

from edge_runtime.errors import CheckpointError
from edge_runtime.inference.onnx_engine import OnnxEngine
from export.graphs import export_language, export_vision
from export.publish import LANGUAGE, VISION
from models.families.llava_onevision import LlavaOnevision
from models.heads import HeadRef
from models.layout import TokenLayout
from models.loading import load
from models.prompts import PROMPTS
from models.sweep import Sweep
from models.transformers_mllm import TransformersMllm

# Grids of 5 x 5 patches with a rest of the picture that no patch covers, pooled to 3 x 3; of 4 x 4 with a head that
# nobody runs; and of 27 x 27 like the real checkpoints', pooled to 14 x 14.
ODD = LlavaShape()
EVEN = LlavaShape(size=32, vision={"vision_use_head": True})
REAL = LlavaShape(size=54, patch=2, vision={"num_hidden_layers": 1})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llava(tmp_path_factory.mktemp("llava"), ODD)


def opened(folder: Path) -> LlavaOnevision:
    mllm = load(str(folder), "cpu")
    assert isinstance(mllm, LlavaOnevision)
    return mllm


@pytest.fixture(scope="module")
def mllm(folder: Path) -> LlavaOnevision:
    return opened(folder)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> LlavaOnevision:
    return opened(write_llava(tmp_path_factory.mktemp("real"), REAL, seed=1))


@pytest.fixture(scope="module")
def processor(folder: Path) -> Any:
    use_torchvision()
    return llava_processor(folder, ODD)


@pytest.mark.parametrize("frames", [1, 3, 16])
def test_the_ids_are_those_of_its_own_processor(frames: int, mllm: LlavaOnevision, processor: Any) -> None:
    seen = seeing(frames)
    shown = some_frames(1, frames, ODD.size)[0]
    for prompt in (*PROMPTS, replace(PROMPTS[0], text="  Frame 3: is this unusual? \n")):
        layout = mllm.layout(prompt, seen)
        assert layout.ids(mllm.visual_id) == processed(processor, shown, prompt.text, seen)["input_ids"][0].tolist()
        assert layout.before[1:] == ((),) * (frames - 1)
        assert layout.after[0] == mllm.visual_id not in layout.after[1:]


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_the_hunt_sees_what_hooks_see_when_its_own_processor_feeds_the_model(
    frames: int, mllm: LlavaOnevision, processor: Any
) -> None:
    seen, shown = seeing(frames), some_frames(2, frames, ODD.size, seed=frames)
    found = mllm.head_features(shown, PROMPTS[:2], seen)
    for unit in range(2):
        for number, prompt in enumerate(PROMPTS[:2]):
            wanted = hooked(mllm.plain, mllm.language, processed(processor, shown[unit], prompt.text, seen))[0]
            assert np.abs(found[unit, number] - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("shape", [ODD, EVEN, REAL], ids=["odd", "even", "real"])
def test_the_vision_module_gives_transformers_video_features_without_the_newline(
    shape: LlavaShape, tmp_path: Path
) -> None:
    mllm = opened(write_llava(tmp_path, shape))
    frames = some_frames(1, 5, shape.size)[0]
    # The extremes of a pixel are where a wrong fold would show most.
    frames[0], frames[1] = 0, 255
    video = mllm.plain.get_video_features(**mllm.plain_pixels(frames[None])).pooler_output[0]
    assert torch.equal(video[-1], mllm.plain.model.image_newline)
    with torch.inference_mode():
        found = mllm.vision(torch.from_numpy(frames)[:, None])
    assert found.shape == (5, mllm.tokens_per_frame, mllm.geometry.width)
    assert (found.flatten(0, 1) - video[:-1]).abs().max() <= 1e-5 * video.abs().max()
    assert (found - mllm.visual_tokens(frames)).abs().max() <= 1e-5 * video.abs().max()


def test_its_graphs_give_what_hooks_on_the_untouched_model_see(real: LlavaOnevision, tmp_path: Path) -> None:
    seen, prompt = seeing(2), PROMPTS[1]
    experts = [HeadRef(1, 2), HeadRef(0, 3), HeadRef(1, 0)]
    export_vision(real, tmp_path)
    export_language(real, prompt, experts, seen, tmp_path)
    graphs = OnnxEngine(tmp_path / VISION, tmp_path / LANGUAGE, provider="cpu")
    for batch in (1, 3):
        frames = some_frames(batch, 2, REAL.size, seed=batch)
        every = hooked(real.plain, real.language, real.plain_inputs(frames, prompt, seen))
        wanted = np.concatenate([every[:, expert.layer, expert.head] for expert in experts], axis=1)
        found = graphs.features(frames)
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_streaming_gives_the_same_bits(folder: Path, tmp_path: Path) -> None:
    mllm = opened(folder)
    frames, seen = some_frames(3, 5, ODD.size), seeing(5)
    wanted = mllm.head_features(frames, PROMPTS[:2], seen)
    mllm.to("cpu")
    mllm.sweep = Sweep(weights=1, states=0, spill=tmp_path, units=3)
    np.testing.assert_array_equal(mllm.head_features(frames, PROMPTS[:2], seen), wanted)


@pytest.mark.parametrize("left_out", ["embedding", "place"])
def test_the_oracle_notices_a_newline_that_is_left_out(
    left_out: str, mllm: LlavaOnevision, processor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, shown = seeing(2), some_frames(1, 2, ODD.size)
    wanted = hooked(mllm.plain, mllm.language, processed(processor, shown[0], PROMPTS[0].text, seen))
    if left_out == "embedding":
        monkeypatch.setattr(LlavaOnevision, "embed", TransformersMllm.embed)
    else:
        whole = mllm.layout(PROMPTS[0], seen)
        without = TokenLayout(whole.before, whole.after[1:], whole.tokens_per_frame)
        monkeypatch.setattr(mllm, "layout", lambda _prompt, _segment: without)
    found = mllm.head_features(shown, PROMPTS[:1], seen)[:, 0]
    assert np.abs(found - wanted).max() > 1e-3 * np.abs(wanted).max()


def test_it_answers_in_the_words_of_transformers_own_generate(mllm: LlavaOnevision, processor: Any) -> None:
    seen, shown = seeing(3), some_frames(1, 3, ODD.size)[0]
    inputs = processed(processor, shown, PROMPTS[0].text, seen)
    ids = mllm.plain.generate(**inputs, do_sample=False, max_new_tokens=6)[0, inputs["input_ids"].shape[1] :]
    answer = mllm.describe(shown, PROMPTS[0], seen, 6)
    assert answer.text == processor.tokenizer.decode(ids, skip_special_tokens=True).strip() != ""


def test_the_weights_may_have_the_names_that_the_hub_has_for_them(
    folder: Path, mllm: LlavaOnevision, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "model.safetensors"
    renamed = {
        name.replace("vision_tower.", "vision_tower.vision_model."): one for name, one in load_file(path).items()
    }
    save_file(renamed, path, metadata={"format": "pt"})
    frames = some_frames(1, 1, ODD.size)[0]
    assert torch.equal(opened(tmp_path).visual_tokens(frames), mllm.visual_tokens(frames))


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("vision_feature_layer", -2, "vision_feature_layer -2"),
        ("vision_feature_layer", [-1, -2], r"vision_feature_layer \[-1, -2\]"),
        ("vision_feature_select_strategy", "default", "vision_feature_select_strategy 'default'"),
        ("vision_config", {"model_type": "clip_vision_model"}, "'clip_vision_model' vision tower"),
        ("vision_config", {"model_type": "siglip_vision_model", "image_size": [32, 48]}, "48"),
    ],
)
def test_configs_that_cannot_be_exported_exactly_are_refused_by_name(
    key: str, value: object, named: str, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(CheckpointError, match=named) as caught:
        load(str(tmp_path), "cpu")
    assert "\n" not in str(caught.value)
