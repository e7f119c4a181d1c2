"""What the records of one camera or file came to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from edge_runtime.records import EventRecord, GapRecord, Record, SegmentRecord


@dataclass(slots=True)
class Tally:
    """Counts records: `segments`, `events`, `gaps`, and gaps by their reason."""

    counts: Counter[str] = field(default_factory=Counter)

    def add(self, record: Record) -> None:
        """Count one record."""
        if isinstance(record, SegmentRecord):
            self.counts["segments"] += 1
        elif isinstance(record, GapRecord):
            self.counts[record.reason] += 1
            self.counts["gaps"] += 1
        elif isinstance(record, EventRecord) and record.state == "new":
            self.counts["events"] += 1

    def __str__(self) -> str:
        return ", ".join(f"{self.counts[what]} {what}" for what in ("segments", "events", "gaps"))
