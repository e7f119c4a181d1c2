"""Kill a Ray worker, the raylet and the driver of `hh-offline extract` at random moments, and compare the stores.

    python benchmarks/ray_kill_campaign.py --trials 20

Each trial has a store of its own. Its command runs on a Ray of this machine with two workers; at a random moment one
process gets SIGKILL: a worker, the raylet, or the driver, in turn. A command that did not end with 0 is started
again, as a person would do. In the end the store must equal that of one clean local run, file by file and byte by
byte, the index included. Prints a line a trial and exits with 1 at the first difference.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
VICTIMS = ("worker", "raylet", "driver")
# A raylet that is gone is noticed after some 15 s; longer than this is a hang.
DEADLINE_S = 300.0
STARTS = 4


def command(model: str, manifest: Path, output: Path, ray: bool) -> list[str]:
    given = [sys.executable, "-m", "offline.cli", "extract", "--model", model, "--manifest", str(manifest)]
    given += ["--output", str(output), "--quiet"]
    return [*given, "--executor", "ray", "--workers", "2"] if ray else given


def store(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def find(driver: psutil.Process, victim: str) -> psutil.Process | None:
    """The process to kill; None where it is not there yet, or no longer."""
    if victim == "driver":
        return driver
    try:
        family = driver.children(recursive=True)
    except psutil.NoSuchProcess:
        return None
    for process in family:
        try:
            name, line = process.name(), " ".join(process.cmdline()[:1])
        except psutil.Error:
            continue
        if victim == "raylet" and name == "raylet":
            return process
        if victim == "worker" and "WorkerProcess" in line:
            return process
    return None


def end_family(family: list[psutil.Process]) -> None:
    """Nothing of a trial may run into the next one: what its driver had started, by its own ids."""
    for process in family:
        try:
            process.kill()
        except psutil.Error:
            continue
    psutil.wait_procs(family, timeout=20)


def entries(output: Path) -> int:
    return len(list(output.glob("*.npz"))) if output.is_dir() else 0


def started(
    arguments: list[str], output: Path, victim: str | None = None, seconds: float = 0
) -> tuple[int | None, int | None, str]:
    """Run a command, and kill the victim once after a while.

    Returns:
        The exit code, None where it hung; how many entries the store held at the kill, None where there was no kill;
        and what happened, in words.
    """
    process = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    driver = psutil.Process(process.pid)
    begun, family, held, told = time.monotonic(), [], None, "late"
    while process.poll() is None and time.monotonic() - begun < DEADLINE_S:
        try:
            family = [*{*family, *driver.children(recursive=True)}]
        except psutil.NoSuchProcess:
            break
        if victim is not None and time.monotonic() - begun > seconds and (found := find(driver, victim)) is not None:
            try:
                found.kill()
                held = entries(output)
                told = f"after {time.monotonic() - begun:.1f} s"
            except psutil.NoSuchProcess:
                pass
            victim = None
        time.sleep(0.1)
    hung = process.poll() is None
    if hung:
        process.kill()
    said = "" if process.stderr is None else process.stderr.read() if not hung else ""
    code = process.wait()
    end_family(family)
    last = said.strip().splitlines()[-1][:160] if said.strip() else ""
    return (
        None if hung else code,
        held,
        f"{told}, exit {'none: it hung' if hung else code}{': ' + last if last else ''}",
    )


def campaign(model: str, manifest: Path, work: Path, trials: int, seed: int) -> Iterator[str]:
    draw = random.Random(seed)
    clean = work / "clean"
    subprocess.run(command(model, manifest, clean, ray=False), check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    wanted = store(clean)
    begun = time.monotonic()
    code, _, _ = started(command(model, manifest, work / "undisturbed", ray=True), work / "undisturbed")
    duration = time.monotonic() - begun
    if code or store(work / "undisturbed") != wanted:
        raise SystemExit(f"FAILED: the undisturbed run ended with {code}, or with another store")
    every = entries(clean)
    yield f"clean local run: {every} entries; the same with two Ray workers in {duration:.0f} s"
    kills, amid, late = 0, 0, 0
    while kills < trials:
        output, victim = work / "trial", VICTIMS[kills % len(VICTIMS)]
        # Before that Python is still starting, and there is nothing to kill but that.
        moment = draw.uniform(0.2 * duration, 0.95 * duration)
        code, held, told = started(command(model, manifest, output, ray=True), output, victim, moment)
        kept, starts = entries(output), 1
        while code not in (0, None) and starts < STARTS:
            code, _, _ = started(command(model, manifest, output, ray=True), output)
            starts += 1
        number = f"trial {kills + 1}"
        if code != 0:
            raise SystemExit(f"FAILED: {number}, {victim} killed {told}: ended with {code}")
        if store(output) != wanted:
            raise SystemExit(f"FAILED: {number}, {victim} killed {told}: another store")
        shutil.rmtree(output)
        if held is None:
            # Nothing was killed: drawn again.
            late += 1
            if late > trials:
                raise SystemExit("FAILED: most commands end before their moment; run it on a quieter machine")
            continue
        kills += 1
        amid += 0 < held < every
        yield (
            f"{number}: {victim} killed {told}; {held} of {every} entries then, {kept} at its end; {starts} starts; "
            "as the clean run"
        )
    yield f"{trials} trials, {amid} kills between the first entry and the last: all equal to the clean run"
    yield f"{late} more commands had ended before their moment, and do not count"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--model", default="reference")
    parser.add_argument("--videos", type=int, default=300, help="of the street scenes; extract takes those that hunt")
    parser.add_argument("--manifest", type=Path, help="data.csv; without it, street scenes are made")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ray-kill-campaign-") as folder:
        work = Path(folder)
        manifest = given.manifest
        if manifest is None:
            scenes = [
                sys.executable,
                "-m",
                "offline.cli",
                "scenes",
                "--quiet",
                "--videos",
                str(given.videos),
                "--output",
            ]
            subprocess.run([*scenes, str(work / "scenes")], check=True, stdout=subprocess.DEVNULL)
            manifest = work / "scenes" / "data.csv"
        for line in campaign(given.model, manifest, work, given.trials, given.seed):
            print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
