"""Peak memory and time of every command on models of full size, one after the other, each as its own process.

    python benchmarks/memory.py --work /tmp/full --output benchmarks/memory.txt
    python benchmarks/memory.py --work /tmp/full internvl3-8b

Writes checkpoints of seeded noise (`full_size.py`), which are removed again, four short clips, two a class, and runs
`extract` whole and streamed, `hunt`, `build --max-layer 7`, `verify` and `hh-edge run`. The peak is what the system
counts as the largest resident set of the process, as `/usr/bin/time -v` prints it. Steps that are done are not run
again, so a campaign can be cut and continued; `--output` gets all that stands by its end.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).parent
GIB = 2**30
FRAMES = ("--segment-frames", "48", "--sampled", "4")
# What one row is: the model, and how many of its decoder layers are written; None for all.
MODELS: dict[str, tuple[str, int | None]] = {
    "internvl3-1b": ("internvl3-1b", None),
    "internvl3-8b": ("internvl3-8b", None),
    "qwen3-vl-8b": ("qwen3-vl-8b", None),
    "internvl3-38b of 4 layers": ("internvl3-38b", 4),
    "internvl3-38b of 8 layers": ("internvl3-38b", 8),
}


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


def run(model: str, step: Step, log: Path) -> Measured:
    """Run a command to its end, and ask the system what it took."""
    begun = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(step.command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    lines = [line for line in log.read_text(errors="replace").replace("\r", "\n").splitlines() if line.strip()]
    return Measured(
        model=model,
        step=step.name,
        goal=step.goal,
        peak=usage.ru_maxrss * 1024 / GIB,
        seconds=time.monotonic() - begun,
        cpu=usage.ru_utime + usage.ru_stime,
        code=process.returncode,
        command=shlex.join([Path(step.command[0]).name, *step.command[1:]]),
        said=lines[-1] if lines else "",
    )


def clips(work: Path) -> Path:
    """Two short clips a class, one segment each; returns their data.csv."""
    manifest = work / "four.csv"
    if not manifest.is_file():
        folder = work / "clips"
        words = ["--output", str(folder), "--videos", "24", "--seconds", "2", "2", "--event-seconds", "1", "1"]
        subprocess.run([tool("hh-offline"), "scenes", *words, "--quiet"], check=True)
        with (folder / "data.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == "calibration"]
        kept = [row for label in ("normal", "anomalous") for row in [r for r in rows if r["label"] == label][:2]]
        assert len(kept) == 4, [row["label"] for row in rows]
        with manifest.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(kept[0]))
            writer.writeheader()
            writer.writerows(row | {"path": str(folder / row["path"])} for row in kept)
    return manifest


def tool(name: str) -> str:
    """A command of the environment that runs this."""
    return str(Path(sys.executable).with_name(name))


def steps(model: str, checkpoint: Path, work: Path) -> Iterator[Step]:
    """What is run on a model, in order."""
    offline, edge, manifest = tool("hh-offline"), tool("hh-edge"), clips(work)
    with manifest.open() as file:
        clip = next(csv.DictReader(file))["path"]
    made = work / model.replace(" ", "-")
    made.mkdir(exist_ok=True)
    extract = [offline, "extract", "--model", str(checkpoint), "--manifest", str(manifest), "--quiet", *FRAMES]
    build = [offline, "build", "--model", str(checkpoint), "--manifest", str(manifest), "--quiet", *FRAMES]
    build += ["--output", str(made / "bundle"), "--dtype", "float32"]
    verify = [offline, "verify", str(made / "bundle"), "--model", str(checkpoint)]
    detect = [edge, "run", "--bundle", str(made / "bundle"), "--camera", clip]
    detect += ["--output", str(made / "records.jsonl"), "--quiet"]
    if "38b" in model:
        streamed = ["--output", str(made / "streamed"), "--stream-layers", "--memory", "8"]
        yield Step("extract, streamed", 8, [*extract, *streamed])
    elif "1b" in model:
        yield Step("build, float32", 4, [*build, "--memory", "3"])
        yield Step("verify", 4, verify)
        yield Step("hh-edge run", 4, detect)
    else:
        whole = ["--output", str(made / "whole"), "--dtype", "bfloat16", "--no-stream-layers"]
        streamed = ["--output", str(made / "streamed"), "--dtype", "bfloat16", "--stream-layers", "--memory", "6"]
        features = ["--features", str(made / "streamed"), "--max-layer", "7", "--quiet"]
        yield Step("extract, bfloat16, whole", 18, [*extract, *whole])
        yield Step("extract, bfloat16, streamed", 6, [*extract, *streamed])
        yield Step("hunt", 6, [offline, "hunt", *features, "--output", str(made / "hunt.json")])
        # Sixty experts, so that those of noise, which lie low, reach the deepest layer that may be hunted.
        deep = ["--max-layer", "7", "--top-k", "60", "--memory", "11"]
        yield Step("build --max-layer 7, float32", 12, [*build, *deep])
        yield Step("verify", 12, verify)
        yield Step("hh-edge run", 12, detect)


def table(found: Sequence[Measured], work: Path) -> str:
    """What was measured, as text."""
    order = list(MODELS)
    found = sorted(found, key=lambda one: order.index(one.model))
    lines = [
        "Peak memory of every command at full size. Weights are seeded noise of the models' true geometry",
        "(benchmarks/full_size.py), stored in bfloat16; 4 clips, two a class, one unit each; 4 frames a segment.",
        f"Machine: {machine()}",
        "Command of the whole: python benchmarks/memory.py --work FOLDER --output benchmarks/memory.txt",
        "",
        f"{'model':<26}{'step':<30}{'peak GiB':>9}{'goal':>6}{'wall':>9}{'CPU':>9}  exit",
    ]
    for one in found:
        lines.append(
            f"{one.model:<26}{one.step:<30}{one.peak:>9.2f}{one.goal:>6g}{clock(one.seconds):>9}{clock(one.cpu):>9}  "
            f"{one.code}"
        )
    lines += ["", "Commands, in that order, and the last line that each one wrote:"]
    for one in found:
        lines += [f"  {one.command}", f"    {one.said}"]
    return "\n".join(lines).replace(str(work), "FOLDER") + "\n"


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def machine() -> str:
    """Cores, memory, and what the processor multiplies."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    flags = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").is_file() else []
    has = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if flag in flags]
    return f"{os.cpu_count()} cores {platform.machine()} ({', '.join(has)}), {memory:.0f} GiB"


