"""Videos and frames a second of `hh-offline extract`: in one process, and with 1 and 2 workers of Ray.

    python benchmarks/ray_workers.py --videos 48

Measured from the first video that is begun to the last that is stored, so without the time that Python, Ray and the
model take to come up, which is told beside it. Every worker has one thread; so has the local run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from offline.data.dataset import read_dataset

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def measure(model: str, manifest: Path, output: Path, workers: int | None) -> tuple[float, list[float]]:
    """Extract once. Returns the seconds of the whole command, and when each entry was written."""
    given = [sys.executable, "-m", "offline.cli", "extract", "--model", model, "--manifest", str(manifest)]
    given += ["--output", str(output), "--quiet"]
    if workers is not None:
        given += ["--executor", "ray", "--workers", str(workers)]
    begun = time.monotonic()
    subprocess.run(given, check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    whole = time.monotonic() - begun
    written = [path.stat().st_mtime for path in output.glob("*.npz") if len(path.stem) == 32]
    return whole, sorted(written)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="reference")
    parser.add_argument("--videos", type=int, default=48, help="of the generated set; a third is extracted")
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    print(f"python benchmarks/ray_workers.py --model {given.model} --videos {given.videos} --rounds {given.rounds}")
    with tempfile.TemporaryDirectory(prefix="ray-workers-") as folder:
        work = Path(folder)
        scenes = [sys.executable, "-m", "offline.cli", "scenes", "--videos", str(given.videos), "--quiet", "--output"]
        subprocess.run([*scenes, str(work / "scenes")], check=True, stdout=subprocess.DEVNULL)
        manifest = work / "scenes" / "data.csv"
        videos = read_dataset(manifest).split("calibration").videos
        frames = sum(video.frames or 0 for video in videos)
        print(f"{len(videos)} videos, {frames} frames, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
        for number in range(given.rounds):
            for workers in (None, 1, 2):
                output = work / f"{number}-{workers}"
                whole, written = measure(given.model, manifest, output, workers)
                # The first entry ends what is not steady; the others are counted from there.
                steady = written[-1] - written[0]
                rate = (len(written) - 1) / steady
                name = "local" if workers is None else f"ray, {workers} workers"
                print(
                    f"{name}: {rate:.2f} videos/s, {rate * frames / len(videos):.0f} frames/s; the command "
                    f"{whole:.1f} s, load {os.getloadavg()[0]:.1f}",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
