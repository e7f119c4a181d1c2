"""`hh-edge`, saying every second where its processor time goes.

    python -m benchmarks.live.spent SAMPLES hh-edge run --bundle bundle --camera …

Runs the command as it is, with a clock of the thread's processor time around the few functions in which it is spent,
called some dozen times a second and camera, and appends a `Sample` a second to the file SAMPLES. Threads that are
none of Python's are those of the library that runs the graphs; what they spend is counted as theirs.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

#: What processor time is told apart into. `decoding`: receiving, too. `looks`: whether a picture is bad.
PARTS = ("decoding", "converting", "looks", "pixels", "graphs")
_EVERY_S = 1.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Sample:
    """Processor seconds since the start of the process.

    Attributes:
        at_s: When, on the machine's monotonic clock.
        all_s: Of the whole process.
        parts: Of each of PARTS.
        calls: How often each was called.
    """

    at_s: float
    all_s: float
    parts: dict[str, float]
    calls: dict[str, int]


def read_samples(path: Path) -> list[Sample]:
    """All that are whole."""
    if not path.is_file():
        return []
    return [Sample(**json.loads(line)) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def between(samples: Sequence[Sample], begin_s: float, end_s: float) -> Sample:
    """What was spent a second between two moments: a sample of differences, each by the seconds between.

    Raises:
        ValueError: Fewer than two samples lie between them.
    """
    within = [one for one in samples if begin_s <= one.at_s <= end_s]
    if len(within) < 2:
        raise ValueError(f"{len(within)} samples of processor time lie within {end_s - begin_s:.1f} s")
    first, last = within[0], within[-1]
    seconds = last.at_s - first.at_s
    return Sample(
        seconds,
        (last.all_s - first.all_s) / seconds,
        {part: (last.parts[part] - first.parts[part]) / seconds for part in PARTS},
        {part: last.calls[part] - first.calls[part] for part in PARTS},
    )


class Spent:
    """Processor seconds by part, of all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._calls = dict.fromkeys(PARTS, 0)
        self._running = threading.local()

    def timing(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, whose time counts as that of a part; where it is called by another such, as of that."""

        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            if getattr(self._running, "one", False):
                return function(*arguments, **named)
            self._running.one = True
            begun = time.thread_time()
            try:
                return function(*arguments, **named)
            finally:
                seconds = time.thread_time() - begun
                self._running.one = False
                with self._lock:
                    self._seconds[part] += seconds
                    self._calls[part] += 1

        return timed

    def sample(self) -> Sample:
        """What was spent so far."""
        with self._lock:
            parts, calls = dict(self._seconds), dict(self._calls)
        parts["graphs"] += _of_foreign_threads()
        return Sample(time.monotonic(), time.process_time(), parts, calls)


def time_everything(spent: Spent) -> None:
    """Put the clock around the functions that a run over live cameras spends its time in."""
    from edge_runtime.detector import Detector
    from edge_runtime.stream.quality import QualityWatch
    from edge_runtime.video.network import NetworkConnection
    from edge_runtime.watch import cameras, feed

    for place, name, part in (
        (NetworkConnection, "grab", "decoding"),
        (NetworkConnection, "picture", "converting"),
        (QualityWatch, "push", "looks"),
        (feed, "prepare", "pixels"),
        (cameras, "score_together", "graphs"),
        # What a run with `--encode eager` or overlapping segments calls instead.
        (Detector, "encode", "graphs"),
        (Detector, "score_segment", "graphs"),
    ):
        setattr(place, name, spent.timing(part, getattr(place, name)))


def _of_foreign_threads() -> float:
    """Processor seconds of the threads that are none of Python's."""
    own = {thread.native_id for thread in threading.enumerate()} | {os.getpid()}
    seconds = 0.0
    for task in Path("/proc/self/task").iterdir():
        if int(task.name) not in own:
            seconds += _seconds_of(task / "stat")
    return seconds


def _seconds_of(stat: Path) -> float:
    """User and system seconds of a process or thread; 0 where it has ended."""
    try:
        # The name in front may hold spaces and brackets.
        fields = stat.read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def seconds_of_process(process: int) -> float:
    """Processor seconds of a process so far; 0 where it has ended."""
    return _seconds_of(Path(f"/proc/{process}/stat"))


def _report(spent: Spent, path: Path) -> None:
    while True:
        with path.open("a") as file:
            file.write(json.dumps(asdict(spent.sample())) + "\n")
        time.sleep(_EVERY_S)


def main() -> None:
    from edge_runtime.cli import main as hh_edge

    path = Path(sys.argv.pop(1))
    sys.argv = sys.argv[1:]
    spent = Spent()
    time_everything(spent)
    threading.Thread(target=_report, args=(spent, path), daemon=True).start()
    hh_edge()


if __name__ == "__main__":
    main()
