"""How soon a fault of a camera is told, and how soon it is scored again once the fault is over.

    python -m benchmarks.faults.recovery --trials 100 --output benchmarks/faults/recovery.txt

One `hh-edge run` watches `--cameras` RTSP cameras (GStreamer's server, each its own process, behind a proxy of this
program). Each round does one fault to all of them, a little apart, for a random while, and takes it back. Told: the
first `camera` record that says so. Scored: the first segment whose frames all came after it was back, by the time at
which its record was read. Trials that are done are in the work folder and are not done again.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from benchmarks.bundles import built
from benchmarks.commanding import BUNDLE, PATH, WORK, say
from benchmarks.faults.cameras import Camera
from benchmarks.faults.names import NameServer, missing
from benchmarks.faults.watching import Watching
from benchmarks.measuring import machine
from edge_runtime.bundle.reader import Bundle
from models.reference.architecture import REFERENCE


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to a camera.

    Attributes:
        name: Of the option and the table.
        what: For a person.
        begin: Does it.
        end: Takes it back.
        returns: Whether scoring is expected again within the campaign's patience.
        named: Whether the camera has a name, which a name server of the campaign knows.
    """

    name: str
    what: str
    begin: Callable[[Camera], None]
    end: Callable[[Camera], None]
    returns: bool = True
    named: bool = False


def _restart(camera: Camera) -> None:
    camera.server.kill()
    camera.start()


def _otherwise(camera: Camera) -> None:
    camera.other = not camera.other
    _restart(camera)


FAULTS = (
    Fault("killed", "the server is killed", lambda one: one.server.kill(), Camera.start),
    Fault("stopped", "the server is stopped (SIGSTOP), connections stay", Camera.pause, Camera.resume),
    Fault("slowed", "the network passes 1 KiB a second", lambda one: one.proxy.set("slow"), Camera.open),
    Fault(
        "corrupted",
        "one byte in 200 of what the network passes is changed",
        lambda one: one.proxy.set("corrupt"),
        Camera.open,
    ),
    Fault("silent", "connections are accepted and never answered", lambda one: one.proxy.set("silent"), Camera.open),
    Fault("refused", "nobody listens", lambda one: one.proxy.set("refuse"), Camera.open),
    Fault("changed", "restarts at another size and codec", _otherwise, lambda one: None),
    Fault(
        "dns",
        "the connection is cut, and the name server does not answer",
        lambda one: one.forget("silence"),
        Camera.remember,
        named=True,
    ),
    Fault(
        "nameless",
        "the connection is cut, and the name server does not know the camera's name",
        lambda one: one.forget("unknown"),
        Camera.remember,
        named=True,
    ),
    Fault("login", "the camera asks for another password", Camera.lock, Camera.unlock, returns=False),
)


@dataclass(frozen=True, slots=True)
class Trial:
    """One camera, one fault.

    Attributes:
        fault: Its name.
        told_s: From the fault to the first record that tells it; None where none came.
        reason: What that record said.
        again_s: From its end to the first record of a segment that began after it; None where none came.
    """

    fault: str
    told_s: float | None
    reason: str
    again_s: float | None


@click.command()
@click.option(
    "--fault", "names", type=click.Choice([one.name for one in FAULTS]), multiple=True, help="[default: all]"
)
@click.option("--trials", type=click.IntRange(min=1), default=100, show_default=True, help="Of each fault.")
@click.option("--cameras", type=click.IntRange(min=1), default=8, show_default=True, help="At a time.")
@BUNDLE
@click.option("--patience", type=float, default=60.0, show_default=True, help="Seconds to wait for a record.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--output", type=PATH, help="Where the table goes; else it is printed.")
@WORK
def recovery(
    names: tuple[str, ...],
    trials: int,
    cameras: int,
    path: Path | None,
    patience: float,
    seed: int,
    output: Path | None,
    work: Path,
) -> None:
    """Time to tell a fault, and to score again after it.

    \b
    Example:
      python -m benchmarks.faults.recovery --fault killed --trials 16
    """
    bundle = path or built(REFERENCE, REFERENCE, work)
    record = work / "faults" / "recovery.jsonl"
    record.parent.mkdir(parents=True, exist_ok=True)
    faults = [one for one in FAULTS if not names or one.name in names]
    if any(one.named for one in faults) and (reason := missing()) is not None:
        say(f"without the faults of name servers: {reason}")
        faults = [one for one in faults if not one.named]
    for fault in faults:
        while (left := trials - len([one for one in _done(record) if one.fault == fault.name])) > 0:
            say(f"{fault.name}: {left} of {trials} trials left")
            for trial in _round(
                fault, min(left, cameras), bundle, patience, random.Random(f"{seed}-{fault.name}-{left}")
            ):
                with record.open("a") as file:
                    file.write(json.dumps(asdict(trial)) + "\n")
    text = _table(
        [one for one in FAULTS if any(trial.fault == one.name for trial in _done(record))],
        _done(record),
        cameras,
        bundle,
    )
    if output is None:
        click.echo(text)
    else:
        output.write_text(text)


