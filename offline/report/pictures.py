"""Pictures that are part of a page."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import OutputFailed
from edge_runtime.stream.pixels import check_frame


def thumbnail(frame_bgr: NDArray[np.uint8], width: int = 160) -> bytes:
    """Make a small JPEG of a frame; a smaller frame keeps its size.

    Args:
        frame_bgr: uint8 (h, w, 3).
        width: How many pixels wide it may be; it may be twice as high.

    Raises:
        InvalidFrame: It is not a picture.
    """
    frame = check_frame(frame_bgr)
    height, full = frame.shape[:2]
    scale = min(1.0, width / full, 2 * width / height)
    size = (max(1, round(full * scale)), max(1, round(height * scale)))
    small = frame if scale == 1.0 else cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    done, jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])
    if not done:
        raise OutputFailed(f"a frame of {full} x {height} pixels could not be written as JPEG")
    return bytes(jpeg.tobytes())
