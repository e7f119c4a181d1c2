"""The Qwen3-VL adapter against transformers' own processor and model: times between groups, DeepStack, sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracle import hooked, seeing, some_frames
from processors import processed, use_torchvision
from qwen_checkpoints import SIDE, copied, write_qwen3_vl

from edge_runtime.errors import CheckpointError, UsageError
from edge_runtime.inference.onnx_engine import OnnxEngine
from edge_runtime.stream.pixels import PixelSpec
from edge_runtime.stream.segments import SegmentSpec
from export.graphs import export_graphs
from export.publish import LANGUAGE, VISION
from models.families.qwen3_vl import Qwen3VL
from models.heads import HeadRef
from models.layerwise import Sequences
from models.loading import load
from models.normalisation import Normalisation
from models.prompts import PROMPTS
from models.states import State
from models.sweep import Sweep

SIZE = (3 * SIDE, 5 * SIDE)
FRAMES = 6
SEEN = seeing(FRAMES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_qwen3_vl(tmp_path_factory.mktemp("qwen3_vl"))


def opened(folder: Path) -> Qwen3VL:
    mllm = load(str(folder), "cpu")
    assert isinstance(mllm, Qwen3VL)
    mllm.use_pixels(PixelSpec(size=SIZE))
    return mllm


@pytest.fixture(scope="module")
def mllm(folder: Path) -> Qwen3VL:
    return opened(folder)


@pytest.fixture(scope="module")
def processor(folder: Path) -> Any:
    use_torchvision()
    from transformers import Qwen3VLProcessor

    return Qwen3VLProcessor.from_pretrained(folder)


@pytest.mark.parametrize("segment", [SEEN, seeing(10, frames=100, fps=29.97), seeing(8, frames=7, fps=0.5)])
def test_ids_positions_and_patches_are_those_of_its_processor_and_model(
    segment: SegmentSpec, mllm: Qwen3VL, processor: Any
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


def test_each_pair_of_frames_stands_behind_its_mean_time(mllm: Qwen3VL) -> None:
    # Bin centres of 4 among 48 frames: 6, 18, 30 and 42.
    text = mllm.write_video(seeing(4, frames=48, fps=16.0)).replace("<|video_pad|>" * mllm.tokens_per_frame, "*")
    assert text == "<0.8 seconds><|vision_start|>*<|vision_end|><2.2 seconds><|vision_start|>*<|vision_end|>"


def test_the_hunt_sees_what_hooks_on_the_untouched_model_see(mllm: Qwen3VL, processor: Any) -> None:
    frames = some_frames(2, FRAMES, SIZE)
    found = mllm.head_features(frames, PROMPTS[:2], SEEN)
    for unit, shown in enumerate(frames):
        for number, prompt in enumerate(PROMPTS[:2]):
            inputs = processed(processor, shown, prompt.text, SEEN)
            (wanted,) = hooked(mllm.plain, mllm.language, inputs)
            assert np.abs(found[unit, number] - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("left_out", ["positions", "additions", "order of additions"])
def test_the_oracle_notices_what_is_left_out(
    left_out: str, mllm: Qwen3VL, processor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = some_frames(1, FRAMES, SIZE)
    wanted = hooked(mllm.plain, mllm.language, processed(processor, frames[0], PROMPTS[0].text, SEEN))
    if left_out == "positions":
        monkeypatch.setattr(mllm, "positions", lambda layout: torch.arange(layout.length)[None])
    else:
        enter = Sequences.enter

        def otherwise(self: Sequences, tokens: torch.Tensor) -> State:
            state = enter(self, tokens)
            first, second = state.pop("addition0"), state.pop("addition1")
            return state | ({"addition0": second, "addition1": first} if left_out == "order of additions" else {})

        monkeypatch.setattr(Sequences, "enter", otherwise)
    found = mllm.head_features(frames, PROMPTS[:1], SEEN)[:, 0]
    assert np.abs(found[:, 1:] - wanted[:, 1:]).max() > 1e-2 * np.abs(wanted).max()


@pytest.mark.parametrize("size", [SIZE, (SIDE, SIDE), (4 * SIDE, 2 * SIDE), (7 * SIDE, 6 * SIDE)])
def test_the_tower_gives_the_tokens_of_transformers_own_in_every_size(size: tuple[int, int], folder: Path) -> None:
    mllm = opened(folder)
    mllm.use_pixels(PixelSpec(size=size))
    frames = some_frames(1, FRAMES, size)[0]
    # The extremes of a pixel are where a wrong fold would show most.
    frames[0], frames[1] = 0, 255
    wanted = mllm.visual_tokens(frames)
    with torch.inference_mode(), mllm.weights.held(mllm.vision):
        found = mllm.vision(torch.from_numpy(frames).reshape(-1, 2, *size, 3))
    assert found.shape == wanted.shape == (FRAMES // 2, mllm.tokens_per_frame, 3 * mllm.geometry.width)
    for part, other in zip(found.chunk(3, dim=-1), wanted.chunk(3, dim=-1), strict=True):
        assert (part - other).abs().max() <= 1e-5 * other.abs().max()


def test_folded_patches_of_raw_pixels_are_those_of_normalised_ones(mllm: Qwen3VL) -> None:
    frames = some_frames(1, FRAMES, SIZE, seed=3)
    embed = mllm.vision.stages[0]
    wanted = mllm.plain.model.visual.patch_embed(mllm.plain_pixels(frames)["pixel_values_videos"])
    (found,) = embed(torch.from_numpy(frames[0]).reshape(-1, 2, *SIZE, 3))
    found = found - embed.positions
    assert (found.flatten(0, 1) - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_its_graphs_give_what_hooks_on_the_untouched_model_see(mllm: Qwen3VL, processor: Any, tmp_path: Path) -> None:
    experts = [HeadRef(2, 1), HeadRef(0, 3), HeadRef(2, 3), HeadRef(1, 0)]
    export_graphs(mllm, PROMPTS[2], experts, SEEN, tmp_path)
    graphs = OnnxEngine(tmp_path / VISION, tmp_path / LANGUAGE, provider="cpu", group=2)
    frames = some_frames(3, FRAMES, SIZE, seed=1)
    for shown, found in zip(frames, graphs.features(frames), strict=True):
        (every,) = hooked(mllm.plain, mllm.language, processed(processor, shown, PROMPTS[2].text, SEEN))
        wanted = np.concatenate([every[expert.layer, expert.head] for expert in experts])
        assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_streamed_weights_give_the_same_bits(mllm: Qwen3VL, folder: Path, tmp_path: Path) -> None:
    frames = some_frames(3, FRAMES, SIZE)
    streamed = opened(folder)
    streamed.sweep = Sweep(weights=1, states=0, spill=tmp_path / "spill", units=3)
    found = streamed.head_features(frames, PROMPTS[:2], SEEN)
    assert np.array_equal(found, mllm.head_features(frames, PROMPTS[:2], SEEN))


@pytest.mark.parametrize("frames", [2, 4, 16])
@pytest.mark.parametrize("size", [(48, 64), (480, 640), (30, 200), (9, 9), (44, 28), (3, 100)])
def test_frames_are_shown_in_the_size_that_its_processor_resizes_to(
    size: tuple[int, int], frames: int, mllm: Qwen3VL, processor: Any
) -> None:
    shown = np.zeros((frames, *size, 3), np.uint8)
    rows, columns = processed(processor, shown, "?", seeing(frames))["video_grid_thw"][0, 1:].tolist()
    assert mllm.pixels_for(*size, seeing(frames)).size == (4 * rows, 4 * columns)


def test_a_capped_frame_takes_its_share_as_in_its_processor(folder: Path, tmp_path: Path) -> None:
    use_torchvision()
    from transformers import Qwen3VLProcessor

    values = {"cap_pixels_per_frame": True, "max_video_tokens": 70}
    copy = copied(folder, tmp_path, "video_preprocessor_config.json", **values)
    mllm, processor = load(str(copy), "cpu"), Qwen3VLProcessor.from_pretrained(copy)
    for frames in (2, 4, 16):
        shown = np.zeros((frames, 120, 160, 3), np.uint8)
        rows, columns = processed(processor, shown, "?", seeing(frames))["video_grid_thw"][0, 1:].tolist()
        assert mllm.pixels_for(120, 160, seeing(frames)).size == (4 * rows, 4 * columns)


def test_frames_that_its_processor_would_not_take_are_refused(mllm: Qwen3VL) -> None:
    with pytest.raises(UsageError, match=r"2010 x 10 pixels.*more than 200 times"):
        mllm.pixels_for(10, 2010, SEEN)


def test_it_describes_an_odd_number_of_frames_as_its_processor_shows_them(mllm: Qwen3VL, processor: Any) -> None:
    with pytest.raises(UsageError, match=r"5 make no whole groups.*--sampled 6"):
        mllm.layout(PROMPTS[0], seeing(5))
    frames = some_frames(1, 5, SIZE)
    wanted = processed(processor, frames[0], PROMPTS[0].text, seeing(5))
    found = mllm.plain_inputs(frames, PROMPTS[0], seeing(5))
    for name, values in found.items():
        torch.testing.assert_close(values, wanted[name], check_dtype=False, rtol=0, atol=1e-6)
    answer = mllm.describe(frames[0], PROMPTS[0], seeing(5), 3)
    ids = mllm.plain.generate(**wanted, do_sample=False, max_new_tokens=3)[0, found["input_ids"].shape[1] :]
    assert answer.text == mllm.tokenizer.decode(ids, skip_special_tokens=True).strip()


def test_a_processor_config_that_holds_all_comes_first(folder: Path, tmp_path: Path) -> None:
    copy = copied(folder, tmp_path)
    size = '"size": {"shortest_edge": 64, "longest_edge": 1024}'
    nested = f'{{"video_processor": {{{size}, "image_mean": [0.1, 0.2, 0.3]}}}}'
    (copy / "processor_config.json").write_text(nested)
    mllm = load(str(copy), "cpu")
    assert isinstance(mllm, Qwen3VL)
    assert (mllm.budget.least, mllm.budget.most) == (64, 1024)
    # What it leaves out is the processor's own.
    assert mllm.normalisation == Normalisation((0.1, 0.2, 0.3), (0.5, 0.5, 0.5))


def test_a_tower_that_takes_patches_of_two_sides_is_refused(folder: Path, tmp_path: Path) -> None:
    document = {"patch_size": [4, 4], "depth": 1}
    copy = copied(folder, tmp_path, "config.json", vision_config=document | {"model_type": "qwen3_vl_vision"})
    with pytest.raises(CheckpointError, match="patch_size"):
        load(str(copy), "cpu")
