"""Videos to head features, resumable.

One sequence serves two models: the plain MLLM (features of every head under every prompt, for the hunt) and
the exported graphs (expert features, on which the scorer is fitted).
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import FeatureError, SourceUnavailable
from edge_runtime.inference.engine import Engine, engine_key
from edge_runtime.stream.pixels import PixelSpec
from edge_runtime.stream.segments import SegmentSpec
from models.family import Mllm
from models.prompts import Prompt
from offline.arrays import BoolArray
from offline.console import Progress
from offline.data.cache import Arrays, EntryStore, content_key
from offline.data.contents import sought
from offline.data.dataset import Video, check_frames
from offline.data.segments import frame_rate, leave_out, read_segments, read_whole
from offline.data.units import Unit, unit_labels

log = logging.getLogger(__name__)

# Raised when frames are shown otherwise: 2, area in two steps.
FORMAT = 2

#: Told how many steps are done, and how many there are.
Steps = Callable[[int, int], None]


class Extractor(Protocol):
    """Turns sampled frames into features, and says what it is."""

    @property
    def identity(self) -> dict[str, Any]:
        """Plain values that change whenever the features could."""

    @property
    def units_at_once(self) -> int:
        """How many units it would rather have together."""

    def extract(
        self, units: Iterable[NDArray[np.uint8]], progress: Steps | None = None
    ) -> Sequence[NDArray[np.float32]]:
        """Compute the features of units from their frames, uint8 (F, H, W, 3) each, in their order."""

    def recall(self, find: Callable[[dict[str, Any]], Arrays | None]) -> Arrays | None:
        """Find an entry by an identity whose features hold these: its own, or a wider one's, cut down."""


class AllHeads:
    """Features of every head under every prompt: (M, L, H, d_h) a unit.

    Args:
        mllm: The model.
        prompts: M of them.
        segment: How frames are sampled.
        layers: How many of the lowest layers are run and read; None for all.
    """

    def __init__(
        self,
        mllm: Mllm,
        prompts: Sequence[Prompt],
        segment: SegmentSpec,
        layers: int | None = None,
    ) -> None:
        self.mllm = mllm
        self.prompts = tuple(prompts)
        self.segment = segment
        self.layers = None if layers is None or layers >= mllm.geometry.layers else layers
        self._whole = mllm.identity(prompts, segment)

    @property
    def identity(self) -> dict[str, Any]:
        """See Extractor."""
        return self._whole | ({} if self.layers is None else {"layers": self.layers})

    @property
    def units_at_once(self) -> int:
        """See Extractor: what goes through the layers of a model that streams."""
        return self.mllm.sweep.units

    def extract(
        self, units: Iterable[NDArray[np.uint8]], progress: Steps | None = None
    ) -> Sequence[NDArray[np.float32]]:
        """See Extractor."""
        steps = progress if self.mllm.sweep.streams else None
        return list(self.mllm.head_features(units, self.prompts, self.segment, self.layers, steps))

    def maker(self) -> Callable[[Mllm], Extractor]:
        """Give what makes the same extractor of a model, on a worker."""
        return functools.partial(AllHeads, prompts=self.prompts, segment=self.segment, layers=self.layers)

    def recall(self, find: Callable[[dict[str, Any]], Arrays | None]) -> Arrays | None:
        """See Extractor: features of all layers hold those of the lowest."""
        if (entry := find(self.identity)) is not None or self.layers is None:
            return entry
        if (entry := find(self._whole)) is not None:
            return entry | {"features": entry["features"][:, :, : self.layers]}
        return None


