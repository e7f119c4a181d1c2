"""Turns the scores and gaps of one stream into its records: smooths, decides, groups events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from msgspec import UNSET

from edge_runtime.records import GapRecord, Quality, Record, SegmentRecord
from edge_runtime.stream.alarm import Alarm
from edge_runtime.stream.events import EventGrouper
from edge_runtime.stream.locator import LocatorSpec, Smoother
from edge_runtime.stream.overlap import CoveringMean
from edge_runtime.stream.segments import Gap, Segment


@dataclass(frozen=True, slots=True)
class SegmentTimes:
    """Where a segment lies; a `Segment` without its pixels, which are not needed once it has a score.

    Attributes:
        index: Counts the segments of a stream from 0, gaps included.
        start_frame: First frame.
        end_frame: Frame behind the last one.
        start_s: Start in seconds.
        end_s: End in seconds.
        quality: What is wrong with its picture.
    """

    index: int
    start_frame: int
    end_frame: int
    start_s: float
    end_s: float
    quality: tuple[Quality, ...] = ()

    @classmethod
    def of(cls, segment: Segment) -> SegmentTimes:
        """The times of a segment."""
        return cls(
            segment.index, segment.start_frame, segment.end_frame, segment.start_s, segment.end_s, segment.quality
        )


class LocatedStream:
    """The part of a stream behind the scorer: scores and gaps in, records out.

    Offline evaluation uses it too, with scores that were computed before.

    Args:
        camera: Name in the records.
        locator: How to smooth and decide.
        event_prefix: What the ids of events begin with.
        overlap: How many segments cover a frame.

    Attributes:
        alarm: What makes events: the locator's threshold alone, unless a site has its own. Any thread may set another
            one; it holds from the next segment whose smoothed score becomes final. An event that was told goes on
            with it, or ends there.
    """

    def __init__(self, camera: str, locator: LocatorSpec, event_prefix: str, overlap: int = 1) -> None:
        self._camera = camera
        self.alarm = Alarm(locator.threshold)
        self._covering = CoveringMean(overlap)
        self._smoother = Smoother(locator.sigma, locator.lookahead)
        self._grouper = EventGrouper(camera, event_prefix)
        self._waiting: dict[int, tuple[SegmentTimes, float]] = {}
        self._newest = -1
        # Index and end of what came last, a gap included.
        self._last: tuple[int, float] | None = None

    @property
    def camera(self) -> str:
        """Name in the records."""
        return self._camera

    @property
    def threshold(self) -> float:
        """The alarm's: a smoothed score above it is anomalous."""
        return self.alarm.threshold

    @threshold.setter
    def threshold(self, value: float) -> None:
        self.alarm = replace(self.alarm, threshold=value)

    def push(self, segment: SegmentTimes, score: float) -> list[Record]:
        """Take a segment and its score.

        Args:
            segment: Its index is larger than that of any before.
            score: Its probability.

        Returns:
            The records that became final.

        Raises:
            ValueError: The index does not grow, or the score is not finite.
        """
        self._last = (segment.index, segment.end_s)
        self._waiting[segment.index] = (segment, score)
        self._newest = segment.index
        return self._locate(self._smoother.push(segment.index, score))

    def gap(self, gap: Gap) -> list[Record]:
        """Take a stretch that could not be scored.

        Returns:
            The records that became final, the gap's included.
        """
        self._last = (gap.index + gap.segments - 1, gap.end_s)
        record = GapRecord(camera=self._camera, start_s=gap.start_s, end_s=gap.end_s, reason=gap.reason)
        return [*self.advance_to(gap.index + gap.segments - 1), record]

    def take(self, item: Segment | Gap, score: float | None) -> list[Record]:
        """Take what a segmenter made: a gap, or a segment and its score.

        Args:
            item: What comes next.
            score: A segment's probability. None: it could not be scored, and is a gap (reason `unscored`) where no
                other one covers its first step.

        Returns:
            The records that became final.

        Raises:
            ValueError: As of `push`.
        """
        if isinstance(item, Gap):
            if item.interrupts:
                self._covering.interrupt()
            return self.gap(item)
        mean = self._covering.push(item.index, score)
        if mean is None:
            return self.gap(Gap(item.index, 1, item.start_s, item.end_s, "unscored"))
        return self.push(SegmentTimes.of(item), mean)

    def idle(self, seconds: float, step_s: float) -> list[Record]:
        """Say that nothing has come until now: what waited for later segments becomes final without them.

        An event must not stay open until a lost camera returns.

        Args:
            seconds: The time now, on the clock of the segments.
            step_s: From the start of one segment to that of the next, in seconds.

        Returns:
            The records that became final.
        """
        if self._last is None:
            return []
        index, end_s = self._last
        passed = int((seconds - end_s) // step_s)
        # The gap will take round(pause / step) places, and at least one.
        return self.advance_to(index + passed - 1) if passed > 1 else []

    def advance_to(self, index: int) -> list[Record]:
        """Say that every segment up to `index` has come or is a gap.

        Returns:
            The records that became final by that.
        """
        records = self._locate(self._smoother.advance_to(index))
        if index > self._newest and not self._waiting:
            records += self._grouper.close()
        return records

    def flush(self) -> list[Record]:
        """End the stream; returns the rest of its records."""
        return [*self._locate(self._smoother.flush()), *self._grouper.close()]

    def _locate(self, final: list[tuple[int, float]]) -> list[Record]:
        records: list[Record] = []
        for index, smoothed in final:
            segment, score = self._waiting.pop(index)
            # Read once: another thread may change it.
            alarm = self.alarm
            record = SegmentRecord(
                camera=self._camera,
                index=index,
                start_frame=segment.start_frame,
                end_frame=segment.end_frame,
                start_s=segment.start_s,
                end_s=segment.end_s,
                score=score,
                smoothed=smoothed,
                anomalous=smoothed > alarm.threshold,
                quality=list(segment.quality) or UNSET,
            )
            records += [record, *self._grouper.push(record, alarm)]
        return records


def locate(
    segments: Sequence[SegmentTimes],
    scores: Sequence[float | None],
    locator: LocatorSpec,
    camera: str = "video",
    alarm: Alarm | None = None,
) -> list[Record]:
    """Make the records of a whole video, as a stream of its segments would.

    Args:
        segments: All of them, in order.
        scores: One a segment; None is a gap.
        locator: How to smooth and decide.
        camera: Name in the records.
        alarm: What makes events, instead of the locator's threshold alone.

    Returns:
        All records, in the order of a stream.

    Raises:
        ValueError: `segments` and `scores` differ in length, indices do not grow, or a score is not finite.
    """
    stream = LocatedStream(camera, locator, "batch")
    stream.alarm = alarm or stream.alarm
    records: list[Record] = []
    for segment, score in zip(segments, scores, strict=True):
        if score is None:
            records += stream.gap(Gap(segment.index, 1, segment.start_s, segment.end_s, "unscored"))
        else:
            records += stream.push(segment, score)
    return records + stream.flush()
