"""The rows of the ablation that read heads: which heads, which prompt, which scorer.

Everything is fitted on calibration features here, once; what a row reaches is judged elsewhere
(`offline.ablation.judge`), so that the features of only one video need to be in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # neither typed nor stubbed

from edge_runtime.errors import FeatureError
from models.heads import HeadRef
from offline.arrays import BoolArray, Float64Array, Floating
from offline.calibration.log_odds import HeadModel, fit_log_odds
from offline.calibration.scorer import REGULARISATION, fit_scorer
from offline.extraction.features import FeatureSet, read_heads
from offline.hunting.depth import ProbabilityModel
from offline.hunting.hunt import Hunt, Selection, select
from offline.hunting.saliency import Saliency

#: Which of a row's candidates counts: its only one, the mean of all, or the best on the validation videos.
Pick = Literal["only", "mean", "best"]
RowGroup = Literal["paper", "further", "baseline", "ceiling"]

#: Names of the prompts that the rows of one prompt use.
COARSE, ORACLE = "coarse", "detailed"
FIXED_THRESHOLDS = (0.25, 0.50, 0.75)
FULL = "full method"
HIDDEN_UNITS = 64
MLP_PENALTY = 1.0

SeededFit = Callable[[Floating, BoolArray, int], ProbabilityModel]


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """A fitted scorer and what it reads.

    Attributes:
        prompt: The index of the prompt.
        heads: The heads, in this order.
        scorer: The scorer.
    """

    prompt: int
    heads: tuple[HeadRef, ...]
    scorer: ProbabilityModel

    def probabilities(self, features: NDArray[np.float32]) -> Float64Array:
        """Give every unit of features (U, M, L, H, d) its probability of an anomaly, (U,)."""
        read = read_heads(features, self.prompt, self.heads)
        return np.asarray(self.scorer.predict_proba(read)[:, 1], dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """One row before it is judged.

    Attributes:
        name: Of the row.
        group: The part of the table that it belongs to.
        how: What it does, in a sentence.
        pick: How its candidates become one row.
        smoothed: Whether its locator may smooth.
        threshold: Fixed beforehand; None where it is calibrated.
        probes: Its candidates by name; none where the scores come from elsewhere, or cannot be computed.
        reason: Why it cannot be computed.
    """

    name: str
    group: RowGroup
    how: str
    pick: Pick = "only"
    smoothed: bool = True
    threshold: float | None = None
    probes: Mapping[str, Probe] = field(default_factory=dict)
    reason: str | None = None

    def __post_init__(self) -> None:
        if self.pick == "only" and len(self.probes) > 1:
            raise ValueError(f"row {self.name!r} has {len(self.probes)} candidates and no rule to choose by")
        if self.probes and self.reason is not None:
            raise ValueError(f"row {self.name!r} has candidates and a reason for having none")


def head_methods(calibration: FeatureSet, found: Hunt, draws: int, seed: int) -> list[Method]:
    """Make every row that reads heads, fitted on the calibration features.

    Whatever a row doesn't name is as in the full method, its prompt included.

    Args:
        calibration: Features to fit on.
        found: The full method's hunt, in all layers.
        draws: How often random heads are drawn: uniformly from all L·H, without repetition within a draw.
        seed: Of the draws and the fits.
    """
    rows = _Rows(calibration, found, seed)
    full = rows.probe(found.prompt, found.experts)
    return [
        *_other_heads(rows, found, full, draws),
        *_other_scorers(rows, found),
        *_other_locators(full),
        *(rows.one_metric(name, metric) for name, metric in found.saliency.items()),
        *_further(rows, found),
    ]


def _other_heads(rows: _Rows, found: Hunt, full: Probe, draws: int) -> list[Method]:
    """The full method, and other heads or prompts than its own."""
    count, last = len(found.experts), found.layers - 1
    return [
        Method(
            FULL,
            "paper",
            f"{count} heads by RSS, penalty {found.penalty:g}, prompt {found.prompt!r}; logistic regression; "
            "smoothing and threshold calibrated",
            probes={FULL: full},
        ),
        Method(
            "all heads of the last layer",
            "paper",
            f"the {found.heads} heads of layer {last}, logistic regression",
            probes={"last layer": rows.probe(found.prompt, rows.layer(last))},
        ),
        Method(
            f"random {count} heads",
            "paper",
            f"mean and standard deviation over {draws} draws of {count} of all {found.layers * found.heads} heads",
            pick="mean",
            probes=rows.random(found.prompt, count, draws),
        ),
        rows.one_prompt("single coarse prompt", COARSE),
        rows.one_prompt("oracle prompt (detailed)", ORACLE),
    ]


def _other_scorers(rows: _Rows, found: Hunt) -> list[Method]:
    return [
        Method(
            "linear SVM",
            "paper",
            f"the same heads; squared hinge loss, C = {REGULARISATION:g} as the logistic regression has; its margin "
            "through the logistic function",
            probes={"svm": rows.probe(found.prompt, found.experts, fit_svm)},
        ),
        Method(
            "2-layer MLP",
            "paper",
            f"the same heads; {HIDDEN_UNITS} hidden units (ReLU), L2 penalty {MLP_PENALTY:g}",
            probes={"mlp": rows.probe(found.prompt, found.experts, fit_mlp)},
        ),
    ]


def _other_locators(full: Probe) -> list[Method]:
    return [
        Method(
            "without smoothing",
            "paper",
            "the full method's raw scores, threshold calibrated",
            smoothed=False,
            probes={FULL: full},
        ),
        *(
            Method(
                f"fixed threshold {threshold:.2f}",
                "paper",
                "the full method's smoothed scores: AUC and AP know no threshold",
                threshold=threshold,
                probes={FULL: full},
            )
            for threshold in FIXED_THRESHOLDS
        ),
    ]


def _further(rows: _Rows, found: Hunt) -> list[Method]:
    """What the paper leaves out."""
    bare = found.again(Selection(len(found.experts), penalty=0.0))
    return [
        Method(
            "without the stability penalty",
            "further",
            f"RSS with penalty 0, prompt {bare.prompt!r}",
            probes={"penalty 0": rows.probe(bare.prompt, bare.experts)},
        ),
        Method(
            "best single layer",
            "further",
            "hidden-state probing: all head features of one layer side by side, which is that layer's attention "
            "output before its output projection (o_proj), not the residual stream; the layer with the highest "
            "validation AUC",
            pick="best",
            probes={f"layer {layer}": rows.probe(found.prompt, rows.layer(layer)) for layer in range(found.layers)},
        ),
        *_by_log_odds(rows, found),
    ]


def _by_log_odds(rows: _Rows, found: Hunt) -> list[Method]:
    """What each head says by itself, weighed: of the experts, and of all heads that the same depth would run."""
    reached = [HeadRef(layer, head) for layer in range(found.depth + 1) for head in range(found.heads)]
    models: dict[HeadModel, str] = {"logistic": "logistic regression", "gaussian": "two Gaussians, one covariance"}
    return [
        rows.log_odds(
            f"{name} by log-odds{'' if kind == 'logistic' else ', Gaussian'}",
            heads,
            kind,
            f"{what}; each head's own log-odds by {model}, weighed out of fold (a fold holds whole videos), "
            "folded into one linear layer",
        )
        for name, heads, what in (
            (f"the {len(found.experts)} experts", list(found.experts), "the same heads"),
            ("soft weights", reached, f"the {len(reached)} heads of layers 0 to {found.depth}"),
        )
        for kind, model in models.items()
    ]


class _Rows:
    """What all rows share: the calibration set, the full method's hunt, the seed."""

    def __init__(self, calibration: FeatureSet, found: Hunt, seed: int) -> None:
        self._calibration, self._found, self._seed = calibration, found, seed

    def probe(self, prompt: str, heads: Sequence[HeadRef], fit: SeededFit = fit_scorer) -> Probe:
        index = self._found.prompts.index(prompt)
        read = read_heads(self._calibration.features, index, heads)
        refs = tuple(HeadRef(ref.layer, ref.head) for ref in heads)
        # On one thread: small products only wait for each other, and rounding then knows no number of cores.
        with threadpool_limits(limits=1, user_api="blas"):
            return Probe(index, refs, fit(read, self._calibration.labels, self._seed))

    def layer(self, layer: int) -> list[HeadRef]:
        return [HeadRef(layer, head) for head in range(self._found.heads)]

    def log_odds(self, name: str, heads: Sequence[HeadRef], kind: HeadModel, how: str) -> Method:
        """Make the row of heads that are weighed by what each says, or say why there is none."""
        fit = partial(fit_log_odds, videos=self._calibration.videos, head_dim=self._found.head_dim, kind=kind)
        try:
            probe = self.probe(self._found.prompt, heads, lambda read, labels, seed: fit(read, labels, seed=seed))
        except FeatureError as error:
            return Method(name, "further", how, reason=str(error))
        return Method(name, "further", how, probes={kind: probe})

    def random(self, prompt: str, count: int, draws: int) -> dict[str, Probe]:
        rng = np.random.default_rng(self._seed)
        probes = {}
        for number in range(1, draws + 1):
            drawn = sorted(rng.choice(self._found.layers * self._found.heads, size=count, replace=False).tolist())
            heads = [HeadRef(*divmod(index, self._found.heads)) for index in drawn]
            probes[f"draw {number}"] = self.probe(prompt, heads)
        return probes

    def one_prompt(self, name: str, prompt: str) -> Method:
        """Make the row of the hunt and everything behind it under one prompt alone."""
        found = self._found
        if prompt not in found.prompts:
            return Method(
                name,
                "paper",
                f"hunted under the prompt {prompt!r} alone",
                reason=f"no prompt is named {prompt!r}; there are {', '.join(map(repr, found.prompts))}",
            )
        index = found.prompts.index(prompt)
        # Metrics are normalised prompt by prompt: those of one prompt are those of a hunt under it alone.
        alone = Saliency(**{metric: values[index : index + 1] for metric, values in found.saliency.items()})
        hunted = select(alone, (prompt,), found.head_dim, Selection(len(found.experts), found.penalty))
        return Method(
            name,
            "paper",
            f"hunted under the prompt {prompt!r} alone",
            probes={prompt: self.probe(prompt, hunted.experts)},
        )

    def one_metric(self, name: str, metric: Float64Array) -> Method:
        """Make the row of the RSS of one saliency metric, penalty and all else unchanged."""
        found = self._found
        # S is the mean of four normalised metrics; of four times the same it is that metric.
        alone = Saliency(lda=metric, kl=metric, mmd=metric, nmi=metric)
        hunted = select(alone, found.prompts, found.head_dim, Selection(len(found.experts), found.penalty))
        return Method(
            f"{name.upper()} alone",
            "further",
            f"RSS from this metric only, prompt {hunted.prompt!r}",
            probes={name: self.probe(hunted.prompt, hunted.experts)},
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Margin:
    """A classifier without probabilities: its margin through the logistic function, which keeps the order."""

    model: Any

    def predict_proba(self, X: Any, /) -> Float64Array:
        positive = expit(np.asarray(self.model.decision_function(X), dtype=np.float64))
        return np.stack([1.0 - positive, positive], axis=1)


def fit_svm(features: Floating, labels: BoolArray, seed: int = 0) -> ProbabilityModel:
    """Fit a standardised, class-balanced linear SVM, regularised like the scorer, on (N, K·d) and (N,)."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    model = make_pipeline(
        StandardScaler(), LinearSVC(C=REGULARISATION, class_weight="balanced", max_iter=20_000, random_state=seed)
    )
    return _Margin(model.fit(features, labels))


def fit_mlp(features: Floating, labels: BoolArray, seed: int = 0) -> ProbabilityModel:
    """Fit a standardised, class-balanced two-layer perceptron (one hidden layer), on (N, K·d) and (N,)."""
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # It takes no class weights: the samples of the rarer class are repeated instead.
    of_class = [np.flatnonzero(labels == kind) for kind in (False, True)]
    most = max(len(rows) for rows in of_class)
    rows = np.sort(np.concatenate([np.resize(rows, most) for rows in of_class]))
    model = make_pipeline(
        StandardScaler(),
        # L-BFGS: few samples, and no learning rate that would have to be chosen.
        MLPClassifier((HIDDEN_UNITS,), solver="lbfgs", alpha=MLP_PENALTY, max_iter=2000, random_state=seed),
    )
    fitted: ProbabilityModel = model.fit(features[rows], labels[rows])
    return fitted