class ExpertFeatures:
    """Expert features of the exported graphs: (K·d_h,) a unit."""

    units_at_once = 1

    def __init__(self, graphs: Engine, hashes: Sequence[str]) -> None:
        self.graphs = graphs
        self._hashes = list(hashes)

    @property
    def identity(self) -> dict[str, Any]:
        """See Extractor. The provider counts: another one rounds differently."""
        return {"graphs": self._hashes} | engine_key(self.graphs)

    def extract(
        self,
        units: Iterable[NDArray[np.uint8]],
        progress: Steps | None = None,
    ) -> Sequence[NDArray[np.float32]]:
        """See Extractor."""
        return [self.graphs.features(frames[None])[0] for frames in units]

    def recall(self, find: Callable[[dict[str, Any]], Arrays | None]) -> Arrays | None:
        """See Extractor."""
        return find(self.identity)


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
        spans: int64 (U, 2), half-open frame ranges; of segments that overlap those of their first steps.
        features: (U, …), as the extractor gives them.
        overlap: How many segments cover a frame.
        content: The digest of the video's content.
        computed: Whether the store did not hold it.
    """

    video: Video
    unit: Unit
    frames: int
    fps: float | None
    spans: NDArray[np.int64]
    features: NDArray[np.float32]
    overlap: int = 1
    content: str = ""
    computed: bool = False

    @property
    def labels(self) -> BoolArray:
        """Whether each unit is anomalous, (U,). DatasetError for segments of a video without times."""
        return unit_labels(self.video, self.unit, self.spans)


def extract(
    videos: Iterable[Video],
    units: Mapping[str, Unit],
    extraction: Extraction,
    progress: Progress | None = None,
    stored: Mapping[str, str] | None = None,
) -> list[Extracted]:
    """Compute the features of every unit of every video; what the store holds is not computed again.

    Args:
        videos: The videos.
        units: What one unit is, by the video's name.
        extraction: How features are computed and kept.
        progress: Counts videos.
        stored: What an executor has prepared: digests by name of videos whose features are in the store. Then
            nothing is computed, and videos that are not in it are left out.

    Returns:
        One entry a video, in the order of `videos`, without those that were left out as unreadable.

    Raises:
        FeatureError: What was prepared is not in the store.
        SourceUnavailable: A video cannot be read, and unreadable ones are not to be skipped.
        DatasetError: A video's frame count or events contradict the manifest.
    """
    videos = list(videos)
    if stored is not None:
        return [
            _prepared(video, units[video.name], extraction, stored[video.name])
            for video in videos
            if video.name in stored
        ]
    found: dict[str, Extracted] = {}
    waiting = deque(videos)
    while waiting:
        done = len(videos) - len(waiting)
        if progress is not None:
            progress(done, len(videos), waiting[0].name)
        for one in _extract_some(waiting, units, extraction, _within(progress, done, len(videos))):
            found[one.video.name] = one
    if progress is not None:
        progress(len(videos), len(videos), "")
    return [found[video.name] for video in videos if video.name in found]


def _within(progress: Progress | None, done: int, total: int) -> Steps | None:
    """Show the steps of videos that are extracted together beside the count of videos."""
    if progress is None:
        return None
    return lambda step, steps: progress(done, total, f"step {step} of {steps}")


@contextmanager
def _left_out(extraction: Extraction) -> Iterator[None]:
    """Report a video that cannot be read, or say how to go on without it."""
    try:
        yield
    except SourceUnavailable as error:
        leave_out(error, extraction.skip_unreadable)
        log.warning("left out: %s", error)


def _key(content: str, unit: Unit, extraction: Extraction, identity: dict[str, Any]) -> str:
    """The name of a video's entry, from the digest of its content."""
    pixels, segment = extraction.pixels, extraction.segment
    return content_key(
        format=FORMAT,
        video=content,
        unit=unit,
        pixels=msgspec.to_builtins(pixels),
        # The rate is left out: it cuts no file, segments of files are counted in frames.
        segment=[segment.frames, segment.sampled, *([segment.step] if _overlap(unit, extraction) > 1 else [])],
        extractor=identity,
    )


def _overlap(unit: Unit, extraction: Extraction) -> int:
    return extraction.segment.overlap if unit == "segment" else 1


def _stored(store: EntryStore, key: Callable[[dict[str, Any]], str], identity: dict[str, Any]) -> Arrays | None:
    return store.get(key(identity))


