"""Opening a bundle, against `sha256sum` of its files: what stands between a start and the self-test.

    python -m benchmarks start --model internvl3-1b

`Bundle.open` reads and hashes every file and checks the graphs, and the engine loads them; the files are in the page
cache for both. All take turns.
"""

from __future__ import annotations

import statistics
import subprocess
from pathlib import Path

import click

from benchmarks.bundles import FOUR_FRAMES, built
from benchmarks.commanding import JSON, PATH, PRECISION, PROVIDER, THREADS, WORK, Figures, hand_over, rounds
from benchmarks.full_size import checkpoint
from benchmarks.measuring import in_turn, median_ratio
from edge_runtime.bundle.manifest import Precision
from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.files import format_bytes
from edge_runtime.inference.engines import builder


@click.command()
@click.option("--model", default="internvl3-1b", show_default=True, help="As of `graph`; built in --precision.")
@click.option("--bundle", "path", type=PATH, help="Instead of building one.")
@PRECISION
@PROVIDER
@rounds(5)
@THREADS
@WORK
@JSON
def start(
    model: str,
    path: Path | None,
    precision: Precision,
    provider: str | None,
    rounds: int,
    threads: int,
    work: Path,
    as_json: bool,
) -> None:
    """Opening a bundle, against hashing its files.

    \b
    Example:
      python -m benchmarks start --bundle bundle --provider cpu
    """
    if path is None:
        path = built(model, checkpoint(model, work), work, [*FOUR_FRAMES, "--precision", precision])
    provider = provider or builder(precision)
    bundle = Bundle.open(path)
    files = [str(path / entry.path) for entry in bundle.manifest.files]

    def hash_files() -> None:
        subprocess.run(["sha256sum", *files], check=True, stdout=subprocess.DEVNULL)

    def open_all() -> None:
        Detector(Bundle.open(path), provider, threads, self_test=False).close()

    works = {
        "sha256sum": hash_files,
        "checked": lambda: Bundle.open(path),
        "loaded": lambda: Detector(bundle, provider, threads, self_test=False).close(),
        "opened": open_all,
    }
    taken = in_turn(works, rounds)
    size = sum(entry.bytes for entry in bundle.manifest.files)
    figures: Figures = {
        "model": bundle.manifest.source_model.name,
        "precision": "/".join(bundle.manifest.graphs.precisions),
        "provider": provider,
        "bytes": size,
        "rounds": rounds,
        "threads": threads,
        "sha256sum_s": statistics.median(taken["sha256sum"]),
        "checked_s": statistics.median(taken["checked"]),
        "loaded_s": statistics.median(taken["loaded"]),
        "opened_s": statistics.median(taken["opened"]),
        "ratio": median_ratio(taken["opened"], taken["sha256sum"]),
        "ratio_checked": median_ratio(taken["checked"], taken["sha256sum"]),
    }
    text = (
        f"{figures['model']}, {figures['precision']} on {provider}, {format_bytes(size)}, {rounds} rounds: sha256sum "
        f"{figures['sha256sum_s']:.2f} s, Bundle.open {figures['checked_s']:.2f} s, loading the graphs "
        f"{figures['loaded_s']:.2f} s, both {figures['opened_s']:.2f} s; ratio {figures['ratio']:.2f}, of "
        f"Bundle.open alone {figures['ratio_checked']:.2f}"
    )
    hand_over(figures, text, as_json)
