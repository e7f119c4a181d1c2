"""Faults at random, done to a run's cameras and outputs, and what the run takes of the machine meanwhile."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.commanding import say
from benchmarks.faults.cameras import Camera
from benchmarks.faults.configured import Edge, Settings, eventful, plain
from benchmarks.faults.recovery import FAULTS, Fault
from benchmarks.faults.takers import Broker, Receiver, outputs

# What is done to a camera. Not that it asks for another password: then it is left alone for a quarter of an hour; and
# nothing with names: here cameras have addresses.
KINDS = {one.name: one for one in FAULTS if one.returns and not one.named}
#: How long a fault lasts, in seconds.
LASTS_S = (2.0, 20.0)
_SAMPLE_S = 5.0


@dataclass(frozen=True, slots=True)
class Sample:
    """What the run is like at a moment.

    Attributes:
        at_s: Seconds since the soak began.
        own_mib: Memory that no file backs: pages of libraries are the process's own or not as others come and go.
        resident_mib: All that it has in memory.
        descriptors: Open files and connections.
        threads: How many.
        online: How many cameras say that they are online.
        scored: How many cameras had the record of a segment in the last three segments' time.
        faults: How many are going on.
    """

    at_s: float
    own_mib: float
    resident_mib: float
    descriptors: int
    threads: int
    online: int
    scored: int
    faults: int


class Soak:
    """The faults, and what they are done to: `more` is what its configuration has besides outputs and cameras."""

    def __init__(
        self,
        stack: ExitStack,
        folder: Path,
        bundle: Path,
        cameras: int,
        kinds: Sequence[Fault],
        seed: int = 0,
        frames: int | None = None,
        more: Settings | None = None,
    ) -> None:
        folder.mkdir(parents=True)
        self._chance, self._kinds = random.Random(seed), kinds
        self.cameras = [stack.enter_context(Camera(f"camera{number}")) for number in range(cameras)]
        urls = {one.name: one.url for one in self.cameras}
        self._broker = stack.enter_context(Broker(folder / "broker"))
        self._receiver = stack.enter_context(Receiver())
        self._settings: Settings = {
            **plain(eventful(bundle, folder / "bundle", urls, frames), urls),
            **outputs(self._broker, self._receiver, ["event", "camera"]),
            "output": {"path": "records.jsonl", "rotate_mb": 0.2, "keep": 1000},
            "spool": {"path": "spool"},
            **(more or {}),
        }
        self.edge = stack.enter_context(Edge(folder / "edge", self._settings))
        self.done: Counter[str] = Counter()
        self._busy: set[str] = set()
        self._changing = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._others: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "broker killed": (lambda: self._broker.down(kill=True), self._broker.up),
            "receiver gone": (self._receiver.down, self._receiver.up),
            "configuration changed": (self._change, self._change_back),
        }

    @property
    def going_on(self) -> int:
        """How many faults there are at this moment."""
        with self._changing:
            return len(self._busy)

    def strike(self) -> None:
        """Begin a fault of a camera, and now and then another one."""
        free = [one for one in self.cameras if one.name not in self._busy]
        if free:
            self.befall(self._chance.choice(free), self._chance.choice(self._kinds), self._lasts_s())
        for name in self._others:
            if self._chance.random() < 0.08 and name not in self._busy:
                self.disturb(name, self._lasts_s())

    def befall(self, camera: Camera, fault: Fault, lasts_s: float) -> None:
        """Begin a fault of a camera that has none; it ends by itself."""
        self._begin(camera.name, fault.name, lambda: fault.begin(camera), lambda: fault.end(camera), lasts_s)

    def disturb(self, name: str, lasts_s: float) -> None:
        """Begin something else: `broker killed`, `receiver gone` or `configuration changed`; it ends by itself."""
        self._begin(name, name, *self._others[name], lasts_s)

    def over(self) -> None:
        """Wait until no fault is left, and every camera has the size and codec that it had at first."""
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        for camera in self.cameras:
            if camera.other:
                KINDS["changed"].begin(camera)

    def _lasts_s(self) -> float:
        return self._chance.uniform(*LASTS_S)

    def _begin(
        self, busy: str, name: str, begin: Callable[[], object], end: Callable[[], object], lasts_s: float
    ) -> None:
        with self._changing:
            self._busy.add(busy)
        self.done[name] += 1

        def work() -> None:
            try:
                begin()
                time.sleep(lasts_s)
                _insist(end)
            finally:
                with self._changing:
                    self._busy.discard(busy)

        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _change(self) -> None:
        """Mask one camera, and add one that nobody answers for."""
        cameras = {**self._settings["cameras"], "nobody": {"source": "rtsp://127.0.0.1:9/stream"}}
        masked = self._chance.choice(self.cameras).name
        cameras[masked] = {**cameras[masked], "mask": "0,0,1,0,1,0.3"}
        self.edge.reload({**self._settings, "cameras": cameras})

    def _change_back(self) -> None:
        self.edge.reload(self._settings)


def held(process: int) -> tuple[int, int]:
    """How many file descriptors and threads a process has."""
    return len(os.listdir(f"/proc/{process}/fd")), len(os.listdir(f"/proc/{process}/task"))


class Samples:
    """Looks at the run every few seconds, in a thread of its own; a context manager."""

    def __init__(self, soak: Soak, begun: float, longest_s: float) -> None:
        self.samples: list[Sample] = []
        self._soak, self._begun, self._longest_s = soak, begun, longest_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._next_minute = 1

    def seconds_behind(self) -> dict[str, float]:
        """Of each camera: since when no record of a segment of it was read."""
        return {one.name: time.monotonic() - self._segments.get(one.name, self._begun) for one in self._soak.cameras}

    def __enter__(self) -> Samples:
        self._segments: dict[str, float] = {}
        self._states: dict[str, str] = {}
        self._seen = 0
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            records = self._soak.edge.read()
            for one in records[self._seen :]:
                if one["type"] == "segment":
                    self._segments[one["camera"]] = time.monotonic()
                elif one["type"] == "camera":
                    self._states[one["camera"]] = one["state"]
            self._seen = len(records)
            process = self._soak.edge.process
            assert process is not None
            if process.poll() is not None:
                return
            self.samples.append(self._sample(process.pid))
            self._tell(self.samples[-1])

    def _sample(self, process: int) -> Sample:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
        kib = {name: int(value.split()[0]) for name, value in (line.split(":") for line in lines)}
        names = [one.name for one in self._soak.cameras]
        descriptors, threads = held(process)
        return Sample(
            at_s=time.monotonic() - self._begun,
            own_mib=kib["Anonymous"] / 1024,
            resident_mib=kib["Rss"] / 1024,
            descriptors=descriptors,
            threads=threads,
            online=sum(self._states.get(name) in ("online", "reconnected") for name in names),
            scored=sum(seconds <= self._longest_s for seconds in self.seconds_behind().values()),
            faults=self._soak.going_on,
        )

    def _tell(self, one: Sample) -> None:
        if one.at_s / 60 >= self._next_minute:
            self._next_minute += 1
            say(
                f"{one.at_s / 60:.0f} min: {one.own_mib:.1f} MiB, {one.descriptors} descriptors, "
                f"{one.threads} threads, {one.scored} of {len(self._soak.cameras)} cameras scored, "
                f"{one.faults} faults now"
            )


def _insist(end: Callable[[], object]) -> None:
    """Take a fault back. A busy machine may not start a server in time."""
    for left in (2, 1, 0):
        try:
            end()
        except RuntimeError:
            if not left:
                raise
        else:
            return
