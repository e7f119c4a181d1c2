"""Records as lines of JSON, to a file or to standard output.

Nothing is buffered: a record that `write` returned from is with the operating system, and a reader of the pipe
or the file sees it at once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from edge_runtime.errors import OutputFailed
from edge_runtime.files import shown_path
from edge_runtime.records import EventRecord, Record, read_record

log = logging.getLogger(__name__)

# An open event is told again with every segment: its last record is among the newest lines of a file.
_TAIL = 4 * 2**20


class JsonLines:
    """Writes records as lines of JSON to an open file descriptor, which it owns; a sink and a context manager.

    When a write fails half-way into a regular file, the half line is taken back, so that the file ends with a
    whole record. After a failure every further write is refused.

    Args:
        descriptor: Open for writing.
        name: What errors call it.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self._descriptor: int | None = descriptor
        self._regular = stat.S_ISREG(os.fstat(descriptor).st_mode)

    @classmethod
    def to_file(cls, path: Path) -> JsonLines:
        """Write to a file, behind what is there: a restart must not cost the night's records.

        Raises:
            OutputFailed: It cannot be opened for writing.
        """
        shown = shown_path(path)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise OutputFailed(
                f"{shown}: cannot be opened for writing ({reason}); choose another --output"
            ) from error
        lines = cls(descriptor, shown)
        lines._continue()
        return lines

    @classmethod
    def to_stdout(cls) -> JsonLines:
        """Write to standard output, on a descriptor of its own.

        Raises:
            OutputFailed: Standard output is closed.
        """
        try:
            return cls(os.dup(1), "standard output")
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

    def write(self, record: Record) -> None:
        """Write one record as one line.

        Raises:
            OutputFailed: A full disk, a reader that has gone, or a failure before this.
        """
        self._write(record.to_json().encode() + b"\n")

    def close(self) -> None:
        """Close the descriptor.

        Raises:
            OutputFailed: Some file systems report a full disk only now.
        """
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            try:
                os.close(descriptor)
            except OSError as error:
                raise OutputFailed(f"{self.name}: {error.strerror}; the last records may be missing") from error

    def _continue(self) -> None:
        """Say that records are appended; a half line that a power cut left behind is closed with a line break."""
        assert self._descriptor is not None
        size = os.fstat(self._descriptor).st_size
        if not self._regular or size == 0:
            return
        log.warning("%s: exists, records are appended to it", self.name)
        if os.pread(self._descriptor, 1, size - 1) != b"\n":
            self._write(b"\n")

    def _write(self, line: bytes) -> None:
        if self._descriptor is None:
            raise OutputFailed(f"{self.name}: was closed before this record")
        before = os.fstat(self._descriptor).st_size
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            if self._regular and len(rest) < len(line):
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, before)
            with contextlib.suppress(OutputFailed):
                self.close()
            if isinstance(error, BrokenPipeError):
                raise OutputFailed(f"{self.name}: its reader has gone; the rest was not written") from error
            raise OutputFailed(
                f"{self.name}: cannot be written ({error.strerror}); free some space or choose another --output"
            ) from error


def unfinished_events(path: Path) -> list[EventRecord]:
    """Events in a file of records that were begun and not ended, because their run was killed; as told last.

    Args:
        path: The file; its last 4 MiB are read. One that is not there, or cannot be read, holds none.
    """
    open_events: dict[str, EventRecord] = {}
    for line in _last_lines(path):
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


def _last_lines(path: Path) -> list[bytes]:
    try:
        with path.open("rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return []
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            return file.read().splitlines()
    except (OSError, ValueError):
        return []


@contextlib.contextmanager
def stdout_for_records_only() -> Iterator[JsonLines]:
    """Send records to standard output, and everything else that native libraries print there to standard error."""
    with JsonLines.to_stdout() as lines:
        kept = os.dup(1)
        try:
            with contextlib.suppress(OSError):  # standard error may be closed
                os.dup2(2, 1)
            yield lines
        finally:
            os.dup2(kept, 1)
            os.close(kept)
