"""Cameras that faults are done to: a real RTSP server each, behind a proxy that can be told to be a bad network."""

from __future__ import annotations

import asyncio
import random
import select
import signal
import socket
import subprocess
import threading
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from benchmarks.faults.names import Answer, NameServer

ROOT = Path(__file__).parent.parent.parent
SERVER = ROOT / "tests" / "support" / "rtsp_server.py"
SYSTEM_PYTHON = "/usr/bin/python3"
_READY_S = 30.0
_SLOW = 1024
_CORRUPT = 200

Mode = Literal["pass", "slow", "corrupt", "silent", "refuse"]


def lasting_port() -> int:
    """A port of the loopback that nobody has, and that the system gives to nobody while its server is down."""
    chance = random.SystemRandom()
    while True:
        # Below those that outgoing connections take.
        port = chance.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Server:
    """GStreamer's RTSP server as a child process."""

    def __init__(self) -> None:
        self.port = lasting_port()
        self._process: subprocess.Popen[str] | None = None

    def start(self, size: str, codec: str, login: tuple[str, str]) -> None:
        """Start, on the port of the last time; returns once it listens."""
        self.kill()
        words = [
            SYSTEM_PYTHON,
            str(SERVER),
            "--port",
            str(self.port),
            "--size",
            size,
            "--codec",
            codec,
            "--fps",
            "10",
        ]
        words += ["--user", login[0], "--password", login[1]]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _READY_S)
        said = self._process.stdout.readline().split() if ready else []
        if said[:1] != ["ready"]:
            raise RuntimeError(f"the RTSP server did not start on port {self.port}")
        self.port = int(said[1])

    def kill(self) -> None:
        """SIGKILL; harmless where it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it."""
        if self._process is not None:
            self._process.send_signal(number)


class Proxy:
    """A TCP proxy on a port of its own, in a thread of its own.

    Args:
        target: The port that it leads to.
        slow: Bytes a second that it passes where it is slow.
    """

    def __init__(self, target: int, slow: int = _SLOW) -> None:
        self.target = target
        self._slow = slow
        self._mode: Mode = "pass"
        self._loop = asyncio.new_event_loop()
        self._chance = random.Random(target)
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = lasting_port()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._do(self._listen())

    def set(self, mode: Mode) -> None:
        """Behave so from now on. What is open is cut where a mode is about new connections."""
        self._do(self._change(mode))

    def cut(self) -> None:
        """End the connections that are open; new ones are taken."""
        self._do(self._abort())

    def close(self) -> None:
        """End."""
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _do(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)  # type: ignore[arg-type]

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _change(self, mode: Mode) -> None:
        self._mode = mode
        if mode in ("silent", "refuse"):
            await self._abort()
        if mode == "refuse" and self._server is not None:
            self._server.close()
            self._server = None
        elif mode != "refuse" and self._server is None:
            await self._listen()

    async def _end(self) -> None:
        await self._change("refuse")
        serving = asyncio.all_tasks() - {asyncio.current_task()}
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _abort(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if self._mode == "silent":
                while await reader.read(4096):
                    pass
                return
            there, here = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers.add(here)
            try:
                await asyncio.gather(self._pump(reader, here), self._pump(there, writer, bad=True))
            finally:
                self._writers.discard(here)
                here.transport.abort()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, bad: bool = False) -> None:
        while data := await source.read(_SLOW if bad and self._mode == "slow" else 65536):
            if bad and self._mode == "slow":
                await asyncio.sleep(len(data) / self._slow)
            if bad and self._mode == "corrupt":
                data = self._spoiled(data)
            sink.write(data)
            await sink.drain()
        sink.transport.abort()

    def _spoiled(self, data: bytes) -> bytes:
        spoiled = bytearray(data)
        for _ in range(max(1, len(data) // _CORRUPT)):
            spoiled[self._chance.randrange(len(data))] = self._chance.randrange(256)
        return bytes(spoiled)


class Camera:
    """One camera with all that can be done to it; a context manager.

    Args:
        name: What the run calls it.
        names: Who knows its address; without, the address stands in its URL.

    Attributes:
        other: Whether it starts at the other size and codec.
    """

    def __init__(self, name: str, names: NameServer | None = None) -> None:
        self.name = name
        self._names = names
        self._host = "127.0.0.1" if names is None else f"{name}.faults.test"
        self.other = False
        self.server = Server()
        self._login = ("operator", "first")
        self.start()
        self.proxy = Proxy(self.server.port)

    @property
    def url(self) -> str:
        """Through the proxy, with the first login."""
        return f"rtsp://operator:first@{self._host}:{self.proxy.port}/stream"

    def start(self) -> None:
        """Start the server."""
        size, codec = ("320x240", "mjpeg") if self.other else ("640x360", "h264")
        self.server.start(size, codec, self._login)

    def open(self) -> None:
        """The network is good again."""
        self.proxy.set("pass")

    def pause(self) -> None:
        """SIGSTOP."""
        self.server.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.server.signal(signal.SIGCONT)

    def lock(self) -> None:
        """Restart with another password."""
        self._login = ("operator", "second")
        self.start()

    def unlock(self) -> None:
        """Restart with the first."""
        self._login = ("operator", "first")
        self.start()

    def forget(self, answer: Answer) -> None:
        """Its name is no longer known, and its connection is cut."""
        assert self._names is not None
        self._names.answer(self._host, answer)
        self.proxy.cut()

    def remember(self) -> None:
        """Its name is known again."""
        assert self._names is not None
        self._names.answer(self._host, "address")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.proxy.close()
        self.server.kill()
