"""Camera frames to the pixels a vision graph takes. Knows pictures and sizes; nothing of models or time.

Offline extraction uses this very function, so that a head is hunted on the pixels that it will see at the
edge. Scaling and mean/std are inside the vision graph: what leaves here is plain resized uint8.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InvalidFrame

Color = Literal["bgr", "rgb"]
Interpolation = Literal["area", "linear", "cubic"]

UInt8Array = NDArray[np.uint8]


class PixelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a vision graph takes: square pictures of `size` pixels a side, resized with `interpolation`."""

    size: int
    color: Literal["rgb"] = "rgb"
    interpolation: Interpolation = "area"

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 8192:
            raise ValueError(f"pixels.size must lie in 1..8192, got {self.size}")


def check_frame(frame: object) -> UInt8Array:
    """Refuse what is not a colour picture.

    frame: uint8 array (h, w, 3). Raises InvalidFrame that names what came instead.
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
    """Raise InvalidFrame for an order of channels that `prepare` does not know."""
    if color not in ("bgr", "rgb"):
        raise InvalidFrame(f"a frame's color must be bgr or rgb, got {color!r}")


def prepare(frame: UInt8Array, spec: PixelSpec, color: Color = "bgr") -> UInt8Array:
    """Resize one frame to the vision graph's square and order its channels as red, green, blue.

    frame: uint8 (h, w, 3), channels in the order `color`. Returns a new uint8 (S, S, 3) that shares no
    memory with `frame`, so that a caller may reuse its buffer. Raises InvalidFrame.
    """
    import cv2

    check_color(color)
    interpolation = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}
    small = cv2.resize(check_frame(frame), (spec.size, spec.size), interpolation=interpolation[spec.interpolation])
    if color == "bgr":
        return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    # cv2.resize hands back its input's memory where no resizing was needed.
    return np.array(small, dtype=np.uint8, copy=True)
