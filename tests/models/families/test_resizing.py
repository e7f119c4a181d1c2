"""Frames as cameras give them become the pixels that each family's own processor makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from checkpoints import Shape, write_checkpoint
from llava_checkpoints import LlavaShape, llava_processor, write_llava
from oracle import seeing
from processors import processed, use_torchvision
from qwen_checkpoints import write_qwen2_5_vl, write_qwen3_vl
from smolvlm_checkpoints import Shape as SmolShape
from smolvlm_checkpoints import read_processor
from smolvlm_checkpoints import write_checkpoint as write_smolvlm

from edge_runtime.errors import CheckpointError
from edge_runtime.stream.pixels import prepare
from models.families.internvl import InternVL
from models.loading import load
from models.prompts import PROMPTS

SEEN = seeing(2)
# Wider, higher, smaller than what the models take.
CAMERAS = [(90, 160), (160, 120), (18, 30)]


def camera_frames(height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Smooth pictures with edges, (2, h, w, 3): pure noise would hide a false resizing in its own spread."""
    random = np.random.default_rng(height)
    frames = [cv2.resize(random.integers(0, 256, (9, 7, 3), np.uint8), (width, height)) for _ in range(2)]
    for frame in frames:
        frame[height // 3 : height // 2, width // 4 : width // 2] = random.integers(0, 256, 3)
    return np.stack(frames)


def asked(processor: Any) -> Callable[[Any], dict[str, Any]]:
    return lambda frames: processed(processor, frames, PROMPTS[0].text, SEEN)


def write_internvl(folder: Path) -> Path:
    """A checkpoint that does not say how frames are resized."""
    write_checkpoint(folder, Shape(layers=1))
    path = folder / "preprocessor_config.json"
    document = json.loads(path.read_text())
    del document["resample"]
    path.write_text(json.dumps(document))
    return folder


def internvl(folder: Path) -> Any:
    from transformers.models.internvl.video_processing_internvl import InternVLVideoProcessor

    write_internvl(folder)
    size = load(str(folder), "cpu").pixels.height

    def process(frames: Any) -> dict[str, Any]:
        found = InternVLVideoProcessor.from_pretrained(folder, size={"height": size, "width": size})(
            videos=[frames], return_tensors="pt"
        )
        return {"pixel_values": found["pixel_values_videos"].flatten(0, 1)}

    return process


def llava(folder: Path) -> Any:
    write_llava(folder, LlavaShape())
    return asked(llava_processor(folder, LlavaShape()))


def smolvlm(folder: Path) -> Any:
    write_smolvlm(folder, SmolShape())
    path = folder / "preprocessor_config.json"
    # As SmolVLM2's own: frames first take this size, in their proportions.
    document = json.loads(path.read_text()) | {"size": {"longest_edge": 100}}
    path.write_text(json.dumps(document))
    return asked(read_processor(folder))


def qwen2_5_vl(folder: Path) -> Any:
    from transformers import Qwen2_5_VLProcessor

    return asked(Qwen2_5_VLProcessor.from_pretrained(write_qwen2_5_vl(folder)))


def qwen3_vl(folder: Path) -> Any:
    from transformers import Qwen3VLProcessor

    return asked(Qwen3VLProcessor.from_pretrained(write_qwen3_vl(folder)))


@pytest.mark.parametrize("family", [internvl, llava, smolvlm, qwen2_5_vl, qwen3_vl])
def test_pixels_of_a_cameras_frames_are_its_processors_up_to_rounding(family: Any, tmp_path: Path) -> None:
    use_torchvision()
    process = family(tmp_path)
    mllm = load(str(tmp_path), "cpu")
    for height, width in CAMERAS:
        frames = camera_frames(height, width)
        wanted = process(frames)
        spec = mllm.pixels_for(height, width, SEEN)
        mllm.use_pixels(spec)
        shown = np.stack([prepare(frame, spec, "rgb") for frame in frames])
        found = mllm.plain_pixels(shown[None])
        name = next(name for name in found if name.startswith("pixel_values"))
        assert found[name].shape == wanted[name].shape
        black, dark = (mllm.plain_pixels(np.full_like(shown[None], value))[name] for value in (0, 1))
        # Two roundings, where a frame is resized twice.
        level = float((dark - black).abs().max())
        difference = (found[name] - wanted[name]).abs()
        if family is smolvlm and max(height, width) < 100:
            # Its processor enlarges small frames before it makes them squares; here that is left out.
            assert float(difference.mean()) <= level
            continue
        assert float(difference.max()) <= 2.01 * level
        assert float(difference.mean()) <= 0.2 * level


@pytest.mark.parametrize(("stated", "interpolation"), [(1, "lanczos"), (2, "bilinear"), (3, "bicubic"), (4, "area")])
def test_frames_are_resized_as_the_checkpoint_says(stated: int, interpolation: str, tmp_path: Path) -> None:
    write_internvl(tmp_path)
    assert load(str(tmp_path), "cpu").pixels.interpolation == "bicubic"
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps({"resample": stated}))
    mllm = load(str(tmp_path), "cpu")
    assert isinstance(mllm, InternVL)
    assert mllm.pixels.interpolation == interpolation


@pytest.mark.parametrize("stated", [0, 5, "bicubic", None, [3], 3.0])
def test_a_way_of_resizing_that_is_not_known_is_told(stated: object, tmp_path: Path) -> None:
    write_checkpoint(tmp_path, Shape(layers=1))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"resample": stated}))
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json: resample .* supported: 1 .lanczos"):
        load(str(tmp_path), "cpu")


@pytest.mark.parametrize("size", [{"longest_edge": 0}, {"longest_edge": "512"}, {"height": 3}, 512, None])
def test_a_longest_edge_that_is_none_is_told(size: object, tmp_path: Path) -> None:
    smolvlm(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"size": size}))
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json: size .* longest_edge"):
        load(str(tmp_path), "cpu")
