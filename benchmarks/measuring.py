"""What all measurements share: times of works that take turns, counted FLOPs, and what the machine is and can do."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edge_runtime.inference.providers import PROVIDERS
from edge_runtime.machine import available_cores, instructions, package_version, processor

Works = Mapping[str, Callable[[], object]]

GIB = 2**30
_PACKAGES = ("torch", "transformers", "onnxruntime", "onnxruntime-gpu", "openvino", "numpy", "opencv-python-headless")
_CEILING_SIDE, _CEILING_TRIES = 4096, 5


def timed(work: Callable[[], object], device: str = "cpu") -> float:
    """Seconds of one call, until the device has done all of it."""
    _wait_for(device)
    begun = time.perf_counter()
    work()
    _wait_for(device)
    return time.perf_counter() - begun


def in_turn(works: Works, rounds: int, device: str = "cpu") -> dict[str, list[float]]:
    """Time works round by round, one after the other: what else the machine does meets all of them alike.

    Returns:
        Seconds of every round, by the work's name.
    """
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            taken[name].append(timed(work, device))
    return taken


def median_ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """The median over the rounds of one / other, both of the same round."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def device_of(provider: str) -> str:
    """Where torch has to compute to be a provider's competitor: `cuda` beside a card, else `cpu`."""
    return "cuda" if PROVIDERS[provider.partition(":")[0]].cards else "cpu"


def ceiling(device: str = "cpu") -> float:
    """FLOP/s of a product of 4096 x 4096 in bfloat16 by torch, the best of five."""
    import torch

    one, other = (torch.randn(_CEILING_SIDE, _CEILING_SIDE, device=device).to(torch.bfloat16) for _ in range(2))
    torch.mm(one, other)
    return 2 * _CEILING_SIDE**3 / min(timed(lambda: torch.mm(one, other), device) for _ in range(_CEILING_TRIES))


def counted_flops(work: Callable[[], object]) -> int:
    """FLOPs of one call by PyTorch's count: products and attention, the latter whole where it is causal too."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]

    # PyTorch's own table has the attention kernels of CUDA alone.
    on_cpu = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    with FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
        work()
    return int(counter.get_total_flops())


def machine() -> dict[str, Any]:
    """What was measured on: processor and its instructions, cores, memory in GiB, system, and the first card."""
    lines = (line.partition(":") for line in processor())
    named = {key.strip(): value.strip() for key, _, value in lines}
    return {
        "processor": named.get("model name", platform.machine()),
        "instructions": instructions(),
        "cores": available_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, 1),
        "system": platform.system(),
        "gpu": gpu(),
    }


def gpu() -> str | None:
    """The name of the first NVIDIA card; None where there is none."""
    if shutil.which("nvidia-smi") is None:
        return None
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False)
    return said.stdout.splitlines()[0].strip() if said.returncode == 0 and said.stdout.strip() else None


def versions() -> dict[str, str]:
    """Of Python and of the packages that compute."""
    found = {name: package_version(name) for name in _PACKAGES}
    return {"python": platform.python_version()} | {name: one for name, one in found.items() if one is not None}


def _wait_for(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
