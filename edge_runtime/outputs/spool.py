"""What an output cannot take now waits here, on disk, and is handed over later in order.

A broker that is down for an hour costs no event, and neither does a run that is killed: a record that `append`
returned for is with the operating system (see `store` for what a power cut may cost). Records are handed over at
least once: one whose delivery a kill interrupts is handed over again.

When there is no room, segments go first, then what was told of events that went on, then gaps; beginnings and ends of
events, camera states and run records go last. Of the same rank the oldest go first.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from edge_runtime.errors import OutputFailed, UsageError, one_line
from edge_runtime.files import format_bytes, shown_path
from edge_runtime.outputs.store import OpenEvent, Row, Store, is_damage, open_store, set_aside
from edge_runtime.records import AnyRecord, EventRecord, GapRecord, Record, SegmentRecord, read_record
from edge_runtime.repeats import RepeatedTrouble

log = logging.getLogger(__name__)

LEAST_BYTES = 64 * 2**10
_AGAIN_S = 1.0
_SWEEP_S = 60.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for one sink.

    Attributes:
        records: How many.
        oldest_s: How long the oldest has waited, in seconds.
    """

    records: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class Spooled:
    """A record that waits.

    Attributes:
        id: Higher than that of every record before it.
        record: As it was appended.
        waited_s: How long it has waited, in seconds.
    """

    id: int
    record: AnyRecord
    waited_s: float


def rank(record: Record) -> int:
    """How long a record is kept when there is no room: those of the lowest rank go first."""
    if isinstance(record, SegmentRecord):
        return 0
    if isinstance(record, EventRecord) and record.state == "update":
        return 1
    return 2 if isinstance(record, GapRecord) else 3


