"""`benchmarks/README.md`, made from the results alone: each goal, what was measured, where, and by what command."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.campaign import MEASUREMENTS, PROGRAM
from benchmarks.results import Result

README = Path(__file__).with_name("README.md")
Figures = dict[str, Any]
_BY_NAME = {one.name: one for one in MEASUREMENTS}
_HEAD = f"""# Benchmarks

How fast it is, as ratios measured in one run on one machine. This page is made from `benchmarks/results/`; write
nothing into it by hand.

| command | does |
|---|---|
| `{PROGRAM}` | all that has no result yet, one at a time, then this page |
| `{PROGRAM} all 'graph-256m-*' hunt --again` | some of it, again |
| `{PROGRAM} --quick` | small sizes, into the work folder: whether everything runs |
| `{PROGRAM} graph --help` | one measurement by hand, with its options |
| `{PROGRAM} readme` | this page |
| `{PROGRAM} note NAME "…"` | a remark beside a result; it goes when that is measured again |

Weights are seeded noise in the true geometry of each model (`full-size` writes them): times and memory are those of
the real ones; which layers int8 leaves in bfloat16 is not. Works that are compared take turns, round by round, in one
process; a ratio is the median over the rounds. The competitor is the model's own `forward` in transformers, bfloat16,
SDPA, one logit kept, no cache. FLOPs are counted by PyTorch, attention in full; the ceiling is a product of 4096 x
4096 in bfloat16 on the same machine, so that int8 may go beyond 100 %. Checkpoints and graphs lie in a work folder
(`--work`) and are removed behind their last measurement.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        work: What is done.
        goal: What is to be reached, for a person.
        needs: The measurements that it is read from.
        said: The figure for a person, from the figures that are there, by measurement.
        reached: Whether the goal is, once all are there; None where there is no goal.
    """

    work: str
    goal: str
    needs: tuple[str, ...]
    said: Callable[[Mapping[str, Figures]], str]
    reached: Callable[[Mapping[str, Figures]], bool] | None = None


def _ratio(of: Figures) -> str:
    return (
        f"{of['ratio']:.2f} against whole, {of['ratio_cut']:.2f} against cut; {of['seconds']:.2f} s a segment, "
        f"{of['precision']} on {of['provider']}"
    )


def _each(one: Callable[[Figures], str]) -> Callable[[Mapping[str, Figures]], str]:
    """One text for all measurements that are there."""
    return lambda there: "; ".join(one(of) for of in there.values())


def _share(of: Figures) -> str:
    return f"{100 * of['share_of_ceiling']:.0f} % of {of['ceiling_gflops']:.0f} GFLOP/s, {of['tflop']:.2f} TFLOP"


def _rate(of: Figures) -> str:
    return f"{of['frames']} frames in {of['precision'].partition('/')[0]} {of['frames_per_s']:.1f}"


def _eight(there: Mapping[str, Figures]) -> str:
    parts = [_ratio(there["graph-8b-4-int8"])] if "graph-8b-4-int8" in there else []
    steps = there.get("memory-8b", {}).get("steps", [])
    return "; ".join(parts + [_held(step) for step in steps])


def _eight_reached(there: Mapping[str, Figures]) -> bool:
    steps = there["memory-8b"]["steps"]
    small = len(steps) == 3 and all(step["code"] == 0 and _within(step) for step in steps)
    return bool(there["graph-8b-4-int8"]["ratio"] >= 2.5 and small)


def _held(step: Figures) -> str:
    """A command's memory: of its own, and with what it mapped of files."""
    if step.get("own") is None:
        return f"{step['step']} {step['peak']:.1f} GiB"
    return f"{step['step']} {step['own']:.1f} GiB (with mapped files {step['peak']:.1f})"


def _within(step: Figures) -> bool:
    """Whether a command keeps to its goal with what the system cannot take back."""
    own = step.get("own")
    return bool((step["peak"] if own is None else own) <= step["goal"])


def _start(of: Figures) -> str:
    return (
        f"{of['ratio']:.2f}: {of['opened_s']:.2f} s for {of['bytes'] / 2**30:.2f} GiB, of which checking "
        f"{of['checked_s']:.2f} and loading {of['loaded_s']:.2f}; sha256sum {of['sha256sum_s']:.2f}"
    )


