"""Files that are whole or not there. Knows bytes and renames; nothing of what is written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from edge_runtime.errors import OutputFailed


def write_atomic(path: Path, write: bytes | Callable[[IO[bytes]], object]) -> None:
    """Write `path` whole or not at all: into a temporary file beside it, synced, then renamed.

    write: the content, or a function that writes it to an open binary file. What was there before is still
    there if anything fails. Raises OutputFailed that names the path where the disk is full or not writable.
    """
    temporary: Path | None = None
    try:
        with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            if isinstance(write, bytes):
                file.write(write)
            else:
                write(file)
            file.flush()
            os.fsync(file.fileno())
        # A temporary file is private; the result is as readable as any other new file.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise OutputFailed(
            f"{path}: cannot be written ({error.strerror or error}); free some space or choose another place"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Create a folder and its parents. Raises OutputFailed that names the path."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFailed(f"{path}: cannot be created ({error.strerror or error}); choose another place") from error


def _umask() -> int:
    """The process's umask; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
