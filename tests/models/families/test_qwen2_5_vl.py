"""The Qwen2.5-VL adapter against transformers' own processor and model: windows, times, sizes, older checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracle import hooked, seeing, some_frames
from processors import processed, use_torchvision
from qwen_checkpoints import SIDE, copied, write_qwen2_5_vl

from edge_runtime.errors import CheckpointError, UsageError
from edge_runtime.inference.onnx_engine import OnnxEngine
from edge_runtime.stream.pixels import PixelSpec
from edge_runtime.stream.segments import SegmentSpec
from export.graphs import export_graphs
from export.publish import LANGUAGE, VISION
from models.families.qwen2_5_vl import Qwen25VL
from models.heads import HeadRef
from models.loading import load
from models.prompts import PROMPTS
from models.sweep import Sweep

# 3 x 5 tokens: whole windows of 2 x 2, and at the borders some of 1 x 2, 2 x 1 and 1 x 1.
SIZE = (3 * SIDE, 5 * SIDE)
FRAMES = 6
SEEN = seeing(FRAMES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_qwen2_5_vl(tmp_path_factory.mktemp("qwen2_5_vl"))


def opened(folder: Path) -> Qwen25VL:
    mllm = load(str(folder), "cpu")
    assert isinstance(mllm, Qwen25VL)
    mllm.use_pixels(PixelSpec(size=SIZE))
    return mllm


@pytest.fixture(scope="module")
def mllm(folder: Path) -> Qwen25VL:
    return opened(folder)


@pytest.fixture(scope="module")
def processor(folder: Path) -> Any:
    use_torchvision()
    from transformers import Qwen2_5_VLProcessor

    return Qwen2_5_VLProcessor.from_pretrained(folder)


@pytest.mark.parametrize("segment", [SEEN, seeing(2), seeing(8, frames=100, fps=29.97), seeing(16, frames=7, fps=1)])
def test_ids_positions_and_patches_are_those_of_its_processor_and_model(
    segment: SegmentSpec, mllm: Qwen25VL, processor: Any
) -> None:
    frames = some_frames(1, segment.sampled, SIZE)
    wanted = processed(processor, frames[0], PROMPTS[1].text, segment)
    found = mllm.plain_inputs(frames, PROMPTS[1], segment)
    assert found.keys() == wanted.keys() - {"attention_mask"}
    for name, values in found.items():
        torch.testing.assert_close(values, wanted[name], check_dtype=False, rtol=0, atol=1e-6)
    layout = mllm.layout(PROMPTS[1], segment)
    assert layout.ids(mllm.visual_id) == wanted["input_ids"][0].tolist()
    del wanted["pixel_values_videos"], wanted["attention_mask"]
    positions, _ = mllm.plain.model.get_rope_index(**wanted)
    assert torch.equal(mllm.positions(layout), positions)


def test_the_times_of_the_groups_are_in_the_positions(mllm: Qwen25VL) -> None:
    slow, fast = (mllm.positions(mllm.layout(PROMPTS[0], seeing(4, fps=fps))) for fps in (2.0, 30.0))
    assert slow[0].max() > fast[0].max()
    assert torch.equal(slow[1:, :, :20], fast[1:, :, :20])


def test_the_hunt_sees_what_hooks_on_the_untouched_model_see(mllm: Qwen25VL, processor: Any) -> None:
    frames = some_frames(2, FRAMES, SIZE)
    found = mllm.head_features(frames, PROMPTS[:2], SEEN)
    for unit, shown in enumerate(frames):
        for number, prompt in enumerate(PROMPTS[:2]):
            inputs = processed(processor, shown, prompt.text, SEEN)
            (wanted,) = hooked(mllm.plain, mllm.language, inputs)
            assert np.abs(found[unit, number] - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("size", [SIZE, (SIDE, SIDE), (4 * SIDE, 2 * SIDE), (5 * SIDE, 6 * SIDE)])
def test_the_tower_gives_the_tokens_of_transformers_own_in_every_size(size: tuple[int, int], folder: Path) -> None:
    mllm = opened(folder)
    mllm.use_pixels(PixelSpec(size=size))
    frames = some_frames(1, FRAMES, size)[0]
    # The extremes of a pixel are where a wrong fold would show most.
    frames[0], frames[1] = 0, 255
    wanted = mllm.visual_tokens(frames)
    with torch.inference_mode(), mllm.weights.held(mllm.vision):
        found = mllm.vision(torch.from_numpy(frames).reshape(-1, 2, *size, 3))
    assert found.shape == wanted.shape == (FRAMES // 2, mllm.tokens_per_frame, mllm.geometry.width)
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_folded_patches_of_raw_pixels_are_those_of_normalised_ones(mllm: Qwen25VL) -> None:
    frames = some_frames(1, FRAMES, SIZE, seed=3)
    rows = mllm.plain_pixels(frames)["pixel_values_videos"]
    wanted = mllm.plain.model.visual.patch_embed(rows)
    (found,) = mllm.vision.stages[0](torch.from_numpy(frames[0]).reshape(-1, 2, *SIZE, 3))
    # The tower has the patches in the order of its windows.
    for group, patches in zip(found, wanted.reshape(found.shape), strict=True):
        distances = torch.cdist(group, patches)
        nearest = distances.argmin(dim=1)
        assert sorted(nearest.tolist()) == list(range(len(patches)))
        assert (group - patches[nearest]).abs().max() <= 1e-5 * patches.abs().max()


def test_its_graphs_give_what_hooks_on_the_untouched_model_see(
    mllm: Qwen25VL, processor: Any, tmp_path: Path
) -> None:
    experts = [HeadRef(2, 1), HeadRef(0, 3), HeadRef(2, 3), HeadRef(1, 0)]
    export_graphs(mllm, PROMPTS[2], experts, SEEN, tmp_path)
    graphs = OnnxEngine(tmp_path / VISION, tmp_path / LANGUAGE, provider="cpu", group=2)
    frames = some_frames(3, FRAMES, SIZE, seed=1)
    for shown, found in zip(frames, graphs.features(frames), strict=True):
        (every,) = hooked(mllm.plain, mllm.language, processed(processor, shown, PROMPTS[2].text, SEEN))
        wanted = np.concatenate([every[expert.layer, expert.head] for expert in experts])
        assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_streamed_weights_give_the_same_bits(mllm: Qwen25VL, folder: Path, tmp_path: Path) -> None:
    frames = some_frames(3, FRAMES, SIZE)
    streamed = opened(folder)
    streamed.sweep = Sweep(weights=1, states=0, spill=tmp_path / "spill", units=3)
    found = streamed.head_features(frames, PROMPTS[:2], SEEN)
    assert np.array_equal(found, mllm.head_features(frames, PROMPTS[:2], SEEN))


@pytest.mark.parametrize("frames", [2, 4, 16])
@pytest.mark.parametrize("size", [(48, 64), (480, 640), (30, 200), (9, 9), (44, 28), (3, 100)])
def test_frames_are_shown_in_the_size_that_its_processor_resizes_to(
    size: tuple[int, int], frames: int, mllm: Qwen25VL, processor: Any
) -> None:
    shown = np.zeros((frames, *size, 3), np.uint8)
    rows, columns = processed(processor, shown, "?", seeing(frames))["video_grid_thw"][0, 1:].tolist()
    assert mllm.pixels_for(*size, seeing(frames)).size == (4 * rows, 4 * columns)


def test_a_capped_budget_is_shared_by_all_frames_as_in_its_processor(folder: Path, tmp_path: Path) -> None:
    use_torchvision()
    from transformers import Qwen2_5_VLProcessor

    copy = copied(folder, tmp_path, cap_pixels_per_frame=True, max_video_tokens=100)
    mllm, processor = load(str(copy), "cpu"), Qwen2_5_VLProcessor.from_pretrained(copy)
    sizes = []
    for frames in (2, 12, 40):
        shown = np.zeros((frames, 64, 80, 3), np.uint8)
        rows, columns = processed(processor, shown, "?", seeing(frames))["video_grid_thw"][0, 1:].tolist()
        assert mllm.pixels_for(64, 80, seeing(frames)).size == (4 * rows, 4 * columns)
        sizes.append(rows * columns)
    assert sizes[0] > sizes[1] > sizes[2]


def test_a_size_that_is_no_whole_number_of_tokens_is_refused_with_one_that_is(mllm: Qwen25VL) -> None:
    with pytest.raises(UsageError, match=f"multiples of {SIDE} pixels, not 42 x 24; 40 x 24 would do"):
        mllm.use_pixels(PixelSpec(size=(24, 42)))
    assert mllm.pixels.size == SIZE


def test_frames_that_its_processor_would_not_take_are_refused(mllm: Qwen25VL) -> None:
    with pytest.raises(UsageError, match=r"2010 x 10 pixels.*more than 200 times"):
        mllm.pixels_for(10, 2010, SEEN)


@pytest.mark.parametrize("sampled", [1, 7])
def test_an_odd_number_of_frames_is_refused_with_the_next_that_fits(sampled: int, mllm: Qwen25VL) -> None:
    for ask in (mllm.layout, lambda prompt, segment: mllm.head_features([], [prompt], segment)):
        with pytest.raises(UsageError, match=f"{sampled} make no whole groups.*--sampled {sampled + 1}"):
            ask(PROMPTS[0], seeing(sampled))


def test_it_describes_an_odd_number_of_frames_as_its_processor_shows_them(mllm: Qwen25VL, processor: Any) -> None:
    frames = some_frames(1, 5, SIZE)
    wanted = processed(processor, frames[0], PROMPTS[0].text, seeing(5))
    found = mllm.plain_inputs(frames, PROMPTS[0], seeing(5))
    for name, values in found.items():
        torch.testing.assert_close(values, wanted[name], check_dtype=False, rtol=0, atol=1e-6)
    answer = mllm.describe(frames[0], PROMPTS[0], seeing(5), 3)
    ids = mllm.plain.generate(**wanted, do_sample=False, max_new_tokens=3)[0, found["input_ids"].shape[1] :]
    assert answer.text == mllm.tokenizer.decode(ids, skip_special_tokens=True).strip()


def test_a_config_with_everything_at_the_top_level_is_the_same_model(
    mllm: Qwen25VL, folder: Path, tmp_path: Path
) -> None:
    copy = copied(folder, tmp_path)
    document = json.loads((copy / "config.json").read_text())
    text = document.pop("text_config")
    scaling = text.pop("rope_parameters")
    del text["model_type"]
    old = {"rope_theta": scaling["rope_theta"], "rope_scaling": {"type": "mrope", "mrope_section": [1, 3, 2]}}
    (copy / "config.json").write_text(json.dumps(text | old | document))
    frames = some_frames(1, FRAMES, SIZE)
    found = opened(copy).head_features(frames, PROMPTS[:1], SEEN)
    assert np.array_equal(found, mllm.head_features(frames, PROMPTS[:1], SEEN))


def test_sliding_windows_of_the_decoder_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = copied(folder, tmp_path)
    document = json.loads((copy / "config.json").read_text())
    document["text_config"] |= {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}
    del document["text_config"]["layer_types"]
    (copy / "config.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match="sliding windows"):
        load(str(copy), "cpu")


@pytest.mark.parametrize(
    "values", [{"min_pixels": "4"}, {"size": 3}, {"image_mean": [1]}, {"do_normalize": False}, {"patch_size": 8}]
)
def test_a_preprocessor_config_that_cannot_be_followed_is_a_checkpoint_error(
    values: dict[str, object], folder: Path, tmp_path: Path
) -> None:
    copy = copied(folder, tmp_path, **values)
    with pytest.raises(CheckpointError, match="preprocessor_config") as caught:
        load(str(copy), "cpu")
    assert "\n" not in str(caught.value)
