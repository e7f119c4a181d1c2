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
from edge_runtime.bundle.manifest import MANIFEST, seal
from edge_runtime.bundle.reader import GOLDEN, Bundle, Golden
from edge_runtime.errors import OutputFailed, UsageError
from edge_runtime.files import make_folder, sha256

VISION, LANGUAGE, SCORER = "vision.onnx", "language.onnx", "scorer.onnx"
# The name of a bundle within the folder where it waits while its successor takes its place.
_OLD = "bundle"
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
def staging_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target`, removed at the end unless it was published.

    What a killed build left behind is cleared first: its half-made folder goes, and a bundle that it had set
    aside without replacing it comes back. Raises OutputFailed.
    """
    make_folder(target.parent)
    try:
        _clear_remains(target)
        work = Path(tempfile.mkdtemp(prefix=f"{_building(target)}{os.getpid()}-", dir=target.parent))
    except OSError as error:
        raise OutputFailed(
            f"{target.parent}: cannot be written ({error.strerror}); choose another --output"
        ) from error
    try:
        yield work
    except OSError as error:
        raise OutputFailed(
            f"{target}: the bundle could not be written ({error.strerror or error}); "
            "free some space or choose another --output"
        ) from error
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


def entries(folder: Path) -> list[dict[str, Any]]:
    """The manifest's `files`: every file of a folder but the manifest itself, with its hash and size."""
    return [
        {"path": path.relative_to(folder).as_posix(), "sha256": sha256(path), "bytes": path.stat().st_size}
        for path in _files(folder)
    ]


def publish(work: Path, target: Path, document: dict[str, Any]) -> Bundle:
    """Hash the files in `work`, seal the manifest, and put the folder in `target`'s place.

    document: the manifest without `files` and `bundle_id`. The finished folder is read back by the edge's own
    reader before it gets its name. Returns the opened bundle.
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
    if target.exists():
        # A folder that is not empty cannot be replaced in one step: the old one steps aside first.
        aside = Path(tempfile.mkdtemp(prefix=f"{_replaced(target)}{os.getpid()}-", dir=target.parent))
        target.replace(aside / _OLD)
        try:
            work.replace(target)
        except OSError:
            (aside / _OLD).replace(target)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    else:
        work.replace(target)
    return Bundle.open(target)


def _building(target: Path) -> str:
    return f".{target.name}.building-"


def _replaced(target: Path) -> str:
    return f".{target.name}.replaced-"


def _clear_remains(target: Path) -> None:
    """Clear what killed builds of `target` left beside it."""
    for left in sorted(target.parent.iterdir()):
        known = [prefix for prefix in (_building(target), _replaced(target)) if left.name.startswith(prefix)]
        # Named by the process that made it: one that still runs is at work there.
        if not known or _runs(left.name.removeprefix(known[0]).split("-")[0]):
            continue
        if (left / _OLD).is_dir() and not target.exists():
            # Killed between the two renames: the old bundle is the only whole one.
            (left / _OLD).replace(target)
        shutil.rmtree(left, ignore_errors=True)


def _runs(process: str) -> bool:
    """Whether a process of that number is there. Signal 0 asks without disturbing it."""
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
