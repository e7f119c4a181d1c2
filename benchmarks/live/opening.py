"""How soon a run of many cameras has all of them, with cameras that hang beside them.

    python -m benchmarks.live.opening --trials 20 --output benchmarks/live/opening.txt

Each trial starts one `hh-edge run --config` with `--good` RTSP cameras (640 x 360, 5 frames a second, H.264 that was
encoded before, a keyframe a second, one process) and `--hanging` ones, whose connections are made and never answered;
they stand evenly among the others. Times are those that the records of the good ones' `online` say.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import click

from benchmarks.bundles import built
from benchmarks.cameras import clip_of
from benchmarks.commanding import BUNDLE, PATH, WORK, say
from benchmarks.faults.watching import Record
from benchmarks.live.scale import Counting
from benchmarks.live.served import LoopServer, hanging, loop
from benchmarks.measuring import machine
from models.reference.architecture import REFERENCE

_SIZE, _FPS, _LOOP_S = (640, 360), 5, 40
_GOAL_S = 5.0
_PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Opened:
    """One trial, in seconds.

    Attributes:
        online_s: From the run's start until each good camera was online, the soonest first.
        told_s: From the run's start until each hanging one was told to be offline.
    """

    online_s: list[float]
    told_s: list[float]

    @property
    def apart_s(self) -> float:
        """From the first good camera to the last."""
        return self.online_s[-1] - self.online_s[0]


@click.command()
@click.option("--good", type=click.IntRange(min=2), default=40, show_default=True)
@click.option("--hanging", "hang", type=click.IntRange(min=0), default=4, show_default=True)
@click.option("--trials", type=click.IntRange(min=1), default=20, show_default=True)
@BUNDLE
@click.option("--footage", type=PATH, help="What the cameras see [default: generated].")
@click.option("--output", type=PATH, help="Where the table goes; else it is printed.")
@WORK
def opening(
    good: int, hang: int, trials: int, path: Path | None, footage: Path | None, output: Path | None, work: Path
) -> None:
    """Time until all cameras of a configuration are online.

    \b
    Example:
      python -m benchmarks.live.opening --good 8 --hanging 2 --trials 3
    """
    bundle = path or built(REFERENCE, REFERENCE, work)
    sent = loop(work / "live", footage or clip_of(work, None, _LOOP_S), _SIZE, _FPS, _LOOP_S, 500)
    opened = []
    for number in range(trials):
        say(f"trial {number + 1} of {trials}")
        opened.append(trial(good, hang, bundle, sent))
    text = table(opened, good, hang)
    if output is None:
        click.echo(text)
    else:
        output.write_text(text)


def trial(good: int, hang: int, bundle: Path, sent: Path) -> Opened:
    """Start one run, and end it when every camera was told of.

    Args:
        good: How many cameras answer.
        hang: How many do not.
        bundle: What scores.
        sent: What the good ones send.

    Raises:
        TimeoutError: Not every camera was told of in time.
        HeadHuntError: The cameras did not start.
    """
    with tempfile.TemporaryDirectory() as folder, LoopServer(sent, _FPS, good) as server, hanging(hang) as silent:
        sources = {f"good{number}": url for number, url in enumerate(server.urls)}
        config = Path(folder) / "cameras.yaml"
        config.write_text(json.dumps(configuration(sources, {f"hangs{n}": url for n, url in enumerate(silent)})))
        with Counting(bundle, {}, ["--config", str(config)]) as watching:
            watching.wait_until(lambda: len(_firsts(watching)) == good + hang, _PATIENCE_S)
            firsts = _firsts(watching)
            started = next(one.record["started"] for one in watching.read() if one.record["type"] == "run")
    since = {name: _moment(record["time"]) - _moment(started) for name, record in firsts.items()}
    return Opened(
        sorted(seconds for name, seconds in since.items() if name in sources),
        sorted(seconds for name, seconds in since.items() if name not in sources),
    )


def configuration(good: dict[str, str], silent: dict[str, str]) -> dict[str, object]:
    """A configuration (JSON is YAML) with the silent cameras evenly among the good ones."""
    names = list(good)
    for place, name in enumerate(silent):
        names.insert(round((place + 0.5) * len(good) / len(silent)) + place, name)
    return {"version": 1, "cameras": {name: {"source": (good | silent)[name]} for name in names}}


def _firsts(watching: Counting) -> dict[str, Record]:
    """By camera its first record: `online` of a good one, `offline` of one that hangs."""
    found: dict[str, Record] = {}
    for one in watching.read():
        if one.record["type"] == "camera":
            wanted = "online" if one.record["camera"].startswith("good") else "offline"
            if one.record["state"] == wanted:
                found.setdefault(one.record["camera"], one.record)
    return found


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def table(opened: Sequence[Opened], good: int, hang: int) -> str:
    """What was measured, for a person."""
    here = machine()
    lines = [
        (__doc__ or "").split("\n", 1)[0],
        f"Command: {' '.join(['python -m benchmarks.live.opening', *sys.argv[1:]])}",
        f"Machine: {here['processor']}, {here['cores']:g} cores, part of them for the sender; {good} good "
        f"cameras of {_SIZE[0]} x {_SIZE[1]}, {_FPS} frames a second, a keyframe a second; {hang} that hang.",
        "Seconds; first and last good camera online and the hanging ones told: since the run record's `started`.",
        "",
        f"{'trial':>7}{'first':>8}{'last':>8}{'apart':>8}{'hanging told':>14}",
    ]
    for number, one in enumerate(opened):
        told = f"{one.told_s[-1]:>14.2f}" if one.told_s else ""
        lines.append(f"{number + 1:>7}{one.online_s[0]:>8.2f}{one.online_s[-1]:>8.2f}{one.apart_s:>8.2f}{told}")
    apart = [one.apart_s for one in opened]
    lines += [
        "",
        f"from the first to the last good camera: median {statistics.median(apart):.2f} s, worst {max(apart):.2f} s; "
        f"within {_GOAL_S:g} s in {sum(seconds <= _GOAL_S for seconds in apart)} of {len(apart)}",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    opening()
