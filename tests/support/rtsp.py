"""Cameras as child processes: a real RTSP server and a real MJPEG server, to be killed, paused and restarted.

def test_x(rtsp_server):            # import the fixture in conftest.py: from rtsp import rtsp_server
    server = rtsp_server(size=(320, 240), fps=10)
    ... server.url ... server.kill() ... server.start() ... server.pause() ... server.resume()
"""

from __future__ import annotations

import contextlib
import functools
import secrets
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SYSTEM_PYTHON = Path("/usr/bin/python3")
SERVER = Path(__file__).with_name("rtsp_server.py")
READY_S = 20.0


def free_port() -> int:
    """A TCP port of the loopback that nobody has at this moment.

    Below those that the system gives to connections: a server that is killed and started again finds it free.
    """
    while True:
        # Not of `random`, which hypothesis seeds alike in all workers.
        port = 15_000 + secrets.randbelow(17_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@functools.cache
def rtsp_missing() -> str | None:
    """Why no RTSP server can be run here, or None."""
    if not SYSTEM_PYTHON.exists():
        return f"no {SYSTEM_PYTHON}"
    if shutil.which("ffmpeg") is None:
        return "no ffmpeg"
    check = (
        "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0'); "
        "from gi.repository import Gst, GstRtspServer; Gst.init(None); "
        "missing = [n for n in ('x264enc', 'jpegenc', 'rtph264pay', 'videotestsrc', 'rawvideoparse') "
        "if Gst.ElementFactory.find(n) is None]; "
        "raise SystemExit(f'no GStreamer element {missing}' if missing else 0)"
    )
    done = subprocess.run([SYSTEM_PYTHON, "-c", check], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 0:
        return None
    last = done.stderr.strip().splitlines()[-1:] or ["unknown"]
    return f"{last[0]}: apt install gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-{{base,good,ugly}}"


class _Child:
    """One child process that can be killed, paused and always ends with the test."""

    process: subprocess.Popen[str] | None = None

    def kill(self) -> None:
        """SIGKILL: the camera loses its power. Harmless if it is gone already."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdout, self.process.stderr):
                if pipe is not None:
                    pipe.close()
            self.process = None

    stop = kill

    def pause(self) -> None:
        """SIGSTOP: the connection stays, nothing comes."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


class RtspServer(_Child):
    """An RTSP camera on the loopback: a moving test pattern or, with `file`, real footage.

    The port is chosen at the first start and kept, so that a killed camera comes back at its address.
    """

    def __init__(
        self,
        *,
        size: tuple[int, int] = (320, 240),
        fps: int = 10,
        codec: str = "h264",
        file: Path | str | None = None,
        loop: bool = False,
        shared: bool = False,
        port: int = 0,
        login: tuple[str, str] | None = None,
    ) -> None:
        self.size, self.fps, self.codec, self.file, self.loop = size, fps, codec, file, loop
        self.shared, self.port, self.login = shared, port, login

    @property
    def url(self) -> str:
        """The address, with the login where one is asked for."""
        user = f"{self.login[0]}:{self.login[1]}@" if self.login else ""
        return f"rtsp://{user}127.0.0.1:{self.port}/stream"

    def start(self) -> None:
        """Start, or start again after kill(); returns once the server listens."""
        command = [str(SYSTEM_PYTHON), str(SERVER), "--port", str(self.port), "--fps", str(self.fps)]
        command += ["--size", "{}x{}".format(*self.size), "--codec", self.codec]
        command += ["--file", str(self.file)] if self.file is not None else []
        command += ["--loop"] if self.loop else []
        command += ["--shared"] if self.shared else []
        command += ["--user", self.login[0], "--password", self.login[1]] if self.login else []
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], READY_S)
        words = self.process.stdout.readline().split() if ready else []
        if words[:1] != ["ready"]:
            self.kill()
            raise RuntimeError(f"the RTSP server did not start on port {self.port}")
        self.port = int(words[1])


class MjpegServer(_Child):
    """An MJPEG camera over HTTP that serves one client and then ends, as `ffmpeg -listen 1` does."""

    def __init__(self, *, size: tuple[int, int] = (320, 240), fps: int = 10, port: int = 0) -> None:
        self.size, self.fps = size, fps
        self.port = port if port else free_port()

    @property
    def url(self) -> str:
        """The address."""
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start; returns once the port listens (looked up, not tried: a try would be its one client)."""
        source = "testsrc=size={}x{}:rate={}".format(*self.size, self.fps)
        command = ["ffmpeg", "-v", "error", "-nostdin", "-re", "-f", "lavfi", "-i", source]
        command += ["-c:v", "mjpeg", "-q:v", "5", "-f", "mpjpeg", "-listen", "1", self.url]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
        deadline = time.monotonic() + READY_S
        while not _serves(self.port):
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.kill()
                raise RuntimeError(f"the MJPEG server did not start on port {self.port}")
            time.sleep(0.02)


def _serves(port: int) -> bool:
    # A camera that tries again all the time may have connected before we look; the server then listens no more.
    listening, connected = "0A", "01"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") and row[3] in (listening, connected) for row in rows)


@pytest.fixture
def rtsp_server() -> Iterator[Callable[..., RtspServer]]:
    """Factory of running RTSP servers, arguments as of RtspServer; all are killed at the end of the test."""
    reason = rtsp_missing()
    if reason is not None:
        pytest.skip(reason)
    servers: list[RtspServer] = []

    def build(**options: object) -> RtspServer:
        server = RtspServer(**options)  # type: ignore[arg-type]  # passed on as they are
        servers.append(server)
        server.start()
        return server

    yield build
    for server in servers:
        server.kill()


@pytest.fixture
def mjpeg_server() -> Iterator[Callable[..., MjpegServer]]:
    """Factory of running MJPEG servers, arguments as of MjpegServer; all are killed at the end of the test."""
    if shutil.which("ffmpeg") is None or not Path("/proc/net/tcp").exists():
        pytest.skip("no ffmpeg, or no /proc")
    servers: list[MjpegServer] = []

    def build(**options: object) -> MjpegServer:
        server = MjpegServer(**options)  # type: ignore[arg-type]  # passed on as they are
        servers.append(server)
        server.start()
        return server

    yield build
    for server in servers:
        server.kill()
