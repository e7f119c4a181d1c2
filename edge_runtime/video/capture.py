"""The one place that makes a `cv2.VideoCapture`. Knows OpenCV's options and its noise; no file, no camera.

Importing this module imports no OpenCV.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_runtime.stream.pixels import UInt8Array

if TYPE_CHECKING:
    import cv2

_FFMPEG_LEVEL = "OPENCV_FFMPEG_LOGLEVEL"
_FFMPEG_QUIET = "-8"  # AV_LOG_QUIET
_lock = threading.Lock()
_quiet = False


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """One decoded frame, not yet converted to a picture.

    `index` counts from 0; `seconds` is the frame's time on the clock of whoever grabbed it. `retrieve()` gives
    the BGR uint8 (h, w, 3) array, at the cost of the colour conversion, and is valid until the next frame is
    grabbed; after that it raises RuntimeError rather than hand out another frame's picture.
    """

    index: int
    seconds: float
    retrieve: Callable[[], UInt8Array]


def open_capture(target: str | int, backend: int, options: dict[int, int]) -> cv2.VideoCapture:
    """Open `target` with exactly this backend; whether it worked is `isOpened()` of what returns.

    options: CAP_PROP_* to value. Blocks as long as the backend does. The native libraries' own messages are
    silenced process-wide on the first call, unless the environment asks for them (OPENCV_FFMPEG_LOGLEVEL,
    OPENCV_FFMPEG_DEBUG, OPENCV_LOG_LEVEL): they are many lines without a camera's name, and may hold a URL.
    Whoever asks should send records to a file, because OpenCV prints FFmpeg's messages on stdout.
    """
    import cv2

    _silence_once()
    flat = [number for option in options.items() for number in option]
    return cv2.VideoCapture(target, backend, flat)


def picture_of(capture: cv2.VideoCapture) -> UInt8Array | None:
    """Convert the frame grabbed last. Returns BGR uint8 (h, w, 3), or None where the decoder has no picture."""
    good, picture = capture.retrieve()
    if not good or picture.dtype != np.uint8 or picture.ndim != 3 or picture.size == 0:
        return None
    return picture.astype(np.uint8, copy=False)


def _silence_once() -> None:
    global _quiet  # noqa: PLW0603  OpenCV reads the variable once per process, at its first capture
    with _lock:
        if _quiet:
            return
        import cv2

        if "OPENCV_LOG_LEVEL" not in os.environ:
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        if not {_FFMPEG_LEVEL, "OPENCV_FFMPEG_DEBUG"} & os.environ.keys():
            # The first capture makes OpenCV read the variable; afterwards the environment is as it was.
            os.environ[_FFMPEG_LEVEL] = _FFMPEG_QUIET
            try:
                cv2.VideoCapture(os.devnull, cv2.CAP_FFMPEG).release()
            finally:
                del os.environ[_FFMPEG_LEVEL]
        _quiet = True
