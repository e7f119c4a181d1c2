"""What a site remembers for its operators to mark: features of the last days, events, and the marks. No pictures.

One SQLite database a bundle: features of another bundle's graphs mean something else, and are refused. Several
processes may have it open; each statement is a short transaction of the write-ahead log, which survives the process
being killed. What is deleted is overwritten (`secure_delete`), and `forget` gives its room back and empties the log.

Features are kept standardised, as float16: 1,280 bytes of a segment where there are 640. That changes a score by less
than 0.001. A camera has a bound a day; ordinary segments are thinned out evenly to fit it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.calibration import Calibration, FloatArray
from edge_runtime.errors import Conflict, OutputFailed, UsageError
from edge_runtime.files import printable, shown_path
from edge_runtime.site.scorer import logistic

Verdict = Literal["false_alarm", "missed"]
VERDICTS: tuple[str, ...] = get_args(Verdict)

DAY_S = 86_400.0
#: Bytes of one camera's features a day, at most.
BYTES_A_DAY = 46_000_000
#: Segments of one mark that teach, at most: those of a long event say much the same.
SEGMENTS_A_MARK = 16

# "hhfb": what tells it from other databases.
_APPLICATION = 0x68686662
_VERSION = 1
_PAGE = 4096
# Bytes of a row beyond its features, and of its entries in both indices, with a camera's name of some length.
_FIELDS = 50
_ENTRIES = 75
_WAIT_S = 10.0
_CHUNK = 4096
_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS segments (
    camera TEXT NOT NULL, start REAL NOT NULL, end REAL NOT NULL, score REAL NOT NULL, features BLOB NOT NULL,
    PRIMARY KEY (camera, start)
);
CREATE INDEX IF NOT EXISTS by_end ON segments (end);
CREATE TABLE IF NOT EXISTS events (
    id TEXT PRIMARY KEY, camera TEXT NOT NULL, start REAL NOT NULL, end REAL NOT NULL, peak REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS marks (
    id INTEGER PRIMARY KEY, verdict TEXT NOT NULL, camera TEXT NOT NULL, start REAL NOT NULL, end REAL NOT NULL,
    event TEXT, at REAL NOT NULL, UNIQUE (camera, start, end)
);
CREATE TABLE IF NOT EXISTS marked (
    mark INTEGER NOT NULL, start REAL NOT NULL, end REAL NOT NULL, features BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS by_mark ON marked (mark);
"""

Rows = NDArray[np.float32]


