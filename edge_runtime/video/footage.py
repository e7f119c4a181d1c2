"""Frames of a video file in the form a segmenter takes. Knows decoding and pixels; nothing of segments or scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from edge_runtime.stream.pixels import PixelSpec, UInt8Array, prepare
from edge_runtime.stream.segments import PreparePixels, ReadAgain
from edge_runtime.video.capture import DecodedFrame
from edge_runtime.video.file import VideoFile


def lazy_frames(
    video: VideoFile, pixels: PixelSpec, fallback_fps: float
) -> Iterator[tuple[int, PreparePixels, float]]:
    """(index, frame, seconds) of every frame; a frame is converted and resized only when it is called.

    Calling it is possible until the next one is taken. Raises as `VideoFile.frames`.
    """
    for grabbed in video.frames(fallback_fps=fallback_fps):
        yield grabbed.index, partial(_prepare, grabbed, pixels), grabbed.seconds


def read_again_from(video: VideoFile, pixels: PixelSpec) -> ReadAgain:
    """What `FrameSegmenter.flush` takes to have frames of the tail again, by reading the file once more."""

    def read_again(indices: Sequence[int]) -> dict[int, UInt8Array]:
        return {index: prepare(picture, pixels) for index, picture in video.read_again(indices).items()}

    return read_again


def _prepare(grabbed: DecodedFrame, pixels: PixelSpec) -> UInt8Array:
    return prepare(grabbed.retrieve(), pixels)
