"""The Qwen2.5-VL adapter against transformers' own processor and model: windows, times, sizes, older checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracle import seeing, some_frames
from processors import processed, use_torchvision
from qwen_checkpoints import SIDE, copied, write_qwen2_5_vl

from edge_runtime.errors import CheckpointError, UsageError
from edge_runtime.stream.pixels import PixelSpec
from models.families.qwen2_5_vl import Qwen25VL
from models.loading import load
from models.prompts import PROMPTS

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


def test_the_times_of_the_groups_are_in_the_positions(mllm: Qwen25VL) -> None:
    slow, fast = (mllm.positions(mllm.layout(PROMPTS[0], seeing(4, fps=fps))) for fps in (2.0, 30.0))
    assert slow[0].max() > fast[0].max()
    assert torch.equal(slow[1:, :, :20], fast[1:, :, :20])


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
