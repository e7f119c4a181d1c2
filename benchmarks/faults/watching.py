"""One `hh-edge run` as a child process, and its records as they come."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.processes import ENVIRONMENT, tool

Record = dict[str, Any]
_STOP_S = 10.0


@dataclass(frozen=True, slots=True)
class Read:
    """A record and the time at which it was read, in seconds since the epoch."""

    record: Record
    at: float


class Watching:
    """The run; a context manager.

    Args:
        bundle: What scores.
        cameras: URLs by name.
        more: Further words of the command.
        prefix: Words before it.
    """

    def __init__(
        self, bundle: Path, cameras: Mapping[str, str], more: Sequence[str] = (), prefix: Sequence[str] = ()
    ) -> None:
        words = [
            *prefix,
            tool("hh-edge"),
            "run",
            "--bundle",
            str(bundle),
            "--locator",
            "low_latency",
            "--quiet",
            *more,
        ]
        for name, url in cameras.items():
            words += ["--camera", f"{name}={url}"]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
        self._read: list[Read] = []
        self._segments: Counter[str] = Counter()
        self._changed = threading.Condition()
        self._started_s = 0.0
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def segments(self, camera: str) -> int:
        """How many records of segments a camera has had."""
        return self._segments[camera]

    def began(self, record: Record) -> float:
        """When what a record speaks of began, in seconds since the epoch."""
        ended = datetime.fromisoformat(record["time"]).timestamp()
        return float(ended - (record["end_s"] - record["start_s"]))

    def first(self, wanted: Callable[[Record], bool], since: float, limit_s: float) -> Read | None:
        """The first record of a kind that is read after a moment; None where none comes in time."""
        deadline, seen = time.time() + limit_s, 0
        with self._changed:
            while True:
                for one in self._read[seen:]:
                    if one.at >= since and wanted(one.record):
                        return one
                seen = len(self._read)
                if (left := deadline - time.time()) <= 0 or not self._changed.wait(left):
                    return None

    def wait_until(self, condition: Callable[[], bool], limit_s: float) -> None:
        """Wait for records.

        Raises:
            TimeoutError: They did not come.
        """
        with self._changed:
            if not self._changed.wait_for(condition, limit_s):
                raise TimeoutError(f"the run did not get so far within {limit_s:g} s")

    def _follow(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            record = json.loads(line)
            with self._changed:
                self._read.append(Read(record, time.time()))
                if record["type"] == "segment":
                    self._segments[record["camera"]] += 1
                self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._thread.join()
