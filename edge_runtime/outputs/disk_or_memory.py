"""Rows on disk while that works, and in memory while it does not. Knows stores; nothing of records or their ranks.

Called under one lock, its owner's.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from edge_runtime.errors import OutputFailed, one_line
from edge_runtime.files import format_bytes, shown_path
from edge_runtime.outputs.store import OpenEvent, Row, Store, is_damage, open_store, set_aside
from edge_runtime.repeats import RepeatedTrouble

log = logging.getLogger(__name__)

_AGAIN_S = 1.0


class DiskOrMemory:
    """Two stores as one. What waits in memory moves to disk, with its ids, as soon as that can be.

    Args:
        path: The file.
        max_bytes: Of all rows on disk.
        memory_bytes: Of all rows in memory.
        now: Gives seconds since 1970.
        monotonic: Gives seconds that never go back.
        dropped: Told how many rows had to go, and why.

    Attributes:
        name: The file, for logs.
        open: Events that are open, by sink and id; the disk has a copy.
        notes: Texts by owner and key; the disk has a copy.

    Raises:
        OutputFailed: The file cannot be opened, another run has it open, or it is something else's database.
    """

    def __init__(
        self,
        path: Path,
        max_bytes: int,
        memory_bytes: int,
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float],
        dropped: Callable[[int, str], None],
    ) -> None:
        # What a link points to is renamed when it is damaged, not the link.
        self._path = Path(os.path.realpath(path))
        self._max_bytes = max_bytes
        self.name = shown_path(path)
        self._now, self._monotonic, self._dropped = now, monotonic, dropped
        self._memory = Store(None, memory_bytes, now())
        self._disk: Store | None = None
        self._tried_s = monotonic()
        self._in_memory_since: str | None = None
        self._done: dict[str, int] = {}
        self.open: dict[tuple[str, str], OpenEvent] = {}
        self.notes: dict[tuple[str, str], str] = {}
        # A disk that is full every other second fills no log.
        self._failures = RepeatedTrouble(log, logging.ERROR, self._more_failures)
        self._recoveries = RepeatedTrouble(log, logging.WARNING, self._more_recoveries)
        self._open_first()

    @property
    def last_id(self) -> int:
        """Highest id on disk, 0 where there are no rows."""
        return 0 if self._disk is None else self._disk.last_id

    def close(self) -> int:
        """Move to disk what waits in memory, if it can be, and close the file; returns how many rows are lost."""
        for trouble in (self._failures, self._recoveries):
            trouble.sum_up(at_once=True)
        lost = 0
        if self._in_memory_since is not None and not self._move_to_disk() and (left := self._memory.rows()):
            log.error("%s: %d records waited in memory and are lost", self.name, len(left))
            lost = len(left)
        if self._disk is not None:
            self._disk.close()
        self._memory.close()
        return lost

    @property
    def in_memory(self) -> bool:
        """Whether rows wait in memory, because the disk takes none."""
        return self._in_memory_since is not None

    def waiting(self) -> dict[str, tuple[int, float]]:
        """By sink: how many rows wait, and when the oldest was appended."""
        found: dict[str, tuple[int, float]] = {}
        for store in filter(None, (self._disk, self._memory)):
            with contextlib.suppress(sqlite3.Error):
                for sink, (count, at) in store.waiting().items():
                    before, oldest = found.get(sink, (0, at))
                    found[sink] = (before + count, min(oldest, at))
        return found

    def append(self, row: Row, opened: list[OpenEvent], ended: list[OpenEvent]) -> None:
        """Append a row behind those before it, with the events that it opens or ends."""
        if not self._append_to_disk(row, opened, ended):
            # In memory events are noted in `open` alone.
            self._dropped(self._memory.append([row]), "memory is full")

    def first(self, sink: str) -> Row | None:
        """The oldest row for a sink."""
        row = None
        if self._disk is not None:
            try:
                row = self._disk.first(sink, self._done.get(sink, 0))
            except sqlite3.Error as error:
                self._disk_failed(error)
        # All that is in memory came later.
        return row if row is not None else self._memory.first(sink, 0)

    def remove(self, sink: str, row_id: int) -> None:
        """Remove the oldest row of a sink, which has this id."""
        if self._memory.remove(sink, row_id, only=True) or self._disk is None:
            return
        # What cannot be removed now is passed over, and removed with the next one.
        self._done[sink] = max(row_id, self._done.get(sink, 0))
        try:
            self._disk.remove(sink, row_id)
        except sqlite3.Error as error:
            self._disk_failed(error)

    def remove_older(self, at: float, why: str) -> None:
        """Remove what was appended, or last told of an event, before a time."""
        self._dropped(self._memory.remove_older(at), why)
        for key in [key for key, event in self.open.items() if event.at < at]:
            del self.open[key]
        if self._disk is not None:
            try:
                self._dropped(self._disk.remove_older(at), why)
            except sqlite3.Error as error:
                self._disk_failed(error)

    def note(self, owner: str, key: str, text: str | None) -> None:
        """Keep a text; None to forget it."""
        if text is None:
            self.notes.pop((owner, key), None)
        else:
            self.notes[owner, key] = text
        # While the disk fails, what is noted moves there with the rows.
        if self._disk is not None and self._in_memory_since is None:
            try:
                self._disk.note(owner, key, text)
            except sqlite3.Error as error:
                self._disk_failed(error)

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
            self._dropped(self._disk.take_over(rows, self.open.values(), self._noted()), self._full)
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
        self.open = {(event.sink, event.event): event for event in self._disk.open_events()}
        self.notes = {(owner, key): text for owner, key, text in self._disk.notes()}

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
            self._disk.take_over([], self.open.values(), self._noted())
        except (OutputFailed, sqlite3.Error) as again:
            self._go_to_memory(again)

    def _noted(self) -> list[tuple[str, str, str]]:
        return [(owner, key, text) for (owner, key), text in self.notes.items()]

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

    def _more_failures(self, count: int, seconds: int) -> str:
        return f"{self.name}: could not be used {count} more times in the last {seconds} s"

    def _more_recoveries(self, count: int, seconds: int) -> str:
        return f"{self.name}: could be written again {count} more times in the last {seconds} s"
