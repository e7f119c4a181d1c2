"""What holds of Qwen2.5-VL and Qwen3-VL alike: each against its own processor and its untouched model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exporting import export_graphs
from oracle import hooked, seeing, some_frames
from processors import processed, use_torchvision
from qwen_checkpoints import SIDE, write_qwen2_5_vl, write_qwen3_vl

from edge_runtime.errors import UsageError
from edge_runtime.inference.onnx_engine import OnnxEngine
from edge_runtime.stream.pixels import PixelSpec
from edge_runtime.stream.segments import SegmentSpec
from export.publish import LANGUAGE, VISION
from models.families.qwen_video import QwenVideo
from models.heads import HeadRef
from models.loading import load
from models.prompts import PROMPTS
from models.sweep import Sweep

# 3 x 5 tokens: in windows of 2 x 2 whole ones, and at the borders some of 1 x 2, 2 x 1 and 1 x 1.
SIZE = (3 * SIDE, 5 * SIDE)
FRAMES = 6
SEEN = seeing(FRAMES)


@dataclass(frozen=True)
class Family:
    """One of the two: its small checkpoint, and the name of its processor in transformers."""

    write: Callable[[Path], Path]
    processor: str


FAMILIES = {
    "qwen2_5_vl": Family(write_qwen2_5_vl, "Qwen2_5_VLProcessor"),
    "qwen3_vl": Family(write_qwen3_vl, "Qwen3VLProcessor"),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def folder(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return family.write(tmp_path_factory.mktemp("checkpoint"))


def opened(folder: Path) -> QwenVideo:
    mllm = load(str(folder), "cpu")
    assert isinstance(mllm, QwenVideo)
    mllm.use_pixels(PixelSpec(size=SIZE))
    return mllm


@pytest.fixture(scope="module")
def mllm(folder: Path) -> QwenVideo:
    return opened(folder)


@pytest.fixture(scope="module")
def processor(family: Family, folder: Path) -> Any:
    use_torchvision()
    import transformers

    return getattr(transformers, family.processor).from_pretrained(folder)


@pytest.mark.parametrize(
    "segment",
    [
        SEEN,
        seeing(2),
        seeing(8, frames=100, fps=29.97),
        seeing(10, frames=100, fps=29.97),
        seeing(16, frames=7, fps=1),
        seeing(8, frames=7, fps=0.5),
    ],
)
def test_ids_positions_and_patches_are_those_of_its_processor_and_model(
    segment: SegmentSpec, folder: Path, processor: Any
) -> None:
    mllm = opened(folder)
    # A size that the processor leaves as it is: its budget may be one for all frames together.
    mllm.use_pixels(mllm.pixels_for(*SIZE, segment))
    frames = some_frames(1, segment.sampled, (mllm.pixels.height, mllm.pixels.width))
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


def test_the_hunt_sees_what_hooks_on_the_untouched_model_see(mllm: QwenVideo, processor: Any) -> None:
    frames = some_frames(2, FRAMES, SIZE)
    found = mllm.head_features(frames, PROMPTS[:2], SEEN)
    for unit, shown in enumerate(frames):
        for number, prompt in enumerate(PROMPTS[:2]):
            inputs = processed(processor, shown, prompt.text, SEEN)
            (wanted,) = hooked(mllm.plain, mllm.language, inputs)
            assert np.abs(found[unit, number] - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize(
    "size", [SIZE, (SIDE, SIDE), (4 * SIDE, 2 * SIDE), (5 * SIDE, 6 * SIDE), (7 * SIDE, 6 * SIDE)]
)
def test_the_tower_gives_the_tokens_of_transformers_own_in_every_size(size: tuple[int, int], folder: Path) -> None:
    mllm = opened(folder)
    mllm.use_pixels(PixelSpec(size=size))
    frames = some_frames(1, FRAMES, size)[0]
    # The extremes of a pixel are where a wrong fold would show most.
    frames[0], frames[1] = 0, 255
    wanted = mllm.visual_tokens(frames)
    with torch.inference_mode(), mllm.weights.held(mllm.vision):
        found = mllm.vision(torch.from_numpy(frames).reshape(-1, 2, *size, 3))
    parts = 1 + len(mllm.additions_after)
    assert found.shape == wanted.shape == (FRAMES // 2, mllm.tokens_per_frame, parts * mllm.geometry.width)
    for part, other in zip(found.chunk(parts, dim=-1), wanted.chunk(parts, dim=-1), strict=True):
        assert (part - other).abs().max() <= 1e-5 * other.abs().max()


def test_its_graphs_give_what_hooks_on_the_untouched_model_see(
    mllm: QwenVideo, processor: Any, tmp_path: Path
) -> None:
    experts = [HeadRef(2, 1), HeadRef(0, 3), HeadRef(2, 3), HeadRef(1, 0)]
    export_graphs(mllm, PROMPTS[2], experts, SEEN, tmp_path)
    graphs = OnnxEngine(tmp_path / VISION, tmp_path / LANGUAGE, provider="cpu", group=2)
    frames = some_frames(3, FRAMES, SIZE, seed=1)
    for shown, found in zip(frames, graphs.features(frames), strict=True):
        (every,) = hooked(mllm.plain, mllm.language, processed(processor, shown, PROMPTS[2].text, SEEN))
        wanted = np.concatenate([every[expert.layer, expert.head] for expert in experts])
        assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_streamed_weights_give_the_same_bits(mllm: QwenVideo, folder: Path, tmp_path: Path) -> None:
    frames = some_frames(3, FRAMES, SIZE)
    streamed = opened(folder)
    streamed.sweep = Sweep(weights=1, states=0, spill=tmp_path / "spill", units=3)
    found = streamed.head_features(frames, PROMPTS[:2], SEEN)
    assert np.array_equal(found, mllm.head_features(frames, PROMPTS[:2], SEEN))


@pytest.mark.parametrize("frames", [2, 4, 16])
@pytest.mark.parametrize("size", [(48, 64), (480, 640), (30, 200), (9, 9), (44, 28), (3, 100)])
def test_frames_are_shown_in_the_size_that_its_processor_resizes_to(
    size: tuple[int, int], frames: int, mllm: QwenVideo, processor: Any
) -> None:
    shown = np.zeros((frames, *size, 3), np.uint8)
    rows, columns = processed(processor, shown, "?", seeing(frames))["video_grid_thw"][0, 1:].tolist()
    assert mllm.pixels_for(*size, seeing(frames)).size == (4 * rows, 4 * columns)


def test_frames_that_its_processor_would_not_take_are_refused(mllm: QwenVideo) -> None:
    with pytest.raises(UsageError, match=r"2010 x 10 pixels.*more than 200 times"):
        mllm.pixels_for(10, 2010, SEEN)


@pytest.mark.parametrize("sampled", [1, 5, 7])
def test_an_odd_number_of_frames_is_refused_with_the_next_that_fits(sampled: int, mllm: QwenVideo) -> None:
    for ask in (mllm.layout, lambda prompt, segment: mllm.head_features([], [prompt], segment)):
        with pytest.raises(UsageError, match=f"{sampled} make no whole groups.*--sampled {sampled + 1}"):
            ask(PROMPTS[0], seeing(sampled))


def test_it_describes_an_odd_number_of_frames_as_its_processor_shows_them(mllm: QwenVideo, processor: Any) -> None:
    frames = some_frames(1, 5, SIZE)
    wanted = processed(processor, frames[0], PROMPTS[0].text, seeing(5))
    found = mllm.plain_inputs(frames, PROMPTS[0], seeing(5))
    for name, values in found.items():
        torch.testing.assert_close(values, wanted[name], check_dtype=False, rtol=0, atol=1e-6)
    answer = mllm.describe(frames[0], PROMPTS[0], seeing(5), 3)
    ids = mllm.plain.generate(**wanted, do_sample=False, max_new_tokens=3)[0, found["input_ids"].shape[1] :]
    assert answer.text == mllm.tokenizer.decode(ids, skip_special_tokens=True).strip()
