"""Opens OpenCV's captures, the only place that does, and silences what the libraries below print.

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
    """One decoded frame that is not converted to a picture yet.

    Attributes:
        index: Counts the frames from 0.
        seconds: Its time: index / fps in a file, seconds of the run for a live camera.
        retrieve: Converts it to BGR uint8 (h, w, 3), which costs time. Works until the next frame is read; after that
            it raises RuntimeError rather than return another frame's picture.
        key: Whether it was coded without any other frame; None where the backend does not say.
        cut: Whether it shows something else than the one before: a file that is played over and over begins again.
    """

    index: int
    seconds: float
    retrieve: Callable[[], UInt8Array]
    key: bool | None = None
    cut: bool = False


def open_capture(target: str | int, backend: int, options: dict[int, int]) -> cv2.VideoCapture:
    """Open a file, URL or device. Blocks as long as the backend does.

    The first call silences the native libraries' own messages in the whole process: they are many lines without a
    camera's name, and may hold a URL with its password. The environment can ask for them
    (OPENCV_FFMPEG_LOGLEVEL, OPENCV_FFMPEG_DEBUG, OPENCV_LOG_LEVEL); records should then go to a file, because
    OpenCV prints FFmpeg's messages on stdout.

    Args:
        target: A path, a URL or a device's number.
        backend: One of OpenCV's CAP_*; no other is tried.
        options: CAP_PROP_* to value.

    Returns:
        A capture, whose `isOpened()` says whether it worked.
    """
    import cv2

    _silence_once()
    flat = [number for option in options.items() for number in option]
    return cv2.VideoCapture(target, backend, flat)


def picture_of(capture: cv2.VideoCapture) -> UInt8Array | None:
    """Convert the frame that was grabbed last.

    Returns:
        BGR uint8 (h, w, 3), or None where the decoder has no picture.
    """
    good, picture = capture.retrieve()
    if not good or picture.dtype != np.uint8 or picture.ndim != 3 or picture.size == 0:
        return None
    return picture.astype(np.uint8, copy=False)


def is_key(capture: cv2.VideoCapture) -> bool | None:
    """Whether the frame that was grabbed last was coded without any other; None where the backend does not say."""
    import cv2

    kind = int(capture.get(cv2.CAP_PROP_FRAME_TYPE))
    return kind == ord("I") if kind in map(ord, "IPB") else None


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
