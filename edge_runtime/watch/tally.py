"""What the records of one camera or file came to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from edge_runtime.inference.encoder import SegmentEncoder
from edge_runtime.records import EventRecord, GapRecord, Record, SegmentRecord


@dataclass(slots=True)
class Tally:
    """Counts records: `segments`, `events`, `gaps`, and gaps by their reason.

    Attributes:
        reusing: What reused tokens, and is told with them; None where that was not asked for.
        counts: Of records.
        gap_s: How long gaps were together, in seconds, by their reason.
        last: The record of the last segment.
    """

    reusing: SegmentEncoder | None = None
    counts: Counter[str] = field(default_factory=Counter)
    gap_s: dict[str, float] = field(default_factory=dict)
    last: SegmentRecord | None = None

    def add(self, record: Record) -> None:
        """Count one record."""
        if isinstance(record, SegmentRecord):
            self.counts["segments"] += 1
            self.last = record
        elif isinstance(record, GapRecord):
            self.counts[record.reason] += 1
            self.counts["gaps"] += 1
            self.gap_s[record.reason] = self.gap_s.get(record.reason, 0.0) + record.end_s - record.start_s
        elif isinstance(record, EventRecord) and record.state == "new":
            self.counts["events"] += 1

    def __str__(self) -> str:
        told = ", ".join(f"{self.counts[what]} {what}" for what in ("segments", "events", "gaps"))
        if self.reusing is None:
            return told
        return f"{told}, {self.reusing.encoded} groups of frames encoded and {self.reusing.reused} reused"
