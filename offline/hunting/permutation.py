"""Whether any head knows anything: a permutation test over labels by video, with the maximum over the heads.

**Statistic.** A head's is the AUC of out-of-fold predictions: a ridge regression of the labels on the head's
standardised features, in folds that no video is split between. A labelling's is the largest of all heads'. Looking
for the best of hundreds of heads finds a good one among useless ones, too; as the same search is made in every
permuted labelling, its luck is part of what is compared (max-T: Westfall and
Young, Resampling-Based Multiple Testing, 1993).

**Permutation.** Whole videos change their labels: samples of one video are alike, and would look like knowledge of
the label if they were permuted one by one.

**Exact** (p <= a in at most a share a of all cases, if labels have nothing to do with the features): where all videos
have as many samples as each other, as with one sample a video. Standardisation and folds do not look at labels, so
the true labelling is treated as all others are.

**Approximate**: a video with another number of samples takes a sequence of labels that is resampled to its length.
The heads are those under the bundle's prompt, which was chosen by the true labels from a few that are very alike.
Permutations are drawn, not enumerated; p is valid all the same, as the true labelling counts as one of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.stats import rankdata
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # neither typed nor stubbed

from models.heads import HeadRef
from offline.arrays import BoolArray, Float64Array, Floating
from offline.console import Progress
from offline.data.folds import Folds
from offline.hunting.saliency import usable_cores

PENALTY = 400.0
"""Of the ridge regression: about what the scorer's C of 0.01 is, for labels 0 and 1 (1 / (C p (1 - p)), p = 1/2)."""

# AUCs of one ranking differ by rounding, those of two by 1 / (normal samples · anomalous samples) or more, halved.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Permuted:
    """The best head's AUC, and what the best heads of permuted labellings reach.

    Attributes:
        best: The head.
        auc: Its out-of-fold AUC, the largest of all heads'.
        permuted: The largest AUC of each permuted labelling.
        labellings: How many different labellings there are to permute to, 10**300 at most.
    """

    best: HeadRef
    auc: float
    permuted: tuple[float, ...]
    labellings: float

    def __post_init__(self) -> None:
        if not self.permuted or not all(0.0 <= auc <= 1.0 for auc in (self.auc, *self.permuted)):
            raise ValueError("a permutation test needs the AUC of at least one permuted labelling, all in 0..1")
        if not self.labellings >= 1:
            raise ValueError(f"there is at least one labelling, got {self.labellings}")

    @property
    def reached(self) -> int:
        """How many permuted labellings reach the true one's AUC."""
        return sum(auc >= self.auc - _ROUNDING for auc in self.permuted)

    @property
    def p(self) -> float:
        """(1 + how many reach it) / (1 + how many there are)."""
        return (1 + self.reached) / (1 + len(self.permuted))

    @property
    def least_p(self) -> float:
        """The smallest p that so many permutations of so many videos can give."""
        return max(1 / (1 + len(self.permuted)), 1 / self.labellings)


