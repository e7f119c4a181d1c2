"""The features that a hunt takes, in memory and on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import FeatureError
from edge_runtime.strict_json import parse_object
from models.family import Mllm
from models.heads import HeadRef
from models.prompts import Prompt
from offline.arrays import BoolArray
from offline.data.places import write_file
from offline.extraction.extract import FORMAT, Extracted

INDEX = "index.json"


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSet:
    """Labelled features of all heads.

    Attributes:
        features: float32 (N, M, L, H, d).
        labels: bool (N,), True is anomalous.
        prompts: The M prompts' names.
        videos: The N samples' videos; a video that gives several samples is there as often.
    """

    features: NDArray[np.float32]
    labels: BoolArray
    prompts: tuple[str, ...]
    videos: tuple[str, ...]

    @classmethod
    def of(cls, extracted: Sequence[Extracted], prompts: Sequence[Prompt]) -> FeatureSet:
        """Put all units of some videos into one set.

        Raises:
            FeatureError: There are none.
        """
        if not extracted:
            raise FeatureError("there are no features to hunt in; the manifest has no calibration videos")
        return cls(
            features=np.concatenate([one.features for one in extracted]),
            labels=np.concatenate([one.labels for one in extracted]),
            prompts=tuple(prompt.name for prompt in prompts),
            videos=tuple(one.video.name for one in extracted for _ in one.spans),
        )

    def videos_by_class(self) -> tuple[list[str], list[str]]:
        """Name the normal and the anomalous videos, each once, sorted; one anomalous sample makes a video so."""
        anomalous = {video for video, label in zip(self.videos, self.labels, strict=True) if label}
        return sorted(set(self.videos) - anomalous), sorted(anomalous)

    def rows(self, rows: BoolArray) -> FeatureSet:
        """Keep the samples where `rows`, bool (N,), is True."""
        kept = tuple(video for video, keep in zip(self.videos, rows, strict=True) if keep)
        return FeatureSet(self.features[rows], self.labels[rows], self.prompts, kept)

    def write(self, path: Path) -> None:
        """Write one `.npz`, whole or not at all.

        Raises:
            OutputFailed: It cannot be written.
        """
        write_file(
            path,
            lambda file: np.savez(
                file,
                features=self.features,
                labels=self.labels,
                prompts=np.array(self.prompts),
                videos=np.array(self.videos),
            ),
        )


def read_heads(features: NDArray[np.float32], prompt: int, heads: Sequence[HeadRef]) -> NDArray[np.float32]:
    """Read some heads side by side, in the order given, under one prompt (its index).

    Args:
        features: (n, M, L, H, d).
        prompt: Which of the M prompts.
        heads: K heads.

    Returns:
        (n, K·d).
    """
    layers, columns = [ref.layer for ref in heads], [ref.head for ref in heads]
    read: NDArray[np.float32] = features[:, prompt, layers, columns].reshape(len(features), -1)
    return read


def read_features(path: Path) -> FeatureSet:
    """Read features to hunt in: the calibration set of a feature store's folder, or one `.npz`.

    Raises:
        FeatureError: There are none, they are damaged, or their extraction did not finish.
    """
    if path.is_dir():
        path = path / _calibration_file(path)
    try:
        with np.load(path, allow_pickle=False) as data:
            return FeatureSet(
                features=data["features"],
                labels=data["labels"].astype(bool),
                prompts=tuple(str(name) for name in data["prompts"]),
                videos=tuple(str(name) for name in data["videos"]),
            )
    except FileNotFoundError:
        raise FeatureError(f"{path}: no such features; make them with hh-offline extract") from None
    except KeyError as error:
        raise FeatureError(f"{path}: {error.args[0]}; expected features, labels, prompts and videos") from error
    except Exception as error:  # zipfile, zlib and numpy each have a dozen ways to say "damaged"
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FeatureError(f"{path}: cannot be read as features ({reason}); extract them again") from error


def _calibration_file(folder: Path) -> str:
    index = folder / INDEX
    if not index.is_file():
        raise FeatureError(f"{folder}: holds no {INDEX}; its extraction did not finish, run hh-offline extract again")
    try:
        return str(parse_object(index.read_bytes())["calibration"])
    except (OSError, ValueError, KeyError) as error:
        raise FeatureError(f"{index}: cannot be read ({error!r}); run hh-offline extract again") from error


def write_index(folder: Path, calibration: FeatureSet, extracted: Sequence[Extracted], mllm: Mllm) -> None:
    """Finish a feature store: write the calibration set in one file, and an index of everything.

    Raises:
        OutputFailed: They cannot be written.
    """
    name = "calibration.npz"
    calibration.write(folder / name)
    document = {
        "format": FORMAT,
        "calibration": name,
        "model": {"name": mllm.source.name, "revision": mllm.source.revision, "fingerprint": mllm.fingerprint},
        "prompts": list(calibration.prompts),
        "videos": [
            {
                "name": one.video.name,
                "split": one.video.split,
                "label": one.video.label,
                "unit": one.unit,
                "frames": one.frames,
                "fps": one.fps,
                "units": len(one.spans),
            }
            for one in extracted
        ],
    }
    write_file(folder / INDEX, (json.dumps(document, indent=2) + "\n").encode())
