"""What `--reuse-unchanged` compares with, what that costs, and how many frames of a video it would reuse.

    python benchmarks/reuse.py street.avi bundle

A camera with nothing in sight is what reuse is for. Where a video has no such stretch, the part of its picture in
which least happens stands for it: the same camera's noise, without passers-by.
"""

from __future__ import annotations

import hashlib
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.inference.encoder import FrameEncoder
from edge_runtime.inference.engine import FloatArray
from edge_runtime.stream.difference import BLOCK, block_difference
from edge_runtime.stream.pixels import PixelSpec, UInt8Array
from edge_runtime.stream.segments import SegmentSpec
from offline.data.segments import read_segments

PICTURE, PART = 448, 7 * BLOCK
SEGMENT = SegmentSpec(frames=48, sampled=16)
THRESHOLDS = (0, 0.5, 1, 1.5, 2, 3, 4, 8, 16)
ROUNDS = 200


class NoModel:
    """An engine that encodes nothing, to count what it is asked for."""

    provider = "none"

    def tokens(self, frames: UInt8Array) -> FloatArray:
        """See Engine."""
        return np.zeros((1, frames.shape[1], 1), np.float32)

    def language(self, tokens: FloatArray) -> FloatArray:
        """See Engine."""
        return tokens[:, 0]

    features = tokens

    def abandon(self) -> None:
        """See Engine."""

    def close(self) -> None:
        """See Engine."""


def milliseconds(work: Callable[[], object], rounds: int) -> float:
    """Median time of one call."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return 1000 * statistics.median(times)


def costs(size: int) -> str:
    """What one frame of size x size costs beside its encoding."""
    random = np.random.default_rng(0)
    one, other = (random.integers(0, 256, (1, size, size, 3), dtype=np.uint8) for _ in range(2))
    compared = milliseconds(lambda: block_difference(one, other), ROUNDS)
    known = milliseconds(lambda: hashlib.blake2b(one, digest_size=16).digest(), ROUNDS)
    return f"{size:4} x {size:<4}  {compared:6.2f} ms to compare, {known:6.2f} ms to recognise"


def quietest(frames: UInt8Array) -> tuple[int, int]:
    """Row and column of the part in which the largest change from one sampled frame to the next is smallest."""
    blocks = PICTURE // BLOCK
    most = np.zeros((blocks, blocks))
    for one, other in zip(frames[1:], frames[:-1], strict=True):
        apart = np.abs(one.astype(np.int16) - other).reshape(blocks, BLOCK, blocks, BLOCK, 3)
        most = np.maximum(most, apart.mean(axis=(1, 3, 4)))
    windows = np.lib.stride_tricks.sliding_window_view(most, (PART // BLOCK, PART // BLOCK)).max(axis=(2, 3))
    row, column = np.unravel_index(np.argmin(windows), windows.shape)
    return int(row) * BLOCK, int(column) * BLOCK


def share(segments: list[UInt8Array], threshold: float) -> float:
    """Which part of the frames take the tokens of others."""
    encoder = FrameEncoder.of_stream(1, SEGMENT.sampled, threshold)
    for frames in segments:
        encoder.tokens(NoModel(), frames[None])
    return encoder.reused / encoder.asked


def still_camera(bundle: Path) -> str:
    """How long a segment takes where every frame is new, and where none is."""
    with Detector(Bundle.open(bundle), provider="cpu") as detector:
        manifest, engine = detector.bundle.manifest, detector.engine
        if engine is None:
            raise RuntimeError("the detector was closed")
        frames = detector.bundle.golden().frames[:1]
        known = FrameEncoder.of_stream(manifest.graphs.frames_per_group, manifest.segment.sampled, 2)
        known.tokens(engine, frames)
        new = milliseconds(lambda: engine.language(engine.tokens(frames)), 30)
        still = milliseconds(lambda: engine.language(known.tokens(engine, frames)), 30)
    return f"{manifest.source_model.name}: {new:.0f} ms a segment where all is new, {still:.0f} ms where nothing is"


def main(video: Path, bundle: Path) -> None:
    """Print all of it."""
    print("one frame, beside its encoding")
    for size in (96, 384, 448):
        print(costs(size))
    print(still_camera(bundle))
    pixels = PixelSpec(size=PICTURE, interpolation="bicubic")
    whole = [segment.pixels for segment in read_segments(video, pixels, SEGMENT)]
    row, column = quietest(np.concatenate(whole))
    part = [np.ascontiguousarray(frames[:, row : row + PART, column : column + PART]) for frames in whole]
    print(
        f"\nframes that reuse tokens, {len(whole)} segments of {video.name}; part: {PART} x {PART} at {column}, {row}"
    )
    print("LEVELS  whole picture  quietest part")
    for threshold in THRESHOLDS:
        print(f"{threshold:6g} {100 * share(whole, threshold):12.1f} % {100 * share(part, threshold):12.1f} %")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
