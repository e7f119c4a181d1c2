"""Half an hour of faults: whether every camera is scored at the end, and what the run takes of the machine.

    python -m benchmarks.faults.soak --minutes 30 --output benchmarks/faults/soak.txt

One `hh-edge run --config` watches `--cameras` RTSP cameras and writes to a file that begins anew when it is large, to
mosquitto and to a receiver of webhooks. Every `--every` seconds a random fault befalls a random camera for 2 to 20
seconds; now and then the broker is killed, the receiver is gone, or the configuration is changed and read again.
Twice the faults pause for a minute: after `--settled` minutes and at the end. Memory, file descriptors and threads of
the two pauses are compared, while all cameras are online. Memory is what no file backs (smaps_rollup).
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import click

from benchmarks.bundles import built
from benchmarks.commanding import BUNDLE, PATH, WORK
from benchmarks.faults.configured import Edge, Settings
from benchmarks.faults.soaking import KINDS, LASTS_S, Sample, Samples, Soak
from benchmarks.measuring import machine
from models.reference.architecture import REFERENCE

_MOST_GROWTH = 0.05
_PAGE: Settings = {
    "http": {"listen": "127.0.0.1:0"},
    "feedback": {},
    "site": {},
    "clips": {"path": "clips", "max_mb": 50},
}


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
    more: Settings | None = None,
) -> Soaked:
    """Faults until a pause before `settled` minutes, the pause, faults until a pause before the end, the pause."""
    with ExitStack() as stack:
        chosen = [fault for name, fault in KINDS.items() if not kinds or name in kinds]
        soak = Soak(stack, folder, bundle, cameras, chosen, seed, more=more)
        edge, names = soak.edge, [one.name for one in soak.cameras]
        edge.start()
        edge.until(lambda: all(edge.of("segment", name) for name in names), "every camera is scored")
        first = edge.of("segment")[0]
        longest_s = 3 * (first["end_s"] - first["start_s"]) + 5.0
        begun, pauses = time.monotonic(), list[tuple[float, float]]()
        with Samples(soak, begun, longest_s) as samples:
            for until_s in (settled * 60, minutes * 60):
                while time.monotonic() < begun + until_s - quiet_s - (LASTS_S[1] if pauses else 0.0):
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
@click.option("--minutes", type=click.FloatRange(min=1), default=30.0, show_default=True)
@click.option("--cameras", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--every", type=float, default=5.0, show_default=True, help="Seconds between two faults.")
@click.option(
    "--settled", type=float, default=5.0, show_default=True, help="Minutes after which memory may not grow."
)
@click.option("--quiet", type=float, default=60.0, show_default=True, help="Seconds of each pause.")
@click.option("--page", is_flag=True, help="With all that the page needs: http, feedback, clips and site.")
@BUNDLE
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
    page: bool,
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
    result = soaked(place, bundle, cameras, minutes, settled, every, quiet, seed, names, _PAGE if page else None)
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
