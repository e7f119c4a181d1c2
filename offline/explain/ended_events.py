"""Events that have ended, out of a run's JSON lines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge_runtime.errors import DatasetError
from edge_runtime.records import EventRecord
from edge_runtime.strict_json import parse_object


@dataclass(frozen=True, slots=True, eq=False)
class EndedEvent:
    """One event.

    Attributes:
        event: The event.
        record: Its record as it stands in the file: what a later version adds to it is kept.
    """

    event: EventRecord
    record: dict[str, Any]

    @property
    def key(self) -> tuple[object, ...]:
        """The same for the same stretch of the same camera in the same run."""
        return self.event.id, self.event.camera, self.event.start_frame, self.event.end_frame


@dataclass(frozen=True, slots=True)
class EventLog:
    """What a file of records says of events.

    Attributes:
        ended: Ended events in the order of the file, each once.
        unended: How many were told of but never ended.
    """

    ended: tuple[EndedEvent, ...]
    unended: int


def read_events(path: Path) -> EventLog:
    """Read what `hh-edge run` wrote; records of other types are passed over.

    A last line without a line break that is no JSON is still being written, or was cut off: it is passed over too.

    Raises:
        DatasetError: A line is no record; names the file, the line and what is wrong with it.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise DatasetError(f"{path}: cannot be read ({reason}); give what hh-edge run wrote") from error
    lines = content.split(b"\n")
    ended: dict[tuple[object, ...], EndedEvent] = {}
    unended: set[str] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = parse_object(line)
        except ValueError as error:
            if number == len(lines):
                break
            raise DatasetError(f"{path}: line {number} is no record ({error}); correct or delete it") from error
        if record.get("type") != EventRecord.type:
            continue
        event = _event(record, f"{path}: line {number}")
        if event.state == "end":
            found = EndedEvent(event, record)
            ended.setdefault(found.key, found)
            unended.discard(event.id)
        else:
            unended.add(event.id)
    return EventLog(tuple(ended.values()), len(unended))


def _event(record: dict[str, Any], where: str) -> EventRecord:
    try:
        event = msgspec.convert(record, EventRecord)
    except msgspec.ValidationError as error:
        raise DatasetError(f"{where} is no event that hh-edge run wrote ({error}); correct or delete it") from error
    if not 0 <= event.start_frame < event.end_frame:
        raise DatasetError(
            f"{where}: event {event.id} covers frames {event.start_frame} to {event.end_frame}, which is no stretch; "
            "correct or delete it"
        )
    return event