def find_stored(content: str, unit: Unit, extraction: Extraction) -> Arrays | None:
    """Find the entry of a video in the store, by the digest of its content; None where there is none."""
    key = functools.partial(_key, content, unit, extraction)
    return extraction.extractor.recall(functools.partial(_stored, extraction.store, key))


def _prepared(video: Video, unit: Unit, extraction: Extraction, content: str) -> Extracted:
    if (entry := find_stored(content, unit, extraction)) is None:
        raise FeatureError(
            f"{video.name}: a worker has stored its features, but {extraction.store.folder} here does not hold them; "
            "put the store where all machines find it, as on s3://"
        )
    return _extracted(video, unit, entry, extraction, content)


def _extracted(
    video: Video, unit: Unit, entry: Arrays, extraction: Extraction, content: str, computed: bool = False
) -> Extracted:
    frames = int(entry["frames"])
    check_frames(video, frames)
    fps = float(entry["fps"])
    return Extracted(
        video,
        unit,
        frames,
        None if np.isnan(fps) else fps,
        entry["spans"],
        entry["features"],
        _overlap(unit, extraction),
        content,
        computed,
    )


@dataclass(slots=True)
class _Read:
    """One video of those that are extracted together."""

    video: Video
    content: str
    fps: float | None
    spans: list[tuple[int, int]] = field(default_factory=list)
    whole: bool = False


def _extract_some(
    waiting: deque[Video], units: Mapping[str, Unit], extraction: Extraction, steps: Steps | None
) -> list[Extracted]:
    """The next videos: what the store holds, and as many others together as the extractor would have."""
    extractor = extraction.extractor
    read: list[_Read] = []
    done: list[Extracted] = []

    def frames() -> Iterator[NDArray[np.uint8]]:
        while waiting and sum(len(one.spans) for one in read) < extractor.units_at_once:
            video = waiting.popleft()
            unit = units[video.name]
            find = functools.partial(find_stored, unit=unit, extraction=extraction)
            with _left_out(extraction), sought(video, extraction.store, find) as asked:
                if asked.known is not None:
                    done.append(_extracted(video, unit, asked.known, extraction, asked.content))
                    continue
                # All of a file while it is held: later it may be gone, or another one.
                read.append(one := _Read(video, asked.content, frame_rate(asked.path)))
                for span, pixels in _units(video, asked.path, unit, extraction):
                    one.spans.append(span)
                    yield pixels
                one.whole = True

    given = frames()
    # Where everything is stored, no model need be in memory.
    if (first := next(given, None)) is None:
        return done
    features = extractor.extract(itertools.chain([first], given), steps)
    at = 0
    made: list[tuple[_Read, Arrays]] = []
    for one in read:
        own = features[at : at + len(one.spans)]
        at += len(one.spans)
        if not one.whole:
            continue
        entry: Arrays = {
            "spans": np.array(one.spans, dtype=np.int64),
            "features": np.stack(own).astype(np.float32),
            "frames": np.array(one.spans[-1][1]),
            "fps": np.array(np.nan if one.fps is None else one.fps),
        }
        key = _key(one.content, units[one.video.name], extraction, extractor.identity)
        extraction.store.put(key, entry)
        made.append((one, entry))
    # Only now: one that contradicts the manifest must not cost the others what was computed with it.
    done += [
        _extracted(one.video, units[one.video.name], entry, extraction, one.content, computed=True)
        for one, entry in made
    ]
    return done


def _units(
    video: Video, path: Path, unit: Unit, extraction: Extraction
) -> Iterator[tuple[tuple[int, int], NDArray[np.uint8]]]:
    """The frame range and the sampled frames of every unit of a video."""
    if unit == "video":
        frames, count = read_whole(path, extraction.pixels, extraction.segment.sampled)
        check_frames(video, count)
        yield (0, count), frames
    else:
        for segment in read_segments(path, extraction.pixels, extraction.segment):
            yield (segment.start_frame, segment.end_frame), segment.pixels
