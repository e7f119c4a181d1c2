"""Groups anomalous segments that follow each other into events."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_runtime.records import EventRecord, EventState, SegmentRecord
from edge_runtime.stream.alarm import Alarm


@dataclass(slots=True)
class _Run:
    """Anomalous segments that follow each other, told or not."""

    number: int
    first: SegmentRecord
    last: SegmentRecord
    peak: float
    total: float
    count: int
    #: When the event before it ended.
    quiet_since_s: float
    told: bool = False


class EventGrouper:
    """Groups consecutive anomalous segments of one camera into events.

    An event gives a record `new` with its first segment, `update` with every further one, and `end` when a normal
    segment, a gap or the end of the stream closes it. All of them have the same id, made of the prefix, the camera
    and the index of the first segment: running the same footage again gives the same ids.

    With a least duration the segments before it is reached give no records; `new` then covers all of them. With a
    cooldown, what begins within it gives none either, and what lasts long enough for an event begins the cooldown
    anew: a camera that never is quiet for so long is told once. Both may change from segment to segment: an event
    that was told goes on as it began, and what was not told yet is judged by what holds now.

    Args:
        camera: Name of the camera in records and ids.
        prefix: What ids begin with; tells runs apart.
    """

    def __init__(self, camera: str, prefix: str) -> None:
        self._camera = camera
        self._prefix = prefix
        self._run: _Run | None = None
        # The end of the last event, also of one that a cooldown took.
        self._ended_s = -math.inf

    def push(self, segment: SegmentRecord, alarm: Alarm | None = None) -> list[EventRecord]:
        """Take the next segment. One whose index does not follow the last one's ends the open event first.

        Args:
            segment: Its `anomalous` is decided already.
            alarm: Its duration and cooldown hold from here on; None tells every event at once.

        Returns:
            The records that it causes.
        """
        records = []
        if self._run is not None and segment.index != self._run.last.index + 1:
            records += self.close()
        if not segment.anomalous:
            return records + self.close()
        if (run := self._run) is None:
            run = self._run = _Run(
                segment.index, segment, segment, segment.score, segment.score, 1, quiet_since_s=self._ended_s
            )
        else:
            run.last = segment
            run.peak = max(run.peak, segment.score)
            run.total += segment.score
            run.count += 1
        if run.told:
            self._ended_s = segment.end_s
            return [*records, self._record("update", run)]
        if alarm is None or alarm.lasts(run.first.start_s, segment.end_s):
            self._ended_s = segment.end_s
            if alarm is None or alarm.quiet_again(run.quiet_since_s, run.first.start_s):
                run.told = True
                records.append(self._record("new", run))
        return records

    def close(self) -> list[EventRecord]:
        """End the open event, if there is one, with its last segment: a gap follows or the end of the stream.

        Returns:
            The record that ends it.
        """
        run, self._run = self._run, None
        return [] if run is None or not run.told else [self._record("end", run)]

    def _record(self, state: EventState, run: _Run) -> EventRecord:
        return EventRecord(
            state=state,
            id=f"{self._prefix}-{self._camera}-{run.number}",
            camera=self._camera,
            start_s=run.first.start_s,
            end_s=run.last.end_s,
            start_frame=run.first.start_frame,
            end_frame=run.last.end_frame,
            peak=run.peak,
            mean=run.total / run.count,
        )
