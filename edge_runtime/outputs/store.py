"""Rows that wait, in one SQLite database: appended, read in order, removed, bounded. Knows no sinks and no threads.

In a file it is SQLite's write-ahead log with `synchronous=NORMAL`. What was appended is with the operating system: it
survives the process being killed. A power cut may lose what was appended since the last checkpoint, which is every
4 MiB of log; it does not harm the database.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edge_runtime.errors import OutputFailed
from edge_runtime.files import shown_path

log = logging.getLogger(__name__)

# "hhsp": what tells a spool from other databases.
_APPLICATION = 0x68687370
_VERSION = 1
# A row's own fields and its entries in two indices, in bytes.
_OVERHEAD = 96
# When full, so much of the bound is freed at once: not every append has to make room.
_SLACK = 32
_PAGES = 1000
_PAGE_BYTES = 4096
_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY, sink TEXT NOT NULL, at REAL NOT NULL, rank INTEGER NOT NULL, line TEXT NOT NULL,
    size INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS by_sink ON records (sink, id);
CREATE INDEX IF NOT EXISTS by_rank ON records (rank, id);
CREATE TABLE IF NOT EXISTS open_events (sink TEXT, event TEXT, at REAL, line TEXT, PRIMARY KEY (sink, event));
CREATE TABLE IF NOT EXISTS notes (owner TEXT, key TEXT, value TEXT, PRIMARY KEY (owner, key));
"""
# A clock that says less was never set: such a time says nothing about age.
_CLOCK_SET_S = 1_577_836_800.0


class StoreDamaged(Exception):
    """The file is not a database, or a database that contradicts itself."""


class StoreForeign(Exception):
    """The file is a database of something else, or of a later version; the message says which."""


@dataclass(frozen=True, slots=True)
class Row:
    """One record that waits for one sink.

    Attributes:
        id: Grows with every row.
        sink: Whom it is for.
        at: When it was appended, in seconds since 1970.
        rank: How long it is kept when there is no room; the lowest goes first.
        line: The record.
    """

    id: int
    sink: str
    at: float
    rank: int
    line: str

    @property
    def size(self) -> int:
        """Bytes that it counts for."""
        return len(self.line.encode()) + _OVERHEAD


@dataclass(frozen=True, slots=True)
class OpenEvent:
    """An event as a sink was told it last, and not its end."""

    sink: str
    event: str
    at: float
    line: str


def is_damage(error: sqlite3.Error) -> bool:
    """Whether an error means that the file's content is wrong, not that it cannot be read or written now."""
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))


