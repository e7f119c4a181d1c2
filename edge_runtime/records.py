"""What the edge says: one frozen record a statement, one JSON object a line.

Numbers are rounded to microseconds and to six decimals of a score, so that a record is short and the same
input gives the same bytes. `docs/records.schema.json` is generated from here.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar, Literal

import msgspec

from edge_runtime.schema import schema_of
from edge_runtime.strict_json import parse_object

GapReason = Literal["stalled", "lost", "undecodable", "dropped"]
CameraState = Literal["online", "stalled", "offline", "reconnected"]
EventState = Literal["new", "update", "end"]

DECIMALS = 6


class Record(msgspec.Struct, frozen=True, tag_field="type"):
    """Base of all records. `type` is the first key of its JSON object."""

    type: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """The record as plain values, in the order in which they are written."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        return {"type": self.type} | {
            name: round(value, DECIMALS) if isinstance(value, float) else value for name, value in values.items()
        }

    def to_json(self) -> str:
        """One line of JSON, without the line break.

        Raises:
            ValueError: A number is not finite.
        """
        # Not msgspec's encoder: it would write not-a-number as null, and some floats in other digits.
        line = json.dumps(self.to_dict(), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        # A camera named after a path that is not UTF-8 holds half surrogates, which no UTF-8 output takes.
        return line.encode("utf-8", "backslashreplace").decode()


class SegmentRecord(Record, frozen=True, tag="segment"):
    """A segment whose smoothed score is final; a stride, where segments overlap.

    Attributes:
        camera: Name of the camera or file.
        index: Counts the segments of a stream from 0, gaps included.
        start_frame: First frame.
        end_frame: Frame behind the last one.
        start_s: Start in seconds.
        end_s: End in seconds.
        score: The scorer's probability, 0 to 1; of a stride the mean over the segments that cover it.
        smoothed: The locator's score, 0 to 1.
        anomalous: Whether `smoothed` is above the locator's threshold.
    """

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


class EventRecord(Record, frozen=True, tag="event"):
    """Consecutive anomalous segments, told with the first (`new`), every further one (`update`) and at the `end`.

    Attributes:
        state: Which of the three this is.
        id: The same in all records of one event.
        camera: Name of the camera or file.
        start_s: Start in seconds.
        end_s: End of the last anomalous segment so far, in seconds.
        start_frame: First frame.
        end_frame: Frame behind the last one.
        peak: Highest score of its segments.
        mean: Mean score of its segments.
    """

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


class GapRecord(Record, frozen=True, tag="gap"):
    """A stretch that could not be scored. A gap is never a score.

    Attributes:
        camera: Name of the camera or file.
        start_s: Start in seconds.
        end_s: End in seconds.
        reason: `stalled` or `lost`: no frames came; `undecodable`: no pictures; `dropped`: not scored.
    """

    type: ClassVar[str] = "gap"
    camera: str
    start_s: float
    end_s: float
    reason: GapReason


class CameraRecord(Record, frozen=True, tag="camera"):
    """A live camera changed its state.

    Attributes:
        camera: Name of the camera.
        state: What it is now.
        detail: One line for a person; never holds a password.
    """

    type: ClassVar[str] = "camera"
    camera: str
    state: CameraState
    detail: str


AnyRecord = SegmentRecord | EventRecord | GapRecord | CameraRecord


def read_record(line: str | bytes) -> AnyRecord:
    """One line of an output back to its record. Keys that a later version added are passed over.

    Raises:
        ValueError: The line is no JSON, or not a record of this version.
    """
    try:
        # Not msgspec's decoder: it refuses the half surrogates of names that are not UTF-8.
        record: AnyRecord = msgspec.convert(parse_object(line), AnyRecord)
    except ValueError as error:  # msgspec's and json's errors are ValueErrors
        raise ValueError(f"the line is not a record ({error})") from error
    return record


def json_schema() -> dict[str, Any]:
    """The JSON schema of one line of output."""
    return schema_of(AnyRecord, "HeadHunt-VAD record, one JSON object a line")
