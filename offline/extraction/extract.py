"""Videos to head features, resumable. Knows datasets, units and stores; how features arise is the model's.

One sequence serves two models: the plain MLLM (features of every head under every prompt, for the hunt) and
the exported graphs (expert features, on which the scorer is fitted).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import FeatureError, SourceUnavailable
from edge_runtime.files import sha256, write_atomic
from edge_runtime.inference.onnx_engine import OnnxEngine
from edge_runtime.stream.pixels import PixelSpec
from edge_runtime.stream.segments import SegmentSpec
from models.family import Mllm
from models.prompts import Prompt
from offline.data.cache import Arrays, EntryStore, content_key
from offline.data.dataset import Video, check_frames
from offline.data.segments import clips, rate, whole
from offline.data.units import Unit, unit_labels

log = logging.getLogger(__name__)

INDEX = "index.json"
FORMAT = 1
_LEAVE_OUT = "or leave such videos out with --skip-unreadable"
Progress = Callable[[int, int, str], None]


class Extractor(Protocol):
    """Anything that turns sampled frames into features, and says what it is."""

    @property
    def identity(self) -> dict[str, Any]:
        """Plain values that change whenever the features could."""

    def extract(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 (F, S, S, 3) to the features of one unit."""


class AllHeads:
    """Features of every head under every prompt: (M, L, H, d_h) a unit."""

    def __init__(self, mllm: Mllm, prompts: Sequence[Prompt]) -> None:
        self.mllm = mllm
        self.prompts = tuple(prompts)

    @property
    def identity(self) -> dict[str, Any]:
        """See Extractor."""
        return {"model": self.mllm.fingerprint, "prompts": [[p.name, p.text] for p in self.prompts]}

    def extract(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See Extractor."""
        features: NDArray[np.float32] = self.mllm.head_features(frames[None], self.prompts)[0]
        return features


class ExpertFeatures:
    """Expert features of the exported graphs: (K·d_h,) a unit."""

    def __init__(self, graphs: OnnxEngine, hashes: Sequence[str]) -> None:
        self.graphs = graphs
        self._hashes = list(hashes)

    @property
    def identity(self) -> dict[str, Any]:
        """See Extractor. The provider counts: another one rounds differently."""
        return {"graphs": self._hashes, "provider": self.graphs.provider}

    def extract(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See Extractor."""
        features: NDArray[np.float32] = self.graphs.features(frames[None])[0]
        return features


@dataclass(frozen=True, slots=True, eq=False)
class Extracted:
    """One video's units.

    spans: int64 (U, 2), half-open frame ranges. features: (U, …). fps: None where the container states none.
    """

    video: Video
    unit: Unit
    frames: int
    fps: float | None
    spans: NDArray[np.int64]
    features: NDArray[np.float32]

    @property
    def labels(self) -> NDArray[np.bool_]:
        """Whether each unit is anomalous, (U,). DatasetError for segments of a video without times."""
        return unit_labels(self.video, self.unit, self.spans)


def extract(
    videos: Iterable[Video],
    units: dict[str, Unit],
    extractor: Extractor,
    pixels: PixelSpec,
    segment: SegmentSpec,
    store: EntryStore,
    skip_unreadable: bool = False,
    progress: Progress | None = None,
) -> list[Extracted]:
    """Features of every unit of every video, in the order of `videos`.

    What the store holds is not computed again. A video that cannot be read is an error that names it
    (SourceUnavailable); with `skip_unreadable` it is reported and left out. An event beyond the last frame, or
    a frame count that disagrees with the manifest, is a DatasetError.
    """
    videos = list(videos)
    results = []
    for done, video in enumerate(videos):
        if progress is not None:
            progress(done, len(videos), video.name)
        try:
            results.append(_extract_one(video, units[video.name], extractor, pixels, segment, store))
        except SourceUnavailable as error:
            if not skip_unreadable:
                raise type(error)(f"{error}; {_LEAVE_OUT}") from error
            log.warning("left out: %s", error)
    if progress is not None:
        progress(len(videos), len(videos), "")
    return results


def median_rate(videos: Iterable[Video], skip_unreadable: bool = False) -> float | None:
    """The median frame rate of the videos that state one, None where none does."""
    rates = []
    for video in videos:
        try:
            stated = rate(video.path)
        except SourceUnavailable as error:
            if not skip_unreadable:
                raise type(error)(f"{error}; {_LEAVE_OUT}") from error
            continue
        if stated is not None:
            rates.append(stated)
    return float(np.median(rates)) if rates else None


def _extract_one(
    video: Video, unit: Unit, extractor: Extractor, pixels: PixelSpec, segment: SegmentSpec, store: EntryStore
) -> Extracted:
    if not video.path.is_file():
        raise SourceUnavailable(f"{video.path}: no such video")
    key = content_key(
        format=FORMAT,
        video=sha256(video.path),
        unit=unit,
        pixels=[pixels.size, pixels.color, pixels.interpolation],
        # The rate is left out: it cuts no file, segments of files are counted in frames.
        segment=[segment.frames, segment.sampled],
        extractor=extractor.identity,
    )

    def compute() -> Arrays:
        spans: list[tuple[int, int]] = []
        features: list[NDArray[np.float32]] = []
        if unit == "video":
            frames, count = whole(video.path, pixels, segment.sampled)
            check_frames(video, count)
            spans.append((0, count))
            features.append(extractor.extract(frames))
        else:
            for clip in clips(video.path, pixels, segment):
                spans.append((clip.start_frame, clip.end_frame))
                features.append(extractor.extract(clip.pixels))
        fps = rate(video.path)
        return {
            "spans": np.array(spans, dtype=np.int64),
            "features": np.stack(features).astype(np.float32),
            "frames": np.array(spans[-1][1]),
            "fps": np.array(np.nan if fps is None else fps),
        }

    entry, _ = store.cached(key, compute)
    frames = int(entry["frames"])
    check_frames(video, frames)
    fps = float(entry["fps"])
    return Extracted(video, unit, frames, None if np.isnan(fps) else fps, entry["spans"], entry["features"])


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSet:
    """What a hunt takes: features float32 (N, M, L, H, d), labels bool (N,), names of prompts and of samples."""

    features: NDArray[np.float32]
    labels: NDArray[np.bool_]
    prompts: tuple[str, ...]
    videos: tuple[str, ...]

    @classmethod
    def of(cls, extracted: Sequence[Extracted], prompts: Sequence[Prompt]) -> FeatureSet:
        """All units of some videos as one set. Raises FeatureError for none."""
        if not extracted:
            raise FeatureError("there are no features to hunt in; the manifest has no calibration videos")
        return cls(
            features=np.concatenate([one.features for one in extracted]),
            labels=np.concatenate([one.labels for one in extracted]),
            prompts=tuple(prompt.name for prompt in prompts),
            videos=tuple(one.video.name for one in extracted for _ in one.spans),
        )

    def write(self, path: Path) -> None:
        """Write one `.npz`, whole or not at all."""
        write_atomic(
            path,
            lambda file: np.savez(
                file,
                features=self.features,
                labels=self.labels,
                prompts=np.array(self.prompts),
                videos=np.array(self.videos),
            ),
        )


def read_features(path: Path) -> FeatureSet:
    """Features to hunt in: the calibration set of a folder store, or one `.npz`. Raises FeatureError."""
    if path.is_dir():
        index = path / INDEX
        if not index.is_file():
            raise FeatureError(
                f"{path}: holds no {INDEX}; its extraction did not finish, run hh-offline extract again"
            )
        try:
            path = path / str(json.loads(index.read_text(encoding="utf-8"))["calibration"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise FeatureError(f"{index}: cannot be read ({error!r}); run hh-offline extract again") from error
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


def write_index(folder: Path, calibration: FeatureSet, extracted: Sequence[Extracted], mllm: Mllm) -> None:
    """Finish a folder store: the calibration set in one file, and an index of everything. Raises OutputFailed."""
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
    write_atomic(folder / INDEX, (json.dumps(document, indent=2) + "\n").encode())
