"""A small disk of its own, to be filled and emptied; mounting it takes root."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Self


class Disk:
    """A tmpfs; a context manager.

    Args:
        folder: Where it is mounted.
        kib: Its size.
    """

    def __init__(self, folder: Path, kib: int) -> None:
        self.folder, self._kib = folder, kib

    def fill(self) -> None:
        """Leave not one byte."""
        with (self.folder / "filler").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

    def empty(self) -> None:
        """Make room again."""
        (self.folder / "filler").unlink()

    def grow(self, kib: int) -> None:
        """Be larger, with all that is on it."""
        words = ["mount", "-o", f"remount,size={kib}k", str(self.folder)]
        subprocess.run(words, check=True, capture_output=True)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        words = ["mount", "-t", "tmpfs", "-o", f"size={self._kib}k", "none", str(self.folder)]
        subprocess.run(words, check=True, capture_output=True)
        return self

    def __exit__(self, *_: object) -> None:
        # Lazily: a run that was killed a moment ago may hold a file still.
        subprocess.run(["umount", "-l", str(self.folder)], check=False, capture_output=True)


def mountable(folder: Path) -> bool:
    """Whether a small disk can be mounted here."""
    try:
        with Disk(folder, 64):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False
