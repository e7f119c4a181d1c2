"""All measurements, one at a time, each as its own process: neither memory nor threads reach the next one."""

from __future__ import annotations

import fnmatch
import json
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.commanding import WORK_VARIABLE, say
from benchmarks.measuring import gpu
from benchmarks.processes import Ran, benchmark, room, run
from benchmarks.results import Result, read_results, write_result
from edge_runtime.errors import UsageError

PROGRAM = "python -m benchmarks"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row of results.

    Attributes:
        name: Of its file.
        words: The command behind `python -m benchmarks`.
        quick: The same, small: seconds instead of minutes.
        needs_cuda: Whether it is left out where there is no CUDA GPU.
    """

    name: str
    words: str
    quick: str
    needs_cuda: bool = False

    def command(self, quick: bool) -> str:
        """What a person types."""
        return f"{PROGRAM} {self.quick if quick else self.words}"

    def room(self, quick: bool) -> str | None:
        """Whose folder it works in; that goes behind the last measurement in it."""
        words = (self.quick if quick else self.words).split()
        if "--model" in words:
            return words[words.index("--model") + 1]
        return {"memory": "memory", "edge": "reference", "cameras": "reference"}.get(words[0])


_QUICK_GRAPH = "graph --model reference --frames 4 --rounds 1 --precision"


def _graph(geometry: str, frames: int, precision: str, more: str = "") -> Measurement:
    model = {"256m": "smolvlm2-256m"}.get(geometry, f"internvl3-{geometry}")
    words = f"graph --model {model} --frames {frames} --precision {precision}{more}"
    return Measurement(f"graph-{geometry}-{frames}-{precision}", words, f"{_QUICK_GRAPH} {precision}")


_SIZE_256M = [
    _graph("256m", 16, "bf16"),
    *(_graph("256m", *one, " --alone") for one in ((16, "int8"), (8, "bf16"), (8, "int8"), (4, "bf16"), (4, "int8"))),
]
MEASUREMENTS: tuple[Measurement, ...] = (
    Measurement("hunt", "hunt", "hunt --videos 20 --prompts 2 --layers 4 --heads 4 --width 16 --rounds 1"),
    Measurement("edge", "edge", "edge --rounds 2"),
    Measurement("cameras", "cameras", "cameras --streams 1 --seconds 2"),
    *_SIZE_256M,
    _graph("1b", 16, "int8", " --depth 15"),
    Measurement(
        "textual-1b-16-int8",
        "textual --model internvl3-1b --frames 16 --depth 15 --precision int8",
        "textual --model reference --frames 4 --tokens 1 --rounds 1",
    ),
    Measurement(
        "extract-1b-16",
        "extract --model internvl3-1b --frames 16 --rounds 2",
        "extract --model reference --frames 4 --rounds 1",
    ),
    Measurement("start-1b", "start --model internvl3-1b", "start --model reference --rounds 2"),
    _graph("2b", 4, "int8", " --depth 14"),
    _graph("8b", 4, "int8", " --depth 14 --apart"),
    Measurement("memory-1b", "memory internvl3-1b", "memory reference"),
    Measurement("memory-8b", 'memory "internvl3-8b deployed"', "memory reference"),
    Measurement(
        "graph-8b-16-fp16-cuda",
        "graph --model internvl3-8b --frames 16 --depth 14 --precision fp16 --provider cuda",
        f"{_QUICK_GRAPH} fp16 --provider cuda",
        needs_cuda=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """How a campaign is run.

    Attributes:
        results: The folder of JSON files.
        work: The folder for what is large.
        quick: Whether the small forms are run.
        again: Whether what has a result is measured again.
        keep: Whether checkpoints and graphs stay behind their last measurement.
    """

    results: Path
    work: Path
    quick: bool = False
    again: bool = False
    keep: bool = False


def chosen(patterns: Sequence[str], among: Sequence[Measurement] = MEASUREMENTS) -> list[Measurement]:
    """The measurements whose names match one of the patterns, all without any, in their order.

    Raises:
        UsageError: Nothing matches a pattern.
    """
    for pattern in patterns:
        if not fnmatch.filter([one.name for one in among], pattern):
            raise UsageError(f"no measurement {pattern!r}; choose from {', '.join(one.name for one in among)}")
    return [one for one in among if not patterns or any(fnmatch.fnmatch(one.name, each) for each in patterns)]


def run_all(measurements: Sequence[Measurement], settings: Settings) -> bool:
    """Measure what has no result yet. A failure is noted in its row, and the others go on.

    Returns:
        Whether nothing failed.

    Raises:
        UsageError: A file among the results is none.
        OutputFailed: A result cannot be written.
    """
    there = read_results(settings.results)
    card, failed, tried = gpu(), 0, set[str]()
    for place, one in enumerate(measurements, 1):
        title = f"[{place}/{len(measurements)}] {one.name}"
        command = one.command(settings.quick)
        if one.needs_cuda and card is None:
            say(f"{title}: needs a CUDA GPU, left out")
        elif command in tried:
            say(f"{title}: small, it is the same as one before")
        elif not settings.again and _stands(there.get(one.name), command):
            say(f"{title}: is there; --again measures it again")
        else:
            say(f"{title}: {command}")
            tried.add(command)
            result = _measure(one, settings)
            write_result(result, settings.results)
            failed += result.error is not None
            say(f"{title}: {result.error or 'done'}, {result.seconds:.0f} s, {result.peak_gib:.1f} GiB")
        mine = one.room(settings.quick)
        if mine and not settings.keep and mine not in {later.room(settings.quick) for later in measurements[place:]}:
            shutil.rmtree(room(mine, settings.work), ignore_errors=True)
    return not failed


def _stands(result: Result | None, command: str) -> bool:
    """Whether a result is one of this very command."""
    return result is not None and result.error is None and result.command == command


def _measure(one: Measurement, settings: Settings) -> Result:
    words = shlex.split(one.quick if settings.quick else one.words)
    ran = run(benchmark(*words, "--json"), {WORK_VARIABLE: str(settings.work)})
    told = _told(ran)
    return Result(
        name=one.name,
        command=one.command(settings.quick),
        quick=settings.quick,
        date=datetime.now(UTC).date().isoformat(),
        seconds=round(ran.seconds, 1),
        peak_gib=round(ran.peak_gib, 2),
        machine=told.get("machine", {}),
        versions=told.get("versions", {}),
        figures=_rounded(told.get("figures")),
        error=_fault(ran, told),
    )


def _fault(ran: Ran, told: dict[str, Any]) -> str | None:
    """Why there are no figures to rely on; None where there are."""
    if ran.code:
        return ran.last or f"exit code {ran.code}"
    return None if "figures" in told else "it gave no figures"


def _told(ran: Ran) -> dict[str, Any]:
    """The JSON object on the last line of its output; a command that failed may have got that far too."""
    lines = ran.output.splitlines()
    try:
        told = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _rounded(value: Any) -> Any:
    """Numbers to the five digits that a time deserves."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value
