"""What lies between two stages of a model, for many units: in memory as far as it fits, else on the disk."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from edge_runtime.errors import CacheFailed, first_line

#: What lies between two stages, for one unit.
State = dict[str, Tensor]

_PREFIX, _NEW, _LOCK = "run-", "new-", "lock"
_TRIES = 100


class StateStore:
    """Dictionaries of tensors by number. What does not fit into the budget waits in files.

    Several runs may share a folder, also on several machines. Each has one of its own in it, which nobody else may
    read, with a file that it holds a lock of: what a killed run left behind goes when another one spills.

    Args:
        budget: Bytes of memory.
        folder: Where the files go; made when the first one is needed. Files are removed when they are taken.
    """

    def __init__(self, budget: int, folder: Path) -> None:
        self._budget = budget
        self._folder = folder
        self._kept: dict[int, State] = {}
        self._bytes = 0
        self._own: _Held | None = None

    def put(self, number: int, state: State) -> None:
        """Keep a state, on the CPU.

        Raises:
            CacheFailed: It does not fit into memory, and cannot be written on this machine.
        """
        state = {name: tensor.to("cpu") for name, tensor in state.items()}
        size = _size(state)
        # At least one is always in memory: a budget below one state would write each only to read it at once.
        if self._bytes + size <= self._budget or not self._kept:
            self._kept[number] = state
            self._bytes += size
            return
        from safetensors.torch import save_file

        try:
            if self._own is None:
                self._own = _hold(self._folder)
                _clear_remains(self._folder)
            save_file({name: tensor.contiguous() for name, tensor in state.items()}, self._own.path / str(number))
        except Exception as error:
            raise CacheFailed(
                f"{self._folder}: hidden states cannot be written ({first_line(error)}); free some space, or allow "
                "more --memory"
            ) from error

    def take(self, number: int) -> State:
        """Give a state back, on the CPU, and forget it.

        Raises:
            CacheFailed: Its file is gone or damaged.
        """
        if number in self._kept:
            state = self._kept.pop(number)
            self._bytes -= _size(state)
            return state
        from safetensors.torch import load

        if self._own is None:
            raise KeyError(number)
        path = self._own.path / str(number)
        try:
            # Read whole, not mapped: a mapped file would be in memory a second time.
            state = load(path.read_bytes())
            path.unlink()
        except Exception as error:
            raise CacheFailed(f"{path}: hidden states cannot be read again ({first_line(error)})") from error
        return state

    def clear(self) -> None:
        """Forget everything, and remove what lies on the disk."""
        self._kept.clear()
        self._bytes = 0
        if self._own is not None:
            _remove(self._own)
            self._own = None
            # Others may have files there.
            with contextlib.suppress(OSError):
                self._folder.rmdir()


class _Held(NamedTuple):
    """A run's folder, and the descriptor of the file in it whose lock says that somebody uses it.

    None where no lock can be had, as on NFS without its lock service: then there is no such file, and nobody else
    removes the folder.
    """

    path: Path
    lock: int | None


def _hold(folder: Path) -> _Held:
    """Make a folder of this run's own."""
    token = secrets.token_hex(8)
    new, path = folder / f"{_NEW}{token}", folder / f"{_PREFIX}{token}"
    _make(new)
    try:
        lock = _lock_new(new)
        # Those who clear look at it from now on, when it is locked.
        new.rename(path)
    except OSError:
        shutil.rmtree(new, ignore_errors=True)
        raise
    return _Held(path, lock)


def _make(folder: Path) -> None:
    for _ in range(_TRIES):
        # Another run that is through removes the parent, empty as it is, in the midst of this.
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            folder.mkdir(0o700, parents=True)
            return
    folder.mkdir(0o700, parents=True)


def _lock_new(folder: Path) -> int | None:
    # A file: of a folder, each machine that sees it over NFS has a lock of its own.
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        (folder / _LOCK).unlink()
        return None
    return lock


def _clear_remains(folder: Path) -> None:
    """Remove what runs left behind that hold their lock no longer."""
    for path in [entry for entry in folder.iterdir() if entry.name.startswith(_PREFIX)]:
        # Gone meanwhile, another user's, or of a run that has no lock.
        with contextlib.suppress(OSError):
            lock = os.open(path / _LOCK, os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                # In use, or nobody can tell.
                os.close(lock)
                continue
            _remove(_Held(path, lock))


def _remove(held: _Held) -> None:
    """Remove a run's folder and give its lock back, as far as that can be done."""
    with contextlib.suppress(OSError):
        # The lock last: without it, nobody would try again to remove what cannot be removed now.
        for file in sorted(held.path.iterdir(), key=lambda entry: entry.name == _LOCK):
            file.unlink()
    # NFS keeps a removed file in its folder as long as it is open.
    if held.lock is not None:
        os.close(held.lock)
    with contextlib.suppress(OSError):
        held.path.rmdir()


def _size(state: State) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())
