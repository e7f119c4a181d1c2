"""Gives the frames of a video file in the form that a segmenter takes."""

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
    """Read a file's frames, converting and resizing only those that are asked for.

    Args:
        video: The file.
        pixels: What the vision graph takes.
        fallback_fps: The rate where the file states none.

    Yields:
        (index, frame, seconds) of every frame. Calling `frame` prepares its pixels, until the next one is read.

    Raises:
        UsageError: As of `VideoFile.frames`.
        VideoUnreadable: As of `VideoFile.frames`.
    """
    for decoded in video.frames(fallback_fps=fallback_fps):
        yield decoded.index, partial(_prepare, decoded, pixels), decoded.seconds


def read_again_from(video: VideoFile, pixels: PixelSpec) -> ReadAgain:
    """Make what `FrameSegmenter.flush` takes: a function that reads the file once more for frames of the tail."""

    def read_again(indices: Sequence[int]) -> dict[int, UInt8Array]:
        return {index: prepare(picture, pixels) for index, picture in video.read_again(indices).items()}

    return read_again


def _prepare(decoded: DecodedFrame, pixels: PixelSpec) -> UInt8Array:
    return prepare(decoded.retrieve(), pixels)
