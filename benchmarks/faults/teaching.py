"""Eight hours of feedback and drift in simulated time, while everything is killed and the disk fills up.

    python -m benchmarks.faults.teaching --output benchmarks/faults/teaching.txt

A run of three cameras keeps features and events, watches for drift and uses the site's scorer, a hundred times as
fast as live. An operator in a process of its own marks, takes back, accepts, undoes and forgets, drawn at random. The
run is killed now and then, the operator in the middle of what was asked for, and the small disk under the site's
folder (a tmpfs, which takes root) is filled to the last byte. After every step the marks and the scorer must be those
that were acknowledged; of what was killed before that, all or nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import click

from benchmarks.bundles import built
from benchmarks.commanding import BUNDLE, PATH, WORK, say
from benchmarks.faults.disk import Disk, mountable
from benchmarks.faults.taught import CAMERAS, STEP_S, site_of
from benchmarks.measuring import machine
from edge_runtime.bundle.reader import Bundle
from models.reference.architecture import REFERENCE

_HOUR_S = 3600.0
_LIMIT_S = 120.0
_KIB = 256 * 1024
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)

Mark = tuple[str, str, float, float, str | None]


class Process:
    """One of the two, which can be killed and started again; a context manager.

    Args:
        words: Behind `python -m benchmarks.faults.taught`.
        log: Where its log goes.
    """

    def __init__(self, words: Sequence[str], log: Path) -> None:
        self._words, self._log = words, log
        self.started = 0
        self.start(words)

    def start(self, words: Sequence[str] | None = None) -> None:
        """Start it (again)."""
        self._words = self._words if words is None else words
        self.started += 1
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.faults.taught", *self._words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        self._rest = b""

    def ask(self, values: dict[str, Any]) -> None:
        """Send one line."""
        assert self._process.stdin is not None
        self._process.stdin.write((json.dumps(values) + "\n").encode())
        self._process.stdin.flush()

    def read(self, limit_s: float) -> list[dict[str, Any]]:
        """What it said by now; waits for the first line so long."""
        assert self._process.stdout is not None
        until_s = time.monotonic() + limit_s
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, until_s - time.monotonic()))
            more = os.read(self._process.stdout.fileno(), 2**16) if ready else b""
            if not more:
                break
            self._rest += more
        lines, _, self._rest = self._rest.rpartition(b"\n")
        return [json.loads(line) for line in lines.splitlines()]

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def kill(self) -> list[dict[str, Any]]:
        """SIGKILL; returns what it said before."""
        self._process.send_signal(_KILL)
        self._process.wait()
        said = self.read(0.0)
        self._close()
        return said

    def end(self) -> int:
        """Let it end by itself; returns its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        code = self._process.wait(_LIMIT_S)
        self._close()
        return code

    def _close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.alive:
            self.kill()


@dataclass
class Counts:
    """What happened.

    Attributes:
        asked: How often each thing was asked for and acknowledged.
        killed: How often the operator was killed in the middle of each, and whether it was done by then.
        failed: How often each failed while the disk was full.
        faults: What should not have been.
        rss: MiB of the run, of each of its lives: in the middle of it, and at its end.
        drifted: How often a camera was told to have drifted.
    """

    asked: Counter[str] = field(default_factory=Counter)
    killed: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    rss: list[tuple[float, float]] = field(default_factory=list)
    drifted: int = 0


