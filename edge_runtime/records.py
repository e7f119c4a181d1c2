"""What the edge says: one frozen record a statement, one JSON object a line. Knows no model and no camera.

Numbers are rounded to microseconds and to six decimals of a score, so that a record is short and the same
input gives the same bytes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

GapReason = Literal["stalled", "lost", "undecodable", "dropped"]
CameraState = Literal["online", "stalled", "offline", "reconnected"]
EventState = Literal["new", "update", "end"]

DECIMALS = 6


@dataclass(frozen=True, slots=True)
class Record:
    """Base of all records. `type` is the first key of its JSON object."""

    type: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """The record as plain values, in the order in which they are written."""
        return {"type": self.type} | {
            key: round(value, DECIMALS) if isinstance(value, float) else value for key, value in asdict(self).items()
        }

    def to_json(self) -> str:
        """One line of JSON, without the line break. A number that is not finite is a ValueError."""
        line = json.dumps(self.to_dict(), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        # A camera named after a path that is not UTF-8 holds half surrogates, which no UTF-8 output takes.
        return line.encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True, slots=True)
class SegmentRecord(Record):
    """A segment whose smoothed score is final. `score` is the scorer's probability, `smoothed` the locator's."""

    type: ClassVar[str] = "segment"
    camera: str
    index: int
    start_frame: int
    end_frame: int
    start_s: float
    end_s: float
    score: float
    smoothed: float
    anomalous: bool


@dataclass(frozen=True, slots=True)
class EventRecord(Record):
    """Consecutive anomalous segments. `peak` and `mean` are of the segments' scores; half-open in frames."""

    type: ClassVar[str] = "event"
    state: EventState
    id: str
    camera: str
    start_s: float
    end_s: float
    start_frame: int
    end_frame: int
    peak: float
    mean: float


@dataclass(frozen=True, slots=True)
class GapRecord(Record):
    """A stretch that could not be scored. A gap is never a score."""

    type: ClassVar[str] = "gap"
    camera: str
    start_s: float
    end_s: float
    reason: GapReason


@dataclass(frozen=True, slots=True)
class CameraRecord(Record):
    """A camera changed its state. `detail` never holds a password."""

    type: ClassVar[str] = "camera"
    camera: str
    state: CameraState
    detail: str
