"""Half an hour of faults: whether every camera is scored at the end, and what the run takes of the machine.

    python -m benchmarks.faults.soak --minutes 30 --output benchmarks/faults/soak.txt

One `hh-edge run --config` watches `--cameras` RTSP cameras and writes to a file that begins anew when it is large, to
mosquitto and to a receiver of webhooks. Every `--every` seconds a random fault befalls a random camera for 2 to 20
seconds; now and then the broker is killed, the receiver is gone, or the configuration is changed and read again.
Twice the faults pause for a minute: after `--settled` minutes and at the end. Memory, file descriptors and threads of
the two pauses are compared, while all cameras are online. Memory is what is the process's own (smaps_rollup).
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click

from benchmarks.bundles import built
from benchmarks.commanding import PATH, WORK, say
from benchmarks.faults.cameras import Camera
from benchmarks.faults.configured import Edge, Settings, eventful, plain
from benchmarks.faults.recovery import FAULTS, Fault
from benchmarks.faults.takers import Broker, Receiver, outputs
from benchmarks.measuring import machine
from models.loading import REFERENCE

# What is done to a camera; one that asks for another password is left alone for a quarter of an hour.
KINDS = {one.name: one for one in FAULTS if one.returns}
_SAMPLE_S = 5.0
_MOST_GROWTH = 0.05
_LASTS_S = (2.0, 20.0)


@dataclass(frozen=True, slots=True)
class Sample:
    """What the run is like at a moment.

    Attributes:
        at_s: Seconds since the soak began.
        own_mib: Memory that is the process's alone.
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


@dataclass(frozen=True, slots=True)
class Soaked:
    """How it went.

    Attributes:
        cameras: How many.
        samples: All.
        pauses: When the two pauses without a fault began and ended, in seconds since the soak began.
        faults: How many of each kind there were.
        behind: Of each camera: seconds from its last segment to the end.
        longest_s: More than a camera that is scored is behind.
        code: Exit code of the run.
        traceback: Whether its log holds one.
        restarts: How often the file of records began anew.
        overlaps: How often a stretch of a camera began before the one before it had ended.
    """

    cameras: int
    samples: Sequence[Sample]
    pauses: Sequence[tuple[float, float]]
    faults: Counter[str]
    behind: dict[str, float]
    longest_s: float
    code: int
    traceback: bool
    restarts: int
    overlaps: int

    def pause(self, number: int) -> list[Sample]:
        """The samples of a pause, from when all cameras were scored on."""
        begun, ended = self.pauses[number]
        return [
            one for one in self.samples if begun <= one.at_s <= ended and one.scored == one.online == self.cameras
        ]

    @property
    def verdicts(self) -> list[tuple[str, bool]]:
        """Every claim with its figures, and whether it holds."""
        late = [name for name, seconds in self.behind.items() if seconds > self.longest_s]
        found = [
            (f"all cameras are scored at the end: {self.cameras - len(late)} of {self.cameras}", not late),
            (f"it ended with exit code {self.code}, without a traceback", not (self.code or self.traceback)),
            (f"no stretch of a camera was told twice: {self.overlaps}", not self.overlaps),
        ]
        before, after = self.pause(0), self.pause(1)
        if not before or not after:
            return [*found, ("all cameras were online and scored in both pauses", False)]
        memory = [median(one.own_mib for one in part) for part in (before, after)]
        growth = memory[1] / memory[0] - 1
        text = f"memory {memory[0]:.1f} MiB, then {memory[1]:.1f} MiB: {growth:+.1%}, at most {_MOST_GROWTH:+.0%}"
        found.append((text, growth <= _MOST_GROWTH))
        for what, values in (
            ("file descriptors", [[one.descriptors for one in part] for part in (before, after)]),
            ("threads", [[one.threads for one in part] for part in (before, after)]),
        ):
            ranges = [f"{min(part)} to {max(part)}" for part in values]
            # What comes and goes, such as a connection to the receiver, is not counted.
            found.append((f"{what} {ranges[0]}, then {ranges[1]}", min(values[1]) <= min(values[0])))
        return found


