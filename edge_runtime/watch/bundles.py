"""Opens the bundles of one run: where keys are trusted, signed ones alone, and by way of a copy of the run's own."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from edge_runtime.bundle.reader import Bundle
from edge_runtime.bundle.strongroom import Strongroom
from edge_runtime.files import shown_path, state_folder

log = logging.getLogger(__name__)

#: Where verified copies lie, in the state folder.
FOLDER = "bundles"


class Bundles:
    """What a run opens its bundles with; a context manager, behind which no copy counts as in use.

    Args:
        trusted_keys: As of `Bundle.open`; None takes every bundle that is whole, and loads it from where it lies.
        folder: For verified copies; by default in the state folder.

    Raises:
        UsageError: A key cannot be read, or none is given.
    """

    def __init__(self, trusted_keys: Sequence[str] | None = None, folder: Path | None = None) -> None:
        self._room = None
        if trusted_keys is not None:
            self._room = Strongroom(folder or state_folder() / FOLDER, trusted_keys)

    def open(self, path: Path) -> Bundle:
        """Check a bundle, and its signature where keys are trusted. Any thread may call it, one at a time.

        Raises:
            HeadHuntError: As of `Strongroom.open` or `Bundle.open`.
        """
        # A link may lead elsewhere a moment later: what was verified is what is loaded.
        place = Path(os.path.realpath(path)) if path.is_symlink() else path
        if self._room is None:
            return Bundle.open(place)
        bundle = self._room.open(place)
        signers = ", ".join(f"{key.id} {key.comment}".rstrip() for key in bundle.signed_by)
        log.info("%s: signed by %s; loaded from %s", shown_path(path), signers, shown_path(bundle.path))
        return bundle

    def release(self, bundle: Bundle) -> None:
        """Say that a bundle that `open` gave is not used any more. Any thread may call it."""
        if self._room is not None:
            self._room.release(bundle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._room is not None:
            self._room.close()
