"""Extracted features on disk, one entry a video, found again by content.

An entry's name is the hash of everything it was computed from. So nothing is ever stale: a changed video,
prompt or model has another name, and a killed run finds what it had finished.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import OutputFailed, SourceUnavailable
from edge_runtime.files import make_folder, write_atomic
from offline.data.places import Remote, read_bytes, user_folder, write_file

Arrays = dict[str, NDArray[Any]]
_MEMBERS = "members"


class EntryStore:
    """A folder of `.npz` entries. Safe against being killed at any moment, and to be shared by processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_folder(folder)

    def get(self, key: str) -> Arrays | None:
        """Read an entry; None where there is none that can be read."""
        return _members(self.folder / f"{key}.npz")

    def put(self, key: str, arrays: Arrays) -> None:
        """Write an entry, whole or not at all.

        Raises:
            OutputFailed: It cannot be written.
        """
        members = {**arrays, _MEMBERS: np.array(list(arrays))}
        write_atomic(self.folder / f"{key}.npz", lambda file: np.savez(file, allow_pickle=False, **members))


class RemoteStore(EntryStore):
    """The same on an object store or another remote folder. An entry appears whole when its last byte has arrived."""

    def __init__(self, folder: Remote) -> None:
        # Nothing is made: object stores have no folders.
        self.folder = folder

    def get(self, key: str) -> Arrays | None:
        """Read an entry; None where there is none, or it is damaged.

        Raises:
            OutputFailed: The store cannot be reached, or refuses. That is no missing entry.
        """
        try:
            content = read_bytes(Remote(self.folder / f"{key}.npz"))
        except SourceUnavailable as error:
            raise OutputFailed(str(error)) from error
        return None if content is None else _members(io.BytesIO(content))

    def put(self, key: str, arrays: Arrays) -> None:
        """See EntryStore."""
        members = {**arrays, _MEMBERS: np.array(list(arrays))}
        write_file(self.folder / f"{key}.npz", lambda file: np.savez(file, allow_pickle=False, **members))


def open_store(folder: Path) -> EntryStore:
    """Open a feature store, wherever it is. OutputFailed where its folder cannot be made."""
    return RemoteStore(folder) if isinstance(folder, Remote) else EntryStore(folder)


def spill_folder(store: Path | None = None) -> Path:
    """Where on this machine lies what does not fit into the memory, while work on a store runs.

    Where the store is elsewhere, in a folder of this user: who spills there removes what killed processes have left.
    """
    return user_folder("states") if store is None or isinstance(store, Remote) else store / "states"


def _members(file: Path | IO[bytes]) -> Arrays | None:
    try:
        with np.load(file, allow_pickle=False) as data:
            members = {name: data[name] for name in data.files}
            # A zip whose directory is damaged reads as a shorter one.
            listed = set(members.pop(_MEMBERS).tolist())
            return members if listed == set(members) else None
    except FileNotFoundError:
        return None
    except Exception:  # noqa: BLE001 - zipfile, zlib and numpy each have a dozen ways to say "damaged"
        # A disk that filled up or a copy that broke off; computing it again is the remedy.
        return None


def content_key(**parts: Any) -> str:
    """Name what is computed from `parts` (plain JSON values): 32 hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
