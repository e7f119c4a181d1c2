"""Groups anomalous segments that follow each other into events."""

from __future__ import annotations

from dataclasses import dataclass

from edge_runtime.records import EventRecord, EventState, SegmentRecord


@dataclass(slots=True)
class _Open:
    number: int
    first: SegmentRecord
    last: SegmentRecord
    peak: float
    total: float
    count: int


class EventGrouper:
    """Groups consecutive anomalous segments of one camera into events.

    An event gives a record `new` with its first segment, `update` with every further one, and `end` when a normal
    segment, a gap or the end of the stream closes it. All of them have the same id, made of the prefix, the camera
    and the index of the first segment: running the same footage again gives the same ids.

    Args:
        camera: Name of the camera in records and ids.
        prefix: What ids begin with; tells runs apart.
    """

    def __init__(self, camera: str, prefix: str) -> None:
        self._camera = camera
        self._prefix = prefix
        self._open: _Open | None = None

    def push(self, segment: SegmentRecord) -> list[EventRecord]:
        """Take the next segment. One whose index does not follow the last one's ends the open event first.

        Returns:
            The records that it causes.
        """
        records = []
        if self._open is not None and segment.index != self._open.last.index + 1:
            records += self.close()
        if not segment.anomalous:
            return records + self.close()
        if self._open is None:
            self._open = _Open(segment.index, segment, segment, segment.score, segment.score, 1)
            return [*records, self._record("new", self._open)]
        self._open.last = segment
        self._open.peak = max(self._open.peak, segment.score)
        self._open.total += segment.score
        self._open.count += 1
        return [*records, self._record("update", self._open)]

    def close(self) -> list[EventRecord]:
        """End the open event, if there is one, with its last segment: a gap follows or the end of the stream.

        Returns:
            The record that ends it.
        """
        if self._open is None:
            return []
        record = self._record("end", self._open)
        self._open = None
        return [record]

    def _record(self, state: EventState, event: _Open) -> EventRecord:
        return EventRecord(
            state=state,
            id=f"{self._prefix}-{self._camera}-{event.number}",
            camera=self._camera,
            start_s=event.first.start_s,
            end_s=event.last.end_s,
            start_frame=event.first.start_frame,
            end_frame=event.last.end_frame,
            peak=event.peak,
            mean=event.total / event.count,
        )
