"""A real MQTT broker as a child process, to be killed, paused and restarted, and somebody who listens to it.

def test_x(broker):                 # import the fixture: from broker import broker
    broker.start()
    ... broker.port ... broker.kill() ... broker.start() ... broker.pause() ... broker.resume()
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from rtsp import free_port

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
MOSQUITTO_PASSWD = shutil.which("mosquitto_passwd")
READY_S = 20.0


def until(true: Callable[[], Any], limit_s: float = 20.0) -> Any:
    """Wait until something is so, and return it; a test that waits in vain fails."""
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        if found := true():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


class Broker:
    """mosquitto on the loopback. What clients subscribed to outlives a kill once `save` was called.

    Args:
        folder: For its files.
        lines: Further lines of its configuration, for its one listener.
        port: The one to listen on; kept over restarts.
    """

    def __init__(
        self, folder: Path, lines: tuple[str, ...] = ("allow_anonymous true",), port: int | None = None
    ) -> None:
        self.folder, self.lines, self.port = folder, lines, port or free_port()
        self.log = folder / "mosquitto.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, or start again; returns once it listens."""
        assert MOSQUITTO is not None
        configuration = self.folder / "mosquitto.conf"
        own = (f"listener {self.port} 127.0.0.1", "persistence true", f"persistence_location {self.folder}/")
        # Started by root it would change to a user who may not read the folder.
        configuration.write_text(
            "\n".join(("user root", *own, "log_dest stderr", "log_type all", *self.lines)) + "\n"
        )
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([MOSQUITTO, "-c", str(configuration)], stderr=log, stdout=log)
        until(self._listens, READY_S)

    def kill(self) -> None:
        """SIGKILL: what it had not saved is lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        """SIGSTOP: connections stay, nothing is answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def save(self) -> None:
        """SIGUSR1: write subscriptions and retained messages to disk."""
        assert self.process is not None
        before = self.log.read_text().count("Saving in-memory database")
        self.process.send_signal(signal.SIGUSR1)
        until(lambda: self.log.read_text().count("Saving in-memory database") > before)

    def _listens(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"mosquitto did not start: {self.log.read_text()[-500:]}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@dataclass(frozen=True)
class Heard:
    """One message as a subscriber gets it."""

    topic: str
    payload: bytes
    retained: bool

    @property
    def text(self) -> str:
        return self.payload.decode()

    @property
    def json(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self.payload)
        return values


class Listener:
    """Subscribes to everything, with a session that the broker keeps, and remembers what it hears."""

    def __init__(self, port: int, topic: str = "#", **login: str) -> None:
        self.heard: list[Heard] = []
        self.connected = threading.Event()
        self._topic = topic
        name = f"listener-{uuid.uuid4().hex[:8]}"
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, name, clean_session=False)
        if login:
            self.client.username_pw_set(login["user"], login["password"])
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda *_: self.client.subscribe(self._topic, 1)
        self.client.on_subscribe = lambda *_: self.connected.set()
        self.client.on_disconnect = lambda *_: self.connected.clear()
        self.client.on_message = lambda _c, _d, message: self.heard.append(
            Heard(message.topic, bytes(message.payload), message.retain)
        )
        self.client.connect_async("127.0.0.1", port, 30)
        self.client.loop_start()
        assert self.connected.wait(READY_S)

    def on(self, topic: str) -> list[Heard]:
        """What came on one topic, in order."""
        return [one for one in list(self.heard) if one.topic == topic]

    def last(self, topic: str) -> str | None:
        """The newest text on a topic."""
        found = self.on(topic)
        return found[-1].text if found else None

    def say(self, topic: str, payload: str, *, retain: bool = False) -> None:
        """Publish, and wait for the broker's word."""
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(READY_S)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def kept_by(port: int, topic: str = "#") -> dict[str, bytes]:
    """What the broker retains, by topic: what somebody gets who subscribes now."""
    listener = Listener(port, topic)
    try:
        # A message of our own comes behind all that was retained.
        mark = f"mark/{uuid.uuid4().hex}"
        listener.client.subscribe(mark, 1)
        listener.say(mark, "here")
        until(lambda: listener.on(mark))
        return {one.topic: one.payload for one in listener.heard if one.retained}
    finally:
        listener.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker that runs and lets everybody in; skipped where mosquitto is not installed."""
    if MOSQUITTO is None:
        pytest.skip("no mosquitto: apt-get install mosquitto")
    server = Broker(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def listener(broker: Broker) -> Iterator[Listener]:
    """Somebody who hears everything from the beginning."""
    one = Listener(broker.port)
    yield one
    one.close()
