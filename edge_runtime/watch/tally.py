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
    """

    reusing: SegmentEncoder | None = None
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
        told = ", ".join(f"{self.counts[what]} {what}" for what in ("segments", "events", "gaps"))
        if self.reusing is None:
            return told
        return f"{told}, {self.reusing.encoded} groups of frames encoded and {self.reusing.reused} reused"