class Spool:
    """Records that wait for sinks, by the sinks' names; a context manager. Any thread may call anything.

    A file that is damaged is renamed to `….corrupt-<time>`, which is logged, and a new one is begun. While the disk
    takes nothing the spool goes on in memory, which is logged, and moves to disk what waits as soon as it can.

    Args:
        path: The file; SQLite keeps a `…-wal` beside it. No other run may use it at the same time.
        max_bytes: Of all records that wait, at least 64 KiB; the file is a little larger.
        max_age_s: What has waited longer is dropped, in seconds.
        memory_bytes: Of all records that wait in memory, at least 64 KiB.
        monotonic: Gives seconds that never go back. For tests.

    Raises:
        OutputFailed: The file cannot be opened, another run has it open, or it is something else's database.
        ValueError: A bound is too low.
    """

    def __init__(
        self,
        path: Path,
        max_bytes: int = 256 * 2**20,
        max_age_s: float = 7 * 86_400.0,
        *,
        memory_bytes: int = 8 * 2**20,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if min(max_bytes, memory_bytes) < LEAST_BYTES or not max_age_s > 0:
            raise ValueError(f"a spool holds at least {LEAST_BYTES} bytes for more than 0 seconds")
        # What a link points to is renamed when it is damaged, not the link.
        self._path = Path(os.path.realpath(path))
        self._max_bytes, self._max_age_s = max_bytes, max_age_s
        self.name = shown_path(path)
        self._monotonic = monotonic
        # Counted from here: ages stay true when the computer's date is set.
        self._zero = time.time() - monotonic()
        self._changed = threading.Condition(threading.RLock())
        self._memory = Store(None, memory_bytes, self._now())
        self._disk: Store | None = None
        self._closed = False
        self._lost = 0
        self._tried_s = self._swept_s = monotonic()
        self._in_memory_since: str | None = None
        self._done: dict[str, int] = {}
        self._claimed: set[str] = set()
        # Of those the ones that hear of events: each is told the end of one by itself.
        self._hear_events: set[str] = set()
        # What is open and noted; the disk has a copy.
        self._open: dict[tuple[str, str], OpenEvent] = {}
        self._notes: dict[tuple[str, str], str] = {}
        self._thinned = RepeatedTrouble(log, logging.WARNING, self._more_thinned)
        # A disk that is full every other second fills no log.
        self._failures = RepeatedTrouble(log, logging.ERROR, self._more_failures)
        self._recoveries = RepeatedTrouble(log, logging.WARNING, self._more_recoveries)
        self._open_first()
        # Over both stores: a record keeps its id when it moves from memory to disk.
        self._next_id = 1 + (self._disk.last_id if self._disk is not None else 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Move to disk what waits in memory, if it can be, and close the file. Nothing is kept that comes later."""
        with self._changed:
            if self._closed:
                return
            for trouble in (self._thinned, self._failures, self._recoveries):
                trouble.sum_up(at_once=True)
            if self._in_memory_since is not None and not self._move_to_disk() and (left := self._memory.rows()):
                log.error("%s: %d records waited in memory and are lost", self.name, len(left))
                self._lost += len(left)
            self._closed = True
            if self._disk is not None:
                self._disk.close()
            self._memory.close()
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether it takes and gives nothing any more."""
        return self._closed

    @property
    def lost(self) -> int:
        """Records that were dropped, because they had no room, waited too long or could not be read."""
        return self._lost

    @property
    def waiting(self) -> dict[str, Waiting]:
        """What waits, by the sinks' names; sinks for which nothing waits are left out."""
        with self._changed:
            if self._closed:
                return {}
            found: dict[str, Waiting] = {}
            for store in filter(None, (self._disk, self._memory)):
                with contextlib.suppress(sqlite3.Error):
                    for sink, (count, at) in store.waiting().items():
                        before = found.get(sink, Waiting(0, 0.0))
                        oldest_s = max(before.oldest_s, self._now() - at)
                        found[sink] = Waiting(before.records + count, oldest_s)
            return found

    def claim(self, sink: str, *, events: bool = True) -> None:
        """Give a name to one sink alone.

        Args:
            sink: The name.
            events: Whether it gets records of events.

        Raises:
            UsageError: Another sink has it.
        """
        with self._changed:
            if sink in self._claimed:
                raise UsageError(f"two outputs are called {sink!r}; give each a name of its own")
            self._claimed.add(sink)
            if events:
                self._hear_events.add(sink)

    def append(self, sink: str, record: Record) -> None:
        """Keep one record for a sink, behind those before it. What comes after `close` is not kept."""
        line, at = record.to_json(), self._now()
        with self._changed:
            if self._closed:
                self._lost += 1
                return
            row = Row(self._next_id, sink, at, rank(record), line)
            self._next_id += 1
            opened, ended = self._note_event(sink, at, record, line)
            if not self._append_to_disk(row, opened, ended):
                # In memory events are noted in `_open` alone.
                self._dropped(self._memory.append([row]), "memory is full")
            self._sweep()
            self._changed.notify_all()

    def first(self, sink: str) -> Spooled | None:
        """The oldest record that waits for a sink; it stays until it is removed."""
        with self._changed:
            while not self._closed and (row := self._first_row(sink)) is not None:
                waited_s = self._now() - row.at
                if waited_s > self._max_age_s:
                    self._dropped(1, "records have waited too long")
                else:
                    try:
                        return Spooled(row.id, read_record(row.line), max(0.0, waited_s))
                    except ValueError as error:
                        self._dropped(1, one_line(error))
                self.remove(sink, row.id)
            return None

    def remove(self, sink: str, spooled_id: int) -> None:
        """A sink has taken the record with this id, the oldest that waited for it."""
        with self._changed:
            if self._closed or self._memory.remove(sink, spooled_id, only=True) or self._disk is None:
                return
            # What cannot be removed now is passed over, and removed with the next one.
            self._done[sink] = max(spooled_id, self._done.get(sink, 0))
            try:
                self._disk.remove(sink, spooled_id)
            except sqlite3.Error as error:
                self._disk_failed(error)

    def wait(self, sink: str, woken: Callable[[], bool]) -> None:
        """Wait until something waits for a sink, the spool is closed, or `woken` holds after a `wake`."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or woken() or self._first_row(sink) is not None)

    def wake(self) -> None:
        """Let all that wait look again."""
        with self._changed:
            self._changed.notify_all()

    def unfinished_events(self) -> list[EventRecord]:
        """Events that were begun and not ended, as sinks were told last; after a start: by runs that were killed."""
        found: dict[str, EventRecord] = {}
        with self._changed:
            for event in self._open.values():
                with contextlib.suppress(ValueError):
                    record = read_record(event.line)
                    if isinstance(record, EventRecord):
                        known = found.get(record.id)
                        if known is None or known.end_s <= record.end_s:
                            found[record.id] = record
        return list(found.values())

    def notes(self, owner: str) -> dict[str, str]:
        """The texts that an owner noted, by key, oldest first. They survive restarts."""
        with self._changed:
            return {key: text for (of, key), text in self._notes.items() if of == owner}

    def note(self, owner: str, key: str, text: str | None) -> None:
        """Keep a text, such as the id that a server gave to an event; None to forget it."""
        with self._changed:
            if text is None:
                self._notes.pop((owner, key), None)
            else:
                self._notes[owner, key] = text
            # While the disk fails, what is noted moves there with the records.
            if self._disk is not None and self._in_memory_since is None and not self._closed:
                try:
                    self._disk.note(owner, key, text)
                except sqlite3.Error as error:
                    self._disk_failed(error)

    def _now(self) -> float:
        return self._zero + self._monotonic()

    def _note_event(self, sink: str, at: float, record: Record, line: str) -> tuple[list[OpenEvent], list[OpenEvent]]:
        """Note that an event is open or has ended; returns both as the store takes them."""
        if not isinstance(record, EventRecord):
            return [], []
        event = OpenEvent(sink, record.id, at, line)
        if record.state != "end":
            self._open[sink, record.id] = event
            return [event], []
        ended = [event]
        if record.reason == "restart":
            # Also for sinks of earlier runs that are no longer there to be told.
            others = [other for other in self._open.values() if other.event == record.id]
            # Those that are there must not lose it: the run may be killed before they are told.
            ended += [other for other in others if other.sink not in self._hear_events]
        for one in ended:
            self._open.pop((one.sink, one.event), None)
        return [], ended

    def _append_to_disk(self, row: Row, opened: list[OpenEvent], ended: list[OpenEvent]) -> bool:
        if self._in_memory_since is not None and not self._back_on_disk():
            return False
        # Twice: a damaged file has a new one in its place by then.
        for _ in range(2):
            if self._disk is None or self._in_memory_since is not None:
                break
            try:
                self._dropped(self._disk.append([row], opened, ended), self._full)
            except sqlite3.Error as error:
                self._disk_failed(error)
            else:
                return True
        return False

    def _back_on_disk(self) -> bool:
        """Whether the disk takes records again; tried at most once a second."""
        now_s = self._monotonic()
        if now_s - self._tried_s < _AGAIN_S:
            return False
        self._tried_s = now_s
        return self._move_to_disk()

    def _move_to_disk(self) -> bool:
        rows = self._memory.rows()
        try:
            if self._disk is None:
                self._disk = self._opened()
            self._disk.shrink_log()
            self._dropped(self._disk.take_over(rows, self._open.values(), self._noted()), self._full)
            for sink, done in self._done.items():
                self._disk.remove(sink, done)
        except sqlite3.Error as error:
            self._disk_failed(error)
            return False
        except OutputFailed:
            return False
        for row in rows:
            self._memory.remove(row.sink, row.id)
        self._recoveries.happened(
            f"{self.name}: can be written again; {len(rows)} records of the time since {self._in_memory_since} "
            "waited in memory and are on disk now"
        )
        self._in_memory_since = None
        return True

    def _first_row(self, sink: str) -> Row | None:
        row = None
        if self._disk is not None:
            try:
                row = self._disk.first(sink, self._done.get(sink, 0))
            except sqlite3.Error as error:
                self._disk_failed(error)
        # All that is in memory came later.
        return row if row is not None else self._memory.first(sink, 0)

    def _sweep(self) -> None:
        """Once a minute: what has waited too long goes."""
        now_s = self._monotonic()
        if now_s - self._swept_s < _SWEEP_S:
            return
        self._swept_s = now_s
        oldest = self._now() - self._max_age_s
        self._dropped(self._memory.remove_older(oldest), "records have waited too long")
        for key in [key for key, event in self._open.items() if event.at < oldest]:
            del self._open[key]
        if self._disk is not None:
            try:
                self._dropped(self._disk.remove_older(oldest), "records have waited too long")
            except sqlite3.Error as error:
                self._disk_failed(error)

    def _open_first(self) -> None:
        try:
            self._disk = self._opened()
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            if name.startswith("SQLITE_BUSY"):
                raise OutputFailed(f"{self.name}: another run uses it; give each run a spool of its own") from error
            if not name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
                raise OutputFailed(
                    f"{self.name}: cannot be opened ({one_line(error)}); choose another file for the spool"
                ) from error
            self._go_to_memory(error)
            return
        self._open = {(event.sink, event.event): event for event in self._disk.open_events()}
        self._notes = {(owner, key): text for owner, key, text in self._disk.notes()}

    def _opened(self) -> Store:
        return open_store(self._path, self._max_bytes, self._now())

    def _disk_failed(self, error: sqlite3.Error) -> None:
        """Go on with a new file where this one is damaged, in memory where it cannot be used now."""
        if not is_damage(error):
            self._go_to_memory(error)
            return
        if self._disk is not None:
            self._disk.close()
            self._disk = None
        try:
            set_aside(self._path, one_line(error))
            self._disk = self._opened()
            self._disk.take_over([], self._open.values(), self._noted())
        except (OutputFailed, sqlite3.Error) as again:
            self._go_to_memory(again)

    def _noted(self) -> list[tuple[str, str, str]]:
        return [(owner, key, text) for (owner, key), text in self._notes.items()]

    def _go_to_memory(self, error: BaseException) -> None:
        if self._in_memory_since is None:
            self._in_memory_since = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
            self._tried_s = self._monotonic()
            self._failures.happened(
                f"{self.name}: cannot be used ({one_line(error)}); records wait in memory until it can, and are lost "
                "if the run ends before"
            )

    @property
    def _full(self) -> str:
        return f"full with {format_bytes(self._max_bytes)}"

    def _dropped(self, count: int, why: str) -> None:
        self._lost += count
        for _ in range(count):
            self._thinned.happened(f"{self.name}: {why}; records are dropped, segments first")

    def _more_thinned(self, count: int, seconds: int) -> str:
        return f"{self.name}: {count} more records were dropped in the last {seconds} s"

    def _more_failures(self, count: int, seconds: int) -> str:
        return f"{self.name}: could not be used {count} more times in the last {seconds} s"

    def _more_recoveries(self, count: int, seconds: int) -> str:
        return f"{self.name}: could be written again {count} more times in the last {seconds} s"
