"""What happened on a site's cameras: events, and the scores of the last days. One SQLite database, no pictures.

Scores are packed, a minute of one camera to a row, 12 bytes a segment: 0.5 MB a camera and day. What is deleted is
overwritten. Several processes may have the file open; the write-ahead log survives the process being killed.
"""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import OutputFailed, UsageError
from edge_runtime.files import shown_path
from edge_runtime.records import EventRecord, read_record
from edge_runtime.site.history_file import WAIT_S, HistoryFile
from edge_runtime.site.store import log_is_read

#: Its name in the site's folder.
HISTORY = "history.sqlite"

DAY_S = 86_400.0
#: Characters of a description.
MOST_WORDS = 4000

_MINUTE_S = 60.0
# A segment that begins in a minute may end so much later.
_LONGEST_S = 600.0
_EVENT = "id, camera, start, end, peak, mean, open, description, p"
# Of a score: seconds since its minute, length in seconds, and the smoothed score, negative where it is anomalous.
_PACKED = np.dtype([("start", "<f4"), ("length", "<f4"), ("smoothed", "<f4")])

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PastScore:
    """A scored segment. Times are seconds since 1970, UTC."""

    camera: str
    start: float
    end: float
    smoothed: float
    anomalous: bool


@dataclass(frozen=True, slots=True)
class PastEvent:
    """An event as it was told last. Times are seconds since 1970, UTC; `open`: its end was not told; `p`: the lowest
    p-value of its segments, where that is known."""

    id: str
    camera: str
    start: float
    end: float
    peak: float
    mean: float
    open: bool
    description: str | None = None
    p: float | None = None


@dataclass(frozen=True, slots=True)
class ToldEvent:
    """An event as a record tells it, to be remembered. `line`: the record, while it is open."""

    event: PastEvent
    line: str | None = None
    restart: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """Scores of one camera in order: when each segment started and ended, its smoothed score, and whether it was
    anomalous; (n,) each. Times are seconds since 1970."""

    starts: FloatArray
    ends: FloatArray
    smoothed: FloatArray
    anomalous: NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events.

    Attributes:
        camera: Of this one.
        start: Those that ended after this.
        end: Those that started before this.
        open: Whether their end was told.
        min_peak: With such a peak or a higher one.
        among: Of these ids.
        without: Of none of these ids.
        limit: How many.
        after: Behind the one of this cursor.
    """

    camera: str | None = None
    start: float | None = None
    end: float | None = None
    open: bool | None = None
    min_peak: float | None = None
    among: Collection[str] | None = None
    without: Collection[str] | None = None
    limit: int = 50
    after: str | None = None


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events, the newest first, and the cursor of the next page where there is one."""

    events: tuple[PastEvent, ...]
    next: str | None


