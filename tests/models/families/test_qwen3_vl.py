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

from edge_runtime.errors import CheckpointError
from edge_runtime.stream.pixels import PixelSpec
from models.families.qwen3_vl import Qwen3VL
from models.layerwise import Sequences
from models.loading import load
from models.normalisation import Normalisation
from models.prompts import PROMPTS
from models.states import State

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


def test_each_pair_of_frames_stands_behind_its_mean_time(mllm: Qwen3VL) -> None:
    # Bin centres of 4 among 48 frames: 6, 18, 30 and 42.
    text = mllm.write_video(seeing(4, frames=48, fps=16.0)).replace("<|video_pad|>" * mllm.tokens_per_frame, "*")
    assert text == "<0.8 seconds><|vision_start|>*<|vision_end|><2.2 seconds><|vision_start|>*<|vision_end|>"


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


def test_folded_patches_of_raw_pixels_are_those_of_normalised_ones(mllm: Qwen3VL) -> None:
    frames = some_frames(1, FRAMES, SIZE, seed=3)
    embed = mllm.vision.stages[0]
    wanted = mllm.plain.model.visual.patch_embed(mllm.plain_pixels(frames)["pixel_values_videos"])
    (found,) = embed(torch.from_numpy(frames[0]).reshape(-1, 2, *SIZE, 3))
    found = found - embed.positions
    assert (found.flatten(0, 1) - wanted).abs().max() <= 1e-5 * wanted.abs().max()


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
