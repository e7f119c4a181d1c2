"""A real Ray cluster of one machine on loopback, and recipes whose workers die or fail on purpose."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_runtime.errors import CacheFailed, OutputFailed, VideoUnreadable

ROOT = Path(__file__).parents[2]
# Ray reads it once in a process.
TOKEN = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    # All on one machine: everything listens on loopback alone, and is sought there.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port where nobody answers, and nobody else can in the meantime."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


@dataclass(frozen=True)
class Cluster:
    """Where it listens, and the process group that it is."""

    address: str
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def started_cluster(cpus: int = 2) -> Iterator[Cluster]:
    """`ray start --head`, and nothing of it left afterwards."""
    for tries_left in reversed(range(3)):
        with closed_port() as port:
            pass
        # The path of a socket in it may have 107 letters.
        folder = Path(tempfile.mkdtemp(prefix="hhr-", dir="/tmp"))
        process = _start(port, folder, cpus)
        try:
            # Ended at once: somebody else was faster to take the port.
            if _answers(process, port) or not tries_left:
                assert process.poll() is None, "ray start has ended"
                yield Cluster(f"127.0.0.1:{port}", process)
                return
        finally:
            _stop(process, folder)


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until a cluster is there; tells whether it did not end."""
    deadline = time.monotonic() + 90
    while process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        assert time.monotonic() < deadline, "ray start takes more than 90 s"
        time.sleep(0.2)
    return False


def _start(port: int, folder: Path, cpus: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
    command += ["--node-ip-address=127.0.0.1", f"--port={port}", f"--num-cpus={cpus}", "--num-gpus=0"]
    # Else all clusters of a machine draw their workers' ports from the same few thousand.
    command += ["--min-worker-port=0", "--max-worker-port=0"]
    command += ["--object-store-memory=80000000", "--include-dashboard=false", f"--temp-dir={folder}"]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    environment = (
        os.environ
        | TOKEN
        | {
            "PYTHONPATH": paths,
            "OMP_NUM_THREADS": "1",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
    )
    return subprocess.Popen(
        command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def _stop(process: subprocess.Popen[bytes], folder: Path) -> None:
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(15)
    # Its workers have sessions of their own; what still names the folder is ours.
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            number = int(entry.name)
            if str(folder).encode() in (entry / "cmdline").read_bytes():
                os.kill(number, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Cluster]:
    """A cluster with two CPUs."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed (extra [ray])")
    with pytest.MonkeyPatch.context() as patch, started_cluster() as cluster:
        for name, value in TOKEN.items():
            patch.setenv(name, value)
        yield cluster


@dataclass(frozen=True)
class Named:
    """A task that is nothing but its name."""

    name: str

    def do(self, loaded: Fragile | Sick) -> tuple[int, str]:
        return loaded.run(self.name)


def named(*names: str) -> dict[str, Named]:
    return {name: Named(name) for name in names}


@dataclass(frozen=True)
class Fragile:
    """A recipe whose workers die, fail or answer, as the task says.

    Attributes:
        folder: Where a worker notes that it has run a task, a file for each time.
        dies_loading: How often a worker dies before it gets as far as a task.
        refuses: How many workers say that they cannot load.
        sick: How many workers fail with every task, at once, where others take their time.
    """

    folder: Path
    dies_loading: int = 0
    refuses: int = 0
    sick: int = 0
    gpu = False

    def open(self, share: float) -> Fragile | Sick:
        if self._first("dies", self.dies_loading):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._first("refuses", self.refuses):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return Sick(self.folder) if self._first("sick", self.sick) else self

    def _first(self, what: str, times: int) -> bool:
        """Whether this is among the first, of all workers, who ask."""
        for number in range(times):
            with contextlib.suppress(FileExistsError):
                (self.folder / f"{what}-{number}").touch(exist_ok=False)
                return True
        return False

    def run(self, task: str) -> tuple[int, str]:
        before = len(list(self.folder.glob(f"{task}.*")))
        (self.folder / f"{task}.{before}").touch()
        if task == "fails, then dies" and before == 0:
            raise ZeroDivisionError("division by zero")
        if task in {"dies", "fails, then dies"} or (task == "dies once" and before == 0):
            os.kill(os.getpid(), signal.SIGKILL)
        if task == "hangs once" and before == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
        if task == "broken":
            raise VideoUnreadable("broken.mp4: not one frame can be decoded")
        if task == "odd":
            raise ZeroDivisionError("division by zero")
        if task == "full":
            raise OutputFailed("store: cannot be written (No space left on device); free some space")
        # Until the sick one has failed with enough for anybody to take note.
        deadline = time.monotonic() + 60
        while self.sick and len(list(self.folder.glob("failed-*"))) < 6 and time.monotonic() < deadline:
            time.sleep(0.02)
        return 10, task.upper()


class Unknown(Fragile):
    """A recipe that a worker's machine does not know."""

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return _unknown, ()


def _unknown() -> None:
    raise ModuleNotFoundError("No module named 'offline.newer'")


@dataclass(frozen=True)
class Sick:
    """A worker on a machine that cannot read what others can."""

    folder: Path

    def run(self, task: str) -> tuple[int, str]:
        (self.folder / f"failed-{task}").touch()
        raise CacheFailed(f"{task}: cannot be kept (No space left on device)")
