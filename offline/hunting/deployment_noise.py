"""What deployment does to each head: features of a few segments as the model gives them and as the graphs do.

Saliency is blind to scale. A head that hardly moves may separate the classes perfectly in float32, and at 8 or 16
bits what is left of it is rounding. So the difference is measured, and the hunt counts it as noise: see
`offline.hunting.saliency`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.errors import FeatureError
from models.heads import HeadRef
from offline.arrays import BoolArray, Float64Array, Floating

NOTABLE = 0.05
"""Noise beyond this share of a head's spread is told."""


@dataclass(frozen=True, slots=True, eq=False)
class DeploymentNoise:
    """What deployment adds to every head.

    Attributes:
        errors: Deployed minus exact, both centred over the segments, float64 (n, L, H, d). Heads whose deployed
            features are not all finite have NaN.
        share: Root mean square of the errors over that of the exact features' deviations from their mean, (L, H).
            Infinite where there is noise and nothing else, or where deployed features are not finite.
    """

    errors: Float64Array
    share: Float64Array

    def __post_init__(self) -> None:
        if self.errors.ndim != 4 or self.errors.shape[1:3] != self.share.shape or len(self.errors) < 2:
            raise FeatureError(
                f"errors {self.errors.shape} and shares {self.share.shape} of a deployment disagree; expected "
                "(segments, layers, heads, head_dim) of at least 2 segments, and (layers, heads)"
            )

    @classmethod
    def of(cls, exact: Floating, deployed: Floating) -> DeploymentNoise:
        """Compare features of the same segments.

        Each is centred over the segments first: a shift that is the same for all of them is no noise, for the scorer
        is fitted on what the deployed graphs give.

        Args:
            exact: (n, L, H, d), finite, n >= 2.
            deployed: The same segments', as they come out of the deployed graphs.

        Raises:
            FeatureError: Shapes disagree, there are fewer than two segments, or exact features are not finite.
        """
        if exact.shape != deployed.shape or exact.ndim != 4 or len(exact) < 2:
            raise FeatureError(
                f"exact features {exact.shape} and deployed ones {deployed.shape} cannot be compared; expected "
                "(segments, layers, heads, head_dim) of at least 2 segments, twice"
            )
        if not np.isfinite(exact).all():
            raise FeatureError("exact features are not all finite; extract them again")
        # NaN is what is left of a head with infinite values, on purpose.
        with np.errstate(invalid="ignore"):
            moved, wanted = _centred(deployed), _centred(exact)
        # Of equal features, nothing: not the rounding of two means.
        same = np.all(deployed == exact, axis=(0, 3), keepdims=True)
        errors = np.where(same, 0.0, moved - wanted)
        lost: BoolArray = ~np.all(np.isfinite(errors), axis=(0, 3))
        errors = np.where(lost[None, :, :, None], np.nan, errors)
        noise, spread = (np.sqrt(np.square(one).mean(axis=(0, 3))) for one in (errors, wanted))
        share = np.where(
            spread > 0.0, noise / np.where(spread > 0.0, spread, 1.0), np.where(noise > 0.0, np.inf, 0.0)
        )
        return cls(errors, np.where(lost, np.inf, share))


@dataclass(frozen=True, slots=True, eq=False)
class Survival:
    """How the heads bear a deployment, and what that changed in the hunt.

    Attributes:
        precision: What they were deployed in.
        share: As of `DeploymentNoise`.
        without: Whom the hunt had chosen without the noise, in rank order.
        segments: How many it was measured on.
        prompt: Under which prompt.
    """

    precision: str
    share: Float64Array
    without: tuple[HeadRef, ...]
    segments: int
    prompt: str

    def sentences(self, experts: Sequence[HeadRef]) -> list[str]:
        """Say how many heads lose much, and which experts are others for it.

        Args:
            experts: Whom the hunt chose with the noise, in rank order.
        """
        beyond = int((self.share > NOTABLE).sum())
        said = [
            f"{self.precision} moves {beyond} of {self.share.size} heads by more than {NOTABLE:.0%} of their spread "
            f"({self.segments} segments, prompt {self.prompt})."
        ]
        chosen = [(expert.layer, expert.head) for expert in experts]
        before = [(expert.layer, expert.head) for expert in self.without]
        gone = [head for head in before if head not in chosen]
        new = [head for head in chosen if head not in before]
        if not gone:
            return [*said, "The experts are those that the hunt finds without counting it."]
        return [
            *said,
            *(
                f"{self._head(old)} would be an expert without counting it; {self._head(taken)} is one in its place."
                for old, taken in zip(gone, new, strict=False)
            ),
        ]

    def _head(self, head: tuple[int, int]) -> str:
        share = float(self.share[head])
        noise = f"{share:.1%}" if share < 1 else "all" if not np.isfinite(share) else f"{share:.0%}"
        return f"({head[0]},{head[1]}), noise {noise} of its spread,"


def _centred(features: Floating) -> Float64Array:
    wide = features.astype(np.float64)
    centred: Float64Array = wide - wide.mean(axis=0)
    return centred
