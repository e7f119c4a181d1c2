"""flock(2) with the rules of NFS: of regular files alone, and only in the way they were opened."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import IO

import pytest

_FLOCK = fcntl.flock


def _flock(file: int | IO[bytes], operation: int) -> None:
    number = file if isinstance(file, int) else file.fileno()
    if not stat.S_ISREG(os.fstat(number).st_mode):
        # Each machine has locks of its own of a folder: one gets what another one holds.
        return
    opened = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE
    if opened == {fcntl.LOCK_SH: os.O_WRONLY, fcntl.LOCK_EX: os.O_RDONLY}.get(operation & ~fcntl.LOCK_NB):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    _FLOCK(number, operation)


@pytest.fixture
def nfs_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give locks as NFS does."""
    monkeypatch.setattr(fcntl, "flock", _flock)
