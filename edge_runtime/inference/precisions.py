"""How exactly the graphs of a bundle compute, one row each: tolerances, and what runs them best."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edge_runtime.inference.providers import CPU, OPENVINO


@dataclass(frozen=True, slots=True)
class PrecisionSpec:
    """One precision of the bundle format.

    Attributes:
        name: As the manifest and `--precision` name it.
        golden_tolerance: How far a value may be from the builder's, as a share of the largest of its kind, on any
            provider.
        parity_tolerance: How far exported features may be from the source model's, as a share of their scale: beyond
            it the export is wrong. What rounding costs in accuracy is measured and judged apart.
        openvino: What OpenVINO is told to compute in, where the processor has it; else float32.
        builders: Providers that a build runs its graphs on, the first that is installed.
        stored: Bytes that a weight takes in the files, at most.
        widening: What a provider that does not compute in it makes of the weights in memory, as a multiple.
    """

    name: str
    golden_tolerance: float
    parity_tolerance: float
    openvino: str
    builders: tuple[str, ...] = (CPU,)
    stored: int = 4
    widening: float = 1.0


PRECISIONS: dict[str, PrecisionSpec] = {
    row.name: row
    for row in (
        # The graphs sum in another order than the model, and that is all they may do differently.
        PrecisionSpec("fp32", 1e-3, 1e-4, "f32"),
        # Values of 16 or 8 bits are rounded at every layer, in an order that differs between processors. bfloat16 is
        # what OpenVINO computes in; ONNX Runtime's CPU kernels know none: they take the same weights in float32. A
        # trained decoder with outliers moves by 0.16 (SmolLM2, benchmarks/precision.txt), a wrong export by far more.
        PrecisionSpec("bf16", 5e-2, 5e-1, "bf16", (OPENVINO, CPU), stored=2, widening=2.0),
        PrecisionSpec("fp16", 2e-2, 5e-2, "f16", stored=2, widening=2.0),
        # Between the products in int8 it is bfloat16 where the processor has it.
        PrecisionSpec("int8", 5e-2, 5e-1, "bf16", (OPENVINO, CPU), stored=2),
    )
}


def parity_tolerance(precisions: Iterable[str]) -> float:
    """How far features of graphs of these precisions may be from the source model's, as a share of their scale."""
    return max(PRECISIONS[name].parity_tolerance for name in precisions)
