"""What this machine has, as far as it says: cores, instructions, memory, packages. In a container, its share."""

from __future__ import annotations

import ctypes
import importlib.metadata
import math
import os
from pathlib import Path

# Instructions that ONNX Runtime's CPU kernels gain by, as /proc/cpuinfo calls them.
_X86 = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16")
_ARM = ("asimd", "asimddp", "i8mm", "bf16", "sve")
# Of mallopt, in glibc's malloc.h.
_M_ARENA_MAX = -8
_IDENTITY = ("model name", "flags", "features", "cpu part")


def available_cores() -> float:
    """Processor cores that this process may use: its affinity, or less where the container has a quota."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota = _read("/sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0].isdecimal() and quota[1].isdecimal():
        cores = min(cores, int(quota[0]) / int(quota[1]))
    return cores


def instructions() -> list[str]:
    """Which of the instructions that matter the processor has; empty where the system does not say."""
    for line in _read("/proc/cpuinfo").splitlines():
        if line.lower().startswith(("flags", "features")):
            present = set(line.partition(":")[2].split())
            return [name for name in (*_X86, *_ARM) if name in present]
    return []


def available_memory() -> int | None:
    """Bytes of memory that are still to be had, by the system or the container; None where neither says."""
    free = [
        int(line.split()[1]) * 1024
        for line in _read("/proc/meminfo").splitlines()
        if line.startswith("MemAvailable:")
    ]
    limit, used = _read("/sys/fs/cgroup/memory.max").strip(), _read("/sys/fs/cgroup/memory.current").strip()
    if limit.isdecimal() and used.isdecimal():
        free.append(max(0, int(limit) - int(used)))
    return min(free, default=None)


def share_heaps() -> bool:
    """Have the C library's threads share one heap a core, at least two: for a program, before its threads begin.

    glibc has up to eight a core, and what lies in one cannot fill the holes of another: a run whose cameras came and
    went for half an hour grew by a third with sixteen heaps, still by 7 % with four, and not with two. It costs no
    time: decoding in eight threads on two cores takes as much of the processor with two heaps as with sixteen.
    Where `MALLOC_ARENA_MAX` is set, that holds.

    Returns:
        Whether the library took it.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return False
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, max(2, math.ceil(available_cores()))))
    except (OSError, TypeError, AttributeError):
        # Another C library.
        return False


def give_back_memory() -> bool:
    """Have the C library give free memory back to the system; returns whether it could be asked.

    Its heaps keep the most that a thread on them once needed. This takes a millisecond.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, TypeError, AttributeError):
        # Another C library.
        return False
    return True


def package_version(name: str) -> str | None:
    """The version of an installed package; None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor() -> list[str]:
    """What tells this processor from another; empty where the system does not say."""
    return sorted({line for line in _read("/proc/cpuinfo").splitlines() if line.lower().startswith(_IDENTITY)})


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