def _beside(of: Figures) -> str:
    return ", ".join(
        f"{way} {value:.1f} ms ({100 * of['share'][way]:.0f} % of a segment)"
        for way, value in of["beside_ms"].items()
    )


_RATES = tuple(f"graph-256m-{frames}-{precision}" for frames in (16, 8, 4) for precision in ("bf16", "int8"))
ROWS: tuple[Row, ...] = (
    Row(
        "1B geometry, 16 frames, depth 15 of 24, against transformers bfloat16",
        ">= 2.5 against whole",
        ("graph-1b-16-int8",),
        _each(_ratio),
        lambda there: there["graph-1b-16-int8"]["ratio"] >= 2.5,
    ),
    Row(
        "SmolVLM2-256M geometry, 16 frames, share of the bfloat16 ceiling",
        ">= 65 %",
        ("graph-256m-16-bf16",),
        _each(_share),
        lambda there: there["graph-256m-16-bf16"]["share_of_ceiling"] >= 0.65,
    ),
    Row(
        "the same, frames a second at which one camera runs in real time",
        "10",
        _RATES,
        _each(_rate),
        lambda there: all(of["frames_per_s"] >= 10 for of in there.values()),
    ),
    Row(
        "8B geometry, half depth, 4 frames, against transformers bfloat16; peak memory",
        ">= 2.5; build at full depth within 14 GiB",
        ("graph-8b-4-int8", "memory-8b"),
        _eight,
        _eight_reached,
    ),
    Row(
        "decision latency, eager against batch, 1B, 16 frames",
        "<= 0.25",
        ("graph-1b-16-int8",),
        _each(
            lambda of: (
                f"{of['growing_share']:.2f}: {of['growing_s']:.2f} s instead of {of['seconds']:.2f}; "
                f"{of['eager_s']:.2f} s without the decoder's growing form"
            )
        ),
        lambda there: there["graph-1b-16-int8"]["growing_share"] <= 0.25,
    ),
    Row(
        "five prompts on one prefix against five passes, 1B, 16 frames",
        ">= 4.5",
        ("extract-1b-16",),
        _each(lambda of: f"{of['ratio']:.2f}: {of['shared_s']:.1f} s instead of {of['passes_s']:.1f}"),
        lambda there: there["extract-1b-16"]["ratio"] >= 4.5,
    ),
    Row(
        "hunt: 784 heads x 5 prompts x 200 videos",
        "<= 6 s",
        ("hunt",),
        _each(lambda of: f"{of['seconds']:.2f} s at {of['width']} features a head"),
        lambda there: there["hunt"]["seconds"] <= 6,
    ),
    Row(
        "everything beside the graphs, reference model, 1080p, without decoding",
        "<= 45 ms a segment",
        ("edge",),
        _each(_beside),
        lambda there: max(there["edge"]["beside_ms"].values()) <= 45,
    ),
    Row(
        "opening a 1B bundle, self-test aside, against sha256sum of its files",
        "<= 1.5",
        ("start-1b",),
        _each(_start),
        lambda there: there["start-1b"]["ratio"] <= 1.5,
    ),
    Row(
        "one H100 or H200, fp16, 8B geometry, 16 frames",
        ">= 60 % of the ceiling, >= 2 against transformers",
        ("graph-8b-16-fp16-cuda",),
        _each(lambda of: f"{_share(of)}; {_ratio(of)}"),
        lambda there: (of := there["graph-8b-16-fp16-cuda"])["share_of_ceiling"] >= 0.6 and of["ratio"] >= 2,
    ),
    Row(
        "asking in words, 64 tokens, against one scored segment, 1B, 16 frames, depth 15",
        "",
        ("textual-1b-16-int8",),
        _each(lambda of: f"{of['ratio']:.2f}: {of['answered_s']:.1f} s against {of['scored_s']:.1f}"),
    ),
    Row(
        "cameras of 1080p in one process, decoding included, no network, reference model",
        "",
        ("cameras",),
        _each(lambda of: f"{of['cameras_10fps']:.1f} of 10 frames/s, {of['cameras_25fps']:.1f} of 25"),
    ),
    Row(
        "2B geometry, 4 frames, half depth, against transformers bfloat16",
        "",
        ("graph-2b-4-int8",),
        _each(_ratio),
    ),
    Row(
        "1B geometry, peak memory of build, verify and run in float32",
        "4 GiB each",
        ("memory-1b",),
        lambda there: "; ".join(_held(step) for step in there["memory-1b"]["steps"]),
        lambda there: all(_within(step) for step in there["memory-1b"]["steps"]),
    ),
)


