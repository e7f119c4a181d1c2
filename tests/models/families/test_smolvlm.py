"""SmolVLM2 against its own processor and its own model: ids, times, pixels, tokens and features."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from oracle import hooked, seeing, some_frames
from processors import metadata, processed
from smolvlm_checkpoints import Shape, read_processor, write_checkpoint
from transformers import SmolVLMForConditionalGeneration
from transformers.models.smolvlm.processing_smolvlm import SmolVLMProcessor

from edge_runtime.errors import CheckpointError
from edge_runtime.inference.onnx_engine import OnnxEngine
from edge_runtime.stream.segments import SegmentSpec
from export.graphs import export_language, export_vision
from export.publish import LANGUAGE, VISION
from models.families.smolvlm import SmolVLM
from models.heads import HeadRef
from models.loading import load
from models.prompts import PROMPTS, Prompt
from models.sweep import Sweep

SHAPES = {
    # 38 pixels are 6 patches of 6 and 2 pixels that no patch takes.
    "grouped": Shape(),
    "tied": Shape(
        kv_heads=1,
        head_dim=10,
        tied=True,
        size=48,
        patch=5,
        scale_factor=3,
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.3, 0.4),
    ),
    "plain": Shape(layers=2, kv_heads=4, size=16, patch=8, scale_factor=1, vision={"hidden_act": "relu"}),
}
FRAMES = 3
SEEN = seeing(FRAMES)
# From a second to more than an hour; the last two have fewer frames than are seen, and one.
SEGMENTS = [
    SEEN,
    seeing(1, frames=30, fps=30.0),
    seeing(8, frames=100, fps=29.97),
    seeing(13, frames=4321, fps=25.0),
    seeing(5, frames=2000, fps=0.5),
    seeing(4, frames=100_000, fps=1.0),
    seeing(20, frames=7, fps=0.1),
    seeing(2, frames=1, fps=12.5),
]


def opened(folder: Path) -> SmolVLM:
    mllm = load(str(folder), "cpu")
    assert isinstance(mllm, SmolVLM)
    return mllm


@pytest.fixture(scope="module", params=SHAPES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp(request.param), SHAPES[request.param])


@pytest.fixture(scope="module")
def mllm(folder: Path) -> SmolVLM:
    return opened(folder)


@pytest.fixture(scope="module")
def processor(folder: Path) -> Any:
    return read_processor(folder)


@pytest.fixture(scope="module")
def untouched(folder: Path) -> Any:
    """transformers' own model as transformers loads it, in float64: its rounding must not add to ours."""
    return SmolVLMForConditionalGeneration.from_pretrained(folder, dtype=torch.float64).eval()


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint for what does not depend on the geometry."""
    return write_checkpoint(tmp_path_factory.mktemp("one"), SHAPES["grouped"])


@pytest.fixture(scope="module")
def grouped(one: Path) -> SmolVLM:
    return opened(one)


def wanted_features(untouched: Any, inputs: dict[str, Any]) -> NDArray[np.float32]:
    with torch.inference_mode():
        return hooked(untouched, untouched.model.text_model, inputs)


def assert_equal_up_to_rounding(found: Any, wanted: Any) -> None:
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("segment", SEGMENTS, ids=str)
def test_ids_and_pixels_are_those_of_its_processor(segment: SegmentSpec, mllm: SmolVLM, processor: Any) -> None:
    frames = some_frames(1, segment.sampled, mllm.pixels.size)
    for prompt in (PROMPTS[0], PROMPTS[4], Prompt("spaced", "  Is it <fake> or [00:00]:\nreal? \n")):
        wanted = processed(processor, frames[0], prompt.text, segment)
        found = mllm.plain_inputs(frames, prompt, segment)
        assert found["input_ids"].tolist() == wanted["input_ids"].tolist()
        assert wanted["pixel_attention_mask"].all()
        torch.testing.assert_close(found["pixel_values"], wanted["pixel_values"], rtol=0, atol=1e-6)


@given(
    frames=st.integers(1, 100_000),
    sampled=st.integers(1, 130),
    fps=st.one_of(st.floats(1e-3, 1e3), st.sampled_from([23.976, 29.97, 1 / 3, 1 / 60])),
)
def test_every_character_of_a_video_is_its_processors(
    frames: int, sampled: int, fps: float, grouped: SmolVLM
) -> None:
    segment = SegmentSpec(frames=frames, sampled=sampled, fps=fps)
    names = {"image_token": "<image>", "fake_image_token": "<fake_token_around_image>"}
    asked = type(
        "Asked", (), {**names, "global_image_token": "<global-img>", "image_seq_len": grouped.tokens_per_frame}
    )
    videos = {"pixel_values": np.empty((1, sampled)), "video_metadata": [metadata(segment)]}
    assert grouped.write_video(segment) == SmolVLMProcessor.replace_video_token(asked, videos, 0)


def test_a_template_in_the_folder_is_not_asked_for_videos(one: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(one, tmp_path / "model"))
    (folder / "chat_template.jinja").write_text("{% for message in messages %}other{% endfor %}")
    frames = some_frames(1, FRAMES, SHAPES["grouped"].size)
    # A processor takes its own template unless somebody asks for another.
    wanted = processed(read_processor(folder), frames[0], PROMPTS[0].text, SEEN)["input_ids"][0].tolist()
    mllm = opened(folder)
    assert mllm.layout(PROMPTS[0], SEEN).ids(mllm.visual_id) == wanted


def test_times_follow_the_rate_of_the_segment(grouped: SmolVLM) -> None:
    def times(fps: float) -> list[str]:
        text = grouped.write_video(seeing(4, frames=480, fps=fps))
        return [line.split(":<")[0] for line in text.splitlines() if line.startswith("Frame from ")]

    # The bin centres: frames 60, 180, 300 and 420.
    assert times(60.0) == [f"Frame from 00:0{second}" for second in (1, 3, 5, 7)]
    assert times(2.0) == [f"Frame from {time}" for time in ("00:30", "01:30", "02:30", "03:30")]
    slow, fast = (grouped.layout(PROMPTS[0], seeing(4, frames=480, fps=fps)) for fps in (2.0, 60.0))
    assert slow.before != fast.before
    assert slow.after == fast.after


def test_the_vision_tower_gives_transformers_own_image_features(mllm: SmolVLM, untouched: Any) -> None:
    frames = some_frames(1, 5, mllm.pixels.size)
    # The extremes of a pixel are where a wrong fold would show most.
    frames[0, 0], frames[0, 1] = 0, 255
    with torch.inference_mode(), mllm.weights.held(mllm.vision):
        wanted = untouched.model.get_image_features(**mllm.plain_pixels(frames), return_dict=True).pooler_output
        found = mllm.vision(torch.from_numpy(frames[0])[:, None])
    assert found.shape == (5, mllm.tokens_per_frame, mllm.geometry.width)
    assert_equal_up_to_rounding(found.flatten(0, 1), torch.cat(wanted))
    assert_equal_up_to_rounding(found, mllm.visual_tokens(frames[0]))


def test_the_hunt_sees_what_hooks_on_the_untouched_model_see(mllm: SmolVLM, processor: Any, untouched: Any) -> None:
    units = some_frames(2, FRAMES, mllm.pixels.size)
    found = mllm.head_features(units, PROMPTS, SEEN)
    for unit, frames in enumerate(units):
        for number, prompt in enumerate(PROMPTS):
            inputs = processed(processor, frames, prompt.text, SEEN)
            assert_equal_up_to_rounding(found[unit, number], wanted_features(untouched, inputs)[0])


# An export takes seconds; the shape that differs most from those of other families' tests stands for all.
@pytest.mark.parametrize("folder", ["tied"], indirect=True)
def test_its_graphs_give_what_hooks_on_the_untouched_model_see(
    mllm: SmolVLM, processor: Any, untouched: Any, tmp_path: Path
) -> None:
    experts = [HeadRef(2, 1), HeadRef(0, 3), HeadRef(2, 0)]
    export_vision(mllm, tmp_path)
    export_language(mllm, PROMPTS[2], experts, SEEN, tmp_path)
    graphs = OnnxEngine(tmp_path / VISION, tmp_path / LANGUAGE, provider="cpu")
    frames = some_frames(3, FRAMES, mllm.pixels.size, seed=3)
    wanted = []
    for unit in frames:
        every = wanted_features(untouched, processed(processor, unit, PROMPTS[2].text, SEEN))[0]
        wanted.append(np.concatenate([every[expert.layer, expert.head] for expert in experts]))
    assert_equal_up_to_rounding(graphs.features(frames), np.stack(wanted))
    assert_equal_up_to_rounding(graphs.features(frames[:1]), wanted[0][None])


def test_streaming_gives_the_same_bits_as_everything_in_memory(folder: Path, mllm: SmolVLM, tmp_path: Path) -> None:
    units = some_frames(4, FRAMES, mllm.pixels.size, seed=4)
    wanted = mllm.head_features(units, PROMPTS, SEEN)
    streaming = opened(folder)
    streaming.sweep = Sweep(weights=1, states=0, spill=tmp_path / "spill", units=3)
    np.testing.assert_array_equal(streaming.head_features(units, PROMPTS, SEEN), wanted)
    assert not (tmp_path / "spill").exists()


def test_no_pixel_is_taken_for_padding_under_the_usual_normalisation(grouped: SmolVLM) -> None:
    greys = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None, None], (256, 38, 38, 3))
    assert grouped.plain_pixels(greys[None])["pixel_values"].all()


@pytest.mark.parametrize(("mean", "color"), [((0.0, 0.0, 0.0), (0, 0, 0)), ((0.2, 0.4, 0.6), (51, 102, 153))])
def test_a_picture_of_the_mean_colour_is_a_picture(
    mean: tuple[float, float, float], color: tuple[int, int, int], tmp_path: Path
) -> None:
    folder = write_checkpoint(tmp_path, Shape(layers=2, mean=mean))
    mllm = opened(folder)
    frames = some_frames(1, FRAMES, mllm.pixels.size)
    frames[0, 1] = color
    pixels = mllm._normalisation.apply(frames[0], mllm.device)[None]
    assert not pixels[0, 1].any()
    # transformers drops it as padding, and then misses its tokens.
    untouched = SmolVLMForConditionalGeneration.from_pretrained(folder, dtype=torch.float64).eval()
    inputs = mllm.plain_inputs(frames, PROMPTS[0], SEEN)
    with torch.inference_mode(), pytest.raises(ValueError, match="do not match"):
        untouched(**inputs | {"pixel_values": pixels})
    # Here it has the features of a picture that differs from it by next to nothing, on either path.
    found = mllm.head_features(frames, PROMPTS[:1], SEEN)[0, 0]
    pixels[0, 1, 0, 0, 0] = 1e-9
    assert_equal_up_to_rounding(found, wanted_features(untouched, inputs | {"pixel_values": pixels})[0])
    assert_equal_up_to_rounding(found, wanted_features(untouched, inputs)[0])
    with torch.inference_mode(), mllm.weights.held(mllm.vision):
        tokens = mllm.vision(torch.from_numpy(frames[0])[:, None])
    assert_equal_up_to_rounding(mllm.visual_tokens(frames[0]), tokens)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"image_size": [38, 32]}, "only squares"),
        ({"image_size": 32}, "5 patches a side; only multiples of scale_factor, 2,"),
        ({"image_size": 4}, "0 patches a side"),
    ],
    ids=str,
)
def test_towers_that_cannot_be_exported_exactly_are_refused(
    values: dict[str, Any], reason: str, one: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(one, tmp_path / "model"))
    document = json.loads((folder / "config.json").read_text())
    document["vision_config"] |= values
    (folder / "config.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match=reason) as caught:
        load(str(folder), "cpu")
    assert "\n" not in str(caught.value)
