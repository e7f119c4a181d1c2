"""What lies between two stages of a model, for many units: in memory as far as it fits, else on the disk."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from torch import Tensor

from edge_runtime.errors import OutputFailed, first_line
from edge_runtime.files import process_runs

#: What lies between two stages, for one unit.
State = dict[str, Tensor]

_ENDING = ".state"


class StateStore:
    """Dictionaries of tensors by number. What does not fit into the budget waits in files.

    Several runs may share a folder. Files that a killed run left behind go when another one spills.

    Args:
        budget: Bytes of memory.
        folder: Where the files go; made when the first one is needed. Files are removed when they are taken.
    """

    def __init__(self, budget: int, folder: Path) -> None:
        self._budget = budget
        self._folder = folder
        self._run = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._kept: dict[int, State] = {}
        self._bytes = 0
        self._spilled = False

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
        try:
            if not self._spilled:
                self._clear_remains()
                self._spilled = True
            self._save(number, {name: tensor.contiguous() for name, tensor in state.items()})
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

        path = self._path(number)
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
        if self._spilled and self._folder.is_dir():
            for path in self._folder.glob(f"{self._run}-*{_ENDING}"):
                path.unlink(missing_ok=True)
            # Others may have files there.
            with contextlib.suppress(OSError):
                self._folder.rmdir()

    def _save(self, number: int, state: State) -> None:
        from safetensors.torch import save_file

        while True:
            self._folder.mkdir(0o700, parents=True, exist_ok=True)
            try:
                save_file(state, self._path(number))
            except Exception:
                # Another run that was through has removed the folder, empty as it was.
                if self._folder.is_dir():
                    raise
            else:
                return

    def _clear_remains(self) -> None:
        for path in self._folder.glob(f"*{_ENDING}"):
            if not process_runs(path.name.partition("-")[0]):
                path.unlink(missing_ok=True)

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._run}-{number}{_ENDING}"


def _size(state: State) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())
