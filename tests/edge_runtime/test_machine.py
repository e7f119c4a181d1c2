"""What is asked of the machine is done where the machine can."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys

import pytest
from clips import ROOT

from edge_runtime.machine import available_cores

# A thread needs much once, and holds the last of it: what lies before that stays in its heap.
_PROGRAM = """
import threading
from edge_runtime.machine import give_back_memory
def held():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) // 1024
last = []
def need():
    blocks = [b"x" * (100_000 + n % 2) for n in range(500)]
    last.append(blocks[-1])
thread = threading.Thread(target=need)
thread.start()
thread.join()
before = held()
print(give_back_memory(), before - held())
"""

# As many threads as that have a heap each, unless they have to share.
_HEAPS = """
import ctypes, sys, tempfile, threading
from edge_runtime.machine import share_heaps
shared = share_heaps()
together = threading.Barrier(64)
def need():
    together.wait()
    block = b"x" * 50_000
    together.wait()
threads = [threading.Thread(target=need) for _ in range(64)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
with tempfile.NamedTemporaryFile() as file:
    stream = ctypes.c_void_p(libc.fopen(file.name.encode(), b"w"))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    print(shared, open(file.name).read().count("<heap nr="))
"""


def _said(program: str, **variables: str) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    environment |= {"PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_threads_share_heaps_unless_the_operator_says_how_many() -> None:
    shared, heaps = _said(_HEAPS)
    assert shared == "True"
    assert int(heaps) <= max(2, math.ceil(available_cores()))
    shared, heaps = _said(_HEAPS, MALLOC_ARENA_MAX="3")
    assert (shared, int(heaps)) == ("False", 3)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_that_is_free_is_given_back() -> None:
    given, mib = _said(_PROGRAM)
    assert given == "True"
    assert int(mib) > 30