def _done(record: Path) -> list[Trial]:
    if not record.is_file():
        return []
    return [Trial(**json.loads(line)) for line in record.read_text().splitlines()]


def _round(fault: Fault, count: int, bundle: Path, patience: float, chance: random.Random) -> Iterator[Trial]:
    """The fault once on so many cameras, all watched by one run."""
    with ExitStack() as stack:
        names = None
        if fault.named:
            names = stack.enter_context(NameServer(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        cameras = [stack.enter_context(Camera(f"camera{number}", names)) for number in range(count)]
        urls = {one.name: one.url for one in cameras}
        watching = stack.enter_context(Watching(bundle, urls, prefix=names.prefix if names else ()))
        watching.wait_until(lambda: all(watching.segments(one.name) >= 2 for one in cameras), patience)
        found: list[Trial | None] = [None] * count

        def trial(place: int, wait_s: float, lasts_s: float) -> None:
            found[place] = _trial(fault, cameras[place], watching, wait_s, lasts_s, patience)

        threads = [
            threading.Thread(target=trial, args=(place, chance.uniform(0, 4), chance.uniform(6, 15)))
            for place in range(count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        yield from (one for one in found if one is not None)


def _trial(fault: Fault, camera: Camera, watching: Watching, wait_s: float, lasts_s: float, patience: float) -> Trial:
    time.sleep(wait_s)
    begun = time.time()
    fault.begin(camera)
    told = watching.first(
        lambda one: one["type"] == "camera" and one["camera"] == camera.name and _tells(one),
        begun,
        lasts_s + patience,
    )
    time.sleep(max(0.0, begun + lasts_s - time.time()))
    fault.end(camera)
    ended = begun if fault.name == "changed" else time.time()
    again = None
    if fault.returns:
        again = watching.first(
            lambda one: one["type"] == "segment" and one["camera"] == camera.name and watching.began(one) >= ended,
            ended,
            patience,
        )
    return Trial(
        fault.name,
        None if told is None else told.at - begun,
        "" if told is None else _word(told.record),
        None if again is None else again.at - ended,
    )


def _word(record: dict[str, object]) -> str:
    """What a record of a camera says is wrong, in a word or two."""
    quality = record.get("quality")
    return str(record.get("reason") or (" ".join(quality) if isinstance(quality, list) else record["state"]))


def _tells(record: dict[str, object]) -> bool:
    """Whether a record of a camera says that something is wrong."""
    return record["state"] in ("stalled", "offline") or record.get("quality", ["ok"]) != ["ok"]


def _table(faults: Sequence[Fault], done: Sequence[Trial], cameras: int, bundle: Path) -> str:
    here, manifest = machine(), Bundle.open(bundle).manifest
    lines = [
        __doc__.split("\n")[0],
        f"Command: {' '.join(['python -m benchmarks.faults.recovery', *sys.argv[1:]])}",
        f"Machine: {here['processor']}, {here['cores']:g} cores; {cameras} cameras at a time, 640 x 360, 10 frames a "
        f"second, a keyframe each half second; segments of {manifest.segment.duration_s:.1f} s, locator low_latency.",
        "Seconds, median and worst; a dash: not expected within the campaign.",
        "",
        f"{'fault':<11}{'trials':>7}{'told':>7}{'median':>8}{'worst':>8}{'again':>8}{'median':>8}{'worst':>8}"
        f"{'in 10 s':>9}  reasons",
    ]
    for fault in faults:
        own = [one for one in done if one.fault == fault.name]
        told = [one.told_s for one in own if one.told_s is not None]
        again = [one.again_s for one in own if one.again_s is not None]
        reasons = {one.reason: sum(other.reason == one.reason for other in own) for one in own if one.reason}
        line = f"{fault.name:<11}{len(own):>7}{len(told):>7}{_middle(told)}{max(told, default=float('nan')):>8.1f}"
        if fault.returns:
            line += f"{len(again):>8}{_middle(again)}{max(again, default=float('nan')):>8.1f}"
            line += f"{sum(one <= 10 for one in again):>9}"
        else:
            line += f"{'-':>8}{'-':>8}{'-':>8}{'-':>9}"
        lines.append(line + "  " + ", ".join(f"{name} {count}" for name, count in sorted(reasons.items())))
    lines += ["", *(f"{fault.name}: {fault.what}" for fault in faults)]
    return "\n".join(lines) + "\n"


def _middle(values: Sequence[float]) -> str:
    return f"{statistics.median(values):>8.1f}" if values else f"{'nan':>8}"


if __name__ == "__main__":
    recovery()
