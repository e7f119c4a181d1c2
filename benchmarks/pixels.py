"""What resizing sixteen 1080p frames costs, against copying them, and how far the pixels are from OpenCV's own.

    python benchmarks/pixels.py street.avi

Every row is the median of paired runs in one process: the copy, OpenCV's resize and ours one after the other. `times
copying` is the figure to look at: a copy reads every byte once, as a resizing has to.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.stream.pixels import Interpolation, PixelSpec, prepare

COUNT, ROUNDS = 16, 15
CAMERAS = ((1920, 1080), (1280, 720), (640, 480))
CASES: tuple[tuple[Interpolation, int], ...] = (("area", 96), ("area", 448), ("bicubic", 448))


Frames = list[NDArray[np.uint8]]


def milliseconds(work: Callable[..., object], *arguments: object) -> float:
    """How long one call takes."""
    begun = time.perf_counter()
    work(*arguments)
    return (time.perf_counter() - begun) * 1000


def copy(frames: Frames, copies: Frames) -> None:
    """Read and write every byte once."""
    for frame, target in zip(frames, copies, strict=True):
        np.copyto(target, frame)


def by_opencv(frames: Frames, spec: PixelSpec) -> Frames:
    """OpenCV's own resizing of that name."""
    kind = {"area": cv2.INTER_AREA, "bicubic": cv2.INTER_CUBIC}[spec.interpolation]
    resized = (cv2.resize(frame, (spec.width, spec.height), interpolation=kind) for frame in frames)
    return [np.asarray(frame, dtype=np.uint8) for frame in resized]


def by_us(frames: Frames, spec: PixelSpec) -> Frames:
    """As the edge does it."""
    return [prepare(frame, spec, "rgb") for frame in frames]


def row(camera: tuple[int, int], footage: Frames, spec: PixelSpec) -> str:
    """Measure one camera and target."""
    frames = by_opencv(footage, PixelSpec(size=(camera[1], camera[0]), interpolation="bicubic"))
    copies = [np.empty_like(frame) for frame in frames]
    taken = [
        (milliseconds(copy, frames, copies), milliseconds(by_opencv, frames, spec), milliseconds(by_us, frames, spec))
        for _ in range(ROUNDS)
    ]
    copying, theirs, ours = (statistics.median(column) for column in zip(*taken, strict=True))
    apart = np.abs(np.stack(by_us(frames, spec)).astype(int) - np.stack(by_opencv(frames, spec)).astype(int))
    said = (
        f"{100 * (apart == 0).mean():.1f} % equal, at most {apart.max()} apart"
        if spec.interpolation == "area"
        else ""
    )
    shape = f"{camera[0]} x {camera[1]}"
    figures = f"{copying:7.1f}{theirs:8.1f}{ours:7.1f}{ours / copying:11.1f}"
    return f"{shape:<13}{spec.interpolation:<9}{spec.height:<5}{figures}  {said}"


def main() -> None:
    """Print a row for every camera and target."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        sys.exit(__doc__)
    cv2.setNumThreads(1)
    capture = cv2.VideoCapture(sys.argv[1])
    read = (capture.read() for _ in range(COUNT))
    footage = [np.asarray(frame, dtype=np.uint8) for whole, frame in read if whole]
    print(f"{COUNT} frames, one thread, milliseconds")
    print(f"{'camera':<13}{'way':<9}{'to':<5}{'copy':>7}{'OpenCV':>8}{'ours':>7}{'x copying':>11}  from OpenCV's")
    for camera in CAMERAS:
        for way, size in CASES:
            print(row(camera, footage, PixelSpec(size=size, interpolation=way)), flush=True)


if __name__ == "__main__":
    main()