class Trial:
    """One campaign.

    Args:
        path: The bundle.
        folder: The disk.
        logs: Where logs go.
        hours: Of simulated time.
        pace_s: Seconds that a segment of all cameras takes.
        seed: Of everything that is drawn.
    """

    def __init__(self, path: Path, folder: Path, logs: Path, hours: float, pace_s: float, seed: int) -> None:
        self._path, self._folder, self._pace_s = path, folder, pace_s
        self._segments = round(hours * _HOUR_S / STEP_S)
        self._zero = time.time() - hours * _HOUR_S - _HOUR_S
        self._rng = random.Random(seed)
        self.counts = Counts()
        self._marks: set[Mark] = set()
        self._number, self._scorer = 0, "bundle"
        self._forgotten: list[tuple[str, float, float]] = []
        self._life: list[dict[str, Any]] = []
        self._index = 0
        self._logs = logs
        self._by_id: dict[int, Mark] = {}
        self._expected: tuple[dict[str, Any], Any] | None = None

    def go(self, disk: Disk | None, every_s: float, kill_s: float) -> None:
        """Do something every so many seconds, and kill the run every so many."""
        words = ["operate", str(self._path), str(self._folder)]
        with (
            Process(self._run_words(), self._logs / "run.log") as run,
            Process(words, self._logs / "operator.log") as operator,
        ):
            killed_s, full_until = time.monotonic(), 0.0
            full_next = 0.25
            while self._index + 1 < self._segments:
                self._hear(run.read(every_s))
                if not run.alive:
                    self._fault(f"the run ended by itself at segment {self._index}")
                    return
                if disk is not None and not full_until and self._index / self._segments > full_next:
                    full_next += 0.25
                    disk.fill()
                    full_until = time.monotonic() + 5.0
                if full_until and time.monotonic() > full_until and disk is not None:
                    disk.empty()
                    full_until = 0.0
                self._act(operator, full=bool(full_until))
                # On a full disk a run that is started anew has no store: that is not what is tried here.
                if not full_until and time.monotonic() - killed_s > kill_s * self._rng.uniform(0.5, 1.5):
                    self._hear(run.kill())
                    self._end_of_life()
                    run.start(self._run_words())
                    killed_s = time.monotonic()
            if full_until and disk is not None:
                disk.empty()
            self._check(operator, "at the end")
            self._uses(run)
            self._end_of_life()
            if (code := run.end()) != 0:
                self._fault(f"the run ended with {code}")
            operator.end()
        self._nothing_of_what_was_forgotten()
        for log in ("run.log", "operator.log"):
            if b"Traceback" in (self._logs / log).read_bytes():
                self._fault(f"a traceback in {log}")

    # ---- the run

    def _run_words(self) -> list[str]:
        first = self._index + 1 if self._index else 0
        return [
            *("run", str(self._path), str(self._folder)),
            *(str(value) for value in (self._zero, first, self._segments, self._pace_s)),
        ]

    def _hear(self, said: list[dict[str, Any]]) -> None:
        self._life += said
        if said:
            self._index = int(said[-1]["index"])

    def _end_of_life(self) -> None:
        # What fills up in its first half is no growth.
        if life := [one["rss"] for one in self._life]:
            self.counts.rss.append((life[len(life) // 2], life[-1]))
        self.counts.drifted += max((one.get("drifted", 0) for one in self._life), default=0)
        self._life = []

    def _uses(self, run: Process) -> None:
        """The run must come to use the scorer that was agreed to last."""
        until_s, used = time.monotonic() + 30, None
        while time.monotonic() < until_s:
            run.ask({})
            used = [one["scorer"] for one in run.read(30.0)][-1:]
            if used == [self._scorer]:
                return
            time.sleep(0.2)
        self._fault(f"the run uses the scorer {used}, agreed to was {self._scorer}")

    # ---- the operator

    def _act(self, operator: Process, full: bool) -> None:
        asked = self._drawn(operator)
        if asked is None:
            return
        what = asked["do"]
        operator.ask(asked)
        if self._rng.random() < 0.15:
            time.sleep(self._rng.uniform(0, 0.08))
            answers = operator.kill()
            operator.start()
            if not answers:
                done = self._after_kill(operator, asked)
                self.counts.killed[f"{what}, {'done' if done else 'not done'}"] += 1
                return
        else:
            answers = operator.read(_LIMIT_S)
        if len(answers) != 1:
            self._fault(f"{what}: {len(answers)} answers")
            return
        (answer,) = answers
        if "done" in answer:
            self.counts.asked[what] += 1
            self._acknowledged(asked, answer["done"])
        elif full and "failed" in answer:
            self.counts.failed[what] += 1
        # Others may be refused: nothing to undo, or no features of that time. What a full disk refuses is that too.
        elif "failed" in answer or (what == "forget" and not full):
            self._fault(f"{what}: {answer}")
        self._check(operator, what)

    def _drawn(self, operator: Process) -> dict[str, Any] | None:
        what = self._rng.choices(
            ["mark", "mark back", "missed", "unmark", "accept", "undo", "forget"], [30, 6, 8, 6, 25, 12, 5]
        )[0]
        now = self._zero + self._index * STEP_S
        camera = self._rng.choice(CAMERAS)
        if what in ("mark", "mark back"):
            operator.ask({"do": "events"})
            answer = operator.read(_LIMIT_S)
            events = answer[0].get("done", []) if answer else []
            if not events:
                return None
            verdict = None if what == "mark back" else self._rng.choice(["false_alarm", "false_alarm", "missed"])
            return {"do": "mark", "event": self._rng.choice(events)[0], "verdict": verdict}
        if what == "missed":
            start = now - self._rng.uniform(60, 1200)
            return {"do": what, "camera": camera, "start": start, "end": start + self._rng.uniform(4, 30)}
        if what == "unmark":
            operator.ask({"do": "state"})
            answer = operator.read(_LIMIT_S)
            marks = answer[0].get("done", {}).get("marks", []) if answer else []
            return {"do": what, "mark": self._rng.choice(marks)[0]} if marks else None
        if what == "forget":
            # What is over: the run is not writing it any more.
            end = now - 600
            start = end - self._rng.uniform(60, 900)
            return {"do": what, "camera": camera, "start": start, "end": end} if start > self._zero else None
        return {"do": what}

    def _acknowledged(self, asked: dict[str, Any], done: Any) -> None:
        if asked["do"] == "forget":
            self._forgotten.append((asked["camera"], asked["start"], asked["end"]))
        self._expected = (asked, done)

    def _state(self, operator: Process) -> tuple[dict[int, Mark], int, str] | None:
        for _ in range(20):
            operator.ask({"do": "state"})
            answers = operator.read(_LIMIT_S)
            if answers and "done" in answers[0]:
                state = answers[0]["done"]
                marks = {int(one[0]): (one[1], one[2], one[3], one[4], one[5]) for one in state["marks"]}
                return marks, state["number"], state["scorer"]
            time.sleep(0.5)
        self._fault(f"the state cannot be read: {answers}")
        return None

    def _check(self, operator: Process, what: str) -> None:
        """What is there must be what was there before, changed by what was acknowledged alone."""
        expected, self._expected = self._expected, None
        if (state := self._state(operator)) is None:
            return
        marks, number, scorer = state
        if not self._follows(expected, marks, number):
            self._fault(f"{what}: marks or scorer are others than acknowledged")
        self._marks, self._number, self._scorer = set(marks.values()), number, scorer
        self._by_id = marks

    def _follows(self, expected: tuple[dict[str, Any], Any] | None, marks: dict[int, Mark], number: int) -> bool:
        there = set(marks.values())
        if expected is None:
            return there == self._marks and number == self._number
        asked, done = expected
        what, before = asked["do"], self._marks
        if what in ("accept", "undo"):
            return there == before and number == done
        return (
            number == self._number
            and {
                "mark": lambda: self._marked(asked, done, marks),
                "missed": lambda: self._missed(asked, done, marks),
                "unmark": lambda: there == before - {self._by_id[asked["mark"]]},
                "forget": lambda: (
                    there
                    == {
                        one
                        for one in before
                        if not (one[1] == asked["camera"] and one[3] > asked["start"] and one[2] < asked["end"])
                    }
                ),
            }[what]()
        )

    def _marked(self, asked: dict[str, Any], done: Any, marks: dict[int, Mark]) -> bool:
        there, others = set(marks.values()), {one for one in self._marks if one[4] != asked["event"]}
        mine = there - others
        if asked["verdict"] is None:
            return there == others
        return len(mine) == 1 and others - there <= _same_stretch(mine, others) and done in marks

    def _missed(self, asked: dict[str, Any], done: Any, marks: dict[int, Mark]) -> bool:
        there = set(marks.values())
        mine = {one for one in there if (one[0], one[2], one[3]) == ("missed", asked["start"], asked["end"])}
        return len(mine) == 1 and there == self._marks | mine and done in marks

    def _after_kill(self, operator: Process, asked: dict[str, Any]) -> bool:
        """All of it or nothing; returns which."""
        state = self._state(operator)
        if state is None:
            return False
        marks, number, scorer = state
        nothing = self._follows(None, marks, number)
        done: Any = number if asked["do"] in ("accept", "undo") else next(iter(sorted(marks, reverse=True)), None)
        if asked["do"] == "mark":
            done = next((key for key, one in marks.items() if one[4] == asked["event"]), None)
        whole = self._follows((asked, done), marks, number)
        if not nothing and not whole:
            self._fault(f"{asked['do']}: killed, and half of it is there")
        self._marks, self._number, self._scorer, self._by_id = set(marks.values()), number, scorer, marks
        return whole and not nothing

    def _nothing_of_what_was_forgotten(self) -> None:
        with site_of(Bundle.open(self._path), self._folder).open_store(create=False) as store:
            for camera, start, end in self._forgotten:
                if there := len(store.segments(camera, start, end)):
                    self._fault(f"{there} segments of {camera} are there that were forgotten")

    def _fault(self, text: str) -> None:
        self.counts.faults.append(text)
        say(f"fault: {text}")


def _same_stretch(mine: set[Mark], others: set[Mark]) -> set[Mark]:
    """What a mark takes the place of because it is of the same stretch."""
    return {one for one in others if any(one[1:4] == new[1:4] for new in mine)}


def _told(trial: Trial, hours: float, seconds: float, runs: int) -> list[str]:
    counts = trial.counts
    grown = max((after - before for before, after in counts.rss), default=0.0)
    most = max((after for _, after in counts.rss), default=0.0)

    def listed(counted: Counter[str]) -> str:
        return ", ".join(f"{name} {count}" for name, count in sorted(counted.items())) or "nothing"

    return [
        f"{hours:g} hours of {len(CAMERAS)} cameras in {seconds:.0f} s, the run was started {runs} times",
        f"acknowledged          {listed(counts.asked)}",
        f"killed in the middle  {listed(counts.killed)}",
        f"failed, disk full     {listed(counts.failed)}",
        f"drift                 told {counts.drifted} times (views are learned for a day before that)",
        f"memory of the run     {most:.0f} MiB at most; {grown:+.1f} MiB in the second half of a life",
        f"faults                {len(counts.faults)}",
        *[f"  {fault}" for fault in counts.faults[:20]],
    ]


@click.command()
@click.option("--hours", type=float, default=8.0, show_default=True, help="Of simulated time.")
@click.option("--pace-ms", type=float, default=30.0, show_default=True, help="For each segment of all cameras.")
@click.option("--every", type=float, default=0.3, show_default=True, help="Seconds between two things done.")
@click.option("--kill", type=float, default=30.0, show_default=True, help="Seconds between two kills of the run.")
@click.option("--seed", type=int, default=0, show_default=True)
@BUNDLE
@click.option("--output", type=PATH, help="Where the table goes; else it is printed.")
@WORK
def teaching(
    hours: float,
    pace_ms: float,
    every: float,
    kill: float,
    seed: int,
    path: Path | None,
    output: Path | None,
    work: Path,
) -> None:
    """Feedback and drift in simulated time, killed, and on a disk that fills up.

    \b
    Example:
      python -m benchmarks.faults.teaching --hours 1
    """
    bundle = path or built(REFERENCE, REFERENCE, work)
    with tempfile.TemporaryDirectory() as name:
        place, started = Path(name), time.monotonic()
        folder = place / "disk"
        with contextlib.ExitStack() as stack:
            disk = stack.enter_context(Disk(folder, _KIB)) if mountable(place / "try") else None
            folder.mkdir(exist_ok=True)
            trial = Trial(bundle, folder, place, hours, pace_ms / 1000, seed)
            trial.go(disk, every, kill)
            runs = len(trial.counts.rss)
        given = "" if path is None else f" --bundle {path}"
        lines = [
            f"$ python -m benchmarks.faults.teaching --hours {hours:g} --seed {seed}{given}",
            json.dumps(machine()),
            "",
            *_told(trial, hours, time.monotonic() - started, runs),
        ]
    text = "\n".join(lines) + "\n"
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, "utf-8")
    if trial.counts.faults:
        sys.exit(1)


if __name__ == "__main__":
    teaching()
