"""Kill `hh-offline extract` and `build` at random moments, go on, and compare with a run that nobody disturbed.

    python benchmarks/kill_campaign.py --kills 50

After every SIGKILL the bundle's folder must be absent or open as a whole bundle. After the last one the command
runs to its end, and its result must equal the clean run's: same features, same graphs, same scorer, same
manifest but for the time of day. Prints one line a kill and exits with 1 at the first difference.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.bundle.reader import Bundle

# Small models lose more by threads than they win, most of all on a busy machine.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
# What tells the time, as the report does, too; everything else is a function of the input.
OF_THE_MOMENT = {"created", "bundle_id"}


class Difference(AssertionError):
    """A killed and continued run did not give what the clean run gave, or left half a bundle."""


@dataclass(frozen=True)
class Job:
    """A command line but for its output, and what is compared of that.

    Attributes:
        name: The command of `hh-offline`.
        arguments: What is passed to it, without the output.
        result: Reads what is to be equal from the output's path.
    """

    name: str
    arguments: tuple[str, ...]
    result: Callable[[Path], dict[str, Any]]

    def command(self, output: Path) -> list[str]:
        """Give the command that writes to `output`."""
        return [sys.executable, "-m", "offline.cli", self.name, *self.arguments, "--quiet", "--output", str(output)]


def bundle_result(bundle: Path) -> dict[str, Any]:
    """Read what two equal builds have in common.

    Returns:
        The manifest without what tells the time, and the sha256 of every file but the report.
    """
    opened = Bundle.open(bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    files = {entry.path: entry.sha256 for entry in opened.manifest.files if entry.path != "report.html"}
    return {key: value for key, value in manifest.items() if key not in OF_THE_MOMENT | {"files"}} | files


def features_result(store: Path) -> dict[str, Any]:
    """Read every entry of a feature store by name, its index, and the calibration set."""
    found: dict[str, Any] = {"index": json.loads((store / "index.json").read_text())}
    for path in sorted(store.glob("*.npz")):
        with np.load(path, allow_pickle=False) as data:
            found[path.name] = {name: (data[name].dtype.str, data[name].tobytes()) for name in data.files}
    return found


def jobs(model: str, manifest: Path) -> tuple[Job, Job]:
    """Make the two commands that may be killed."""
    given = ("--model", model, "--manifest", str(manifest))
    return (
        Job("extract", given, features_result),
        Job("build", (*given, "--overwrite", "--no-depth-curve"), bundle_result),
    )


def run(job: Job, output: Path) -> float:
    """Run a job to its end.

    Returns:
        The seconds it took.

    Raises:
        Difference: The command failed.
    """
    start = time.monotonic()
    done = subprocess.run(job.command(output), capture_output=True, text=True, check=False, env=ENVIRONMENT)
    if done.returncode:
        raise Difference(f"{job.name} failed: {done.stderr.strip()}")
    return time.monotonic() - start


def kill_after(job: Job, output: Path, seconds: float) -> bool:
    """Start a job, and SIGKILL it after `seconds`.

    Returns:
        Whether it was still at work then.
    """
    quiet = subprocess.DEVNULL
    with subprocess.Popen(job.command(output), stdout=quiet, stderr=quiet, env=ENVIRONMENT) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            return True
    return False


def campaign(job: Job, kills: int, work: Path, seed: int) -> Iterator[str]:
    """Kill a job at random moments, checking each time what is there, then let it finish and compare.

    Args:
        job: What is run.
        kills: How often it is killed.
        work: Folder for everything that is written.
        seed: Of the moments.

    Yields:
        A line for every step.

    Raises:
        Difference: Something is not as in the clean run, or was left behind.
    """
    draw = random.Random(f"{job.name} {seed}")
    clean = work / "clean" / job.name
    clean.parent.mkdir(parents=True, exist_ok=True)
    duration = run(job, clean)
    wanted = job.result(clean)
    yield f"{job.name}: clean run in {duration:.1f} s"
    output = work / "killed" / job.name
    output.parent.mkdir(parents=True, exist_ok=True)
    for number in range(kills):
        seconds = draw.uniform(0, duration)
        killed = kill_after(job, output, seconds)
        if job.name == "build" and output.exists() and bundle_result(output) != wanted:
            raise Difference(f"build: killed after {seconds:.2f} s, the bundle there is another")
        state = "absent" if not output.exists() else "there"
        yield f"{job.name}: kill {number + 1} {'after' if killed else 'came late,'} {seconds:.2f} s, output {state}"
    run(job, output)
    if job.result(output) != wanted:
        raise Difference(f"{job.name}: after {kills} kills the result differs from the clean run")
    left = sorted(path.name for path in output.parent.iterdir() if path.name.startswith("."))
    if left:
        raise Difference(f"{job.name}: left behind {', '.join(left)}")
    yield f"{job.name}: finished after {kills} kills, equal to the clean run"


def main() -> int:
    """Kill both commands, print a line for every step, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each command")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--model", default="reference")
    parser.add_argument("--manifest", type=Path, help="data.csv; without it, street scenes are made")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kill-campaign-") as folder:
        work = Path(folder)
        manifest = given.manifest
        if manifest is None:
            command = [sys.executable, "-m", "offline.cli", "scenes", "--videos", "12", "--quiet", "--output"]
            subprocess.run([*command, str(work / "scenes")], check=True, stdout=subprocess.DEVNULL)
            manifest = work / "scenes" / "data.csv"
        try:
            for job in jobs(given.model, manifest):
                for line in campaign(job, given.kills, work, given.seed):
                    print(line, flush=True)
        except Difference as difference:
            print(f"FAILED: {difference}", flush=True)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
