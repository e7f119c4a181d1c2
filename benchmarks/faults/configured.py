"""One `hh-edge run --config` as a child process in a folder of its own: configuration, records and log."""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.processes import ENVIRONMENT
from edge_runtime.bundle.manifest import MANIFEST, seal

Record = dict[str, Any]
Settings = dict[str, Any]
_STOP_S = 20.0


class Follower:
    """Reads the lines of a file as they come, also where the file is renamed to `.1` and begun anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._offset = 0

    def lines(self) -> list[bytes]:
        """The whole lines that came since the last call."""
        found: list[bytes] = []
        while self._opened():
            found += self._new()
            following = self._following()
            if following is None:
                return found
            # Until it was renamed it was written to.
            found += self._new()
            assert self._file is not None
            os.close(self._file)
            self._file, self._offset = os.open(following, os.O_RDONLY), 0
        return found

    def close(self) -> None:
        """End."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _opened(self) -> bool:
        if self._file is None and self._path.exists():
            self._file = os.open(self._path, os.O_RDONLY)
        return self._file is not None

    def _new(self) -> list[bytes]:
        assert self._file is not None
        # Half a line is read again: it may be taken back.
        found = os.pread(self._file, os.fstat(self._file).st_size, self._offset)
        whole = found[: found.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.splitlines()

    def _following(self) -> Path | None:
        """The file that was begun after the one that is open; None while it is the newest."""
        assert self._file is not None
        own, newer = os.fstat(self._file).st_ino, None
        for number in range(1000):
            path = self._path.with_name(f"{self._path.name}.{number}") if number else self._path
            try:
                if path.stat().st_ino == own:
                    return newer
            except FileNotFoundError:
                if number:
                    return None
                # It was renamed, and is not begun anew yet.
                continue
            newer = path
        return None


class Edge:
    """The run; a context manager that kills it if it still runs.

    Args:
        folder: For its configuration, log and spool, and its records unless `settings` say otherwise.
        settings: Its configuration.
        more: Further words of the command.
        environment: Variables beside those of this process.
        output: Where its standard output goes; by default nowhere.
        log: Where its standard error goes; by default `log` in the folder. It is appended to.

    Attributes:
        records: All that were read so far, of all its runs.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        *,
        more: tuple[str, ...] = ("--provider", "cpu", "--threads", "1"),
        environment: Mapping[str, str] | None = None,
        output: Path | None = None,
        log: Path | None = None,
    ) -> None:
        self.folder, self.more, self.output = folder, more, output
        self.environment = dict(environment or {})
        self.log = log or folder / "log"
        self.records: list[Record] = []
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "cameras.yaml"
        self.configure(settings)
        written = settings.get("output", {}).get("path")
        self._follower = Follower(folder / written if written else output or folder / "records.jsonl")
        self._reading = threading.Lock()

    def configure(self, settings: Settings) -> None:
        """Write the configuration."""
        # JSON is YAML.
        self._path.write_text(json.dumps(settings, indent=1))
        self._path.chmod(0o600)

    def start(self) -> None:
        """Start; returns at once."""
        words = [sys.executable, "-m", "edge_runtime.cli", "run", "--config", str(self._path), *self.more]
        output = open(self.output or os.devnull, "ab")  # noqa: SIM115  the child's
        with output, self.log.open("ab") as log:
            self.process = subprocess.Popen(words, stdout=output, stderr=log, env=ENVIRONMENT | self.environment)

    def begin(self, limit_s: float = 120.0) -> None:
        """Start, and wait for its first record: from then on it ends as it should."""
        before = len(self.of("run"))
        self.start()
        self.until(lambda: len(self.of("run")) > before, "the run begins", limit_s)

    def kill(self) -> None:
        """SIGKILL; harmless where it does not run."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Have it end; returns its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(_STOP_S)
        self.process = None
        return code

    def reload(self, settings: Settings) -> None:
        """Write another configuration, and have it read."""
        assert self.process is not None
        self.configure(settings)
        self.process.send_signal(signal.SIGHUP)

    def read(self) -> list[Record]:
        """All records so far."""
        with self._reading:
            self.records += map(json.loads, self._follower.lines())
            return list(self.records)

    def of(self, kind: str, camera: str | None = None) -> list[Record]:
        """The records of one type so far, of one camera or all."""
        return [one for one in self.read() if one["type"] == kind and camera in (None, one.get("camera"))]

    def told(self) -> str:
        """Its log so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def until(self, true: Callable[[], Any], what: str, limit_s: float = 120.0) -> Any:
        """Wait until something is so, and return it.

        Raises:
            RuntimeError: The run has ended, or it was not so in time.
        """
        deadline = time.monotonic() + limit_s
        while not (found := true()):
            if self.process is not None and self.process.poll() is not None:
                raise RuntimeError(f"the run ended with {self.process.returncode}: {self.told()[-2000:]}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"{what}: not within {limit_s:g} s; {self.told()[-2000:]}")
            time.sleep(0.1)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._follower.close()


def eventful(bundle: Path, target: Path, cameras: Mapping[str, str], frames: int | None = None) -> Path:
    """A copy of a bundle to which about every second segment of these cameras is anomalous, so that events end.

    Args:
        bundle: Any.
        target: Where the copy goes.
        cameras: URLs by name.
        frames: Of a segment, instead of what the bundle says.
    """
    _copy(bundle, target, 0.0, frames)
    settings = {**plain(target, cameras), "output": {"path": "records.jsonl"}}
    with Edge(target.with_name(f"{target.name}-scores"), settings) as edge:
        edge.start()
        edge.until(lambda: all(len(edge.of("segment", name)) >= 12 for name in cameras), "twelve segments a camera")
        scores = [one["score"] for one in edge.of("segment")]
    shutil.rmtree(target)
    _copy(bundle, target, statistics.median(scores), frames)
    return target


def plain(bundle: Path, cameras: Mapping[str, str]) -> Settings:
    """A configuration without outputs."""
    return {
        "version": 1,
        "bundle": str(bundle),
        "locator": "low_latency",
        "cameras": {name: {"source": url} for name, url in cameras.items()},
    }


def _copy(bundle: Path, target: Path, threshold: float, frames: int | None) -> None:
    shutil.copytree(bundle, target)
    document = json.loads((target / MANIFEST).read_text())
    spec = {"sigma": 0.0, "threshold": threshold, "lookahead": 0, "calibrated": True, "f1": None}
    document["locators"] = {"full": spec, "low_latency": spec}
    if frames is not None:
        document["segment"]["frames"] = frames
    (target / MANIFEST).write_bytes(seal(document))
