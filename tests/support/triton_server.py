"""A real Triton Inference Server as a child process on the loopback, to be killed, paused and restarted.

It is the `tritonserver` of the wheel nvidia-pytriton, with the Python backend alone:
    from triton_server import TritonServer, triton_folder   # the second is a fixture
    with TritonServer(triton_folder, repository) as server: ... server.address ... server.kill() ... server.start()
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from rtsp import free_port

READY_S = 60.0


def wheel() -> Path | None:
    """The folder of the wheel nvidia-pytriton that has the server; None where it is not installed."""
    try:
        found = importlib.util.find_spec("pytriton")
    except (ImportError, ValueError):
        return None
    for place in [] if found is None else found.submodule_search_locations or []:
        if (Path(place) / "tritonserver" / "bin" / "tritonserver").is_file():
            return Path(place) / "tritonserver"
    return None


def make_backends(folder: Path) -> Path:
    """The Python backend with the stub for this interpreter beside it, which it starts for each model."""
    there = wheel()
    assert there is not None
    backends = folder / "backends"
    shutil.copytree(there / "backends", backends)
    stub = there / "python_backend_stubs" / f"{sys.version_info[0]}.{sys.version_info[1]}"
    shutil.copy(stub / "triton_python_backend_stub", backends / "python")
    return backends


@pytest.fixture(scope="session")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of backends; skips where there is no server."""
    there = wheel()
    if there is None:
        pytest.skip("no tritonserver: pip install --no-deps nvidia-pytriton")
    if not (there / "python_backend_stubs" / f"{sys.version_info[0]}.{sys.version_info[1]}").is_dir():
        pytest.skip("this tritonserver has no stub for this Python")
    return make_backends(tmp_path_factory.mktemp("triton"))


class TritonServer:
    """tritonserver on the loopback; a context manager. Its ports are kept over restarts.

    Args:
        backends: Of the fixture.
        repository: The model repository.
        options: Further options of tritonserver.
    """

    def __init__(self, backends: Path, repository: Path, options: Sequence[str] = ()) -> None:
        self.repository, self.options = repository, list(options)
        self.port, self.http_port = free_port(), free_port()
        self.log = repository.parent / f"tritonserver-{self.port}.log"
        self._backends = backends
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """What `--provider` takes."""
        return f"triton://127.0.0.1:{self.port}"

    def start(self, wait: bool = True) -> None:
        """Start, or start again; returns once all models are loaded."""
        there = wheel()
        assert there is not None
        libraries = [there.parent.parent / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR")]
        command = [
            str(there / "bin" / "tritonserver"),
            f"--model-repository={self.repository}",
            f"--backend-directory={self._backends}",
            "--http-address=127.0.0.1",
            "--grpc-address=127.0.0.1",
            f"--grpc-port={self.port}",
            f"--http-port={self.http_port}",
            "--allow-metrics=false",
            "--strict-readiness=false",
            "--exit-on-error=false",
            *self.options,
        ]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env=os.environ | {"LD_LIBRARY_PATH": ":".join(map(str, libraries))},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                # Its stubs are in its group: a kill takes them along.
                start_new_session=True,
            )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until it answers."""
        end_s = time.monotonic() + READY_S
        while time.monotonic() < end_s:
            assert self._process is not None
            if self._process.poll() is not None:
                raise AssertionError(f"tritonserver ended: {self.said()}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/v2/health/ready", timeout=1) as got:
                    if got.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.05)
        raise AssertionError(f"tritonserver is not ready: {self.said()}")

    def kill(self) -> None:
        """SIGKILL, with the processes of its models."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: connections stay, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def said(self) -> str:
        """The last of its log."""
        return self.log.read_text(errors="replace")[-3000:]

    def _signal(self, number: int) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def __enter__(self) -> TritonServer:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


@pytest.fixture(scope="session")
def served_bundle(backends: Path, bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A server with the bundle of the tests, raw and as JPEG; not to be killed."""
    from export.triton.repository import write_repository
    from offline.console import Console
    from offline.recipes.triton import measure_jpeg

    repository = tmp_path_factory.mktemp("served") / "models"
    write_repository(
        bundle, repository, here(), jpeg=measure_jpeg(bundle, 95, None, Console(quiet=True)).parameters()
    )
    with TritonServer(backends, repository) as server:
        yield server


def here(**changes):
    """How models are served by a server of this machine: in Python, with this environment's packages, one thread."""
    from export.triton.configs import Serving
    from offline.recipes.triton import packages_here

    given = {"backend": "python", "device": "cpu", "threads": 1, "max_batch": 4, "delay_us": 500}
    return Serving(**(given | {"python_path": packages_here()} | changes))
