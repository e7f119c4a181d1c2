"""Parts of the picture that the model must not see: polygons in fractions of it, blanked before it is resized."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from edge_runtime.stream.pixels import UInt8Array
from edge_runtime.video.capture import DecodedFrame
from edge_runtime.video.file import VideoFile
from edge_runtime.video.journal import CameraListener, QualityListener

Point = tuple[float, float]
# Fractions of a pixel that OpenCV's polygons take, as a power of two.
_SHIFT = 8
# How many times finer than the picture polygons are drawn.
_FINE = 4
# A smaller part of the picture is less than a pixel of it: a slip.
_LEAST_AREA = 1e-7


@dataclass(frozen=True, slots=True)
class Mask:
    """Polygons that are blanked.

    Attributes:
        polygons: Points (x, y) of each, in fractions of the picture from its upper left corner. Where a polygon's
            lines cross, what they enclose twice is left.

    Raises:
        ValueError: Fewer than 3 points, a point outside the picture, or a polygon without an area.
    """

    polygons: tuple[tuple[Point, ...], ...]
    # The mask for the size of the last picture: a camera seldom has two.
    _drawn: dict[tuple[int, int], UInt8Array] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.polygons:
            raise ValueError("holds no polygon; leave it out to blank nothing")
        for number, polygon in enumerate(self.polygons):
            if len(polygon) < 3:
                raise ValueError(f"polygon {number} has {len(polygon)} points; a polygon has 3 or more")
            for x, y in polygon:
                if not (0 <= x <= 1 and 0 <= y <= 1):
                    raise ValueError(
                        f"polygon {number} has a point ({x:g}, {y:g}); points are fractions of the picture, 0 to 1: "
                        "divide x by its width and y by its height"
                    )
            if _extent(polygon) < _LEAST_AREA:
                raise ValueError(f"polygon {number} encloses nothing; its points lie on one line")

    @classmethod
    def parse(cls, value: str | Sequence[str | Sequence[Point]]) -> Mask:
        """Read polygons, each a list of points or a text `x,y,x,y,…`; one such text alone is one polygon.

        Raises:
            ValueError: As above, or a text that is no such list.
        """
        parts = [value] if isinstance(value, str) else value
        polygons = (_from_text(part) if isinstance(part, str) else tuple((x, y) for x, y in part) for part in parts)
        return cls(tuple(polygons))

    def blank(self, picture: UInt8Array) -> UInt8Array:
        """A copy of a picture that is black inside the polygons.

        Every pixel whose centre lies inside is blanked, and at the rim up to two pixels more. The picture itself is
        not written to: it may be the decoder's buffer.

        Args:
            picture: uint8 (h, w, 3).
        """
        import cv2

        return np.asarray(cv2.copyTo(picture, self._kept(picture.shape[0], picture.shape[1])), dtype=np.uint8)

    def blank_when_retrieved(self, frame: DecodedFrame) -> DecodedFrame:
        """The same frame; only if its picture is asked for, that is blanked."""
        return replace(frame, retrieve=lambda: self.blank(frame.retrieve()))

    def _kept(self, height: int, width: int) -> UInt8Array:
        kept = self._drawn.get((height, width))
        if kept is None:
            import cv2

            fine = np.full((_FINE * height, _FINE * width), 255, np.uint8)
            for polygon in self.polygons:
                # The centre of the first pixel is 0 to OpenCV. Each by itself: together, what two share would stay.
                points = np.array(polygon) * (_FINE * width, _FINE * height) - 0.5
                cv2.fillPoly(fine, [np.round(points * 2**_SHIFT).astype(np.int32)], 0, shift=_SHIFT)
            # Of flat and of steep lines fillPoly leaves out pixels. Drawn finer, a pixel is hidden where any part of
            # it is; and what should not be seen is hidden wider.
            kept = fine.reshape(height, _FINE, width, _FINE).min(axis=(1, 3))
            kept = np.asarray(cv2.erode(kept, np.ones((3, 3), np.uint8)), dtype=np.uint8)
            self._drawn.clear()
            self._drawn[height, width] = kept
        return kept


class MaskedFrames:
    """A camera's listener that sees its frames with parts blanked.

    Args:
        listener: Who is told.
        mask: What it must not see.

    Attributes:
        mask: As given.
    """

    def __init__(self, listener: CameraListener, mask: Mask) -> None:
        self.mask = mask
        self._listener = listener
        self.on_outage = listener.on_outage
        self.on_state = listener.on_state
        if isinstance(listener, QualityListener):
            # A reader asks whether it is there.
            self.on_quality = listener.on_quality

    def on_frame(self, frame: DecodedFrame) -> None:
        """See CameraListener."""
        self._listener.on_frame(self.mask.blank_when_retrieved(frame))


class MaskedVideo(VideoFile):
    """A video file of which parts are blanked.

    Args:
        path: The file.
        mask: What must not be seen.
    """

    def __init__(self, path: Path, mask: Mask) -> None:
        super().__init__(path)
        self._mask = mask

    def frames(self, stop: int | None = None, *, fallback_fps: float | None = None) -> Iterator[DecodedFrame]:
        """See VideoFile."""
        return map(self._mask.blank_when_retrieved, super().frames(stop, fallback_fps=fallback_fps))

    def read_again(self, indices: Sequence[int]) -> dict[int, UInt8Array]:
        """See VideoFile."""
        return {index: self._mask.blank(picture) for index, picture in super().read_again(indices).items()}


def _from_text(text: str) -> tuple[Point, ...]:
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or len(numbers) % 2 or not all(map(math.isfinite, numbers)):
        raise ValueError("a polygon as text is x,y,x,y,… in fractions of the picture, as 0,0,0.2,0,0.2,0.1")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _extent(polygon: Sequence[Point]) -> float:
    """Area of the largest triangle that the first point and two that follow each other make.

    The signed area of the whole would be 0 for a bow tie.
    """
    x0, y0 = polygon[0]
    pairs = pairwise(polygon[1:])
    return max(abs((ax - x0) * (by - y0) - (bx - x0) * (ay - y0)) / 2 for (ax, ay), (bx, by) in pairs)
