"""What NV12 costs a recorder until the model has its pixels, and which pixels those are, by three ways.

    python -m benchmarks.planes street.avi bundle/

Footage is enlarged to each camera's size and turned into NV12 (BT.601, limited). `ours` converts it at full size by
FFmpeg, as files and cameras are, and resizes. `OpenCV` converts by cvtColor and resizes. `planes first` resizes Y, U
and V and converts the small picture in floating point, which is the least that it can be off. Grey levels and scores
are compared with those of `hh-edge` for the same picture (FFmpeg's bgr24 of yuv420p), which are what bundles are
calibrated with. Times are medians of rounds in which all take turns, one thread.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from av import VideoFrame
from numpy.typing import NDArray

from edge_runtime import Bundle, Detector, Nv12
from edge_runtime.stream.pixels import PixelSpec, prepare

ROUNDS = 9
CAMERAS = ((1920, 1080), (1280, 720), (640, 480))
Frame = NDArray[np.uint8]


def planes_of(bgr: Frame) -> Nv12:
    """A picture as a decoder would give it."""
    height, width = bgr.shape[:2]
    i420 = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)
    flat = np.asarray(i420, dtype=np.uint8).reshape(-1)
    u, v = flat[width * height :].reshape(2, height // 2, width // 2)
    y = flat[: width * height].reshape(height, width)
    return Nv12(y, np.stack([u, v], axis=-1), matrix="bt601", color_range="limited")


def as_a_camera(picture: Nv12) -> Frame:
    """What hh-edge makes of the same decoded picture."""
    height, width = picture.y.shape
    frame = VideoFrame(width, height, "yuv420p")
    for target, plane in zip(frame.planes, (picture.y, picture.uv[..., 0], picture.uv[..., 1]), strict=True):
        rows = np.frombuffer(memoryview(target), np.uint8).reshape(-1, target.line_size)
        rows[: plane.shape[0], : plane.shape[1]] = plane
    return np.asarray(frame.reformat(format="bgr24", interpolation="BICUBIC", threads=1).to_ndarray(), dtype=np.uint8)


def by_opencv(picture: Nv12, spec: PixelSpec) -> Frame:
    """cvtColor at full size, then ours."""
    bgr = cv2.cvtColorTwoPlane(picture.y, picture.uv, cv2.COLOR_YUV2BGR_NV12)
    return prepare(np.asarray(bgr, dtype=np.uint8), spec)


def planes_first(picture: Nv12, spec: PixelSpec) -> Frame:
    """Y, U and V resized, and the small picture converted."""
    size = spec.width, spec.height
    small = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in (picture.y, picture.uv)]
    y, uv = (np.asarray(plane, dtype=np.float32) for plane in small)
    y, u, v = (y - 16) * (255 / 219), (uv[..., 0] - 128) * (255 / 224), (uv[..., 1] - 128) * (255 / 224)
    r, b = y + 1.402 * v, y + 1.772 * u
    g = (y - 0.299 * r - 0.114 * b) / 0.587
    return np.clip(np.rint(np.stack([r, g, b], axis=-1)), 0, 255).astype(np.uint8)


def taken(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Milliseconds of each, in turn."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            times[name].append((time.perf_counter() - begun) * 1000)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Print a row for every camera and way."""
    if len(sys.argv) != 3 or not Path(sys.argv[1]).is_file():
        sys.exit(__doc__)
    cv2.setNumThreads(1)
    capture = cv2.VideoCapture(sys.argv[1])
    detector = Detector(Bundle.open(sys.argv[2]), provider="cpu", threads=1)
    manifest = detector.bundle.manifest
    spec, segment = manifest.pixels, manifest.segment
    footage = [frame for _ in range(4 * segment.frames) if (frame := capture.read()[1]) is not None]
    chosen = [np.asarray(frame, dtype=np.uint8) for frame in footage[:: segment.frames // segment.sampled]]
    chosen = chosen[: len(chosen) // segment.sampled * segment.sampled]
    print(f"{len(chosen) // segment.sampled} segments, pixels {spec} {spec.interpolation}; milliseconds a frame")
    print(f"{'camera':<13}{'way':<14}{'ms':>6}  grey levels from hh-edge's: mean, most, more than 1   score, most")
    for width, height in CAMERAS:
        pictures = [planes_of(_enlarged(frame, width, height)) for frame in chosen]
        ways: dict[str, Callable[[Nv12], Frame]] = {
            "ours": lambda picture: prepare(picture, spec),
            "OpenCV": lambda picture: by_opencv(picture, spec),
            "planes first": lambda picture: planes_first(picture, spec),
        }
        reference = np.stack([prepare(as_a_camera(picture), spec) for picture in pictures])
        scores = _scores(detector, reference, segment.sampled)
        costs = taken({name: partial(way, pictures[0]) for name, way in ways.items()})
        for name, way in ways.items():
            pixels = np.stack([way(picture) for picture in pictures])
            apart = np.abs(pixels.astype(int) - reference)
            moved = np.abs(_scores(detector, pixels, segment.sampled) - scores).max()
            print(
                f"{f'{width} x {height}':<13}{name:<14}{costs[name]:6.2f}  {apart.mean():27.2f}{apart.max():6d}"
                f"{100 * (apart > 1).mean():12.1f} %{moved:14.4f}",
                flush=True,
            )


def _enlarged(frame: Frame, width: int, height: int) -> Frame:
    return np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def _scores(detector: Detector, pixels: Frame, sampled: int) -> NDArray[np.float32]:
    return np.concatenate([detector.score(one[None]) for one in pixels.reshape(-1, sampled, *pixels.shape[1:])])


if __name__ == "__main__":
    main()