def main() -> None:
    """Measure the named models, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--work", type=Path, required=True, help="a folder; up to 60 GiB are written into it")
    parser.add_argument("--output", type=Path, help="where the table goes; else it is printed")
    options = parser.parse_args()
    if unknown := set(options.models) - set(MODELS):
        parser.error(f"unknown model {unknown.pop()!r}; choose from {', '.join(MODELS)}")
    options.work.mkdir(parents=True, exist_ok=True)
    record = options.work / "measured.json"
    found = [Measured(**one) for one in json.loads(record.read_text())] if record.is_file() else []
    for model in options.models or MODELS:
        name, layers = MODELS[model]
        checkpoint = options.work / "checkpoint"
        left = [
            step
            for step in steps(model, checkpoint, options.work)
            if not any((one.model, one.step) == (model, step.name) and one.code == 0 for one in found)
        ]
        if not left:
            continue
        shutil.rmtree(checkpoint, ignore_errors=True)
        more = ["--layers", str(layers)] if layers else []
        subprocess.run([sys.executable, str(HERE / "full_size.py"), name, str(checkpoint), *more], check=True)
        for step in left:
            print(f"{model}: {step.name}", flush=True)
            one = run(model, step, options.work / "log")
            print(f"  {one.peak:.2f} GiB, {clock(one.seconds)}, exit {one.code}: {one.said}", flush=True)
            found = [old for old in found if (old.model, old.step) != (model, step.name)] + [one]
            record.write_text(json.dumps([asdict(one) for one in found], indent=1))
            if one.code:
                print((options.work / "log").read_text()[-2000:])
                break
        shutil.rmtree(checkpoint, ignore_errors=True)
    if options.output:
        options.output.write_text(table(found, options.work))
    else:
        print(table(found, options.work))


if __name__ == "__main__":
    main()