def permute(
    features: Floating,
    labels: BoolArray,
    videos: Sequence[str],
    permutations: int,
    *,
    folds: int = 5,
    seed: int = 0,
    progress: Progress | None = None,
) -> Permuted:
    """Test whether any head knows anything of the labels; see the module.

    O(heads · permutations · N d), and memory for N · (permutations + 1) numbers a core.

    Args:
        features: (N, L, H, d), finite, under one prompt.
        labels: bool (N,), both classes.
        videos: N names; samples of one name belong together.
        permutations: How many labellings are drawn.
        folds: How many; fewer where there are fewer videos.
        seed: Of folds and draws. The result depends on nothing else, the number of cores included.
        progress: Counts heads.

    Raises:
        ValueError: There are fewer than two videos, the labels are of one class, or nothing shall be drawn.
    """
    if len(set(videos)) < 2 or labels.all() or not labels.any() or permutations < 1:
        raise ValueError("a permutation needs two videos, both classes, and at least one draw")
    rng = np.random.default_rng(seed)
    fold = label_free_folds(videos, folds, rng)
    labellings = np.stack([labels, *permuted_labels(labels, videos, permutations, rng)], axis=1)
    layers, heads = features.shape[1:3]
    auc = np.empty((layers * heads, 1 + permutations))

    def work(k: int) -> tuple[int, Float64Array]:
        return k, columns_auc(labellings, out_of_fold(features[:, k // heads, k % heads], labellings, fold))

    # One BLAS thread: see `offline.hunting.saliency`.
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(usable_cores()) as pool:
        try:
            for done, (k, values) in enumerate(pool.map(work, range(layers * heads)), start=1):
                auc[k] = values
                if progress is not None:
                    progress(done, layers * heads)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    best, largest = int(auc[:, 0].argmax()), auc.max(axis=0)
    return Permuted(
        HeadRef(best // heads, best % heads),
        float(largest[0]),
        tuple(largest[1:].tolist()),
        distinct_labellings(labels, videos),
    )


def label_free_folds(videos: Sequence[str], folds: int, rng: np.random.Generator) -> Folds:
    """Spread whole videos over folds at random, as evenly as can be, without a look at labels. (N,)."""
    names, video = np.unique(np.array(videos), return_inverse=True)
    place = rng.permutation(len(names)) % min(folds, len(names))
    return np.asarray(place[video], dtype=np.intp)


def permuted_labels(
    labels: BoolArray, videos: Sequence[str], permutations: int, rng: np.random.Generator
) -> list[BoolArray]:
    """Exchange the label sequences of whole videos, uniformly; those that leave one class only are drawn again.

    Args:
        labels: bool (N,), both classes.
        videos: N names.
        permutations: How many.
        rng: Draws.

    Returns:
        bool (N,) each. A video takes another's sequence at its own relative positions, nearest wins.
    """
    rows = list(_rows_by_video(videos).values())
    drawn: list[BoolArray] = []
    while len(drawn) < permutations:
        permuted = np.empty_like(labels)
        for mine, other in zip(rows, rng.permutation(len(rows)), strict=True):
            permuted[mine] = resampled(labels[rows[other]], len(mine))
        if 0 < permuted.sum() < len(permuted):
            drawn.append(permuted)
    return drawn


def resampled(sequence: BoolArray, length: int) -> BoolArray:
    """Stretch or squeeze a sequence to `length`: each place takes the nearest one, centre to centre."""
    places = np.floor((np.arange(length) + 0.5) * len(sequence) / length).astype(np.intp)
    taken: BoolArray = sequence[places]
    return taken


def distinct_labellings(labels: BoolArray, videos: Sequence[str]) -> float:
    """How many different ways there are to hand the videos' label sequences out; 10**300 where it is more."""
    sequences = Counter(labels[rows].tobytes() for rows in _rows_by_video(videos).values())
    exponent = math.lgamma(sequences.total() + 1) - sum(math.lgamma(count + 1) for count in sequences.values())
    return float(round(math.exp(exponent))) if exponent < math.log(1e12) else math.exp(min(exponent, 690.0))


def out_of_fold(
    features: Floating, labellings: NDArray[np.generic], fold: Folds, penalty: float = PENALTY
) -> Float64Array:
    """Predict every sample by a ridge regression on the other folds, for all labellings at once.

    The prediction is linear in the labels, x Sᵀ(S Sᵀ + penalty)⁻¹ written in d dimensions, so that no (N, N) matrix
    is needed: the identity (N, N) as labellings gives that matrix. Features and labels are centred on the training
    samples; the intercept, the mean training label, is left out, because it differs from fold to fold with the share
    of anomalous samples that were left, which is no knowledge of any head.

    Args:
        features: (N, d) of one head; standardised over all samples, which takes no labels.
        labellings: (N, P).
        fold: (N,).
        penalty: Of the ridge regression.

    Returns:
        (N, P). 0 for a head that is constant.
    """
    x = _standardised(features)
    y = labellings.astype(np.float64)
    predicted = np.empty(y.shape)
    for held in np.unique(fold):
        out = fold == held
        train, mean = x[~out], x[~out].mean(axis=0)
        train = train - mean
        products = train.T @ train
        products[np.diag_indices_from(products)] += penalty
        # Centred features need no centred labels: a constant is orthogonal to them.
        weights = cho_solve(cho_factor(products, overwrite_a=True, check_finite=False), train.T @ y[~out])
        predicted[out] = (x[out] - mean) @ weights
    return predicted


def columns_auc(labels: BoolArray, scores: Float64Array) -> Float64Array:
    """Area under the ROC curve column by column, (N, P) twice -> (P,). Ties count half; both classes everywhere."""
    positive = labels.sum(axis=0)
    # Mann and Whitney's U from the ranks, as in `sklearn.metrics.roc_auc_score`.
    ranks = (rankdata(scores, axis=0) * labels).sum(axis=0)
    auc: Float64Array = (ranks - positive * (positive + 1) / 2) / (positive * (len(labels) - positive))
    return auc


def _standardised(features: Floating) -> Float64Array:
    """(N, d), a float64 copy, every feature of mean 0 and variance 1; 0 if constant."""
    x = np.array(features, dtype=np.float64)
    # First by a sample: so a constant becomes exactly 0.
    x -= x[:1].copy()
    x -= x.mean(axis=0)
    spread = x.std(axis=0)
    x /= np.where(spread > 0.0, spread, 1.0)
    return x


def _rows_by_video(videos: Sequence[str]) -> dict[str, NDArray[np.intp]]:
    rows: dict[str, list[int]] = {}
    for row, video in enumerate(videos):
        rows.setdefault(video, []).append(row)
    return {video: np.array(of_video, dtype=np.intp) for video, of_video in rows.items()}
