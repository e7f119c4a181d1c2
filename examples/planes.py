"""NV12 and I420 in, without a detour through BGR: only the few frames that the model sees are ever converted.

    python examples/planes.py bundle/ clip.mp4 [nv12|i420]

Hardware decoders give NV12, software decoders I420 (FFmpeg: yuv420p). `stream.push` looks at the decoder's memory in
place; when it has returned, the memory is yours again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Literal

import av
import numpy as np
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from edge_runtime import I420, Bundle, Detector, Nv12


def matrix_of(frame: av.VideoFrame) -> Literal["bt601", "bt709"]:
    """What the stream says of its colours. Many cameras say nothing: FFmpeg, OpenCV and `hh-edge` then take BT.601,
    with which bundles are calibrated, whatever the size of the picture."""
    return "bt709" if frame.colorspace == Colorspace.ITU709 else "bt601"


def range_of(frame: av.VideoFrame) -> Literal["limited", "full"]:
    """`full` where the stream says so, or its format does (yuvj420p)."""
    return "full" if frame.color_range == ColorRange.JPEG or frame.format.name == "yuvj420p" else "limited"


def rows_of(plane: VideoPlane, width: int) -> NDArray[np.uint8]:
    """A plane as an array of its rows, without their padding. A view: nothing is copied."""
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, :width]


def pictures(path: str, layout: str) -> Iterator[tuple[Nv12 | I420, float]]:
    """Decoded frames as planes."""
    with av.open(path) as container:
        for frame in container.decode(video=0):
            matrix, color_range, seconds = matrix_of(frame), range_of(frame), float(frame.time or 0.0)
            if layout == "nv12":
                # Yours is NV12 already; here it has to be made, of the same range.
                made = frame.reformat(format="nv12", dst_color_range=frame.color_range)
                y, uv = (rows_of(plane, frame.width + frame.width % 2) for plane in made.planes)
                yield Nv12(y[:, : frame.width], uv, matrix=matrix, color_range=color_range), seconds
            else:
                y, u, v = (rows_of(plane, plane.width) for plane in frame.planes)
                yield I420(y, u, v, matrix=matrix, color_range=color_range), seconds


def main(bundle: str, path: str, layout: str = "i420") -> None:
    """Score a file that is decoded to planes."""
    with Detector(Bundle.open(bundle), provider="cpu") as detector:
        stream = detector.stream("gate", clock="frames")
        for picture, seconds in pictures(path, layout):
            for record in stream.push(picture, seconds):
                print(record.to_json())
        for record in stream.flush():
            print(record.to_json())


if __name__ == "__main__":
    main(*sys.argv[1:])