def generate(results: Mapping[str, Result], folder: Path = README.parent) -> str:
    """The page.

    Args:
        results: By name.
        folder: Where the recorded texts are, which are listed.
    """
    return "\n".join([_HEAD, *_table(results), "", *_details(results), *_recordings(folder)]) + "\n"


def _table(results: Mapping[str, Result]) -> Iterator[str]:
    yield "## Goals\n"
    yield "| work | goal | measured | reached | machine | command |\n|---|---|---|---|---|---|"
    for row in ROWS:
        there = {name: results[name].figures or {} for name in row.needs if _measured(results.get(name))}
        cells = [row.work, row.goal or "none", _figure(row, results, there), _verdict(row, there)]
        machines = dict.fromkeys(_machine(results[name]) for name in there)
        commands = dict.fromkeys(f"`{_command(name, results)}`" for name in row.needs)
        yield "| " + " | ".join([*cells, "<br>".join(machines), "<br>".join(commands)]) + " |"


def _measured(result: Result | None) -> bool:
    return result is not None and result.figures is not None and result.error is None


def _figure(row: Row, results: Mapping[str, Result], there: Mapping[str, Figures]) -> str:
    parts = [row.said(there)] if there else []
    for name in row.needs:
        if name in there:
            continue
        result = results.get(name)
        absent = "not run on a GPU" if _BY_NAME[name].needs_cuda else "not measured"
        parts.append(f"{name}: failed" if result is not None else absent)
    if any(results[name].quick for name in there):
        parts.append("reduced sizes: no measurement")
    return "; ".join(dict.fromkeys(parts))


def _verdict(row: Row, there: Mapping[str, Figures]) -> str:
    if row.reached is None or len(there) < len(row.needs):
        return ""
    return "yes" if row.reached(there) else "**no**"


def _machine(result: Result) -> str:
    said = f"{result.machine['processor']}, {result.machine['cores']:g} cores"
    return f"{said}, {result.machine['gpu']}" if result.machine["gpu"] else said


def _command(name: str, results: Mapping[str, Result]) -> str:
    return results[name].command if name in results else _BY_NAME[name].command(quick=False)


def _details(results: Mapping[str, Result]) -> Iterator[str]:
    """Every result with all of its figures, in the order of the campaign."""
    yield "## Results\n"
    if not results:
        yield "None yet.\n"
    for name in (name for name in _BY_NAME if name in results):
        result = results[name]
        yield f"### {name}\n"
        if result.note:
            yield result.note + "\n"
        if result.error:
            yield f"Failed: {result.error}\n"
        took = f"{result.date}, {result.seconds:.0f} s in all, peak {result.peak_gib:.1f} GiB"
        yield "```text\n" + result.command + f"\n{took}"
        yield from _listed(result.machine | {"versions": result.versions} if result.machine else {})
        yield from _listed(result.figures or {})
        yield "```\n"


def _listed(values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        yield f"{key}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"


def _recordings(folder: Path) -> Iterator[str]:
    """The measurements that are no part of the campaign, each with its program."""
    yield "## Recorded apart\n"
    yield "Longer campaigns and questions that were settled once; each text begins with, or names, its command.\n"
    yield "| recorded | question |\n|---|---|"
    for path in sorted(folder.glob("*.txt")):
        program = path.with_suffix(".py")
        said = ast.get_docstring(ast.parse(program.read_text())) if program.is_file() else None
        first = said.splitlines()[0] if said else path.read_text().splitlines()[0].removeprefix("$ ")
        yield f"| [{path.name}]({path.name}) | {first} |"
