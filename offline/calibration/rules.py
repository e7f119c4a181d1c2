"""By what rule a scorer is fitted: the paper's, or on what each head says by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from edge_runtime.bundle.manifest import Manifest
from edge_runtime.errors import UsageError
from offline.calibration.log_odds import HeadModel, fit_log_odds
from offline.calibration.samples import Samples
from offline.calibration.scorer import SCORERS, ScorerName, fit_scorer

RULE = "scorer"
"""Of a manifest's `producer`."""

_HEAD_MODELS: Final[dict[ScorerName, HeadModel]] = {"log-odds": "logistic", "gaussians": "gaussian"}


@dataclass(frozen=True, slots=True)
class ScorerRule:
    """How scorers of one bundle are fitted.

    Attributes:
        head_dim: d, of the bundle's model.
        name: The rule.
        seed: Of the folds and the solvers.
    """

    head_dim: int
    name: ScorerName = "logistic"
    seed: int = 0

    def fit(self, samples: Samples) -> Any:
        """Fit a scorer on expert features.

        Returns:
            A scikit-learn Pipeline, as `fit_scorer` gives it.

        Raises:
            FeatureError: The samples cannot be fitted on, see `fit_scorer` and `fit_log_odds`.
        """
        if self.name == "logistic":
            return fit_scorer(samples.features, samples.labels, self.seed)
        kind = _HEAD_MODELS[self.name]
        return fit_log_odds(samples.features, samples.labels, samples.videos, self.head_dim, kind, self.seed)


def rule_of(manifest: Manifest) -> ScorerName:
    """Tell by which rule a bundle's scorer was fitted; bundles that do not say were fitted by logistic regression.

    Raises:
        UsageError: By one that this version does not know.
    """
    stated = manifest.producer.get(RULE, "logistic")
    for name in SCORERS:
        if stated == name:
            return name
    raise UsageError(
        f"the bundle's scorer was fitted by {stated!r}, which this version does not know; name another with --scorer"
    )
