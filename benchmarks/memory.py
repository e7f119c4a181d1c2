"""Peak memory and time of every command on models of full size, one after the other, each as its own process.

    python -m benchmarks memory --output benchmarks/memory.txt
    python -m benchmarks memory internvl3-8b

Writes checkpoints of seeded noise (`full-size`), which are removed again, four short clips, two a class, and runs
`extract` whole and streamed, `hunt`, `build --max-layer 7`, `verify` and `hh-edge run`. The peak is what the system
counts as the largest resident set of the process, as `/usr/bin/time -v` prints it; `own` is the part of it that no
file backs, for the system takes mapped weights back when memory is short. Steps that are done are not run again, so a
campaign can be cut and continued; `--output` gets all that stands by its end.
"""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from benchmarks.bundles import FOUR_FRAMES, clips
from benchmarks.commanding import JSON, PATH, WORK, hand_over, say
from benchmarks.measuring import machine
from benchmarks.processes import benchmark, room, run, tool
from edge_runtime.errors import HeadHuntError
from edge_runtime.files import write_atomic

# Not from `models.loading`, which brings torch: a child's peak begins at what its parent holds.
REFERENCE = "reference"
# What one row is: the model, and how many of its decoder layers are written; None for all.
MODELS: dict[str, tuple[str, int | None]] = {
    REFERENCE: (REFERENCE, None),
    "internvl3-1b": ("internvl3-1b", None),
    "internvl3-8b": ("internvl3-8b", None),
    "internvl3-8b deployed": ("internvl3-8b", None),
    "qwen3-vl-8b": ("qwen3-vl-8b", None),
    "internvl3-38b of 4 layers": ("internvl3-38b", 4),
    "internvl3-38b of 8 layers": ("internvl3-38b", 8),
}
# Sixty experts, so that those of noise, which lie low, reach the deepest layer that may be hunted.
_DEEP = ("--top-k", "60")


@dataclass(frozen=True)
class Step:
    """A command, and what it may take.

    Attributes:
        name: What it is called in the table.
        goal: GiB.
        command: Its words.
    """

    name: str
    goal: float
    command: Sequence[str]


@dataclass(frozen=True)
class Measured:
    """What a command took.

    Attributes:
        model: Whose row it is.
        step: Its name.
        goal: GiB.
        peak: GiB, the largest resident set.
        own: GiB of it that no file backs, at most; None where the system does not tell them apart, or did not then.
        seconds: By the clock on the wall.
        cpu: Seconds of all cores.
        code: Its exit code.
        command: As it was run.
        said: Its last line.
    """

    model: str
    step: str
    goal: float
    peak: float
    seconds: float
    cpu: float
    code: int
    command: str
    said: str
    own: float | None = None


@click.command()
@click.argument("models", type=click.Choice(list(MODELS)), nargs=-1)
@click.option("--output", type=PATH, help="Where the table goes; else it is printed.")
@WORK
@JSON
def memory(models: tuple[str, ...], output: Path | None, work: Path, as_json: bool) -> None:
    """Peak memory of every command, on the named models or on all.

    Up to 60 GiB are written into --work.

    \b
    Example:
      python -m benchmarks memory internvl3-1b
    """
    folder = room("memory", work)
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / "measured.json"
    found = [Measured(**one) for one in json.loads(record.read_text())] if record.is_file() else []
    for model in models or tuple(MODELS):
        for one in _measured(model, folder, found):
            found = [old for old in found if (old.model, old.step) != (model, one.step)] + [one]
            write_atomic(record, json.dumps([asdict(each) for each in found], indent=1).encode())
    text = _table(found, folder)
    if output is not None:
        output.write_text(text)
    hand_over({"steps": [asdict(one) for one in found]}, text, as_json)
    if failed := [one for one in found if one.code]:
        raise HeadHuntError(f"{len(failed)} steps failed; the first: {failed[0].step} of {failed[0].model}")


def _measured(model: str, folder: Path, found: Sequence[Measured]) -> Iterator[Measured]:
    """Run what is left of a model's steps; what comes behind a step that fails is not run."""
    name, layers = MODELS[model]
    checkpoint = folder / "checkpoint"
    given = REFERENCE if name == REFERENCE else str(checkpoint)
    done = {one.step for one in found if one.model == model and one.code == 0}
    left = [step for step in _steps(model, given, folder) if step.name not in done]
    if not left:
        return
    if name != REFERENCE:
        _write_checkpoint(name, layers, checkpoint)
    for step in left:
        say(f"{model}: {step.name}")
        ran = run(step.command)
        held = f"{ran.peak_gib:.2f} GiB ({_gib(ran.own_gib)} of its own)"
        say(f"  {held}, {_clock(ran.seconds)}, exit {ran.code}: {ran.last}")
        yield Measured(
            model=model,
            step=step.name,
            goal=step.goal,
            peak=ran.peak_gib,
            seconds=ran.seconds,
            cpu=ran.cpu_s,
            code=ran.code,
            command=shlex.join([Path(step.command[0]).name, *step.command[1:]]).replace(str(folder), "FOLDER"),
            said=ran.last.replace(str(folder), "FOLDER"),
            own=ran.own_gib,
        )
        if ran.code:
            break
    shutil.rmtree(checkpoint, ignore_errors=True)


