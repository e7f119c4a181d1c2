"""Segments of several cameras as one batch."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.detector import Detector
from edge_runtime.errors import EngineUnreachable, InferenceFailed
from edge_runtime.stream.segments import Segment


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """A segment that is to be scored.

    Attributes:
        camera: Whose it is.
        segment: With its pixels.
        detector: Its camera's.
    """

    camera: str
    segment: Segment
    detector: Detector


def score_together(
    waiting: Sequence[Waiting], told: Callable[[int, float], None] = lambda segments, seconds: None
) -> list[float | None]:
    """Score segments, those of one engine in one call: bundles that differ in scorer and locator may share one.

    A batch that fails is scored segment by segment: one that cannot be scored must not take others with it. Where
    nothing answers at all, no segment is tried again: cameras would wait for as many deadlines as there are segments.

    Args:
        waiting: The segments.
        told: Of every call, how many segments it had and how many seconds it took.

    Returns:
        A probability each, in their order; None where the graphs gave none.

    Raises:
        UsageError: A detector was closed.
    """
    by_engine: dict[tuple[int, tuple[int, ...]], list[int]] = defaultdict(list)
    for place, one in enumerate(waiting):
        by_engine[id(one.detector.engine), one.segment.pixels.shape].append(place)
    scores: list[float | None] = [None] * len(waiting)
    for places in by_engine.values():
        batch = [waiting[place] for place in places]
        found: Sequence[float | None] | None = None
        if len(batch) > 1:
            begun_s = time.perf_counter()
            found = _in_one_call(batch)
            told(len(batch), time.perf_counter() - begun_s)
        if found is None:
            found = [_alone(one, told) for one in batch]
        for place, score in zip(places, found, strict=True):
            scores[place] = score
    return scores


def _alone(one: Waiting, told: Callable[[int, float], None]) -> float | None:
    begun_s = time.perf_counter()
    score = one.detector.score_segment(one.camera, one.segment)
    told(1, time.perf_counter() - begun_s)
    return score


def _in_one_call(batch: Sequence[Waiting]) -> list[float | None] | None:
    """Probabilities of segments with one engine; None where it fails. Who sees segments is told of each once."""
    engine = batch[0].detector.engine
    if engine is None:
        return None
    try:
        features = engine.features(np.stack([one.segment.pixels for one in batch]))
    except EngineUnreachable as error:
        for one in batch:
            one.detector.note_unscored(one.camera, one.segment, error)
        return [None] * len(batch)
    except InferenceFailed:
        return None
    return [_of_features(one, row) for one, row in zip(batch, np.split(features, len(batch)), strict=True)]


def _of_features(one: Waiting, features: NDArray[np.float32]) -> float | None:
    try:
        return one.detector.score_features(one.camera, one.segment, features)
    except InferenceFailed:
        # Its scorer fails, and no other segment's: by itself it is told why.
        return one.detector.score_segment(one.camera, one.segment)
