"""What a checkpoint says of its pixels: how frames are resized; mean and deviation, applied or folded in."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_runtime.errors import CheckpointError
from edge_runtime.stream.pixels import Interpolation
from models.files import read_json


@dataclass(frozen=True, slots=True)
class Normalisation:
    """A pixel x in 0..255 becomes (x / 255 − mean) / std, channel by channel (red, green, blue)."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, frames: NDArray[np.uint8], device: torch.device) -> Tensor:
        """uint8 (n, H, W, 3) RGB to normalised float32 (n, 3, H, W) on `device`."""
        # torch warns of memory that nobody may write to, such as a mapped file's; it is copied only then.
        pixels = torch.from_numpy(np.require(frames, requirements="W")).to(device)
        mean = torch.tensor(self.mean, device=device).reshape(1, 3, 1, 1)
        std = torch.tensor(self.std, device=device).reshape(1, 3, 1, 1)
        return (pixels.permute(0, 3, 1, 2).to(torch.float32) / 255.0 - mean) / std

    def folded(self, convolution: Any) -> nn.Conv2d:
        """A patch embedding that takes raw pixels and gives what `convolution` gives of normalised ones.

        Exact where the patches are not padded: w·(x/255 − mean)/std + b is another convolution of x.

        Args:
            convolution: The Conv2d of a vision tower, three channels in, without padding.
        """
        weight = convolution.weight.detach().double()
        scale = torch.tensor(self.std, dtype=torch.float64).reshape(1, 3, 1, 1)
        shift = torch.tensor(self.mean, dtype=torch.float64).reshape(1, 3, 1, 1)
        patches = nn.Conv2d(3, convolution.out_channels, convolution.kernel_size, convolution.stride)
        assert patches.bias is not None
        with torch.no_grad():
            patches.weight.copy_(weight / (255.0 * scale))
            bias = torch.zeros(convolution.out_channels) if convolution.bias is None else convolution.bias.detach()
            patches.bias.copy_(bias.double() - (weight * shift / scale).sum(dim=(1, 2, 3)))
        return patches


# What many vision towers were trained with.
IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP = Normalisation((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def read_normalisation(folder: Path, default: Normalisation) -> Normalisation:
    """The normalisation in a folder's preprocessor config.

    Args:
        folder: The checkpoint.
        default: What the family was trained with, where the folder does not say.

    Raises:
        CheckpointError: The file cannot be read, or does not give one value for each of three channels.
    """
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (path := folder / name).is_file():
            document = read_json(path)
            document = document.get("image_processor", document)
            if isinstance(document, dict) and "image_mean" in document and "image_std" in document:
                return stated_normalisation(path, document, default)
    return default


def video_processor_config(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Find what a folder says of its video processor, where transformers looks for it.

    That is `video_processor` in processor_config.json, then video_preprocessor_config.json, then
    preprocessor_config.json; the first of them that is there decides.

    Returns:
        The file and its content; the folder and nothing where there is none.

    Raises:
        CheckpointError: A file cannot be read.
    """
    path = folder / "processor_config.json"
    if path.is_file() and isinstance(found := read_json(path).get("video_processor"), dict):
        return path, found
    for name in ("video_preprocessor_config.json", "preprocessor_config.json"):
        if (path := folder / name).is_file():
            return path, read_json(path)
    return folder, {}


def stated_normalisation(path: Path, document: dict[str, Any], default: Normalisation) -> Normalisation:
    """The normalisation that a preprocessor config states.

    Args:
        path: Where it stands, for the error.
        document: The config.
        default: What holds where the config does not say, the mean and the deviation each for itself.

    Raises:
        CheckpointError: It does not give one value for each of three channels.
    """
    return Normalisation(
        _channels(path, "image_mean", document) if "image_mean" in document else default.mean,
        _channels(path, "image_std", document) if "image_std" in document else default.std,
    )


# By Pillow's numbers, which transformers' processors are configured with. A box is what OpenCV calls area.
_INTERPOLATIONS: dict[object, Interpolation] = {1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "area"}


def stated_interpolation(path: Path, document: dict[str, Any], default: Interpolation = "bicubic") -> Interpolation:
    """How frames are resized, as a preprocessor config states it.

    Args:
        path: Where it stands, for the error.
        document: The config.
        default: What the family's processor takes, where the config does not say.

    Raises:
        CheckpointError: It is a way that is not known.
    """
    if "resample" not in document:
        return default
    stated = document["resample"]
    if not isinstance(stated, int) or stated not in _INTERPOLATIONS:
        known = ", ".join(f"{number} ({name})" for number, name in _INTERPOLATIONS.items())
        raise CheckpointError(f"{path.name}: resample {stated!r} is not supported; supported: {known}")
    return _INTERPOLATIONS[stated]


def _channels(path: Path, key: str, document: dict[str, Any]) -> tuple[float, ...]:
    value = document[key]
    if (
        not isinstance(value, list)
        or len(value) != 3
        or not all(isinstance(one, float | int) and isfinite(one) for one in value)
        or (key == "image_std" and min(value) <= 0)
    ):
        raise CheckpointError(f"{path}: {key} {value} is not one value for each of three channels")
    return tuple(map(float, value))
