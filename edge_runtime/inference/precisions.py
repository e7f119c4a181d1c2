"""How exactly the weights of a bundle are kept, one row each: tolerances, and what a build can write today."""

from __future__ import annotations

from dataclasses import dataclass

from edge_runtime.errors import UsageError


@dataclass(frozen=True, slots=True)
class PrecisionSpec:
    """One precision of the bundle format.

    Attributes:
        name: As the manifest and `--precision` name it.
        golden_tolerance: How far a value may be from the builder's, as a share of the largest of its kind, on any
            provider.
        parity_tolerance: How far exported features may be from the source model's, as a share of their scale; None
            where no build can write this precision yet.
    """

    name: str
    golden_tolerance: float
    parity_tolerance: float | None = None


PRECISIONS: dict[str, PrecisionSpec] = {
    row.name: row
    for row in (
        # The graphs sum in another order than the model, and that is all they may do differently.
        PrecisionSpec("fp32", golden_tolerance=1e-3, parity_tolerance=1e-4),
        # Weights of 16 or 8 bits are rounded at every layer, in an order that differs between processors.
        PrecisionSpec("bf16", golden_tolerance=5e-2),
        PrecisionSpec("fp16", golden_tolerance=2e-2),
        PrecisionSpec("int8", golden_tolerance=5e-2),
    )
}


def exported_precisions() -> list[str]:
    """What `hh-offline build --precision` takes today."""
    return [row.name for row in PRECISIONS.values() if row.parity_tolerance is not None]


def parity_tolerance(precision: str) -> float:
    """How far exported features of this precision may be from the source model's, as a share of their scale.

    Raises:
        UsageError: No build can write this precision.
    """
    row = PRECISIONS.get(precision)
    if row is None or row.parity_tolerance is None:
        choices = ", ".join(exported_precisions())
        raise UsageError(f"precision {precision} cannot be exported yet; use --precision {choices}")
    return row.parity_tolerance
