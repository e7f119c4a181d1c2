"""What strangers cost a run that can be reached: how much later segments are scored, how much the processor works.

    python -m benchmarks.api.attack --bundle bundle/ --cameras 4 --seconds 60 > benchmarks/api/attack.txt

A real `hh-edge run --http 0.0.0.0:PORT` over real RTSP cameras, in turns left alone and attacked from this computer:
a thousand wrong tokens as fast as they are answered, again and again; connections that send it byte by byte; such
that take nothing of an answer; listeners at /api/live that do not read; and a page that asks what pages ask. Of
every segment it is measured how long after its end its record is read. Exits with 1 where the 99th of a hundred is
more than 50 ms later under attack than alone. The GStreamer of the fault campaigns is needed.
"""

from __future__ import annotations

import http.client
import multiprocessing
import os
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

import click
import numpy as np

from benchmarks.faults.cameras import Camera, lasting_port
from benchmarks.faults.watching import Watching
from benchmarks.processes import ENVIRONMENT

_READY_S = 120.0
_LATER_S = 0.05


class Attack:
    """Threads that ask until they are stopped, and what came of it."""

    def __init__(self, port: int, token: str, stop: Event) -> None:
        self._port, self._token, self._stop = port, token, stop
        self.counts: dict[str, int] = {}

    def run(self) -> None:
        """All of them, until the end."""
        works: list[Callable[[], None]] = [self.wrong_tokens, self.drip, self.take_nothing, self.listen, self.page]
        threads = [threading.Thread(target=self._again, args=(work,), daemon=True) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _again(self, work: Callable[[], None]) -> None:
        while not self._stop.is_set():
            try:
                work()
            except OSError:
                self._stop.wait(0.05)
            except http.client.HTTPException:
                pass

    def _count(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1

    def _connected(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port), timeout=30)

    def wrong_tokens(self) -> None:
        """A thousand on one connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        for number in range(1000):
            if self._stop.is_set():
                break
            connection.request("GET", "/api/run", headers={"Authorization": f"Bearer hh_{number}"})
            answer = connection.getresponse()
            answer.read()
            self._count(f"wrong tokens answered {answer.status}")
        connection.close()

    def drip(self) -> None:
        """Slow loris: 40 connections, a byte each every half second."""
        with ExitStack() as stack:
            slow = [stack.enter_context(self._connected()) for _ in range(40)]
            for byte in b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 60:
                for connection in slow:
                    connection.send(bytes([byte]))
                self._count("rounds of a byte on 40 connections")
                if self._stop.wait(0.5):
                    return

    def take_nothing(self) -> None:
        """Ask for much, and read nothing of it."""
        request = f"GET /api/openapi.json HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self._token}\r\n\r\n"
        with self._connected() as connection:
            connection.settimeout(1.0)
            while not self._stop.is_set():
                connection.send(request.encode())
                self._count("answers that nobody takes")
                self._stop.wait(0.01)

    def listen(self) -> None:
        """Live streams that nobody reads."""
        request = f"GET /api/live HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self._token}\r\n\r\n"
        with ExitStack() as stack:
            for _ in range(8):
                stack.enter_context(self._connected()).send(request.encode())
                self._count("live streams that nobody reads")
            self._stop.wait(20.0)

    def page(self) -> None:
        """What one page asks."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        # From an address of its own: its token must not wait for the attacker's.
        connection.source_address = ("127.0.0.2", 0)
        for path in ("/api/run", "/api/cameras", "/api/events", "/", *["/api/cameras/camera0/scores"] * 4):
            connection.request("GET", path, headers={"Authorization": f"Bearer {self._token}"})
            answer = connection.getresponse()
            answer.read()
            self._count(f"requests of a page answered {answer.status}")
        connection.close()
        self._stop.wait(0.5)


def attack(port: int, token: str, stop: Event, counts: Queue[dict[str, int]]) -> None:
    """In a process of its own: it must not keep the one that reads records from doing so."""
    # What it costs others to attack is not what is measured.
    os.nice(10)
    attacker = Attack(port, token, stop)
    attacker.run()
    counts.put(attacker.counts)


def later(run: Watching, since: float, until: float) -> np.ndarray:
    """Seconds from the end of each segment to its record, of those that ended in a stretch."""
    found = []
    for one in list(run._read):
        record = one.record
        if record["type"] == "segment":
            ended = run.began(record) + record["end_s"] - record["start_s"]
            if since <= ended < until:
                found.append(one.at - ended)
    return np.array(found)


def processor_s(process: int) -> float:
    """Processor seconds that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--cameras", default=4, show_default=True)
@click.option("--seconds", default=60.0, show_default=True, help="Of each stretch.")
@click.option("--rounds", default=3, show_default=True)
def main(bundle: Path, cameras: int, seconds: float, rounds: int) -> None:
    """See the module."""
    from edge_runtime.server.tokens import add_token

    port = lasting_port()
    alone: list[np.ndarray] = []
    attacked: list[np.ndarray] = []
    spent = {"alone": 0.0, "attacked": 0.0}
    counts: Counter[str] = Counter()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        ENVIRONMENT["STATE_DIRECTORY"] = folder
        token = add_token(Path(folder) / "tokens.json", "read", None)
        made = [stack.enter_context(Camera(f"camera{number}")) for number in range(cameras)]
        for camera in made:
            camera.start()
        more = ("--http", f"0.0.0.0:{port}", "--provider", "cpu", "--threads", "1")
        run = stack.enter_context(Watching(bundle, {camera.name: camera.url for camera in made}, more))
        run.wait_until(lambda: all(run.segments(camera.name) >= 2 for camera in made), _READY_S)
        for _ in range(rounds):
            for name, kept in (("alone", alone), ("attacked", attacked)):
                stop, told = spawn.Event(), spawn.Queue()
                attacker = spawn.Process(target=attack, args=(port, token, stop, told))
                if name == "attacked":
                    attacker.start()
                    # It has to be loaded first.
                    time.sleep(5.0)
                since, before = time.time(), processor_s(run.process.pid)
                time.sleep(seconds)
                spent[name] += processor_s(run.process.pid) - before
                until = time.time()
                if name == "attacked":
                    stop.set()
                    counts.update(told.get(timeout=60))
                    attacker.join()
                # The last segments of the stretch are scored by then.
                time.sleep(3.0)
                kept.append(later(run, since, until))
    print(f"{cameras} cameras, {rounds} x {seconds:g} s alone and attacked in turns")
    for name, count in sorted(counts.items()):
        print(f"  {count:>8} {name}")
    quantiles = {}
    for name, parts in (("alone", alone), ("attacked", attacked)):
        found = np.concatenate(parts)
        quantiles[name] = np.quantile(found, 0.99)
        print(
            f"{name:<9} {len(found)} segments, from a segment's end to its record: "
            f"median {np.median(found) * 1e3:.1f} ms, 99th of a hundred {quantiles[name] * 1e3:.1f} ms, "
            f"last {found.max() * 1e3:.1f} ms; "
            f"processor {spent[name] / rounds / seconds * 100:.0f} % of a core"
        )
    difference = float(quantiles["attacked"] - quantiles["alone"])
    print(f"99th of a hundred {difference * 1e3:+.1f} ms under attack")
    sys.exit(1 if difference > _LATER_S else 0)


if __name__ == "__main__":
    main()
