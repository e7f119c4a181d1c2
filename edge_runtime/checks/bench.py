"""How fast this machine scores segments, stage by stage, and how many cameras that feeds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from edge_runtime.bundle.reader import Golden
from edge_runtime.detector import Detector
from edge_runtime.errors import InferenceFailed
from edge_runtime.stream.pixels import prepare

T = TypeVar("T")

_LEAST_SEGMENTS = 3
# What a camera hands over: its resizing is part of the work.
_CAMERA_FRAME = (1080, 1920, 3)
STAGES = ("pixels", "vision", "language", "scorer", "segment")


@dataclass(frozen=True, slots=True)
class StageTime:
    """Milliseconds of one stage, for one segment.

    Attributes:
        stage: One of `STAGES`; `segment` is all of them together.
        p50_ms: Half of the segments took no longer.
        p95_ms: 95 of 100 segments took no longer.
    """

    stage: str
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class Speed:
    """What a bench measured.

    Attributes:
        provider: What ran the graphs.
        segments: How many were measured.
        segments_per_s: One after another, on one thread.
        segment_s: From the start of one segment of a camera to that of the next.
        live_cameras: How many live cameras (clock `time`) that feeds, not rounded. Where segments overlap, each is
            counted as encoded whole.
        cameras_30fps: How many streams of 30 frames a second that feeds when frames are counted (clock `frames`).
        stages: Their times, in the order of `STAGES`.
        peak_memory_mib: Of this process; None where the system does not say.
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
    """Score golden segments one after another, as `hh-edge run` does, on one thread and without decoding.

    The first segment, which warms up, is not counted.

    Args:
        detector: What is measured.
        golden: Its bundle's golden segments.
        seconds: How long to measure; at least three segments are measured.

    Raises:
        InferenceFailed: A graph failed, or the detector was closed.
    """
    engine = detector.engine
    if engine is None:
        raise InferenceFailed("the detector was closed")
    manifest = detector.bundle.manifest
    picture = np.random.default_rng(0).integers(0, 256, _CAMERA_FRAME, dtype=np.uint8)
    times: dict[str, list[float]] = {stage: [] for stage in STAGES}

    def segment(number: int) -> None:
        frames = golden.frames[number % len(golden.frames)][None]
        begun = time.perf_counter()
        _timed(times["pixels"], lambda: [prepare(picture, manifest.pixels) for _ in range(manifest.segment.sampled)])
        tokens = _timed(times["vision"], lambda: engine.tokens(frames))
        features = _timed(times["language"], lambda: engine.language(tokens))
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
        provider=engine.provider,
        segments=count,
        segments_per_s=rate,
        segment_s=manifest.segment.step_s,
        live_cameras=rate * manifest.segment.step_s,
        cameras_30fps=rate * manifest.segment.step / 30,
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
