"""Frames to H.264 files and back: a deterministic MP4 writer, and real footage as background pictures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np

from edge_runtime.errors import OutputFailed, SourceUnavailable, UsageError
from offline.scenes.truth import BgrImage

PRESETS: Final = ("ultrafast", "superfast", "veryfast")
MOST_FOOTAGE_FRAMES: Final = 600
"""Background footage is kept in memory: at 320x240 this is 138 MB."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How strongly a clip is compressed.

    Attributes:
        crf: x264's constant rate factor, 0 to 51; higher is coarser.
        preset: One of PRESETS.

    Raises:
        UsageError: A value is out of its range.
    """

    crf: int
    preset: str

    def __post_init__(self) -> None:
        if not 0 <= self.crf <= 51:
            raise UsageError(f"crf goes from 0 to 51, got {self.crf}")
        if self.preset not in PRESETS:
            raise UsageError(f"unknown preset {self.preset!r}; there are {', '.join(PRESETS)}")


def write_mp4(
    path: Path, images: Iterable[BgrImage], *, size: tuple[int, int], fps: float, encoding: Encoding
) -> None:
    """Write images as an H.264 MP4 file, complete or not at all; the same images give the same bytes.

    Args:
        path: The file; one that is there is replaced.
        images: BGR uint8 (height, width, 3) each.
        size: (width, height) in pixels, both even: 4:2:0 has one colour sample for 2x2 pixels.
        fps: Frames per second.
        encoding: How strongly to compress.

    Raises:
        OutputFailed: Writing failed.
        UsageError: Width or height is odd.
    """
    width, height = size
    if width % 2 or height % 2:
        raise UsageError(f"an H.264 video needs an even width and height, got {width}x{height}")
    partial = path.with_name(f".{path.name}.part")
    try:
        with av.open(str(partial), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuv420p"
            stream.codec_context.thread_count = 1
            # Without macroblock trees: x264's assembly for them reads memory nobody wrote, so that the bytes would
            # depend on what was in it (shown by different MALLOC_PERTURB_, up to one clip in five).
            stream.options = {
                "crf": str(encoding.crf),
                "preset": encoding.preset,
                "x264-params": "mbtree=0",
            }
            for image in images:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
            container.mux(stream.encode())
        partial.replace(path)
    except OSError as error:  # av's errors for files are OSErrors too
        raise OutputFailed(f"{path}: could not be written ({error.strerror or error}); free some space") from error


class FootageLoop:
    """A real video as an endless background, at one size and rate, kept in memory.

    At most MOST_FOOTAGE_FRAMES pictures are kept.

    Args:
        path: The video.
        size: (width, height) of the pictures in pixels; the video is stretched to it.
        fps: Rate of the scene; pictures are repeated or left out to match it.

    Raises:
        SourceUnavailable: The file cannot be read or holds no pictures.
    """

    def __init__(self, path: Path, *, size: tuple[int, int], fps: float) -> None:
        self._images: list[BgrImage] = []
        try:
            with av.open(str(path)) as container:
                if not container.streams.video:
                    raise SourceUnavailable(f"{path}: holds no video; name a file with pictures as background")
                stream = container.streams.video[0]
                rate = float(stream.average_rate) if stream.average_rate else fps
                for i, frame in enumerate(container.decode(stream)):
                    # Repeat or leave out pictures until as many have been kept as the scene's rate asks for.
                    due = min(MOST_FOOTAGE_FRAMES, int((i + 1) * fps / rate))
                    if due <= len(self._images):
                        if due == MOST_FOOTAGE_FRAMES:
                            break
                        continue
                    small = cv2.resize(frame.to_ndarray(format="bgr24"), size, interpolation=cv2.INTER_AREA)
                    image = small.astype(np.uint8, copy=False)
                    self._images += [image] * (due - len(self._images))
        except (OSError, ValueError) as error:
            raise SourceUnavailable(f"{path}: cannot be read as a background video ({error})") from error
        if not self._images:
            raise SourceUnavailable(f"{path}: holds no pictures; name another background video")

    def __len__(self) -> int:
        return len(self._images)

    def picture(self, index: int) -> BgrImage:
        """Give the picture for any frame number: after the last one comes the first.

        Returns:
            BGR uint8 (height, width, 3), not to be changed in place.
        """
        return self._images[index % len(self._images)]
