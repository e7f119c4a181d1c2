"""Interrupt `hh-edge pull` at random moments: an edge always has a bundle that verifies, and the next pull goes on.

    python benchmarks/pull_campaign.py --trials 50 --seed 0

In each trial an edge has a signed bundle, and another one is published: other weights and report, the rest the same.
A pull of it gets SIGKILL at a random moment, up to 1.4 times what a whole pull takes (every other one not before half
of that), or the server breaks every connection off from then on (one trial in five). Meanwhile, and afterwards, the
bundle in use is opened with all its files hashed and its signature checked: it has to be the old one or the new one.
Then a pull that nobody disturbs has to bring the new one. One trial in ten begins with a folder that was copied
there, not a link.

Prints one line a trial and exits with 1 at the first edge that is without a bundle. The server is that of the tests
(tests/support/bucket.py), on 127.0.0.1.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT)]

from bucket import Bucket, serving  # noqa: E402

from edge_runtime.bundle.keys import PrivateKey  # noqa: E402
from edge_runtime.bundle.manifest import MANIFEST, SIGNATURE, seal  # noqa: E402
from edge_runtime.bundle.reader import Bundle  # noqa: E402
from edge_runtime.errors import HeadHuntError  # noqa: E402
from edge_runtime.files import sha256  # noqa: E402
from export.signing import sign_bundle  # noqa: E402

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
# Behind the weights that the graph reads: other bytes to fetch, the same values to compute.
PADDING = 2**20
# Of the server, in bytes a second: a pull is to take a while.
RATE = 8e6
LIMIT_S = 120.0


class WithoutBundle(AssertionError):
    """An edge whose bundle does not verify, or a pull that cannot go on."""


@dataclass
class Fleet:
    """One edge, and whoever publishes for it.

    Attributes:
        base: What all bundles are made of.
        key: What they are signed with.
        work: Folder for everything that is written.
        bucket: The server.
        draw: All chance.
        numbers: Of bundles that were made.
    """

    base: Path
    key: PrivateKey
    work: Path
    bucket: Bucket
    draw: random.Random
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(10**6)))

    @property
    def link(self) -> Path:
        """The bundle in use."""
        return self.work / "edge" / "bundle"

    def make(self) -> Path:
        """Make a newer bundle with other weights' bytes and another report."""
        number = next(self.numbers)
        folder = Path(shutil.copytree(self.base, self.work / f"made-{number}"))
        (folder / SIGNATURE).unlink(missing_ok=True)
        with (folder / "language.onnx.data").open("ab") as file:
            file.write(self.draw.randbytes(PADDING))
        (folder / "report.html").write_bytes(self.draw.randbytes(PADDING))
        document = json.loads((folder / MANIFEST).read_text())
        document["created"] = (datetime(2027, 1, 1, tzinfo=UTC) + timedelta(minutes=number)).isoformat()
        for entry in document["files"]:
            path = folder / entry["path"]
            entry |= {"sha256": sha256(path), "bytes": path.stat().st_size}
        (folder / MANIFEST).write_bytes(seal(document))
        sign_bundle(folder, self.key)
        return folder

    def pull(self) -> subprocess.Popen[str]:
        """Start a pull."""
        code = "from edge_runtime.cli import main; main()"
        command = [sys.executable, "-c", code, "pull", self.bucket.url, "--bundle", str(self.link)]
        command += ["--trusted-key", self.key.public.line, "--provider", "cpu", "--threads", "1"]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT)

    def whole_pull(self) -> float:
        """Pull to the end; returns the seconds it took."""
        begun = time.monotonic()
        process = self.pull()
        _, told = process.communicate(timeout=LIMIT_S)
        if process.returncode:
            raise WithoutBundle(f"a pull that nobody disturbed failed: {told.strip()}")
        return time.monotonic() - begun

    def used(self) -> str:
        """Id of the bundle in use, with all files hashed and the signature checked."""
        try:
            return Bundle.open(self.link, [self.key.public]).manifest.bundle_id
        except HeadHuntError as error:
            raise WithoutBundle(f"the edge has no bundle that verifies: {error}") from error


@contextmanager
def looked_at(fleet: Fleet, allowed: set[str], counts: Counter[str]) -> Iterator[None]:
    """Open the bundle in use again and again while the body lasts."""
    done, failures = threading.Event(), []

    def look() -> None:
        while not done.is_set():
            try:
                place = Path(os.path.realpath(fleet.link))
                found = Bundle.open(place, [fleet.key.public]).manifest.bundle_id
            except HeadHuntError as error:
                if Path(os.path.realpath(fleet.link)) != place:
                    continue  # a folder that was copied there became a link while its files were read
                failures.append(str(error))
                return
            counts["looks"] += 1
            if found not in allowed:
                failures.append(f"{found} is neither the old nor the new bundle")

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if failures:
        raise WithoutBundle(f"while a pull was at work: {failures[0]}")


