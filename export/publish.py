"""Hashes, golden segments and a sealed manifest make a folder a bundle, and it gets its name.

The files themselves are written elsewhere, into a staging folder; here they become a bundle or nothing.
"""

from __future__ import annotations

import importlib.metadata
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime._version import __version__
from edge_runtime.bundle.calibration import CALIBRATION, Calibration, arrays_of
from edge_runtime.bundle.manifest import MANIFEST, seal
from edge_runtime.bundle.reader import GOLDEN, Bundle, Golden
from edge_runtime.files import sha256
from export.staging import take_place

VISION, LANGUAGE, GROWING, SCORER = "vision.onnx", "language.onnx", "growing.onnx", "scorer.onnx"
#: What the features depend on: the graphs that score, with their weights, by name.
SCORING = (VISION, f"{VISION}.data", LANGUAGE, f"{LANGUAGE}.data")
#: Those and what else was exported.
EXPORTED = (*SCORING, GROWING, f"{GROWING}.data")
_PRODUCERS = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "scikit-learn", "skl2onnx", "numpy")


def write_golden(folder: Path, golden: Golden) -> None:
    """Write `golden.npz`, the segments by which the edge tests itself; equal content gives equal bytes."""
    with (folder / GOLDEN).open("wb") as file:
        np.savez(
            file,
            frames=golden.frames,
            tokens=golden.tokens,
            features=golden.features,
            probabilities=golden.probabilities,
        )


def write_calibration(folder: Path, calibration: Calibration) -> None:
    """Write `calibration.npz`, what feedback, drift and p-values need; equal content gives equal bytes."""
    with (folder / CALIBRATION).open("wb") as file:
        # numpy's own types take the arrays for its one option.
        np.savez(file, **arrays_of(calibration))  # type: ignore[arg-type]


def producer() -> dict[str, str]:
    """Versions of everything that had a hand in the bundle, by distribution name."""
    versions = {"headhunt-vad": __version__}
    for name in _PRODUCERS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def now() -> str:
    """The time of the build, UTC, to the second, as `2026-01-31T12:00:00Z`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def entries(folder: Path) -> list[dict[str, Any]]:
    """The manifest's `files`: every file of a folder but the manifest itself, with its sha256 and size in bytes."""
    return [
        {"path": path.relative_to(folder).as_posix(), "sha256": sha256(path), "bytes": path.stat().st_size}
        for path in _files(folder)
    ]


def publish(work: Path, target: Path, document: dict[str, Any]) -> Bundle:
    """Hash the files in `work`, seal the manifest, and put the folder in `target`'s place.

    The finished folder is read back by the edge's own reader before it gets its name, and its files are on the
    disk by then.

    Args:
        work: The staging folder, with every file but the manifest.
        target: The bundle's name; an older bundle there is replaced.
        document: The manifest without `files` and `bundle_id`.

    Returns:
        The opened bundle.

    Raises:
        BundleRefused: The reader does not take the folder; nothing was published.
        OSError: A file could not be written or renamed; an older bundle is still there.
    """
    files = _files(work)
    for path in files:
        path.chmod(0o644)
    (work / MANIFEST).write_bytes(seal(document | {"files": entries(work)}))
    work.chmod(0o755)
    Bundle.open(work)
    for path in [*files, work / MANIFEST, work]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    take_place(work, target)
    return Bundle.open(target)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