class History(HistoryFile):
    """Events and scores. Any thread may call anything; the file is opened with the first call that needs it.

    A file that is damaged is renamed, told, and a new one begun.

    Args:
        path: The file, made where there is none.

    Raises:
        OutputFailed: From any method: it cannot be opened, read or written now; nothing has changed.
        UsageError: From any method: it is something else's.
    """

    # ---- what the run writes

    def remember(self, scores: Sequence[PastScore], events: Sequence[ToldEvent] = ()) -> None:
        """Write scores and events, all or nothing."""
        minutes: dict[tuple[str, int], list[tuple[float, float, float]]] = defaultdict(list)
        for one in scores:
            minute = int(one.start // _MINUTE_S)
            value = -one.smoothed if one.anomalous else one.smoothed
            minutes[one.camera, minute].append((one.start - minute * _MINUTE_S, one.end - one.start, value))
        with self._writing() as db:
            for (camera, minute), rows in minutes.items():
                found = db.execute("SELECT packed FROM scores WHERE camera = ? AND minute = ?", (camera, minute))
                before = found.fetchone()
                packed = (before[0] if before else b"") + np.array(rows, _PACKED).tobytes()
                db.execute("INSERT OR REPLACE INTO scores VALUES (?, ?, ?)", (camera, minute, packed))
            for told in events:
                self._remember_event(db, told)

    @staticmethod
    def _remember_event(db: sqlite3.Connection, told: ToldEvent) -> None:
        event = told.event
        if told.restart:
            # Times of a run before are on its own axis: what was known of it stays.
            cursor = db.execute("UPDATE events SET open = 0, line = NULL WHERE id = ?", (event.id,))
            if cursor.rowcount:
                return
        db.execute(
            "INSERT INTO events (id, camera, start, end, peak, mean, open, line, p) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET end = excluded.end, peak = excluded.peak, mean = excluded.mean, "
            "open = excluded.open, line = excluded.line, p = excluded.p",
            (event.id, event.camera, event.start, event.end, event.peak, event.mean, event.open, told.line, event.p),
        )

    def remove_older(self, scores_before: float, events_before: float) -> None:
        """Remove scores, and events that have ended, of before a time."""
        minute = int(scores_before // _MINUTE_S)
        with self._writing() as db:
            for camera in self._cameras(db):
                db.execute("DELETE FROM scores WHERE camera = ? AND minute < ?", (camera, minute))
            db.execute("DELETE FROM events WHERE start < ? AND end < ? AND open = 0", (events_before, events_before))

    def unfinished(self) -> list[EventRecord]:
        """The records of events whose end was not told, as they were told last."""
        with self._reading() as db:
            lines = db.execute(
                "SELECT line FROM events WHERE open = 1 AND line IS NOT NULL ORDER BY start"
            ).fetchall()
        found: list[EventRecord] = []
        for (line,) in lines:
            with contextlib.suppress(ValueError):
                record = read_record(line)
                if isinstance(record, EventRecord):
                    found.append(record)
        return found

    # ---- what is there

    def cameras(self) -> list[str]:
        """The cameras of which scores are kept."""
        with self._reading() as db:
            return list(self._cameras(db))

    def scores(self, camera: str, start: float, end: float) -> Past:
        """Scores of a camera that overlap a stretch, in order."""
        first, last = int((start - _LONGEST_S) // _MINUTE_S), int(end // _MINUTE_S)
        with self._reading() as db:
            found = db.execute(
                "SELECT minute, packed FROM scores WHERE camera = ? AND minute BETWEEN ? AND ? ORDER BY minute",
                (camera, first, last),
            ).fetchall()
        minutes = [(minute, _unpacked(packed)) for minute, packed in found]
        rows = np.concatenate([rows for _, rows in minutes]) if minutes else np.empty(0, _PACKED)
        bases = np.repeat([minute * _MINUTE_S for minute, _ in minutes], [len(rows) for _, rows in minutes])
        starts = bases + rows["start"].astype(np.float64)
        ends = starts + rows["length"].astype(np.float64)
        smoothed = rows["smoothed"].astype(np.float64)
        chosen = np.flatnonzero((ends > start) & (starts < end))
        chosen = chosen[np.argsort(starts[chosen], kind="stable")]
        value = smoothed[chosen]
        return Past(starts[chosen], ends[chosen], np.abs(value), np.signbit(value))

    def event(self, event: str) -> PastEvent | None:
        """One event; None where it is not known."""
        with self._reading() as db:
            row = db.execute(f"SELECT {_EVENT} FROM events WHERE id = ?", (event,)).fetchone()  # noqa: S608
        return None if row is None else _event(row)

    def events(self, wanted: EventFilter) -> EventPage:
        """A page of events, the newest first.

        Raises:
            UsageError: There is no such cursor.
        """
        conditions, values = _conditions(wanted)
        where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
        with self._reading() as db:
            found = db.execute(
                f"SELECT {_EVENT} FROM events {where}ORDER BY start DESC, id DESC LIMIT ?",  # noqa: S608
                (*values, wanted.limit + 1),
            ).fetchall()
        events = tuple(_event(row) for row in found[: wanted.limit])
        return EventPage(events, _cursor(events[-1]) if len(found) > wanted.limit else None)

    @classmethod
    def there(cls, folder: Path) -> History | None:
        """That of a site's folder; None where there is none."""
        path = folder / HISTORY
        return cls(path) if path.is_file() else None

    def spans(self, camera: str | None) -> dict[str, PastEvent]:
        """All events, of one camera or of all, by their ids."""
        with self._reading() as db:
            found = db.execute(
                f"SELECT {_EVENT} FROM events WHERE ? IS NULL OR camera = ?",  # noqa: S608
                (camera, camera),
            ).fetchall()
        return {row[0]: _event(row) for row in found}

    def describe(self, event: str, text: str) -> bool:
        """Keep what an event shows, in words; an empty text deletes it. Whether there is such an event."""
        with self._writing() as db:
            cursor = db.execute("UPDATE events SET description = ? WHERE id = ?", (text[:MOST_WORDS] or None, event))
        return cursor.rowcount > 0

    # ---- forgetting

    def forget(self, camera: str | None, start: float, end: float) -> tuple[int, int]:
        """Delete what overlaps a stretch, of one camera or of all, and overwrite it. Again: nothing.

        Returns:
            How many scores and events were deleted.

        Raises:
            OutputFailed: The file cannot be written, or another process is reading for longer than five seconds.
        """
        scores = 0
        with self._writing() as db:
            for name in list(self._cameras(db)) if camera is None else [camera]:
                scores += self._forget_scores(db, name, start, end)
            events = db.execute(
                "DELETE FROM events WHERE end > ? AND start < ? AND (? IS NULL OR camera = ?)",
                (start, end, camera, camera),
            ).rowcount
        with self._reading() as db:
            # The log still holds what was overwritten in the file.
            busy = log_is_read(db, WAIT_S)
        if busy:
            raise OutputFailed(
                f"{shown_path(self.path)}: all is deleted, but another process still reads the log; try again"
            )
        return scores, events

    @staticmethod
    def _forget_scores(db: sqlite3.Connection, camera: str, start: float, end: float) -> int:
        first, last = (start - _LONGEST_S) // _MINUTE_S, end // _MINUTE_S
        found = db.execute(
            "SELECT minute, packed FROM scores WHERE camera = ? AND minute BETWEEN ? AND ?", (camera, first, last)
        ).fetchall()
        count = 0
        for minute, packed in found:
            rows = _unpacked(packed)
            starts = minute * _MINUTE_S + rows["start"].astype(np.float64)
            kept = rows[~((starts + rows["length"] > start) & (starts < end))]
            count += len(rows) - len(kept)
            if not len(kept):
                db.execute("DELETE FROM scores WHERE camera = ? AND minute = ?", (camera, minute))
            elif len(kept) < len(rows):
                change = (kept.tobytes(), camera, minute)
                db.execute("UPDATE scores SET packed = ? WHERE camera = ? AND minute = ?", change)
        return count

    @staticmethod
    def _cameras(db: sqlite3.Connection) -> Iterator[str]:
        """One look a camera; all rows would be read for DISTINCT."""
        camera = ""
        while (row := db.execute("SELECT MIN(camera) FROM scores WHERE camera > ?", (camera,)).fetchone())[0]:
            camera = row[0]
            yield camera


def _conditions(wanted: EventFilter) -> tuple[list[str], list[object]]:
    conditions: list[str] = []
    values: list[object] = []
    simple = (
        ("camera = ?", wanted.camera),
        ("end > ?", wanted.start),
        ("start < ?", wanted.end),
        ("open = ?", wanted.open),
        ("peak >= ?", wanted.min_peak),
        ("id IN (SELECT value FROM json_each(?))", _as_list(wanted.among)),
        ("id NOT IN (SELECT value FROM json_each(?))", _as_list(wanted.without)),
    )
    for condition, value in simple:
        if value is not None:
            conditions.append(condition)
            values.append(value)
    if wanted.after is not None:
        conditions.append("(start, id) < (?, ?)")
        values += _place(wanted.after)
    return conditions, values


def _as_list(ids: Collection[str] | None) -> str | None:
    return None if ids is None else json.dumps(sorted(ids))


def _cursor(event: PastEvent) -> str:
    return base64.urlsafe_b64encode(f"{event.start!r} {event.id}".encode()).decode().rstrip("=")


def _place(cursor: str) -> tuple[float, str]:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True).decode()
        start, _, event = text.partition(" ")
        return float(start), event
    except ValueError:
        raise UsageError("`after` is no cursor; take `next` of the page before") from None


def _event(row: tuple[str, str, float, float, float, float, int, str | None, float | None]) -> PastEvent:
    return PastEvent(*row[:6], bool(row[6]), *row[7:])


def _unpacked(packed: bytes) -> NDArray[np.void]:
    # Bytes of half a score, which only damage leaves, are passed over.
    return np.frombuffer(packed[: len(packed) // _PACKED.itemsize * _PACKED.itemsize], _PACKED)
