"""Bundles to measure on, each by a real build on short generated clips; what is there already is used again."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from benchmarks.commanding import say
from benchmarks.processes import room, run, tool
from edge_runtime.bundle.manifest import MANIFEST
from edge_runtime.errors import HeadHuntError

#: How a segment of these clips is cut and sampled where memory is short.
FOUR_FRAMES = ("--segment-frames", "48", "--sampled", "4")


def clips(work: Path) -> Path:
    """Two short clips a class, one segment each; returns their data.csv.

    Raises:
        HeadHuntError: They could not be made.
    """
    manifest = work / "four.csv"
    if manifest.is_file():
        return manifest
    folder = work / "clips"
    words = ["--output", str(folder), "--videos", "24", "--seconds", "2", "2", "--event-seconds", "1", "1"]
    _must([tool("hh-offline"), "scenes", *words, "--quiet"], "the clips could not be made")
    with (folder / "data.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "calibration"]
    kept = [row for label in ("normal", "anomalous") for row in [r for r in rows if r["label"] == label][:2]]
    assert len(kept) == 4, [row["label"] for row in rows]
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(kept[0]))
        writer.writeheader()
        writer.writerows(row | {"path": str(folder / row["path"])} for row in kept)
    return manifest


def built(model: str, checkpoint: str, work: Path, more: Sequence[str] = ()) -> Path:
    """A bundle of a model, built where it is not there yet.

    Args:
        model: By whose name it is kept.
        checkpoint: What `--model` takes.
        work: The work folder.
        more: Further words of `hh-offline build`.

    Raises:
        HeadHuntError: The build failed.
    """
    bundle = room(model, work) / "-".join(["bundle", *(word.strip("-") for word in more)])
    # A bundle appears whole or not at all.
    if not (bundle / MANIFEST).is_file():
        say(f"Building a bundle of {model}")
        words = ["--model", checkpoint, "--manifest", str(clips(work)), "--output", str(bundle)]
        bundle.parent.mkdir(parents=True, exist_ok=True)
        _must([tool("hh-offline"), "build", *words, *more, "--no-depth-curve", "--quiet"], "the build failed")
    return bundle


def _must(command: Sequence[str], failed: str) -> None:
    ran = run(command)
    if ran.code:
        raise HeadHuntError(f"{failed} ({ran.last})")