def _write_checkpoint(name: str, layers: int | None, folder: Path) -> None:
    say(f"Writing a checkpoint in the geometry of {name}")
    shutil.rmtree(folder, ignore_errors=True)
    written = run(benchmark("full-size", name, str(folder), *(["--layers", str(layers)] if layers else [])))
    if written.code:
        raise HeadHuntError(f"{name}: the checkpoint could not be written ({written.last})")


def _steps(model: str, checkpoint: str, folder: Path) -> Iterator[Step]:
    """What is run on a model, in order."""
    offline, edge, manifest = tool("hh-offline"), tool("hh-edge"), clips(folder)
    with manifest.open() as file:
        clip = next(csv.DictReader(file))["path"]
    made = folder / model.replace(" ", "-")
    made.mkdir(exist_ok=True)
    given = ["--model", checkpoint, "--manifest", str(manifest), "--quiet", *FOUR_FRAMES]
    extract, build = [offline, "extract", *given], [offline, "build", *given, "--output", str(made / "bundle")]
    verify = [offline, "verify", str(made / "bundle"), "--model", checkpoint]
    detect = [edge, "run", "--bundle", str(made / "bundle"), "--camera", clip]
    detect += ["--output", str(made / "records.jsonl"), "--quiet"]
    if "38b" in model:
        streamed = ["--output", str(made / "streamed"), "--stream-layers", "--memory", "8"]
        yield Step("extract, streamed", 8, [*extract, *streamed])
    elif "1b" in model or model == REFERENCE:
        yield Step("build, float32", 4, [*build, "--dtype", "float32", "--memory", "3"])
        yield Step("verify", 4, verify)
        # Where memory is free, `auto` takes what is faster and packs the weights once more.
        yield Step("hh-edge run", 4, detect)
        yield Step("hh-edge run --provider cpu", 4, [*detect, "--provider", "cpu"])
    elif "deployed" in model:
        words = [*build, "--dtype", "bfloat16", *_DEEP, "--memory", "12", "--overwrite"]
        yield Step("build --max-layer 13, int8", 14, [*words, "--precision", "int8", "--max-layer", "13", "--force"])
        yield Step("hh-edge run, int8", 14, detect)
        yield Step("build, all layers, bf16", 14, [*words, "--precision", "bf16", "--force"])
    else:
        whole = ["--output", str(made / "whole"), "--dtype", "bfloat16", "--no-stream-layers"]
        streamed = ["--output", str(made / "streamed"), "--dtype", "bfloat16", "--stream-layers", "--memory", "6"]
        features = ["--features", str(made / "streamed"), "--max-layer", "7", "--quiet"]
        yield Step("extract, bfloat16, whole", 18, [*extract, *whole])
        yield Step("extract, bfloat16, streamed", 6, [*extract, *streamed])
        yield Step("hunt", 6, [offline, "hunt", *features, "--output", str(made / "hunt.json")])
        deep = ["--dtype", "float32", "--max-layer", "7", *_DEEP, "--memory", "11"]
        yield Step("build --max-layer 7, float32", 12, [*build, *deep])
        yield Step("verify", 12, verify)
        yield Step("hh-edge run", 12, detect)


def _table(found: Sequence[Measured], folder: Path) -> str:
    """What was measured, as text."""
    order = list(MODELS)
    found = sorted(found, key=lambda one: order.index(one.model))
    here = machine()
    lines = [
        "Peak memory of every command at full size. Weights are seeded noise of the models' true geometry",
        "(benchmarks/full_size.py), stored in bfloat16; 4 clips, two a class, one unit each; 4 frames a segment.",
        f"Machine: {here['processor']}, {here['cores']:g} cores ({', '.join(here['instructions'])}), "
        f"{here['memory_gib']:.0f} GiB",
        "Command of the whole: python -m benchmarks memory --output benchmarks/memory.txt",
        "",
        f"{'model':<26}{'step':<30}{'peak GiB':>9}{'own':>7}{'goal':>6}{'wall':>9}{'CPU':>9}  exit",
    ]
    for one in found:
        lines.append(
            f"{one.model:<26}{one.step:<30}{one.peak:>9.2f}{_gib(one.own):>7}{one.goal:>6g}"
            f"{_clock(one.seconds):>9}{_clock(one.cpu):>9}  {one.code}"
        )
    lines += ["", "Commands, in that order, and the last line that each one wrote:"]
    for one in found:
        lines += [f"  {one.command}", f"    {one.said}"]
    return "\n".join(lines).replace(str(folder), "FOLDER") + "\n"


def _gib(size: float | None) -> str:
    """A size that may not be known."""
    return "" if size is None else f"{size:.2f}"


def _clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
