"""Records as lines of JSON, to a file or to standard output.

Nothing is buffered: a record that `write` returned from is with the operating system, and a reader of the pipe
or the file sees it at once. A file may begin anew when it is large or old, and may outlive a full disk.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from edge_runtime.errors import OutputFailed
from edge_runtime.files import shown_path
from edge_runtime.outputs.rotation import Rotation, begun_at, older_file
from edge_runtime.records import EventRecord, Record, read_record
from edge_runtime.repeats import RepeatedTrouble

log = logging.getLogger(__name__)

# An open event is told again with every segment: its last record is among the newest lines of a file.
_TAIL = 4 * 2**20
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
_AGAIN_S = 1.0


class JsonLines:
    """Writes records as lines of JSON to an open file descriptor, which it owns; a sink and a context manager.

    When a write fails half-way into a regular file, the half line is taken back, so that the file ends with a
    whole record.

    Args:
        descriptor: Open for writing.
        name: What errors call it.
        persistent: Whether a regular file that cannot be written is tried again with later records, at most once a
            second; those in between are counted and logged, and are missing. Otherwise, and where it is no regular
            file, the first failure is raised and every further write refused.
        monotonic: Gives seconds that never go back. For tests.
    """

    def __init__(
        self,
        descriptor: int,
        name: str,
        *,
        persistent: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._descriptor: int | None = descriptor
        self._regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._persistent = persistent and self._regular
        self._monotonic = monotonic
        self._path: Path | None = None
        self._rotation: Rotation | None = None
        self._begun_at = time.time()
        # Where a half line begins that could not be taken back yet.
        self._half_from: int | None = None
        self._failing_since: str | None = None
        self._tried_s = self._rotated_s = monotonic() - _AGAIN_S
        self._missing = self._missing_before = 0
        self._trouble = RepeatedTrouble(log, logging.ERROR, self._more_missing, monotonic=monotonic)
        # A disk that is full every other second fills no log.
        self._recoveries = RepeatedTrouble(log, logging.WARNING, self._more_recoveries, monotonic=monotonic)
        self._unrotated = RepeatedTrouble(log, logging.ERROR, self._more_unrotated, monotonic=monotonic)

    @classmethod
    def to_file(
        cls,
        path: Path,
        rotate_bytes: int | None = None,
        rotate_s: float | None = None,
        keep: int = 10,
        *,
        persistent: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> JsonLines:
        """Write to a file, behind what is there: a restart must not cost the night's records.

        Args:
            path: The file.
            rotate_bytes: Begin the file anew before a record that would make it larger; the file so far is renamed to
                `.1`, an older one to `.2` and so on.
            rotate_s: Begin it anew so many seconds after its first record.
            keep: How many older files are kept.
            persistent: See the class.
            monotonic: See the class.

        Raises:
            OutputFailed: It cannot be opened for writing.
            ValueError: A bound of the rotation is not above 0.
        """
        shown = shown_path(path)
        rotation = None
        if rotate_bytes is not None or rotate_s is not None:
            rotation = Rotation(rotate_bytes, rotate_s, keep)
        try:
            descriptor = os.open(path, _FLAGS | os.O_CREAT, 0o666)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise OutputFailed(
                f"{shown}: cannot be opened for writing ({reason}); choose another --output"
            ) from error
        lines = cls(descriptor, shown, persistent=persistent, monotonic=monotonic)
        # What a link points to is renamed, not the link.
        lines._path = Path(os.path.realpath(path))
        lines._rotation = rotation if lines._regular else None
        lines._continue()
        return lines

    @classmethod
    def to_stdout(cls, *, persistent: bool = False) -> JsonLines:
        """Write to standard output, on a descriptor of its own.

        Args:
            persistent: See the class; it matters where standard output is a regular file.

        Raises:
            OutputFailed: Standard output is closed.
        """
        try:
            return cls(os.dup(1), "standard output", persistent=persistent)
        except OSError as error:
            raise OutputFailed("standard output is closed; use --output FILE") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            # What went wrong first is what is told.
            with contextlib.suppress(OutputFailed):
                self.close()

    @property
    def missing(self) -> int:
        """Records that could not be written."""
        return self._missing

    def write(self, record: Record) -> None:
        """Write one record as one line.

        Raises:
            OutputFailed: A full disk (see `persistent`), a reader that has gone, or a failure before this.
        """
        line = record.to_json().encode() + b"\n"
        if self._descriptor is None:
            raise OutputFailed(f"{self.name}: was closed before this record")
        if self._failing_since is not None and self._monotonic() - self._tried_s < _AGAIN_S:
            self._missing += 1
            self._trouble.happened(f"{self.name}: cannot be written, records are missing")
            return
        if self._rotation is not None:
            self._rotate(self._rotation, len(line))
        error = self._attempt(line)
        if error is None:
            self._works()
        else:
            self._failed(error, records=1)

    def close(self) -> None:
        """Close the descriptor.

        Raises:
            OutputFailed: Some file systems report a full disk only now.
        """
        if self._descriptor is None:
            return
        self._take_back()
        descriptor, self._descriptor = self._descriptor, None
        for trouble in (self._trouble, self._recoveries, self._unrotated):
            trouble.sum_up(at_once=True)
        try:
            os.close(descriptor)
        except OSError as error:
            told = f"{self.name}: {error.strerror}; the last records may be missing"
            if not self._persistent:
                raise OutputFailed(told) from error
            log.error("%s", told)

    def _continue(self) -> None:
        """Say that records are appended; a half line that a power cut left behind is closed with a line break."""
        assert self._descriptor is not None
        size = os.fstat(self._descriptor).st_size
        if not self._regular or size == 0:
            return
        self._begun_at = begun_at(self._descriptor)
        log.warning("%s: exists, records are appended to it", self.name)
        self._end_line()

    def _end_line(self) -> None:
        assert self._descriptor is not None
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n" and (error := self._attempt(b"\n")) is not None:
            self._failed(error, records=0)

    def _attempt(self, line: bytes) -> OSError | None:
        """Write a line whole or not at all; returns what went wrong."""
        assert self._descriptor is not None
        rest, before = memoryview(line), None
        try:
            if self._half_from is not None:
                os.ftruncate(self._descriptor, self._half_from)
                self._half_from = None
            before = os.fstat(self._descriptor).st_size
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            if self._regular and before is not None and len(rest) < len(line):
                self._half_from = before
                self._take_back()
            return error
        return None

    def _take_back(self) -> None:
        if self._half_from is not None and self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._half_from)
                self._half_from = None

    def _failed(self, error: OSError, records: int) -> None:
        """Count what is missing, or end with the error."""
        if self._persistent:
            self._tried_s = self._monotonic()
            if self._failing_since is None:
                self._failing_since = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
                self._missing_before = self._missing
            self._missing += records
            self._trouble.happened(f"{self.name}: cannot be written ({error.strerror}), records are missing")
            self._open_again()
            return
        with contextlib.suppress(OutputFailed):
            self.close()
        if isinstance(error, BrokenPipeError):
            raise OutputFailed(f"{self.name}: its reader has gone; the rest was not written") from error
        raise OutputFailed(
            f"{self.name}: cannot be written ({error.strerror}); free some space or choose another --output"
        ) from error

    def _works(self) -> None:
        if self._failing_since is None:
            return
        self._trouble.sum_up(at_once=True)
        self._recoveries.happened(
            f"{self.name}: can be written again; {self._missing - self._missing_before} records of the time since "
            f"{self._failing_since} are missing"
        )
        self._failing_since = None

    def _open_again(self) -> None:
        """Follow a disk that was plugged in again: what was open on it can never be written any more."""
        if self._path is None or self._descriptor is None:
            return
        with contextlib.suppress(OSError):
            # Never created: without its disk the folder may be there all the same.
            descriptor = os.open(self._path, _FLAGS)
            same = os.path.sameopenfile(descriptor, self._descriptor)
            old, self._descriptor = self._descriptor, descriptor
            with contextlib.suppress(OSError):
                os.close(old)
            if not same:
                self._half_from, self._begun_at = None, begun_at(descriptor)
                self._end_line()

    def _rotate(self, rotation: Rotation, added: int) -> None:
        """Begin the file anew if that is due. Where that fails records go on where they went."""
        assert self._descriptor is not None
        assert self._path is not None
        size = os.fstat(self._descriptor).st_size
        now_s = self._monotonic()
        if not rotation.is_due(size, added, time.time() - self._begun_at) or now_s - self._rotated_s < _AGAIN_S:
            return
        self._take_back()
        if self._half_from is not None:
            return
        try:
            rotation.make_way(self._path)
            try:
                descriptor = os.open(self._path, _FLAGS | os.O_CREAT, 0o666)
            except OSError:
                # What is written still goes to the file that was renamed: it gets its name back.
                with contextlib.suppress(OSError):
                    older_file(self._path, 1).rename(self._path)
                raise
        except OSError as error:
            self._rotated_s = now_s
            self._unrotated.happened(f"{self.name}: cannot begin anew ({error.strerror}); it grows on")
            return
        old, self._descriptor, self._begun_at = self._descriptor, descriptor, time.time()
        with contextlib.suppress(OSError):
            os.close(old)
        log.info("%s: begun anew; what it held is in %s", self.name, shown_path(older_file(self._path, 1)))

    def _more_missing(self, count: int, seconds: int) -> str:
        since = "" if self._failing_since is None else f"; it could not be written since {self._failing_since}"
        return f"{self.name}: {count} more records are missing from the last {seconds} s{since}"

    def _more_recoveries(self, count: int, seconds: int) -> str:
        return (
            f"{self.name}: could be written again {count} more times in the last {seconds} s; {self._missing} missing"
        )

    def _more_unrotated(self, count: int, seconds: int) -> str:
        return f"{self.name}: could not begin anew {count} more times in the last {seconds} s"


def unfinished_events(path: Path) -> list[EventRecord]:
    """Events in a file of records that were begun and not ended, because their run was killed; as told last.

    Args:
        path: The file; its last 4 MiB are read, and where it is shorter also the end of the file before it (`.1`).
            One that is not there, or cannot be read, holds none.
    """
    lines, size = _last_lines(path, _TAIL)
    if size < _TAIL:
        lines = _last_lines(older_file(Path(os.path.realpath(path)), 1), _TAIL - size)[0] + lines
    open_events: dict[str, EventRecord] = {}
    for line in lines:
        try:
            record = read_record(line)
        except ValueError:  # half a line after a power cut, or nothing of ours
            continue
        if isinstance(record, EventRecord):
            if record.state == "end":
                open_events.pop(record.id, None)
            else:
                open_events[record.id] = record
    return list(open_events.values())


def _last_lines(path: Path, most: int) -> tuple[list[bytes], int]:
    """The lines in the last `most` bytes of a file, the first of which may be half a line, and how many bytes."""
    try:
        with path.open("rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return [], 0
            file.seek(max(0, file.seek(0, os.SEEK_END) - most))
            content = file.read()
            return content.splitlines(), len(content)
    except (OSError, ValueError):
        return [], 0


@contextlib.contextmanager
def stdout_for_records_only(*, persistent: bool = False) -> Iterator[JsonLines]:
    """Send records to standard output, and everything else that native libraries print there to standard error.

    Args:
        persistent: See `JsonLines`.
    """
    with JsonLines.to_stdout(persistent=persistent) as lines:
        kept = os.dup(1)
        try:
            with contextlib.suppress(OSError):  # standard error may be closed
                os.dup2(2, 1)
            yield lines
        finally:
            os.dup2(kept, 1)
            os.close(kept)
