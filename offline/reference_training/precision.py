"""The number format of a training step on this processor."""

from __future__ import annotations

import torch

from models.precision import multiplies


def mixed_precision() -> torch.autocast:
    """Open the context of a step: bfloat16 where the processor multiplies it, float32 elsewhere.

    Without such instructions torch emulates bfloat16, ten times slower than float32.
    """
    return torch.autocast("cpu", torch.bfloat16, enabled=multiplies(torch.bfloat16, "cpu"))
