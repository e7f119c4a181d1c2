"""The folder beside a target where a bundle is made, and how it takes the target's place.

A bundle is written into a temporary folder beside its target, which is renamed at the end: a crash leaves no half
bundle, and an older bundle of that name stays until the new one is complete. Folders that killed builds left
behind are cleared by the next build of the same target.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_runtime.bundle.manifest import MANIFEST
from edge_runtime.errors import OutputFailed, UsageError
from edge_runtime.files import format_bytes, free_space, make_folder, process_runs

# The name of a bundle within the folder where it waits while its successor takes its place.
_OLD = "bundle"


def check_target(target: Path, overwrite: bool) -> None:
    """Refuse a target where no bundle may be written.

    Args:
        target: Where the bundle is to be. Nothing may be there, or an empty folder.
        overwrite: Allows another bundle there as well; never anything else.

    Raises:
        UsageError: Something is there that must stay.
    """
    if not target.exists() and not target.is_symlink():
        return
    if not target.is_dir() or (any(target.iterdir()) and not (target / MANIFEST).is_file()):
        raise UsageError(f"{target}: exists and is not a bundle; choose another --output")
    if any(target.iterdir()) and not overwrite:
        raise UsageError(f"{target}: a bundle is there already; choose another --output, or say --overwrite")


def check_space(target: Path, least: int, most: int) -> str | None:
    """Compare what graphs will take with what is free, before the long work.

    Args:
        target: Where the bundle is to be.
        least: Bytes that its graphs take in any case.
        most: Bytes that they take where the deepest layer has an expert.

    Returns:
        A remark where they may not fit.

    Raises:
        OutputFailed: They will not.
    """
    free = free_space(target.parent)
    if free >= most:
        return None
    figures = (
        f"{target.parent}: the graphs take {format_bytes(least)} to {format_bytes(most)} by the deepest expert, "
        f"{format_bytes(free)} are free"
    )
    if free < least:
        raise OutputFailed(f"{figures}; free some space or choose another --output")
    return f"{figures}; --max-layer makes them smaller"


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """Make a temporary folder beside `target`, and remove it at the end unless it has taken the target's place.

    What a killed build left behind is cleared first: its half-made folder goes, and a bundle that it had set
    aside without replacing it comes back.

    Args:
        target: Where the bundle is to be; missing parent folders are made.

    Yields:
        The empty folder.

    Raises:
        OutputFailed: The folder cannot be made, or an OSError ended the work in it.
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


def take_place(work: Path, target: Path) -> None:
    """Rename a finished folder to `target`; an older bundle there is removed once the new one stands.

    Args:
        work: The finished folder, on the target's own file system.
        target: The name it gets.

    Raises:
        OSError: The rename failed; an older bundle is back in its place.
    """
    if not target.exists():
        work.replace(target)
        return
    # A folder that is not empty cannot be replaced in one step: the old one steps aside first.
    aside = Path(tempfile.mkdtemp(prefix=f"{_replaced(target)}{os.getpid()}-", dir=target.parent))
    target.replace(aside / _OLD)
    try:
        work.replace(target)
    except OSError:
        (aside / _OLD).replace(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _building(target: Path) -> str:
    return f".{target.name}.building-"


def _replaced(target: Path) -> str:
    return f".{target.name}.replaced-"


def _clear_remains(target: Path) -> None:
    """Clear what killed builds of `target` left beside it."""
    for left in sorted(target.parent.iterdir()):
        known = [prefix for prefix in (_building(target), _replaced(target)) if left.name.startswith(prefix)]
        # Named by the process that made it: one that still runs is at work there.
        if not known or process_runs(left.name.removeprefix(known[0]).split("-")[0]):
            continue
        if (left / _OLD).is_dir() and not target.exists():
            # Killed between the two renames: the old bundle is the only whole one.
            (left / _OLD).replace(target)
        shutil.rmtree(left, ignore_errors=True)
