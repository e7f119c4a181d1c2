"""What is asked of the machine is done where the machine can."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
from clips import ROOT

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_that_is_free_is_given_back() -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    given, mib = done.stdout.split()
    assert given == "True"
    assert int(mib) > 30
