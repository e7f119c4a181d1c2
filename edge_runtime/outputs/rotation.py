"""Files of records that begin anew when they are large or old: `out.jsonl` goes on, `out.jsonl.1` is the one before.

A record lies in one file as a whole. What is renamed stays open to whoever writes or reads it.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from msgspec import UNSET

from edge_runtime.records import RunRecord, read_record

_FIRST_LINE = 2**16


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a file begins anew, and how many are kept.

    Attributes:
        most_bytes: A record that would make the file larger begins a new one; None for any size.
        most_s: A record that comes so long after the file was begun begins a new one, in seconds; None for any age.
        keep: How many older files are kept; older ones are deleted.
    """

    most_bytes: int | None = None
    most_s: float | None = None
    keep: int = 10

    def __post_init__(self) -> None:
        if self.most_bytes is not None and self.most_bytes < 1:
            raise ValueError(f"a file of at most {self.most_bytes} bytes holds no record")
        if self.most_s is not None and not self.most_s > 0:
            raise ValueError(f"a file cannot begin anew every {self.most_s:g} seconds")
        if self.keep < 1:
            raise ValueError(f"a rotation that keeps {self.keep} older files loses records")

    def is_due(self, size: int, added: int, age_s: float) -> bool:
        """Whether a file of this size and age begins anew before `added` bytes. An empty one never does."""
        if not size:
            return False
        too_large = self.most_bytes is not None and size + added > self.most_bytes
        return too_large or (self.most_s is not None and age_s >= self.most_s)

    def make_way(self, path: Path) -> None:
        """Rename the file to `.1`, `.1` to `.2` and so on, and delete the oldest.

        Raises:
            OSError: It could not be renamed; it has its name still.
        """
        for number in range(self.keep, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                older_file(path, number - 1).replace(older_file(path, number))


def older_file(path: Path, number: int) -> Path:
    """The file before a file, the one before that and so on, counted from 1; 0 is the file itself."""
    return path.with_name(f"{path.name}.{number}") if number else path


def begun_at(descriptor: int) -> float:
    """When a file of records was begun, in seconds since 1970; now where its first record has no time."""
    now = time.time()
    try:
        first = os.pread(descriptor, _FIRST_LINE, 0).split(b"\n", 1)[0]
        record = read_record(first)
        told = record.started if isinstance(record, RunRecord) else record.time
        # Of a clock that was ahead: as if it were new.
        return now if told is UNSET else min(now, datetime.fromisoformat(str(told)).timestamp())
    except (OSError, ValueError, OverflowError):
        return now
