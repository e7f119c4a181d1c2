"""The number formats that a model computes in, and where there are instructions for them."""

from __future__ import annotations

import torch

from edge_runtime.errors import UsageError
from edge_runtime.machine import instructions

#: By the names that people give.
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Instructions that multiply a format, as /proc/cpuinfo calls them on x86 and ARM.
_INSTRUCTIONS = {
    torch.bfloat16: {"avx512_bf16", "amx_bf16", "bf16"},
    torch.float16: {"avx512_fp16", "amx_fp16", "fphp", "asimdhp"},
}


def multiplies(dtype: torch.dtype, device: str) -> bool:
    """Whether a device has instructions for a format; torch emulates what it lacks, dozens of times slower."""
    if dtype == torch.float32:
        return True
    if device.startswith("cuda"):
        return dtype == torch.float16 or torch.cuda.is_bf16_supported(including_emulation=False)
    return not _INSTRUCTIONS[dtype].isdisjoint(instructions())


def check_dtype(name: str, device: str) -> None:
    """Refuse a format that is unknown, or that the device only emulates.

    Args:
        name: One of DTYPES, or `auto`.
        device: `cpu` or `cuda`.

    Raises:
        UsageError: The message names what can be had.
    """
    if name == "auto":
        return
    if name not in DTYPES:
        raise UsageError(f"unknown dtype {name!r}; choose from auto, {', '.join(DTYPES)}")
    if not multiplies(DTYPES[name], device):
        have = ", ".join(other for other, dtype in DTYPES.items() if multiplies(dtype, device))
        raise UsageError(f"this {device} has no instructions for {name}; it has {have}, or say --dtype auto")


def choose_dtype(name: str, device: str, stored: torch.dtype) -> torch.dtype:
    """Turn `auto` into the checkpoint's own format where the device multiplies it, else float32."""
    if name != "auto":
        return DTYPES[name]
    return stored if stored in _INSTRUCTIONS and multiplies(stored, device) else torch.float32


def dtype_name(dtype: torch.dtype) -> str:
    """A format as people write it."""
    return str(dtype).removeprefix("torch.")
