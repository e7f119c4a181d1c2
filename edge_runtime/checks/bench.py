"""How fast this machine scores. Knows clocks and the golden segments; nothing of accuracy."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from edge_runtime.bundle.reader import Golden
from edge_runtime.detector import Detector
from edge_runtime.errors import InferenceFailed, first_line
from edge_runtime.stream.pixels import prepare

T = TypeVar("T")

_LEAST_SEGMENTS = 3
# What a camera hands over: its resizing is part of the work.
_CAMERA_FRAME = (1080, 1920, 3)
STAGES = ("pixels", "vision", "language", "scorer", "segment")


@dataclass(frozen=True, slots=True)
class StageTime:
    """Milliseconds of one stage, for one segment; `segment` is all of them."""

    stage: str
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class Speed:
    """What a bench measured.

    segment_s: duration of a segment. live_cameras: how many live cameras (clock `time`) that feeds, not rounded.
    cameras_30fps: how many streams of 30 frames a second that feeds when frames are counted (clock `frames`).
    """

    provider: str
    segments: int
    segments_per_s: float
    segment_s: float
    live_cameras: float
    cameras_30fps: float
    stages: list[StageTime]
    peak_memory_mib: float | None

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def bench(detector: Detector, golden: Golden, seconds: float = 10.0) -> Speed:
    """Score golden segments one after another, as `hh-edge run` does, for `seconds` and at least three times.

    One thread, decoding left out. The first segment, which warms up, is not counted. Raises InferenceFailed.
    """
    graphs = detector.engine
    if graphs is None:
        raise InferenceFailed("the detector was closed")
    manifest = detector.bundle.manifest
    picture = np.random.default_rng(0).integers(0, 256, _CAMERA_FRAME, dtype=np.uint8)
    times: dict[str, list[float]] = {stage: [] for stage in STAGES}

    def segment(number: int) -> None:
        frames = golden.frames[number % len(golden.frames)][None]
        begun = time.perf_counter()
        _timed(times["pixels"], lambda: [prepare(picture, manifest.pixels) for _ in range(manifest.segment.sampled)])
        try:
            tokens = _timed(times["vision"], lambda: graphs.tokens(frames))
            features = _timed(times["language"], lambda: graphs.language(tokens))
        except Exception as error:
            raise InferenceFailed(f"the graphs failed: {first_line(error)}") from error
        _timed(times["scorer"], lambda: detector.probabilities(features))
        times["segment"].append(time.perf_counter() - begun)

    segment(0)
    for stage in STAGES:
        times[stage].clear()
    begun = time.perf_counter()
    count = 0
    while count < _LEAST_SEGMENTS or time.perf_counter() - begun < seconds:
        segment(count)
        count += 1
    rate = count / (time.perf_counter() - begun)
    return Speed(
        provider=graphs.provider,
        segments=count,
        segments_per_s=rate,
        segment_s=manifest.segment.duration_s,
        live_cameras=rate * manifest.segment.duration_s,
        cameras_30fps=rate * manifest.segment.frames / 30,
        stages=[
            StageTime(stage, *(float(1000 * value) for value in np.percentile(times[stage], [50, 95])))
            for stage in STAGES
        ],
        peak_memory_mib=peak_memory_mib(),
    )


def peak_memory_mib() -> float | None:
    """Most memory that this process ever had resident, in MiB; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _timed(times: list[float], work: Callable[[], T]) -> T:
    begun = time.perf_counter()
    result = work()
    times.append(time.perf_counter() - begun)
    return result
