"""Whether the hunted heads beat random ones: the hunt repeated in folds of the calibration videos.

In every fold, hunt and scorer see the training videos only: heads that were hunted with the labels of the videos that
they are judged on would look better than they are. As many random heads are drawn again and again, each draw the same
in all folds, under the prompt of the fold's hunt, with the same scorer. Judged by the AUC of the out-of-fold
probabilities, all folds together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # neither typed nor stubbed

from edge_runtime.errors import FeatureError
from offline.arrays import BoolArray, Float64Array, Floating
from offline.console import Progress
from offline.data.folds import Folds, video_folds
from offline.extraction.features import FeatureSet
from offline.hunting.depth import Fit
from offline.hunting.hunt import Choose, Selection, by_rss

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Compared:
    """The AUC of hunted heads and of random ones, each on videos that it was not fitted on.

    Attributes:
        folds: How many there were.
        hunted: AUC of the hunted heads.
        random: AUC of every random draw.
        low: Lower end of the bootstrap interval (95 %, over videos) of hunted minus the mean of the random ones.
        high: Its upper end.
    """

    folds: int
    hunted: float
    random: tuple[float, ...]
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.random or not all(0.0 <= auc <= 1.0 for auc in (self.hunted, *self.random)):
            raise ValueError("a comparison needs the AUC of at least one random draw, all in 0..1")
        if not (self.folds > 1 and -1.0 <= self.low <= self.high <= 1.0):
            raise ValueError(f"{self.folds} folds and the interval {self.low} to {self.high} compare nothing")

    @property
    def mean(self) -> float:
        """Of the random draws."""
        return math.fsum(self.random) / len(self.random)

    @property
    def spread(self) -> float:
        """Population standard deviation of the random draws."""
        return math.sqrt(math.fsum((auc - self.mean) ** 2 for auc in self.random) / len(self.random))

    @property
    def difference(self) -> float:
        """Hunted minus the mean of the random draws."""
        return self.hunted - self.mean

    @property
    def beaten(self) -> float:
        """The share of random draws that are worse than the hunted heads, in 0..1."""
        return sum(auc < self.hunted for auc in self.random) / len(self.random)


@dataclass(frozen=True, slots=True)
class Comparison:
    """How hunted heads are compared with random ones.

    Attributes:
        draws: How often random heads are drawn.
        folds: How many; fewer where there are fewer videos of a class.
        resamples: Of the bootstrap.
        seed: Of folds, draws and bootstrap.
    """

    draws: int = 50
    folds: int = 5
    resamples: int = 1000
    seed: int = 0


_COMPARISON = Comparison()


def compare(
    features: FeatureSet,
    selection: Selection,
    fit: Fit,
    comparison: Comparison = _COMPARISON,
    progress: Progress | None = None,
    choose: Choose = by_rss,
) -> Compared | None:
    """Compare hunted heads with random ones; see the module.

    It costs as many choices as there are folds, and (draws + 1) · folds fits.

    Args:
        features: Finite; layers beyond the selection's `max_layer` are not looked at.
        selection: How experts and prompt are chosen, in every fold anew.
        fit: Fits the scorer.
        comparison: How.
        progress: Counts heads, under every prompt and in every fold; the fits of a fold come at its end.
        choose: Makes the choice of each fold.

    Returns:
        None where there are too few videos for two folds (each needs two samples of each class to train on) or for
        `choose`, or no other heads than those that are hunted.
    """
    deepest = features.features.shape[2] if selection.max_layer is None else selection.max_layer + 1
    heads = features.features.shape[3]
    if deepest * heads <= selection.top_k:
        return None
    rng = np.random.default_rng(comparison.seed)
    fold = stratified_folds(features, comparison.folds, rng)
    if fold is None:
        return None
    chosen = [np.sort(rng.choice(deepest * heads, selection.top_k, replace=False)) for _ in range(comparison.draws)]
    held = np.unique(fold)
    scores = np.empty((1 + comparison.draws, len(fold)))
    for number, one in enumerate(held):
        out = fold == one
        train = features.rows(~out)
        try:
            found = choose(train, selection, _part(progress, number, len(held)))
        except FeatureError:
            return None
        prompt = found.prompts.index(found.prompt)
        hunted = np.array([e.layer * heads + e.head for e in found.experts])
        # One BLAS thread: the products are small, and rounding then knows no number of cores.
        with threadpool_limits(limits=1, user_api="blas"):
            for row, which in enumerate((hunted, *chosen)):
                read = _reader(which, prompt, heads)
                model = fit(read(train.features), train.labels)
                scores[row, out] = np.asarray(model.predict_proba(read(features.features[out])))[:, 1]
    return _judge(scores, features, comparison, len(held), rng)


def stratified_folds(features: FeatureSet, folds: int, rng: np.random.Generator) -> Folds | None:
    """Spread the videos of each class over folds at random.

    Returns:
        The fold that each sample is held out in, (N,); None where no number of folds from 2 up leaves two samples of
        each class to train on in each.
    """
    normal, anomalous = ([videos[i] for i in rng.permutation(len(videos))] for videos in features.videos_by_class())
    most = min(folds, len(normal), len(anomalous))
    return video_folds((*normal, *anomalous), features.videos, features.labels, most, least=2)


def concordance(labels: BoolArray, scores: Floating, video: NDArray[np.intp]) -> Float64Array:
    """Count, video by video, in how many pairs the anomalous sample has the higher score; ties count half.

    With w the weights of the videos, wᵀCw / (wᵀa · wᵀn) is the AUC of the weighted videos, a and n their anomalous
    and normal samples. Linear in C, so that a mean over scores is taken once, not in every draw of a bootstrap.

    Args:
        labels: bool (N,).
        scores: (N,).
        video: (N,) from 0 to V - 1.

    Returns:
        C, (V, V): row the anomalous sample's video, column the normal one's.
    """
    count = int(video.max()) + 1
    pairs = np.zeros((count, count))
    rows, columns = np.flatnonzero(labels), np.flatnonzero(~labels)
    for row in rows:
        higher = (scores[row] > scores[columns]) + 0.5 * (scores[row] == scores[columns])
        pairs[video[row]] += np.bincount(video[columns], weights=higher, minlength=count)
    return pairs


def _judge(
    scores: Float64Array, features: FeatureSet, comparison: Comparison, folds: int, rng: np.random.Generator
) -> Compared:
    """Judge (1 + draws, N) probabilities, the hunted heads' in the first row."""
    labels = features.labels
    _, video = np.unique(np.array(features.videos), return_inverse=True)
    counts = [concordance(labels, row, video) for row in scores]
    every = float(labels.sum() * (~labels).sum())
    aucs = [float(pairs.sum()) / every for pairs in counts]
    apart = counts[0] - np.mean(counts[1:], axis=0)
    videos = len(apart)
    of_class = [np.bincount(video, weights=kind, minlength=videos) for kind in (labels, ~labels)]
    weights = np.stack(
        [np.bincount(rng.integers(videos, size=videos), minlength=videos) for _ in range(comparison.resamples)]
    ).astype(np.float64)
    every_drawn = (weights @ of_class[0]) * (weights @ of_class[1])
    # Draws of one class only have no AUC.
    defined = every_drawn > 0
    differences = np.vecdot(weights @ apart, weights)[defined] / every_drawn[defined]
    low, high = np.quantile(differences, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Compared(folds, aucs[0], tuple(aucs[1:]), float(low), float(high))


def _reader(which: NDArray[np.intp], prompt: int, heads: int) -> Callable[[Floating], Floating]:
    def read(features: Floating) -> Floating:
        side_by_side: Floating = features[:, prompt, which // heads, which % heads].reshape(len(features), -1)
        return side_by_side

    return read


def _part(progress: Progress | None, number: int, parts: int) -> Progress | None:
    """The progress of one of several equal parts."""
    if progress is None:
        return None

    def step(done: int, total: int, what: object = "", /) -> None:
        progress(number * total + done, parts * total, what)

    return step
