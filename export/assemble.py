"""Graphs, scorer and manifest to a bundle folder that is there whole or not at all. Knows files; computes nothing.

Everything is written into a temporary folder beside the target, which is renamed at the end: a crash leaves no
half bundle, and an older bundle of that name stays until the new one is complete.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime._version import __version__
from edge_runtime.atomic import make_folder
from edge_runtime.bundle import GOLDEN, Bundle, Golden, sha256
from edge_runtime.errors import OutputFailed, UsageError
from edge_runtime.manifest import MANIFEST, seal

VISION, LANGUAGE, SCORER = "vision.onnx", "language.onnx", "scorer.onnx"
_PRODUCERS = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "scikit-learn", "skl2onnx", "numpy")


def check_target(target: Path, overwrite: bool) -> None:
    """UsageError unless a bundle may be written there: nothing, or (with `overwrite`) another bundle."""
    if not target.exists() and not target.is_symlink():
        return
    if not target.is_dir() or (any(target.iterdir()) and not (target / MANIFEST).is_file()):
        raise UsageError(f"{target}: exists and is not a bundle; choose another --output")
    if any(target.iterdir()) and not overwrite:
        raise UsageError(f"{target}: a bundle is there already; choose another --output, or say --overwrite")


@contextmanager
def workshop(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target`, removed at the end unless it was published.

    Folders that a killed build left behind are removed first. Raises OutputFailed.
    """
    make_folder(target.parent)
    prefix = f".{target.name}.building-"
    for left in target.parent.glob(f"{prefix}*"):
        # Named by the process that made it: one that still runs is at work there.
        owner = left.name[len(prefix) :].split("-")[0]
        if not (owner.isdigit() and Path(f"/proc/{owner}").exists()):
            shutil.rmtree(left, ignore_errors=True)
    try:
        work = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=target.parent))
    except OSError as error:
        raise OutputFailed(
            f"{target.parent}: cannot be written ({error.strerror}); choose another --output"
        ) from error
    try:
        yield work
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise OutputFailed(f"{target}: the bundle could not be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_golden(folder: Path, golden: Golden) -> None:
    """Write `golden.npz`."""
    with (folder / GOLDEN).open("wb") as file:
        np.savez(
            file,
            frames=golden.frames,
            tokens=golden.tokens,
            features=golden.features,
            probabilities=golden.probabilities,
        )


def producer() -> dict[str, str]:
    """Versions of everything that had a hand in the bundle."""
    versions = {"headhunt-vad": __version__}
    for name in _PRODUCERS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def now() -> str:
    """The time of the build, UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def publish(work: Path, target: Path, document: dict[str, Any]) -> Bundle:
    """Hash the files in `work`, seal the manifest, and put the folder in `target`'s place.

    document: the manifest without `files` and `bundle_id`. The finished folder is read back by the edge's own
    reader before it gets its name. Returns the opened bundle.
    """
    files = sorted(path for path in work.rglob("*") if path.is_file() and path.name != MANIFEST)
    for path in files:
        path.chmod(0o644)
    entries = [
        {"path": path.relative_to(work).as_posix(), "sha256": sha256(path), "bytes": path.stat().st_size}
        for path in files
    ]
    (work / MANIFEST).write_bytes(seal(document | {"files": entries}))
    work.chmod(0o755)
    Bundle.open(work)
    for path in [*files, work / MANIFEST, work]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    if target.exists():
        # A folder that is not empty cannot be replaced in one step: the old one steps aside first.
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.replaced-", dir=target.parent))
        target.replace(aside / target.name)
        work.replace(target)
        shutil.rmtree(aside, ignore_errors=True)
    else:
        work.replace(target)
    return Bundle.open(target)
