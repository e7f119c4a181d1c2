"""Videos to head features, resumable.

One sequence serves two models: the plain MLLM (features of every head under every prompt, for the hunt) and
the exported graphs (expert features, on which the scorer is fitted).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import SourceUnavailable
from edge_runtime.inference.onnx_engine import OnnxEngine
from edge_runtime.stream.pixels import PixelSpec
from edge_runtime.stream.segments import SegmentSpec
from models.family import Mllm
from models.prompts import Prompt
from offline.arrays import BoolArray
from offline.console import Progress
from offline.data.cache import Arrays, EntryStore, content_key
from offline.data.dataset import Video, check_frames
from offline.data.segments import digest, frame_rate, or_leave_out, read_segments, read_whole
from offline.data.units import Unit, unit_labels

log = logging.getLogger(__name__)

FORMAT = 1


class Extractor(Protocol):
    """Turns sampled frames into features, and says what it is."""

    @property
    def identity(self) -> dict[str, Any]:
        """Plain values that change whenever the features could."""

    def extract(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the features of one unit from its frames, uint8 (F, S, S, 3)."""


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
class Extraction:
    """How videos become features.

    Attributes:
        extractor: What computes the features.
        pixels: The form in which it takes frames.
        segment: How videos are cut and sampled.
        store: Where features are kept, so that they are not computed again.
        skip_unreadable: Whether videos that cannot be read are reported and left out, instead of an error.
    """

    extractor: Extractor
    pixels: PixelSpec
    segment: SegmentSpec
    store: EntryStore
    skip_unreadable: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Extracted:
    """One video's units.

    Attributes:
        video: The video.
        unit: What one unit of it is.
        frames: How many frames it has.
        fps: Its frame rate; None where the file states none.
        spans: int64 (U, 2), half-open frame ranges.
        features: (U, …), as the extractor gives them.
    """

    video: Video
    unit: Unit
    frames: int
    fps: float | None
    spans: NDArray[np.int64]
    features: NDArray[np.float32]

    @property
    def labels(self) -> BoolArray:
        """Whether each unit is anomalous, (U,). DatasetError for segments of a video without times."""
        return unit_labels(self.video, self.unit, self.spans)


def extract(
    videos: Iterable[Video], units: Mapping[str, Unit], extraction: Extraction, progress: Progress | None = None
) -> list[Extracted]:
    """Compute the features of every unit of every video; what the store holds is not computed again.

    Args:
        videos: The videos.
        units: What one unit is, by the video's name.
        extraction: How features are computed and kept.
        progress: Counts videos.

    Returns:
        One entry a video, in the order of `videos`, without those that were left out as unreadable.

    Raises:
        SourceUnavailable: A video cannot be read, and unreadable ones are not to be skipped.
        DatasetError: A video's frame count or events contradict the manifest.
    """
    videos = list(videos)
    results = []
    for done, video in enumerate(videos):
        if progress is not None:
            progress(done, len(videos), video.name)
        try:
            results.append(_extract_one(video, units[video.name], extraction))
        except SourceUnavailable as error:
            if not extraction.skip_unreadable:
                raise or_leave_out(error) from error
            log.warning("left out: %s", error)
    if progress is not None:
        progress(len(videos), len(videos), "")
    return results


def _extract_one(video: Video, unit: Unit, extraction: Extraction) -> Extracted:
    pixels, segment = extraction.pixels, extraction.segment
    key = content_key(
        format=FORMAT,
        video=digest(video.path),
        unit=unit,
        pixels=[pixels.size, pixels.color, pixels.interpolation],
        # The rate is left out: it cuts no file, segments of files are counted in frames.
        segment=[segment.frames, segment.sampled],
        extractor=extraction.extractor.identity,
    )
    entry, _ = extraction.store.cached(key, lambda: _compute(video, unit, extraction))
    frames = int(entry["frames"])
    check_frames(video, frames)
    fps = float(entry["fps"])
    return Extracted(video, unit, frames, None if np.isnan(fps) else fps, entry["spans"], entry["features"])


def _compute(video: Video, unit: Unit, extraction: Extraction) -> Arrays:
    spans: list[tuple[int, int]] = []
    features: list[NDArray[np.float32]] = []
    if unit == "video":
        frames, count = read_whole(video.path, extraction.pixels, extraction.segment.sampled)
        check_frames(video, count)
        spans.append((0, count))
        features.append(extraction.extractor.extract(frames))
    else:
        for segment in read_segments(video.path, extraction.pixels, extraction.segment):
            spans.append((segment.start_frame, segment.end_frame))
            features.append(extraction.extractor.extract(segment.pixels))
    fps = frame_rate(video.path)
    return {
        "spans": np.array(spans, dtype=np.int64),
        "features": np.stack(features).astype(np.float32),
        "frames": np.array(spans[-1][1]),
        "fps": np.array(np.nan if fps is None else fps),
    }
