"""Writes records to a file or a pipe as whole lines, each on its way before the next.

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
from edge_runtime.records import Record

log = logging.getLogger(__name__)


class JsonLines:
    """Records as lines of JSON on an open file descriptor, which it owns; a context manager.

    When a write fails half-way into a regular file, the half line is taken back, so that the file ends with a
    whole record. Raises OutputFailed, once: what is written after that is refused too.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self.name = name
        self._descriptor: int | None = descriptor
        self._regular = stat.S_ISREG(os.fstat(descriptor).st_mode)

    @classmethod
    def to_file(cls, path: Path) -> JsonLines:
        """Write to `path`, behind what is there: a restart must not cost the night's records.

        Raises OutputFailed where it cannot be opened for writing.
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
        """Write to standard output, on a descriptor of its own. Raises OutputFailed where that is closed."""
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
        """Write one record as one line. Raises OutputFailed."""
        self._write(record.to_json().encode() + b"\n")

    def close(self) -> None:
        """Close the descriptor. Raises OutputFailed: some file systems report a full disk only now."""
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


@contextlib.contextmanager
def stdout_for_records_only() -> Iterator[JsonLines]:
    """Records on standard output, and everything else that native libraries print there on standard error."""
    with JsonLines.to_stdout() as lines:
        kept = os.dup(1)
        try:
            with contextlib.suppress(OSError):  # standard error may be closed
                os.dup2(2, 1)
            yield lines
        finally:
            os.dup2(kept, 1)
            os.close(kept)
