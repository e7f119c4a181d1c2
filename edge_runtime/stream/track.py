"""Scores and gaps of one stream to its final records. Knows the locator and events; no model and no pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_runtime.records import GapRecord, Record, SegmentRecord
from edge_runtime.stream.events import EventGrouper
from edge_runtime.stream.locator import LocatorSpec, Smoother
from edge_runtime.stream.segments import Gap, Segment


@dataclass(frozen=True, slots=True)
class SegmentTimes:
    """Where a segment lies, without its pixels: what is left of a Segment once it has a score."""

    index: int
    start_frame: int
    end_frame: int
    start_s: float
    end_s: float

    @classmethod
    def of(cls, clip: Segment) -> SegmentTimes:
        """The times of a clip."""
        return cls(clip.index, clip.start_frame, clip.end_frame, clip.start_s, clip.end_s)


class LocatedStream:
    """The part of a stream behind the scorer: scores and gaps in, records out.

    Offline evaluation drives this class too, with scores it has computed beforehand.
    """

    def __init__(self, camera: str, locator: LocatorSpec, event_prefix: str) -> None:
        self._camera = camera
        self._locator = locator
        self._smoother = Smoother(locator.sigma, locator.lookahead)
        self._grouper = EventGrouper(camera, event_prefix)
        self._waiting: dict[int, tuple[SegmentTimes, float]] = {}
        self._newest = -1

    def push(self, segment: SegmentTimes, score: float) -> list[Record]:
        """Take a scored segment; returns the records that became final. Indices only grow."""
        self._waiting[segment.index] = (segment, score)
        self._newest = segment.index
        return self._locate(self._smoother.push(segment.index, score))

    def gap(self, hole: Gap) -> list[Record]:
        """Take a stretch that could not be scored."""
        gap = GapRecord(camera=self._camera, start_s=hole.start_s, end_s=hole.end_s, reason=hole.reason)
        return [*self.advance_to(hole.index + hole.segments - 1), gap]

    def advance_to(self, index: int) -> list[Record]:
        """Nothing more will come up to segment `index`: what waited only for that becomes final."""
        records = self._locate(self._smoother.advance_to(index))
        if index > self._newest and not self._waiting:
            records += self._grouper.close()
        return records

    def flush(self) -> list[Record]:
        """The stream has ended; returns the rest."""
        return [*self._locate(self._smoother.flush()), *self._grouper.close()]

    def _locate(self, final: list[tuple[int, float]]) -> list[Record]:
        records: list[Record] = []
        for index, smoothed in final:
            segment, score = self._waiting.pop(index)
            record = SegmentRecord(
                camera=self._camera,
                index=index,
                start_frame=segment.start_frame,
                end_frame=segment.end_frame,
                start_s=segment.start_s,
                end_s=segment.end_s,
                score=score,
                smoothed=smoothed,
                anomalous=smoothed > self._locator.threshold,
            )
            records += [record, *self._grouper.push(record)]
        return records


def locate(
    segments: Sequence[SegmentTimes],
    scores: Sequence[float | None],
    locator: LocatorSpec,
    camera: str = "video",
) -> list[Record]:
    """Batch is stream run to the end: a whole video's records from its segments' scores (None is a gap)."""
    stream = LocatedStream(camera, locator, "batch")
    records: list[Record] = []
    for segment, score in zip(segments, scores, strict=True):
        if score is None:
            records += stream.gap(Gap(segment.index, 1, segment.start_s, segment.end_s, "dropped"))
        else:
            records += stream.push(segment, score)
    return records + stream.flush()