def reached(fleet: Fleet, after: str, used: str) -> str:
    """How far an interrupted pull had come."""
    coming = fleet.link.with_name("bundle.pulled") / ".coming"
    if used == after:
        return "exchanged"
    staged = coming / after
    if (staged / MANIFEST).exists() or (coming.parent / after).exists():
        return "trying"
    if staged.is_dir():
        parts = list((coming / "parts").glob("*")) if (coming / "parts").is_dir() else []
        return f"fetching, {len(list(staged.rglob('*')))} files and {len(parts)} part(s) there"
    return "starting"


def trial(fleet: Fleet, number: int, before: Path, whole_s: float, counts: Counter[str]) -> tuple[str, Path]:
    """Interrupt one pull; returns a line, and the bundle that is in use then."""
    draw, link = fleet.draw, fleet.link
    if number % 10 == 9:
        # As somebody set it up by hand.
        copy = link.with_name("copied")
        shutil.copytree(os.path.realpath(link), copy)
        link.unlink()
        copy.rename(link)
    newer = fleet.make()
    old, new = fleet.used(), Bundle.open(newer).manifest.bundle_id
    fleet.bucket.publish(newer)
    # While it is looked at, a pull takes longer; half of it is Python's start.
    moment = draw.uniform(0.0 if number % 2 else 0.5, 1.4) * whole_s
    breaks = number % 5 == 4
    with looked_at(fleet, {old, new}, counts):
        process = fleet.pull()
        try:
            process.wait(moment)
            how = "came late"
        except subprocess.TimeoutExpired:
            how = "server broke off" if breaks else "SIGKILL"
            if breaks:
                fleet.bucket.cut[""] = (draw.randrange(1, 50_000), 10**6)
                time.sleep(0.5)
            process.kill()
        process.communicate()
    used = fleet.used()
    if used not in {old, new}:
        raise WithoutBundle(f"{used} is neither the old nor the new bundle")
    state = reached(fleet, new, used)
    counts[state.split(",")[0] if how != "came late" else "came late"] += 1
    fleet.bucket.heal()
    fleet.bucket.rate = RATE
    sent = fleet.bucket.bytes
    seconds = fleet.whole_pull()
    if fleet.used() != new:
        raise WithoutBundle("the pull after it did not bring the new bundle")
    kib = (fleet.bucket.bytes - sent) / 1024
    line = f"{number + 1:3d} {how} after {moment:.2f} s, {state}; verifies; then {seconds:.2f} s, {kib:.0f} KiB"
    shutil.rmtree(before)
    return line, newer


def trials_done(counts: Counter[str]) -> int:
    """How many pulls were interrupted before they had ended by themselves."""
    return sum(count for state, count in counts.items() if state not in {"looks", "came late"})


def campaign(bundle: Path, trials: int, seed: int, work: Path) -> Iterator[str]:
    """Interrupt so many pulls.

    Args:
        bundle: What all bundles are made of.
        trials: How many.
        seed: Of the moments.
        work: Folder for everything that is written.

    Yields:
        A line for every step.

    Raises:
        WithoutBundle: The promise does not hold.
    """
    counts: Counter[str] = Counter()
    with serving(work / "served") as bucket:
        bucket.rate = RATE
        fleet = Fleet(bundle, PrivateKey.generate("campaign"), work, bucket, random.Random(seed))
        bucket.publish(fleet.make())
        first_s = fleet.whole_pull()
        yield f"first pull in {first_s:.2f} s, {bucket.bytes / 1024:.0f} KiB"
        newest = fleet.make()
        bucket.publish(newest)
        sent = bucket.bytes
        whole_s = fleet.whole_pull()
        yield f"next one in {whole_s:.2f} s, {(bucket.bytes - sent) / 1024:.0f} KiB"
        sent, requests = bucket.bytes, len(bucket.asked)
        idle_s = fleet.whole_pull()
        yield f"nothing new in {idle_s:.2f} s, {len(bucket.asked) - requests} request, {bucket.bytes - sent} bytes"
        number = 0
        while number < trials:
            line, newest = trial(fleet, number, newest, whole_s, counts)
            number = trials_done(counts)
            yield line
    looks, late = counts.pop("looks"), counts.pop("came late", 0)
    states = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    yield f"{trials} pulls interrupted ({states}): the edge had a bundle that verifies each time"
    yield f"and each of the {looks} times that it was looked at meanwhile"
    yield f"{late} more pulls had ended before their moment, and do not count"


def main() -> int:
    """Interrupt pulls, print a line for each, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--bundle", type=Path, help="what all bundles are made of; without it, one is built")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pull-campaign-") as folder:
        work = Path(folder)
        bundle = given.bundle
        if bundle is None:
            offline = [sys.executable, "-m", "offline.cli"]
            scenes, bundle = work / "scenes", work / "bundle"
            build = ["build", "--model", "reference", "--manifest", scenes / "data.csv", "--output", bundle]
            for command in (["scenes", "--videos", "12", "--output", scenes], [*build, "--no-depth-curve"]):
                quiet = subprocess.DEVNULL
                subprocess.run([*offline, *command, "--quiet"], check=True, stdout=quiet, env=ENVIRONMENT)
        try:
            for line in campaign(bundle, given.trials, given.seed, work):
                print(line, flush=True)
        except WithoutBundle as error:
            print(f"FAILED: {error}", flush=True)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
