"""Turns camera frames into the pixels that a vision graph takes: resized, red-green-blue, uint8.

Offline extraction uses the same function, so that a head is hunted on the pixels that it will see at the edge.
Scaling and mean/std are inside the vision graph.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InvalidFrame
from edge_runtime.stream.planes import I420, Nv12

Color = Literal["bgr", "rgb"]
Interpolation = Literal["area", "linear", "cubic", "bilinear", "bicubic", "lanczos"]

UInt8Array = NDArray[np.uint8]
#: What `push` takes: a colour picture uint8 (h, w, 3), or a decoder's planes.
Picture = UInt8Array | Nv12 | I420

#: The longest side of a picture.
MOST_PIXELS = 8192


class PixelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What pictures a vision graph takes.

    Attributes:
        size: Pixels a side of a square, or height and width; 1 to 8192.
        color: Order of the channels.
        interpolation: How frames are resized. `area`, `linear` and `cubic` are OpenCV's; `bilinear` and `bicubic` are
            Pillow's, as is `lanczos`; they smooth where they shrink, as models see their pictures in training.
        longest_edge: Where it is set, larger frames are first shrunk, in their proportions, until their longer side
            has so many pixels (1 to 8192) and their shorter side an even number, as SmolVLM2's processor does. It
            enlarges smaller ones, too; that is left out, for a third of a grey level and a fifth of the time.
    """

    size: int | tuple[int, int]
    color: Literal["rgb"] = "rgb"
    interpolation: Interpolation = "area"
    longest_edge: int | msgspec.UnsetType = msgspec.UNSET

    def __post_init__(self) -> None:
        if not 1 <= min(self.height, self.width) <= max(self.height, self.width) <= MOST_PIXELS:
            raise ValueError(f"pixels.size must lie in 1..{MOST_PIXELS}, got {self.size}")
        if self.longest_edge is not msgspec.UNSET and not 1 <= self.longest_edge <= MOST_PIXELS:
            raise ValueError(f"pixels.longest_edge must lie in 1..{MOST_PIXELS}, got {self.longest_edge}")

    @property
    def height(self) -> int:
        """Rows of a picture."""
        return self.size if isinstance(self.size, int) else self.size[0]

    @property
    def width(self) -> int:
        """Columns of a picture."""
        return self.size if isinstance(self.size, int) else self.size[1]

    @property
    def resizing(self) -> str:
        """How frames come to this size, for people."""
        through = "" if self.longest_edge is msgspec.UNSET else f" by way of a longest edge of {self.longest_edge}"
        return f"{self.interpolation}{through}"

    def __str__(self) -> str:
        return f"{self.width} x {self.height}"


def check_frame(frame: object) -> UInt8Array:
    """Check that a value is a colour picture.

    Args:
        frame: A uint8 array (h, w, 3).

    Returns:
        The same.

    Raises:
        InvalidFrame: It is none; the message says what it is.
    """
    if not isinstance(frame, np.ndarray):
        raise InvalidFrame(f"a frame must be a numpy array, got {type(frame).__name__}")
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        grey = frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] == 1)
        way_out = (
            "convert it with cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)" if grey else "convert it before pushing it"
        )
        raise InvalidFrame(
            f"a frame must be uint8 of shape (height, width, 3), got {frame.dtype} {frame.shape}; {way_out}"
        )
    return frame


def check_color(color: str) -> None:
    """Check the order of a frame's channels.

    Raises:
        InvalidFrame: It is neither `bgr` nor `rgb`.
    """
    if color not in ("bgr", "rgb"):
        raise InvalidFrame(f"a frame's color must be bgr or rgb, got {color!r}")


def check_picture(picture: Picture, color: str) -> None:
    """Check what a caller pushes.

    Raises:
        InvalidFrame: The frame is no colour picture, or `color` is not one that it can have.
    """
    check_color(color)
    if not isinstance(picture, Nv12 | I420):
        check_frame(picture)
    elif color != "bgr":
        # Left out, it says nothing of planes, which have no order of channels; said, it is a mistake.
        raise InvalidFrame(f"{type(picture).__name__} has planes and no color={color!r}; leave color out")


def prepare(frame: Picture, spec: PixelSpec, color: Color = "bgr") -> UInt8Array:
    """Resize one frame to the vision graph's size and order its channels as red, green, blue.

    Planes are converted at their full size first, as files and cameras are: resizing planes gives other pixels
    (benchmarks/planes.txt).

    Args:
        frame: uint8 (h, w, 3), or a picture in planes.
        spec: What the graph takes.
        color: Order of the frame's channels; of planes it says nothing.

    Returns:
        A new uint8 (H, W, 3). It shares no memory with `frame`, so that a caller may reuse its buffer.

    Raises:
        InvalidFrame: The frame is no colour picture, or `color` is not one that it can have.
    """
    import cv2

    check_picture(frame, color)
    small = frame.to_bgr() if isinstance(frame, Nv12 | I420) else frame
    if spec.longest_edge is not msgspec.UNSET and max(small.shape[:2]) > spec.longest_edge:
        small = _resize(small, _in_proportion(small.shape[1], small.shape[0], spec.longest_edge), spec.interpolation)
    small = _resize(small, (spec.width, spec.height), spec.interpolation)
    if color == "bgr":
        return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    # Resizing hands back its input's memory where there was nothing to resize.
    return np.array(small, dtype=np.uint8, copy=True)


def _resize(frame: UInt8Array, size: tuple[int, int], interpolation: Interpolation) -> UInt8Array:
    """To (width, height)."""
    if interpolation in ("bilinear", "bicubic", "lanczos"):
        from PIL import Image

        # A masked array or another subclass would be taken apart by its own rules.
        picture = Image.fromarray(np.ascontiguousarray(frame.view(np.ndarray)))
        return np.asarray(picture.resize(size, Image.Resampling[interpolation.upper()]))
    import cv2

    height, width = frame.shape[:2]
    shrinks = width >= size[0] and height >= size[1]
    if interpolation == "area" and shrinks and (width % size[0] == 0) != (height % size[1] == 0):
        # OpenCV's area is three times as fast where a pixel is a whole number of pixels: that axis first. At most one
        # grey level apart, by the rounding between the two (benchmarks/pixels.txt).
        first = (size[0], height) if width % size[0] == 0 else (width, size[1])
        frame = np.asarray(cv2.resize(frame, first, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    kinds = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}
    return np.asarray(cv2.resize(frame, size, interpolation=kinds[interpolation]), dtype=np.uint8)


def _in_proportion(width: int, height: int, longest: int) -> tuple[int, int]:
    """Width and height with a longer side of `longest` pixels, by the arithmetic of SmolVLM2's processor."""
    ratio = width / height
    if width >= height:
        shorter = int(longest / ratio)
        return longest, max(1, shorter + shorter % 2)
    shorter = int(longest * ratio)
    return max(1, shorter + shorter % 2), longest
