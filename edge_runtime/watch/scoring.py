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
from edge_runtime.inference.encoder import SegmentEncoder
from edge_runtime.inference.engine import Engine
from edge_runtime.stream.segments import Segment

# How long at most an engine that did not answer is not asked, in seconds.
_LONGEST_REST_S = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """A segment that is to be scored.

    Attributes:
        camera: Whose it is.
        segment: With its pixels.
        detector: Its camera's.
        encoder: What of it may be encoded already; None where nothing is.
    """

    camera: str
    segment: Segment
    detector: Detector
    encoder: SegmentEncoder | None = None


class Unreachable:
    """Which engines do not answer, so that cameras wait for that once in a round and not each by itself.

    A round has some of the segments that wait, and others come meanwhile. So an engine that was waited for is left
    alone as long again: else many cameras fill their queues faster than rounds without an answer take from them.

    Args:
        monotonic: The clock.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._now: dict[int, tuple[EngineUnreachable, float]] = {}
        self._since: set[int] = set()

    def begin(self) -> None:
        """Another round of scoring: an engine whose rest is over is asked again."""
        now_s = self._monotonic()
        self._now = {engine: known for engine, known in self._now.items() if known[1] > now_s}

    def now(self, engine: Engine | None) -> EngineUnreachable | None:
        """What an engine failed with in this round, or a moment before it; None where it did not."""
        known = self._now.get(id(engine))
        return None if known is None else known[0]

    def lasts(self, engine: Engine | None) -> bool:
        """Whether it has scored nothing since it did not answer; what can be left out is not asked of it."""
        return id(engine) in self._since

    def note(self, engine: Engine | None, error: InferenceFailed | None = None, took_s: float = 0.0) -> None:
        """An engine was asked, and failed with an error after so many seconds, or did not."""
        if isinstance(error, EngineUnreachable):
            self._now[id(engine)] = error, self._monotonic() + min(took_s, _LONGEST_REST_S)
            self._since.add(id(engine))
        elif error is None:
            self._since.discard(id(engine))


def score_together(
    waiting: Sequence[Waiting],
    told: Callable[[int, float], None] = lambda segments, seconds: None,
    unreachable: Unreachable | None = None,
) -> list[float | None]:
    """Score segments, those of one engine in one call: bundles that differ in scorer and locator may share one.

    A batch that fails is scored segment by segment: one that cannot be scored must not take others with it. Where
    nothing answers at all, no segment is tried again: cameras would wait for as many deadlines as there are segments.

    Args:
        waiting: The segments.
        told: Of every call, how many segments it had and how many seconds it took.
        unreachable: What this round of scoring knows of engines that do not answer.

    Returns:
        A probability each, in their order; None where the graphs gave none.

    Raises:
        UsageError: A detector was closed.
    """
    unreachable = unreachable or Unreachable()
    by_engine: dict[tuple[int, tuple[int, ...]], list[int]] = defaultdict(list)
    for place, one in enumerate(waiting):
        by_engine[id(one.detector.engine), one.segment.pixels.shape].append(place)
    scores: list[float | None] = [None] * len(waiting)
    for places in by_engine.values():
        batch = [waiting[place] for place in places]
        found: Sequence[float | None] | None = None
        if len(batch) > 1 and unreachable.now(batch[0].detector.engine) is None:
            begun_s = time.perf_counter()
            found = _in_one_call(batch, unreachable)
            told(len(batch), time.perf_counter() - begun_s)
        if found is None:
            found = [score_alone(one, told, unreachable) for one in batch]
        for place, score in zip(places, found, strict=True):
            scores[place] = score
    return scores


def score_alone(one: Waiting, told: Callable[[int, float], None], unreachable: Unreachable) -> float | None:
    """Score one segment by itself, unless its engine did not answer in this round: then it is unscored at once.

    Args:
        one: The segment.
        told: As of `score_together`.
        unreachable: As of `score_together`.

    Returns:
        As of `score_together`.

    Raises:
        UsageError: The detector was closed.
    """
    engine = one.detector.engine
    if (known := unreachable.now(engine)) is not None:
        one.detector.note_unscored(one.camera, one.segment, known)
        return None
    errors: list[InferenceFailed] = []
    begun_s = time.perf_counter()
    score = one.detector.score_segment(one.camera, one.segment, one.encoder, errors.append)
    took_s = time.perf_counter() - begun_s
    told(1, took_s)
    unreachable.note(engine, errors[0] if errors else None, took_s)
    return score


def _in_one_call(batch: Sequence[Waiting], unreachable: Unreachable) -> list[float | None] | None:
    """Probabilities of segments with one engine; None where it fails. Who sees segments is told of each once."""
    engine = batch[0].detector.engine
    if engine is None:
        return None
    begun_s = time.perf_counter()
    try:
        features = engine.features(np.stack([one.segment.pixels for one in batch]))
    except EngineUnreachable as error:
        unreachable.note(engine, error, time.perf_counter() - begun_s)
        for one in batch:
            one.detector.note_unscored(one.camera, one.segment, error)
        return [None] * len(batch)
    except InferenceFailed:
        return None
    unreachable.note(engine)
    return [_of_features(one, row) for one, row in zip(batch, np.split(features, len(batch)), strict=True)]


def _of_features(one: Waiting, features: NDArray[np.float32]) -> float | None:
    try:
        return one.detector.score_features(one.camera, one.segment, features)
    except InferenceFailed:
        # Its scorer fails, and no other segment's: by itself it is told why.
        return one.detector.score_segment(one.camera, one.segment)
