"""Videos to the pixels of their segments, by the edge's own segmenter. Knows files; nothing of labels or models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.stream.by_count import FrameSegmenter
from edge_runtime.stream.pixels import PixelSpec, prepare
from edge_runtime.stream.segments import Segment, SegmentSpec, sample_indices
from edge_runtime.video.file import VideoFile
from edge_runtime.video.footage import lazy_frames, read_again_from


def clips(path: Path, pixels: PixelSpec, segment: SegmentSpec) -> Iterator[Segment]:
    """Every segment of a video, the tail included. Raises SourceUnavailable or VideoUnreadable.

    A damaged video is refused after its last segment: what came before it is real, but incomplete.
    """
    with VideoFile(path) as video:
        segmenter = FrameSegmenter(segment, video.frame_count_hint)
        for _, frame, seconds in lazy_frames(video, pixels, segment.fps):
            for item in segmenter.push(frame, seconds):
                assert isinstance(item, Segment)
                yield item
        yield from (item for item in segmenter.flush(read_again_from(video, pixels)) if isinstance(item, Segment))
        video.check_complete()


def whole(path: Path, pixels: PixelSpec, sampled: int) -> tuple[NDArray[np.uint8], int]:
    """F frames spread over a whole video, and its number of frames.

    Returns uint8 (F, S, S, 3) and n. Raises SourceUnavailable or VideoUnreadable.
    """
    with VideoFile(path) as video:
        frames = video.count_frames()
        video.check_complete()
        pictures = video.read_frames(sample_indices(frames, sampled).tolist())
        return np.stack([prepare(picture, pixels) for picture in pictures]), frames


def rate(path: Path) -> float | None:
    """Frames per second as the container states it; None where it states none that can be used."""
    with VideoFile(path) as video:
        return video.fps
