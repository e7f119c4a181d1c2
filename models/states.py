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

from edge_runtime.errors import OutputFailed, first_line

#: What lies between two stages, for one unit.
State = dict[str, Tensor]

_PREFIX = "run-"


class StateStore:
    """Dictionaries of tensors by number. What does not fit into the budget waits in files.

    Several runs may share a folder. Each has one of its own in it, which nobody else may read and which it holds a
    lock of: what a killed run left behind goes when another one spills.

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
            OutputFailed: It does not fit into memory, and cannot be written.
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
            raise OutputFailed(
                f"{self._folder}: hidden states cannot be written ({first_line(error)}); free some space, or allow "
                "more --memory"
            ) from error

    def take(self, number: int) -> State:
        """Give a state back, on the CPU, and forget it.

        Raises:
            OutputFailed: Its file is gone or damaged.
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
            raise OutputFailed(f"{path}: hidden states cannot be read again ({first_line(error)})") from error
        return state

    def clear(self) -> None:
        """Forget everything, and remove what lies on the disk."""
        self._kept.clear()
        self._bytes = 0
        if self._own is not None:
            shutil.rmtree(self._own.path, ignore_errors=True)
            os.close(self._own.lock)
            self._own = None
            # Others may have files there.
            with contextlib.suppress(OSError):
                self._folder.rmdir()


class _Held(NamedTuple):
    """A folder, and the descriptor of it whose lock says that somebody uses it."""

    path: Path
    lock: int


def _hold(folder: Path) -> _Held:
    """Make a folder of this run's own."""
    while True:
        path = folder / f"{_PREFIX}{secrets.token_hex(8)}"
        try:
            path.mkdir(0o700, parents=True)
            lock = os.open(path, os.O_RDONLY)
        except (FileNotFoundError, FileExistsError):
            # Another run that was through has removed the folder, empty as it was, in the midst of this.
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.is_dir():
            return _Held(path, lock)
        # Another one took it for a killed run's before it was locked.
        os.close(lock)


def _clear_remains(folder: Path) -> None:
    """Remove what runs left behind that hold their folder no longer."""
    for path in [entry for entry in folder.iterdir() if entry.name.startswith(_PREFIX)]:
        # Gone meanwhile, another user's, or in use.
        with contextlib.suppress(OSError):
            lock = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)


def _size(state: State) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())
