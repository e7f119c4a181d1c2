"""Whether a bundle computes on this machine what it did on the builder's, as an answer for a person and a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_runtime.detector import Detector
from edge_runtime.errors import InferenceFailed
from edge_runtime.inference.selftest import Difference, self_test


@dataclass(frozen=True, slots=True)
class BundleCheck:
    """What `hh-edge verify` found.

    Attributes:
        bundle_id: Of the bundle.
        provider: What really ran the graphs.
        files: How many files the manifest lists; opening the bundle has checked them.
        bytes: Their size.
        differences: The largest difference of each stage on the golden segments.
        signed_by: Of the keys that were trusted, those that signed it, by id and comment.
    """

    bundle_id: str
    provider: str
    files: int
    bytes: int
    differences: list[Difference]
    signed_by: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every stage is within its tolerance."""
        return all(difference.passed for difference in self.differences)

    def to_dict(self) -> dict[str, Any]:
        """As `hh-edge verify --json` prints it."""
        stages = {
            item.stage: {"max_abs": item.max_abs, "relative": item.relative, "tolerance": item.tolerance}
            for item in self.differences
        }
        told = {"bundle_id": self.bundle_id, "provider": self.provider, "passed": self.passed}
        # Without trusted keys nothing is known of who signed.
        return told | ({"signed_by": list(self.signed_by)} if self.signed_by else {}) | stages

    def lines(self) -> list[str]:
        """The same for a person: the files, a line a stage, and the verdict."""
        stages = (
            f"{item.stage:<14} {'ok' if item.passed else 'DIFFER'}: largest difference {item.max_abs:.3g}, "
            f"relative {item.relative:.3g}, allowed {item.tolerance:g}"
            for item in self.differences
        )
        return [
            f"files          {self.files} as the manifest says, {self.bytes:,} bytes",
            *(f"signed by      {name}" for name in self.signed_by),
            *stages,
            f"{'verified' if self.passed else 'NOT verified'} on {self.provider}: {self.bundle_id}",
        ]


def verify(detector: Detector) -> BundleCheck:
    """Run all golden segments of a detector's bundle and compare every stage with the builder's values.

    Raises:
        InferenceFailed: A graph failed, or the detector was closed.
        BundleRefused: The bundle has no golden segments, or they do not fit the graphs.
    """
    engine = detector.engine
    if engine is None:
        raise InferenceFailed("the detector was closed")
    bundle = detector.bundle
    manifest = bundle.manifest
    differences = self_test(engine, bundle.golden(), manifest.graphs.precisions, detector.probabilities)
    return BundleCheck(
        bundle_id=manifest.bundle_id,
        provider=engine.provider,
        files=len(manifest.files),
        bytes=sum(file.bytes for file in manifest.files),
        differences=differences,
        signed_by=tuple(f"{key.id} {key.comment}".rstrip() for key in bundle.signed_by),
    )
