"""What the edge says: one frozen record a statement, one JSON object a line.

Numbers are rounded to microseconds and to six decimals of a score, so that a record is short and the same
input gives the same bytes. `docs/records.schema.json` is generated from here.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, UnsetType

from edge_runtime.schema import schema_of
from edge_runtime.strict_json import parse_object

GapReason = Literal["stalled", "lost", "undecodable", "dropped", "unscored"]
CameraState = Literal["online", "stalled", "offline", "reconnected"]
CameraReason = Literal[
    "unreachable",
    "refused",
    "dns",
    "unauthorized",
    "not_found",
    "no_video",
    "unsupported_codec",
    "timeout",
    "tls",
    "ended",
    "hung",
]
Quality = Literal["ok", "frozen", "covered", "corrupt", "drifted"]
EventState = Literal["new", "update", "end"]

DECIMALS = 6


class Record(msgspec.Struct, frozen=True, tag_field="type"):
    """Base of all records. `type` is the first key of its JSON object."""

    type: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """The record as plain values, in the order in which they are written; what was not said is left out."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        return {"type": self.type} | {
            name: round(value, DECIMALS) if isinstance(value, float) else value
            for name, value in values.items()
            if value is not UNSET
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


class RunRecord(Record, frozen=True, tag="run"):
    """A run began: the first record of every run.

    Attributes:
        run: Its id.
        started: Time 0 of its records' seconds, UTC, RFC 3339.
        bundle_id: What scores.
        version: Of the program.
        cameras: Names of the cameras or files that it began with.
    """

    type: ClassVar[str] = "run"
    run: str
    started: str
    bundle_id: str
    version: str
    cameras: list[str]


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
        anomalous: Whether `smoothed` is above the threshold.
        quality: What is wrong with the picture, where something is.
        time: Of a live camera: when it ended, UTC, RFC 3339.
        p: Of a live camera whose site is known: the share of normal segments that score at least as high, its
            p-value; 0.0025 is one in 400.
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
    quality: list[Quality] | UnsetType = UNSET
    time: str | UnsetType = UNSET
    p: float | UnsetType = UNSET


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
        reason: `restart` where the run that began it ended without a word, and the next one ends it as it stood last.
        p: Of a live camera whose site is known: the lowest p-value of its segments so far.
        time: Of a live camera: when the last anomalous segment so far ended, UTC, RFC 3339.
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
    reason: Literal["restart"] | UnsetType = UNSET
    p: float | UnsetType = UNSET
    time: str | UnsetType = UNSET


class GapRecord(Record, frozen=True, tag="gap"):
    """A stretch that could not be scored. A gap is never a score.

    Attributes:
        camera: Name of the camera or file.
        start_s: Start in seconds.
        end_s: End in seconds.
        reason: `stalled` or `lost`: no frames came; `undecodable`: no pictures; `dropped`: left out, because
            decoding or scoring fell behind; `unscored`: the model gave no score.
        time: Of a live camera: when it ended, UTC, RFC 3339.
    """

    type: ClassVar[str] = "gap"
    camera: str
    start_s: float
    end_s: float
    reason: GapReason
    time: str | UnsetType = UNSET


class CameraRecord(Record, frozen=True, tag="camera"):
    """A live camera changed its state.

    Attributes:
        camera: Name of the camera.
        state: What it is now.
        detail: One line for a person; never holds a password.
        reason: Why it gives no frames, where it does not.
        quality: What is wrong with its picture; `ok` alone where nothing is any more.
        time: When that was, UTC, RFC 3339.
        since: When what `quality` tells first began, where it is told later than that, UTC, RFC 3339.
        bundle_id: Another bundle scores it from here on: the run's was exchanged.
    """

    type: ClassVar[str] = "camera"
    camera: str
    state: CameraState
    detail: str
    reason: CameraReason | UnsetType = UNSET
    quality: list[Quality] | UnsetType = UNSET
    time: str | UnsetType = UNSET
    since: str | UnsetType = UNSET
    bundle_id: str | UnsetType = UNSET


AnyRecord = RunRecord | SegmentRecord | EventRecord | GapRecord | CameraRecord


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
