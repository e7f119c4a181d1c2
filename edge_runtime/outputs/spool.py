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
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from edge_runtime.errors import UsageError, one_line
from edge_runtime.files import shown_path
from edge_runtime.outputs.disk_or_memory import DiskOrMemory
from edge_runtime.outputs.store import OpenEvent, Row
from edge_runtime.records import AnyRecord, EventRecord, GapRecord, Record, SegmentRecord, read_record
from edge_runtime.repeats import RepeatedTrouble

log = logging.getLogger(__name__)

LEAST_BYTES = 64 * 2**10
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
        self._max_age_s = max_age_s
        self._monotonic = monotonic
        # Counted from here: ages stay true when the computer's date is set.
        self._zero = time.time() - monotonic()
        self._changed = threading.Condition(threading.RLock())
        self._closed = False
        self._lost = 0
        self._swept_s = monotonic()
        self._claimed: set[str] = set()
        # Of those the ones that hear of events: each is told the end of one by itself.
        self._hear_events: set[str] = set()
        self._thinned = RepeatedTrouble(log, logging.WARNING, self._more_thinned)
        self.name = shown_path(path)
        self._rows = DiskOrMemory(
            path, max_bytes, memory_bytes, now=self._now, monotonic=monotonic, dropped=self._dropped
        )
        # Over both stores: a record keeps its id when it moves from memory to disk.
        self._next_id = 1 + self._rows.last_id

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
            self._thinned.sum_up(at_once=True)
            self._lost += self._rows.close()
            self._closed = True
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
    def sinks(self) -> frozenset[str]:
        """Names of the sinks that use it."""
        return frozenset(self._claimed)

    @property
    def in_memory(self) -> bool:
        """Whether the disk takes nothing, and records wait in memory."""
        return self._rows.in_memory

    @property
    def waiting(self) -> dict[str, Waiting]:
        """What waits, by the sinks' names; sinks for which nothing waits are left out."""
        with self._changed:
            if self._closed:
                return {}
            now = self._now()
            return {sink: Waiting(count, max(0.0, now - at)) for sink, (count, at) in self._rows.waiting().items()}

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
            self._rows.append(row, opened, ended)
            self._sweep()
            self._changed.notify_all()

    def first(self, sink: str) -> Spooled | None:
        """The oldest record that waits for a sink; it stays until it is removed."""
        with self._changed:
            while not self._closed and (row := self._rows.first(sink)) is not None:
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
            if not self._closed:
                self._rows.remove(sink, spooled_id)

    def wait(self, sink: str, woken: Callable[[], bool]) -> None:
        """Wait until something waits for a sink, the spool is closed, or `woken` holds after a `wake`."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or woken() or self._rows.first(sink) is not None)

    def wake(self) -> None:
        """Let all that wait look again."""
        with self._changed:
            self._changed.notify_all()

    def unfinished_events(self) -> list[EventRecord]:
        """Events that were begun and not ended, as sinks were told last; after a start: by runs that were killed."""
        found: dict[str, EventRecord] = {}
        with self._changed:
            for event in self._rows.open.values():
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
            return {key: text for (of, key), text in self._rows.notes.items() if of == owner}

    def note(self, owner: str, key: str, text: str | None) -> None:
        """Keep a text, such as the id that a server gave to an event; None to forget it."""
        with self._changed:
            if not self._closed:
                self._rows.note(owner, key, text)

    def _now(self) -> float:
        return self._zero + self._monotonic()

    def _note_event(self, sink: str, at: float, record: Record, line: str) -> tuple[list[OpenEvent], list[OpenEvent]]:
        """Note that an event is open or has ended; returns both as the store takes them."""
        if not isinstance(record, EventRecord):
            return [], []
        event = OpenEvent(sink, record.id, at, line)
        if record.state != "end":
            self._rows.open[sink, record.id] = event
            return [event], []
        ended = [event]
        if record.reason == "restart":
            # Also for sinks of earlier runs that are no longer there to be told.
            others = [other for other in self._rows.open.values() if other.event == record.id]
            # Those that are there must not lose it: the run may be killed before they are told.
            ended += [other for other in others if other.sink not in self._hear_events]
        for one in ended:
            self._rows.open.pop((one.sink, one.event), None)
        return [], ended

    def _sweep(self) -> None:
        """Once a minute: what has waited too long goes."""
        now_s = self._monotonic()
        if now_s - self._swept_s < _SWEEP_S:
            return
        self._swept_s = now_s
        self._rows.remove_older(self._now() - self._max_age_s, "records have waited too long")

    def _dropped(self, count: int, why: str) -> None:
        self._lost += count
        for _ in range(count):
            self._thinned.happened(f"{self.name}: {why}; records are dropped, segments first")

    def _more_thinned(self, count: int, seconds: int) -> str:
        return f"{self.name}: {count} more records were dropped in the last {seconds} s"
