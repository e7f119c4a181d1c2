"""The number format of a training step on this processor."""

from __future__ import annotations

import torch

from edge_runtime.checks.doctor import instructions

# Instructions that multiply bfloat16, as /proc/cpuinfo calls them on x86 and ARM.
_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}


def mixed_precision() -> torch.autocast:
    """Open the context of a step: bfloat16 where the processor multiplies it, float32 elsewhere.

    Without such instructions torch emulates bfloat16, ten times slower than float32.
    """
    return torch.autocast("cpu", torch.bfloat16, enabled=not _BFLOAT16.isdisjoint(instructions()))
