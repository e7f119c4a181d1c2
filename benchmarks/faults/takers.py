"""Who takes records: a real mosquitto with a subscriber, and a receiver of webhooks; each can be down for a while."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.faults.cameras import lasting_port

Record = dict[str, Any]
SECRET = "whsec_czNjcmV0czNjcmV0czNjcmV0czNjcmV0"
_READY_S = 30.0


def mosquitto() -> str | None:
    """The broker's program, or None where it is not installed."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


@dataclass(frozen=True, slots=True)
class Arrival:
    """A record that somebody got, and when, in seconds since the epoch."""

    record: Record
    at: float


class Broker:
    """mosquitto on the loopback, on one port; a context manager. Its subscriber's session outlives that it is down.

    Attributes:
        arrivals: The events that its subscriber heard, in order.
    """

    def __init__(self, folder: Path) -> None:
        from paho.mqtt import client as paho

        folder.mkdir(parents=True, exist_ok=True)
        self.port, self.arrivals = lasting_port(), list[Arrival]()
        self._folder, self._subscribed = folder, threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous true", "user root", "max_queued_messages 0"]
        lines += ["persistence true", f"persistence_location {folder}/", f"log_dest file {folder}/mosquitto.log"]
        # So that a subscription is known after a kill, too.
        lines += ["autosave_on_changes true", "autosave_interval 1"]
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, "hearer", clean_session=False)
        client.reconnect_delay_set(1, 1)
        client.on_connect = lambda *_: client.subscribe("headhunt/+/event", 1)
        client.on_subscribe = lambda *_: self._subscribed.set()
        client.on_message = lambda _c, _d, message: self._hear(message.payload)
        self._client = client

    def up(self) -> None:
        """Start; returns once it listens."""
        program = mosquitto()
        assert program is not None
        words = [program, "-c", str(self._folder / "mosquitto.conf")]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + _READY_S
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError(f"mosquitto did not start on port {self.port}")

    def down(self, *, kill: bool = False) -> None:
        """Have it save what it knows and end, or SIGKILL it; harmless where it does not run."""
        if self._process is not None:
            if kill:
                self._process.kill()
            else:
                self._process.terminate()
            self._process.wait(_READY_S)
            self._process = None

    def _hear(self, payload: bytes) -> None:
        record = json.loads(payload)
        del record["event_type"]
        self.arrivals.append(Arrival(record, time.time()))

    def __enter__(self) -> Self:
        self.up()
        self._client.connect_async("127.0.0.1", self.port, 30)
        self._client.loop_start()
        if not self._subscribed.wait(_READY_S):
            raise RuntimeError("the subscriber was not heard by mosquitto")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self.down()


class Receiver:
    """A receiver of webhooks on the loopback, on one port; a context manager.

    Attributes:
        arrivals: What it got and answered, in order.
    """

    def __init__(self) -> None:
        self.port, self.arrivals = lasting_port(), list[Arrival]()
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/hook"

    def up(self) -> None:
        """Listen."""
        arrivals = self.arrivals

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                arrivals.append(Arrival(json.loads(body), time.time()))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Who was killed hangs up: no word about it."""

        self._server = Server(("127.0.0.1", self.port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def down(self) -> None:
        """Nobody listens any more; harmless where nobody did."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = self._thread = None

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()


def outputs(broker: Broker, receiver: Receiver, kinds: list[str] | None = None) -> dict[str, Any]:
    """What a configuration says of both: the receiver gets records of these kinds, by default of all."""
    return {"mqtt": {"host": "127.0.0.1", "port": broker.port}, **hooks(receiver, kinds)}


def hooks(receiver: Receiver, kinds: list[str] | None = None) -> dict[str, Any]:
    """What a configuration says of the receiver alone."""
    kinds = kinds or ["run", "segment", "event", "gap", "camera"]
    return {"webhook": [{"url": receiver.url, "secret": SECRET, "kinds": kinds}]}
