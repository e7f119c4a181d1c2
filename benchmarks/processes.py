"""Commands as their own processes: what they took of time and memory, and what they said."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from benchmarks.measuring import GIB

ROOT = Path(__file__).parent.parent
# In front of what one of the children may have set: they import the code that this runs.
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}

_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended.

    Attributes:
        code: Its exit code, negative where a signal ended it.
        seconds: By the clock on the wall.
        cpu_s: Seconds of all cores.
        peak_gib: The largest resident set of the process; Linux counts in it what this one held when it was started.
        own_gib: The largest part of it that no file backs, seen ten times a second: mapped weights the system takes
            back when memory is short. None where it does not tell them apart.
        output: What it wrote on stdout.
        last: The last line that it wrote at all, as an error is.
    """

    code: int
    seconds: float
    cpu_s: float
    peak_gib: float
    own_gib: float | None
    output: str
    last: str


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Ran:
    """Run a command to its end, passing on what it writes to stderr, and ask the system what it took.

    Args:
        command: Its words.
        environment: Variables beside those of this process.
    """
    begun = time.monotonic()
    last: list[str] = []
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=ENVIRONMENT | dict(environment or {}),
        )
        assert process.stderr is not None
        reader = threading.Thread(target=_pass_on, args=(process.stderr, last))
        reader.start()
        watch = _Watch(process.pid)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        finally:
            own = watch.stop()
        process.returncode = os.waitstatus_to_exitcode(status)
        reader.join()
        output.seek(0)
        written = output.read()
    lines = [line for line in written.splitlines() if line.strip()] if not process.returncode else []
    return Ran(
        code=process.returncode,
        seconds=time.monotonic() - begun,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_gib=usage.ru_maxrss * 1024 / GIB,
        own_gib=own / GIB if own else None,
        output=written,
        last=lines[-1] if lines else last[0] if last else "",
    )


def benchmark(*words: str) -> list[str]:
    """The command line of a measurement here."""
    return [sys.executable, "-m", "benchmarks", *words]


def room(model: str, work: Path) -> Path:
    """The folder of all that belongs to a model, which goes when its measurements are done."""
    return work / Path(model).name


def tool(name: str) -> str:
    """A command of the environment that runs this."""
    return str(Path(sys.executable).with_name(name))


class _Watch:
    """The largest memory of a process that no file backs, from now on."""

    def __init__(self, process: int) -> None:
        self._status = Path(f"/proc/{process}/status")
        self._largest = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def stop(self) -> int:
        """Bytes; 0 where the system does not say."""
        self._ended.set()
        self._thread.join()
        return self._largest

    def _look(self) -> None:
        while True:
            with suppress(OSError):
                fields = dict(line.split(":", 1) for line in self._status.read_text().splitlines())
                # A process that has ended holds nothing, and has no such line.
                self._largest = max(self._largest, int(fields.get("RssAnon", "0 kB").split()[0]) * 1024)
            if self._ended.wait(_EVERY_S):
                return


def _pass_on(source: IO[str], last: list[str]) -> None:
    """Show lines as they come, and keep the newest."""
    for line in source:
        sys.stderr.write(line)
        sys.stderr.flush()
        if line.strip():
            last[:] = [line.strip()]