def row_bytes(feature_size: int) -> int:
    """What one segment takes on the disk, in bytes; 1,440 where it has 640 features.

    As many whole rows as fit share a page of 4 KiB; one that does not fit takes pages of its own. A store of an
    earlier version keeps its layout, where every segment takes more than a page.
    """
    row = 2 * feature_size + _FIELDS
    return (_PAGE // (_PAGE // row) if row <= _PAGE else -(-row // _PAGE) * _PAGE) + _ENTRIES


@dataclass(frozen=True, slots=True, eq=False)
class Remembered:
    """A scored segment. Times are seconds since 1970, UTC."""

    camera: str
    start: float
    end: float
    score: float
    features: Rows


@dataclass(frozen=True, slots=True)
class KnownEvent:
    """An event that was told. Times are seconds since 1970, UTC."""

    id: str
    camera: str
    start: float
    end: float
    peak: float


@dataclass(frozen=True, slots=True)
class Mark:
    """What an operator said of a stretch of one camera. Times are seconds since 1970, UTC.

    Attributes:
        id: Counts the marks.
        verdict: `false_alarm`: it is normal; `missed`: it is anomalous.
        camera: The camera.
        start: Start.
        end: End.
        event: The event that it is about, if it is about one.
        at: When it was said.
    """

    id: int
    verdict: Verdict
    camera: str
    start: float
    end: float
    event: str | None
    at: float


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How much was deleted from a store."""

    segments: int
    events: int
    marks: int


class Store:
    """One bundle's store. For one thread; `sqlite3.Error` where the disk is full, or the file is damaged.

    Args:
        path: The file, made where there is none.
        bundle_id: Whose features it holds.
        calibration: Of that bundle.
        create: Whether it is made where it is not there.
        durable: Whether what was written outlives a power cut, and not only the process: for what people said.

    Raises:
        UsageError: It is not there, is something else, or another bundle's.
        OutputFailed: It cannot be opened.
    """

    def __init__(
        self, path: Path, bundle_id: str, calibration: Calibration, *, create: bool = True, durable: bool = False
    ) -> None:
        self.path, self.bundle_id = path, bundle_id
        self._calibration = calibration
        if not create and not path.is_file():
            raise UsageError(f"{shown_path(path)}: no such store; hh-edge run with feedback writes one")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_WAIT_S)
        except (OSError, sqlite3.Error) as error:
            raise OutputFailed(f"{shown_path(path)}: cannot be opened ({error}); choose another folder") from error
        try:
            self._prepare(durable)
        except sqlite3.Error as error:
            self.close()
            raise OutputFailed(
                f"{shown_path(path)}: cannot be read or written ({error}); free some space, or move it away"
            ) from error
        except BaseException:
            self.close()
            raise

    def _prepare(self, durable: bool) -> None:
        # Tables first: whoever makes the store just now writes them and its mark at once, and a mark that was read
        # before that would belong to no tables.
        (tables,) = self._db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        shown = shown_path(self.path)
        if tables and application != _APPLICATION:
            raise UsageError(f"{shown}: is no store of feedback; choose another folder")
        if version > _VERSION:
            raise UsageError(f"{shown}: was written by a later version; upgrade headhunt-edge")
        self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        self._db.execute("PRAGMA secure_delete=ON")
        # One that is whole is opened without writing: others wait for no lock, and a full disk can be read.
        if version != _VERSION:
            self._make()
        (known,) = self._db.execute("SELECT value FROM about WHERE key = 'bundle_id'").fetchone()
        if known != self.bundle_id:
            raise UsageError(
                f"{shown}: holds features of the bundle {known[:8]}, not of {self.bundle_id[:8]}; "
                "choose another folder"
            )

    def _make(self) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        with self._transaction():
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id={_APPLICATION}")
            self._db.execute(f"PRAGMA user_version={_VERSION}")
            self._db.execute("INSERT OR IGNORE INTO about VALUES ('bundle_id', ?)", (self.bundle_id,))

    def close(self) -> None:
        """Close it; it is not used after that."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- what the run writes

    @property
    def row_bytes(self) -> int:
        """What one segment takes."""
        return row_bytes(self._calibration.feature_size)

    def remember(self, segments: Sequence[Remembered], events: Sequence[KnownEvent] = ()) -> None:
        """Write segments and events, both or neither. One that is there already is replaced."""
        packed = [(one.camera, one.start, one.end, one.score, self._pack(one.features)) for one in segments]
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO segments VALUES (?, ?, ?, ?, ?)", packed)
            self._db.executemany(
                "INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?)",
                [(one.id, one.camera, one.start, one.end, one.peak) for one in events],
            )

    def remove_older(self, before: float) -> None:
        """Remove segments and events that ended before a time. Marks stay, with their features."""
        with self._transaction():
            self._db.execute("DELETE FROM segments WHERE end < ?", (before,))
            self._db.execute("DELETE FROM events WHERE end < ?", (before,))

    def count_since(self, camera: str, start: float) -> int:
        """How many of a camera's segments begin at a time or later."""
        (count,) = self._db.execute(
            "SELECT COUNT(*) FROM segments WHERE camera = ? AND start >= ?", (camera, start)
        ).fetchone()
        return int(count)

    # ---- what is there

    def cameras(self) -> list[str]:
        """The cameras of which something is kept."""
        found = self._db.execute("SELECT camera FROM segments UNION SELECT camera FROM marks ORDER BY camera")
        return [camera for (camera,) in found]

    def segments(self, camera: str, start: float = 0.0, end: float = float("inf")) -> list[Remembered]:
        """A camera's segments that overlap a stretch, in order."""
        found = self._db.execute(
            "SELECT camera, start, end, score, features FROM segments WHERE camera = ? AND end > ? AND start < ? "
            "ORDER BY start",
            (camera, start, end),
        )
        return [
            Remembered(name, begun, ended, score, self._unpack(blob)) for name, begun, ended, score, blob in found
        ]

    def changes(self) -> int:
        """Another number as soon as another connection has written."""
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        return int(version)

    def scores(self, camera: str, start: float, end: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Starts, ends and scores (as they were told) of a camera's segments in a stretch; (n,) each, in order."""
        found = self._db.execute(
            "SELECT start, end, score FROM segments WHERE camera = ? AND end > ? AND start < ? ORDER BY start",
            (camera, start, end),
        ).fetchall()
        starts, ends, scores = np.array(found, dtype=np.float64).reshape(-1, 3).T
        return starts, ends, scores

    def score(
        self, camera: str, weights: Sequence[FloatArray], since: float = 0.0
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Score a camera's segments anew, a few thousand at a time: days of features do not fit into memory.

        Args:
            camera: The camera.
            weights: Of k scorers, on standardised features, each (D + 1) with the intercept last.
            since: What ended before is left out.

        Returns:
            Their starts (n,), ends (n,), and probabilities (k, n), in order.
        """
        cursor = self._db.execute(
            "SELECT start, end, features FROM segments WHERE camera = ? AND end > ? ORDER BY start", (camera, since)
        )
        both = np.stack(weights)
        times, logits = [np.empty((0, 2))], [np.empty((len(weights), 0))]
        while rows := cursor.fetchmany(_CHUNK):
            packed = np.frombuffer(b"".join(blob for _, _, blob in rows), "<f2").reshape(len(rows), -1)
            times.append(np.array([row[:2] for row in rows]))
            logits.append(both[:, :-1] @ packed.astype(np.float64).T + both[:, -1:])
        ends = np.concatenate(times)
        return ends[:, 0], ends[:, 1], logistic(np.concatenate(logits, axis=1))

    def events(self, camera: str | None = None) -> list[KnownEvent]:
        """The events of one camera or all, in order."""
        found = self._db.execute(
            "SELECT id, camera, start, end, peak FROM events WHERE ? IS NULL OR camera = ? ORDER BY start",
            (camera, camera),
        )
        return [KnownEvent(*row) for row in found]

    def newest_event(self, camera: str) -> KnownEvent | None:
        """The newest event of a camera; None where none is known."""
        found = self._db.execute(
            "SELECT id, camera, start, end, peak FROM events WHERE camera = ? ORDER BY start DESC LIMIT 1", (camera,)
        ).fetchone()
        return None if found is None else KnownEvent(*found)

    def event(self, event_id: str) -> KnownEvent | None:
        """One event; None where it is not known."""
        found = self._db.execute(
            "SELECT id, camera, start, end, peak FROM events WHERE id = ?", (event_id,)
        ).fetchone()
        return None if found is None else KnownEvent(*found)

    # ---- marks

    def mark(
        self, verdict: Verdict, camera: str, start: float, end: float, at: float, event: str | None = None
    ) -> Mark:
        """Note what an operator said of a stretch, with its features.

        Said again of the same stretch, or of the same event, it takes the place of what was said before.

        Raises:
            UsageError: No such verdict or stretch.
            Conflict: No features of it are there.
        """
        if verdict not in VERDICTS:
            raise UsageError(f"unknown mark {verdict!r}; choose from {', '.join(VERDICTS)}")
        if not start < end:
            raise UsageError("a stretch ends after it starts")
        with self._transaction():
            # Read within it: what is forgotten meanwhile must not come back as a mark.
            segments = [one for one in self.segments(camera, start, end) if _mostly_in(one, start, end)]
            if not segments:
                known = self.cameras()
                advice = (
                    "the run had not begun, or its retention is over"
                    if camera in known
                    else f"cameras are {', '.join(known) or 'none'}"
                )
                raise Conflict(f"camera {printable(camera)}: no features of that time are kept; {advice}")
            if len(segments) > SEGMENTS_A_MARK:
                places = np.linspace(0, len(segments) - 1, SEGMENTS_A_MARK).round().astype(int)
                segments = [segments[place] for place in places]
            # An event that was marked while it was open has grown since.
            self._delete_marks("(camera = ? AND start = ? AND end = ?) OR event = ?", (camera, start, end, event))
            cursor = self._db.execute(
                "INSERT INTO marks (verdict, camera, start, end, event, at) VALUES (?, ?, ?, ?, ?, ?)",
                (verdict, camera, start, end, event, at),
            )
            number = int(cursor.lastrowid or 0)
            self._db.executemany(
                "INSERT INTO marked VALUES (?, ?, ?, ?)",
                [(number, one.start, one.end, one.features.astype("<f4").tobytes()) for one in segments],
            )
        return Mark(number, verdict, camera, start, end, event, at)

    def mark_event(self, event_id: str, verdict: Verdict, at: float) -> Mark:
        """Note what an operator said of an event.

        Raises:
            Conflict: There is no such event.
            UsageError: As of `mark`.
        """
        if (event := self.event(event_id)) is None:
            raise Conflict(
                f"event {printable(event_id)}: is not known here, or not any more; features are kept for some days"
            )
        return self.mark(verdict, event.camera, event.start, event.end, at, event_id)

    def unmark_event(self, event_id: str, camera: str | None = None) -> bool:
        """Delete what was said of an event, of this camera where one is given; whether something was."""
        with self._transaction():
            return self._delete_marks("event = ? AND (? IS NULL OR camera = ?)", (event_id, camera, camera)) > 0

    def unmark(self, mark_id: int) -> bool:
        """Delete a mark and its features; whether it was there."""
        with self._transaction():
            return self._delete_marks("id = ?", (mark_id,)) > 0

    def marks(self) -> list[Mark]:
        """All marks, oldest first."""
        found = self._db.execute("SELECT id, verdict, camera, start, end, event, at FROM marks ORDER BY at, id")
        return [Mark(*row) for row in found]

    def marked(self) -> tuple[Rows, NDArray[np.bool_], list[int]]:
        """Everything that teaches.

        Returns:
            Features (m, D), whether each is anomalous (m,), and the mark that each belongs to.
        """
        found = self._db.execute(
            "SELECT marked.features, marks.verdict, marks.id FROM marked JOIN marks ON marks.id = marked.mark "
            "ORDER BY marks.id, marked.start"
        ).fetchall()
        size = self._calibration.feature_size
        features = [np.frombuffer(blob, "<f4") for blob, _, _ in found]
        labels = np.array([verdict == "missed" for _, verdict, _ in found], dtype=np.bool_)
        rows = np.stack(features).astype(np.float32) if features else np.empty((0, size), np.float32)
        return rows, labels, [mark for _, _, mark in found]

    # ---- forgetting

    def forget(self, camera: str | None, start: float, end: float) -> Forgotten:
        """Delete what overlaps a stretch, marks and their features too; of one camera, or of all. Again: nothing.

        Their bytes are overwritten, the room is given back, and the log is emptied.

        Raises:
            OutputFailed: The file cannot be written, or another process is reading for longer than ten seconds.
        """
        where, values = "end > ? AND start < ? AND (? IS NULL OR camera = ?)", (start, end, camera, camera)
        try:
            with self._transaction():
                segments = self._db.execute(f"DELETE FROM segments WHERE {where}", values).rowcount  # noqa: S608
                events = self._db.execute(f"DELETE FROM events WHERE {where}", values).rowcount  # noqa: S608
                marks = self._delete_marks(where, values)
            self._db.execute("VACUUM")
            busy = log_is_read(self._db, _WAIT_S)
        except sqlite3.Error as error:
            raise OutputFailed(f"{shown_path(self.path)}: cannot be cleared ({error}); try again") from error
        if busy:
            raise OutputFailed(
                f"{shown_path(self.path)}: all is deleted, but another process still reads the log; try again"
            )
        return Forgotten(segments, events, marks)

    def _delete_marks(self, where: str, values: tuple[object, ...]) -> int:
        chosen = f"SELECT id FROM marks WHERE {where}"  # noqa: S608  only conditions of this file
        self._db.execute(f"DELETE FROM marked WHERE mark IN ({chosen})", values)  # noqa: S608
        return self._db.execute(f"DELETE FROM marks WHERE {where}", values).rowcount  # noqa: S608

    def _pack(self, features: Rows) -> bytes:
        standardised = self._calibration.standardised(features[None])[0]
        if not np.isfinite(standardised).all():
            raise ValueError("features that are not finite are not kept")
        return bytes(np.clip(standardised, -65_000, 65_000).astype("<f2").tobytes())

    def _unpack(self, blob: bytes) -> Rows:
        standardised = np.frombuffer(blob, "<f2").astype(np.float64)
        features: Rows = (standardised * self._calibration.scale + self._calibration.mean).astype(np.float32)
        return features

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # Some errors end the transaction themselves.
            if self._db.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
            raise


def log_is_read(db: sqlite3.Connection, limit_s: float) -> bool:
    """Write the log of a database into its file and empty it; whether others keep that from being done in time."""
    until_s = time.monotonic() + limit_s
    while True:
        busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        # SQLite waits for readers and writers, but not for one that is doing the same.
        if not busy or time.monotonic() > until_s:
            return bool(busy)
        time.sleep(0.05)


def _mostly_in(segment: Remembered, start: float, end: float) -> bool:
    """Whether more than half of a segment lies in a stretch, or more than half of the stretch in the segment."""
    shared = min(segment.end, end) - max(segment.start, start)
    return 2 * shared > min(segment.end - segment.start, end - start)
