"""Normalised pixels, and the convolution that takes raw ones instead."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import CheckpointError
from models.normalisation import (
    IMAGENET,
    Normalisation,
    read_normalisation,
    stated_normalisation,
    video_processor_config,
)

CHANNEL = st.floats(0.05, 1.0)


@given(mean=st.tuples(CHANNEL, CHANNEL, CHANNEL), std=st.tuples(CHANNEL, CHANNEL, CHANNEL), bias=st.booleans())
def test_a_folded_convolution_gives_of_raw_pixels_what_the_plain_one_gives_of_normalised_ones(
    mean: tuple[float, ...], std: tuple[float, ...], bias: bool
) -> None:
    plain = torch.nn.Conv2d(3, 6, 4, 4, bias=bias)
    frames = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    frames[0], frames[1] = 0, 255
    normalisation = Normalisation(mean, std)
    with torch.inference_mode():
        wanted = plain(normalisation.apply(frames, torch.device("cpu")))
        found = normalisation.folded(plain)(torch.from_numpy(frames).permute(0, 3, 1, 2).float())
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_channels_are_normalised_each_by_its_own() -> None:
    frames = np.zeros((1, 2, 2, 3), np.uint8)
    frames[..., 1] = 255
    found = Normalisation((0.0, 0.5, 0.2), (1.0, 0.25, 0.1)).apply(frames, torch.device("cpu"))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found[0, :, 0, 0], [0.0, 2.0, -2.0], rtol=1e-6)


def test_frames_that_nobody_may_write_to_are_taken_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    frames = np.zeros((1, 2, 2, 3), np.uint8)
    frames.flags.writeable = False
    IMAGENET.apply(frames, torch.device("cpu"))
    assert not recwarn.list


@pytest.mark.parametrize("name", ["preprocessor_config.json", "processor_config.json"])
@pytest.mark.parametrize("nested", [True, False])
def test_the_folders_own_is_read_where_it_says_one(name: str, nested: bool, tmp_path: Path) -> None:
    document = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3]}
    (tmp_path / name).write_text(json.dumps({"image_processor": document} if nested else document))
    assert read_normalisation(tmp_path, IMAGENET) == Normalisation((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))


@pytest.mark.parametrize("document", [None, {}, {"image_mean": [0.5, 0.5, 0.5]}, {"image_processor": None}])
def test_a_folder_that_does_not_say_has_the_familys(document: object, tmp_path: Path) -> None:
    if document is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(document))
    assert read_normalisation(tmp_path, IMAGENET) == IMAGENET


# From what a video processor looks at first to what it looks at last.
OF_VIDEOS = ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json")


@pytest.mark.parametrize("first", range(3))
def test_of_a_videos_settings_the_first_that_are_there_decide(first: int, tmp_path: Path) -> None:
    for place, name in list(enumerate(OF_VIDEOS))[first:]:
        document: dict[str, object] = {"image_mean": [place / 10] * 3, "image_std": [1] * 3}
        (tmp_path / name).write_text(json.dumps({"video_processor": document} if place == 0 else document))
    if first:
        # That of a processor which keeps its parts in files of their own.
        (tmp_path / OF_VIDEOS[0]).write_text(json.dumps({"processor_class": "AnyProcessor"}))
    found = stated_normalisation(*video_processor_config(tmp_path), IMAGENET)
    assert found == Normalisation((first / 10,) * 3, (1.0,) * 3)


def test_videos_settings_that_do_not_say_mean_the_familys_and_not_those_of_pictures(tmp_path: Path) -> None:
    assert stated_normalisation(*video_processor_config(tmp_path), IMAGENET) == IMAGENET
    (tmp_path / OF_VIDEOS[2]).write_text(json.dumps({"image_mean": [0.1] * 3, "image_std": [1] * 3}))
    (tmp_path / OF_VIDEOS[1]).write_text(json.dumps({"size": 32}))
    assert stated_normalisation(*video_processor_config(tmp_path), IMAGENET) == IMAGENET
    (tmp_path / OF_VIDEOS[0]).write_text(json.dumps({"video_processor": None}))
    assert stated_normalisation(*video_processor_config(tmp_path), IMAGENET) == IMAGENET


@pytest.mark.parametrize(
    ("mean", "std"), [([0.5] * 2, [0.5] * 3), ([0.5] * 3, [0.5, 0, 0.5]), (0.5, 0.5), ([0.5, "x", 1], [0.5] * 3)]
)
def test_what_is_not_one_value_a_channel_is_refused(mean: object, std: object, tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean, "image_std": std}))
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json: image_"):
        read_normalisation(tmp_path, IMAGENET)