class Soak:
    """The faults, and what they are done to."""

    def __init__(
        self,
        stack: ExitStack,
        folder: Path,
        bundle: Path,
        cameras: int,
        kinds: Sequence[Fault],
        seed: int = 0,
        frames: int | None = None,
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
        return self._chance.uniform(*_LASTS_S)

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
            own_mib=(kib["Private_Clean"] + kib["Private_Dirty"]) / 1024,
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


def soaked(
    folder: Path,
    bundle: Path,
    cameras: int,
    minutes: float,
    settled: float,
    every_s: float,
    quiet_s: float,
    seed: int = 0,
    kinds: Sequence[str] = (),
) -> Soaked:
    """Faults until a pause before `settled` minutes, the pause, faults until a pause before the end, the pause."""
    with ExitStack() as stack:
        chosen = [fault for name, fault in KINDS.items() if not kinds or name in kinds]
        soak = Soak(stack, folder, bundle, cameras, chosen, seed)
        edge, names = soak.edge, [one.name for one in soak.cameras]
        edge.start()
        edge.until(lambda: all(edge.of("segment", name) for name in names), "every camera is scored")
        first = edge.of("segment")[0]
        longest_s = 3 * (first["end_s"] - first["start_s"]) + 5.0
        begun, pauses = time.monotonic(), list[tuple[float, float]]()
        with Samples(soak, begun, longest_s) as samples:
            for until_s in (settled * 60, minutes * 60):
                while time.monotonic() < begun + until_s - quiet_s - (_LASTS_S[1] if pauses else 0.0):
                    soak.strike()
                    time.sleep(every_s)
                soak.over()
                paused = time.monotonic() - begun
                time.sleep(quiet_s)
                pauses.append((paused, time.monotonic() - begun))
            behind = samples.seconds_behind()
        code = edge.end()
        return Soaked(
            cameras=cameras,
            samples=samples.samples,
            pauses=pauses,
            faults=soak.done,
            behind=behind,
            longest_s=longest_s,
            code=code,
            traceback="Traceback" in edge.told(),
            restarts=len(list(edge.folder.glob("records.jsonl.*"))),
            overlaps=_overlaps(edge),
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


def _overlaps(edge: Edge) -> int:
    found, ends = 0, dict[str, float]()
    for one in edge.read():
        if one["type"] in ("segment", "gap"):
            # Times are rounded to microseconds.
            found += one["start_s"] < ends.get(one["camera"], 0.0) - 1e-5
            ends[one["camera"]] = one["end_s"]
    return found


@click.command()
@click.option("--fault", "names", type=click.Choice(list(KINDS)), multiple=True, help="[default: all]")
@click.option("--minutes", type=float, default=30.0, show_default=True)
@click.option("--cameras", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--every", type=float, default=5.0, show_default=True, help="Seconds between two faults.")
@click.option(
    "--settled", type=float, default=5.0, show_default=True, help="Minutes after which memory may not grow."
)
@click.option("--quiet", type=float, default=60.0, show_default=True, help="Seconds of each pause.")
@click.option("--bundle", "path", type=PATH, help="[default: one of the built-in model is built into --work]")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--output", type=PATH, help="Where the table goes; else it is printed.")
@WORK
def soak(
    names: tuple[str, ...],
    minutes: float,
    cameras: int,
    every: float,
    settled: float,
    quiet: float,
    path: Path | None,
    seed: int,
    output: Path | None,
    work: Path,
) -> None:
    """Faults over and over: what is scored at the end, and what it takes.

    \b
    Example:
      python -m benchmarks.faults.soak --minutes 10 --cameras 4 --settled 3
    """
    bundle = path or built(REFERENCE, REFERENCE, work)
    place = work / "faults" / f"soak-{int(time.time())}"
    result = soaked(place, bundle, cameras, minutes, settled, every, quiet, seed, names)
    text = _table(result, every)
    if output is None:
        click.echo(text)
    else:
        output.write_text(text)
    raise SystemExit(not all(holds for _, holds in result.verdicts))


def _table(result: Soaked, every_s: float) -> str:
    here = machine()
    lines = [
        __doc__.split("\n")[0],
        f"Command: {' '.join(['python -m benchmarks.faults.soak', *sys.argv[1:]])}",
        f"Machine: {here['processor']}, {here['cores']:g} cores; {result.cameras} cameras, 640 x 360, 10 frames a "
        f"second; a fault every {every_s:g} s, each 2 to 20 s long.",
        "Faults: " + ", ".join(f"{name} {count}" for name, count in sorted(result.faults.items())),
        f"The file of records began anew {result.restarts} times.",
        "",
        f"{'minute':>6}{'own MiB':>10}{'resident':>10}{'descriptors':>13}{'threads':>9}{'online':>8}{'scored':>8}"
        f"{'faults':>8}",
    ]
    for minute in range(int(max((one.at_s for one in result.samples), default=0.0) // 60) + 1):
        own = [one for one in result.samples if one.at_s // 60 == minute]
        if own:
            lines.append(
                f"{minute + 1:>6}{median(one.own_mib for one in own):>10.1f}"
                f"{median(one.resident_mib for one in own):>10.1f}{median(one.descriptors for one in own):>13g}"
                f"{median(one.threads for one in own):>9g}{median(one.online for one in own):>8g}"
                f"{median(one.scored for one in own):>8g}{median(one.faults for one in own):>8g}"
            )
    shown = [f"{begun / 60:.1f} to {ended / 60:.1f}" for begun, ended in result.pauses]
    lines += ["", f"Without faults: minutes {' and '.join(shown)}.", ""]
    lines += [f"{'holds' if holds else 'FAILS'}: {text}" for text, holds in result.verdicts]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    soak()