class Store:
    """Rows in a file or in memory. Called under one lock.

    Every method may raise `sqlite3.Error`, and changes nothing then.

    Args:
        path: The file, created where there is none; None for memory.
        max_bytes: Of all rows together, their overhead included.
        now: Seconds since 1970.

    Raises:
        StoreDamaged: See there.
        StoreForeign: See there.
        sqlite3.Error: It cannot be opened; `SQLITE_BUSY` where another process has it open.
    """

    def __init__(self, path: Path | None, max_bytes: int, now: float) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        where = ":memory:" if path is None else str(path)
        self._db = sqlite3.connect(where, isolation_level=None, check_same_thread=False, timeout=2.0)
        # Bytes that a disk has changed make one record unreadable, not the table.
        self._db.text_factory = lambda raw: raw.decode("utf-8", "replace")
        try:
            self._prepare(now)
        except sqlite3.Error as error:
            self.close()
            if is_damage(error):
                raise StoreDamaged(str(error)) from error
            raise
        except BaseException:
            self.close()
            raise

    def _prepare(self, now: float) -> None:
        # Held until the end, also of a killed process: two runs would deliver the same rows.
        self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._db.execute("PRAGMA auto_vacuum=INCREMENTAL")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(f"PRAGMA wal_autocheckpoint={_PAGES}")
        self._db.execute(f"PRAGMA journal_size_limit={_PAGES * _PAGE_BYTES}")
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (tables,) = self._db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        if tables and application != _APPLICATION:
            raise StoreForeign("is a database of something else")
        if version > _VERSION:
            raise StoreForeign("was written by a later version")
        (verdict,) = self._db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise StoreDamaged(verdict)
        with self._transaction():
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id={_APPLICATION}")
            self._db.execute(f"PRAGMA user_version={_VERSION}")
            # A clock that was not set, or was set back: what is kept counts as of now.
            self._db.execute("UPDATE records SET at = ? WHERE at > ? OR at < ?", (now, now, _CLOCK_SET_S))
        self._db.execute("PRAGMA incremental_vacuum").fetchall()
        (self._bytes,) = self._db.execute("SELECT COALESCE(SUM(size), 0) FROM records").fetchone()

    def shrink_log(self) -> None:
        """Write the log into the database and cut it off: on a full disk its room may be all there is."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close the database; it is not used after that."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()

    @property
    def bytes(self) -> int:
        """What all rows count for."""
        return self._bytes

    @property
    def last_id(self) -> int:
        """Highest id, 0 where there are no rows."""
        (last,) = self._db.execute("SELECT COALESCE(MAX(id), 0) FROM records").fetchone()
        return int(last)

    def append(self, rows: Sequence[Row], opened: Iterable[OpenEvent] = (), ended: Iterable[OpenEvent] = ()) -> int:
        """Append rows and note which events are open, both or neither; returns how many rows had to make room."""
        with self._transaction():
            self._db.executemany(
                "DELETE FROM open_events WHERE sink = ? AND event = ?", [(event.sink, event.event) for event in ended]
            )
            return self._insert(rows, opened)

    def take_over(
        self, rows: Sequence[Row], opened: Iterable[OpenEvent], notes: Iterable[tuple[str, str, str]]
    ) -> int:
        """Append rows, and forget other open events and notes than these; all or nothing. Returns as `append`."""
        with self._transaction():
            self._db.execute("DELETE FROM open_events")
            self._db.execute("DELETE FROM notes")
            self._db.executemany("INSERT INTO notes VALUES (?, ?, ?)", notes)
            return self._insert(rows, opened)

    def _insert(self, rows: Sequence[Row], opened: Iterable[OpenEvent]) -> int:
        self._db.executemany(
            "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)",
            [(row.id, row.sink, row.at, row.rank, row.line, row.size) for row in rows],
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO open_events VALUES (?, ?, ?, ?)",
            [(event.sink, event.event, event.at, event.line) for event in opened],
        )
        self._bytes += sum(row.size for row in rows)
        return self._make_room()

    def _make_room(self) -> int:
        """Drop the oldest rows of the lowest rank until the others fit; returns how many."""
        if self._bytes <= self._max_bytes:
            return 0
        surplus, freed, doomed = self._bytes - self._max_bytes + self._max_bytes // _SLACK, 0, []
        for row_id, size in self._db.execute("SELECT id, size FROM records ORDER BY rank, id"):
            if freed >= surplus:
                break
            freed += size
            doomed.append((row_id,))
        self._db.executemany("DELETE FROM records WHERE id = ?", doomed)
        self._bytes -= freed
        return len(doomed)

    def first(self, sink: str, after: int) -> Row | None:
        """The oldest row for a sink of those with a higher id."""
        found = self._db.execute(
            "SELECT id, sink, at, rank, line FROM records WHERE sink = ? AND id > ? ORDER BY id LIMIT 1",
            (sink, after),
        ).fetchone()
        return None if found is None else Row(*found)

    def rows(self) -> list[Row]:
        """All rows, in order."""
        return [Row(*row) for row in self._db.execute("SELECT id, sink, at, rank, line FROM records ORDER BY id")]

    def remove(self, sink: str, up_to: int, *, only: bool = False) -> int:
        """Remove a sink's rows up to an id, or the one of this id only; returns how many."""
        with self._transaction():
            return self._delete(
                "SELECT id, size FROM records WHERE sink = ? AND id BETWEEN ? AND ?",
                (sink, up_to if only else 0, up_to),
            )

    def remove_older(self, at: float) -> int:
        """Remove what was appended, or last told of an event, before a time; returns how many rows."""
        with self._transaction():
            self._db.execute("DELETE FROM open_events WHERE at < ?", (at,))
            return self._delete("SELECT id, size FROM records WHERE at < ?", (at,))

    def _delete(self, chosen: str, values: tuple[object, ...]) -> int:
        doomed = self._db.execute(chosen, values).fetchall()
        self._db.executemany("DELETE FROM records WHERE id = ?", [(row_id,) for row_id, _ in doomed])
        self._bytes -= sum(size for _, size in doomed)
        return len(doomed)

    def waiting(self) -> dict[str, tuple[int, float]]:
        """By sink: how many rows wait, and when the oldest was appended."""
        found = self._db.execute("SELECT sink, COUNT(*), MIN(at) FROM records GROUP BY sink")
        return {sink: (count, at) for sink, count, at in found}

    def open_events(self) -> list[OpenEvent]:
        """The events that were noted as open, in the order in which they were told last."""
        return [
            OpenEvent(*row)
            for row in self._db.execute("SELECT sink, event, at, line FROM open_events ORDER BY at, rowid")
        ]

    def notes(self) -> list[tuple[str, str, str]]:
        """All notes, oldest first: owner, key and text."""
        return self._db.execute("SELECT owner, key, value FROM notes ORDER BY rowid").fetchall()

    def note(self, owner: str, key: str, text: str | None) -> None:
        """Keep a text; None to forget it."""
        if text is None:
            self._db.execute("DELETE FROM notes WHERE owner = ? AND key = ?", (owner, key))
        else:
            self._db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (owner, key, text))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        before = self._bytes
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            self._bytes = before
            # Some errors end the transaction themselves.
            if self._db.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
            raise


def open_store(path: Path, max_bytes: int, now: float) -> Store:
    """Open a file of rows; one that is damaged is set aside, and a new one begun.

    Raises:
        OutputFailed: It is something else's database, or is damaged and cannot be renamed.
        sqlite3.Error: It cannot be opened now.
    """
    try:
        try:
            return Store(path, max_bytes, now)
        except StoreDamaged as damage:
            set_aside(path, str(damage))
            return Store(path, max_bytes, now)
    except (StoreDamaged, StoreForeign) as error:
        raise OutputFailed(f"{shown_path(path)}: {error}; choose another file for the spool") from error


def set_aside(path: Path, why: str, lost: str = "what waited in it was not delivered", place: str = "spool") -> None:
    """Rename a damaged file and its log, and say so: nothing in them is used, and nobody's data is deleted.

    Args:
        path: The file.
        why: What is wrong with it.
        lost: What that means.
        place: What is configured with another path, where it cannot be renamed.

    Raises:
        OutputFailed: It cannot be renamed.
    """
    shown, aside = shown_path(path), f".corrupt-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
    for suffix in ("", "-wal", "-shm", "-journal"):
        try:
            path.with_name(path.name + suffix).rename(path.with_name(path.name + aside + suffix))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise OutputFailed(
                f"{shown}: is damaged ({why}) and cannot be renamed ({error.strerror}); "
                f"choose another place for the {place}"
            ) from error
    log.error(
        "%s: is damaged (%s); it was renamed to %s and a new one begun, %s",
        shown,
        why,
        shown_path(path.name + aside),
        lost,
    )
