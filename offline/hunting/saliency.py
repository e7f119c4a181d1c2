"""How well each attention head separates normal from abnormal: four metrics, their mixture, its stability.

Pure functions over all heads at once; `offline.hunting.hunt` chooses among them.

Features of a batch of heads are (N, B, d): N samples, B heads, d features a head; labels are bool (N,), True
is abnormal. Float64 inside. Every metric is unchanged by a shift or a common scaling of a head's features, so
each head is first centred and divided by its root mean square deviation; from there on "small" means small
beside the head's own spread, which is 1. What follows for degenerate input, and never as NaN or infinity:

- A head that is constant altogether: every metric is 0.
- A feature that is constant: it carries nothing, its variance comes from the shrinkage.
- A class, or both, without scatter, but different means: covariances have a floor of `VARIANCE_FLOOR` times
  the head's variance, so LDA and KL are large (up to about 1e9 · d) and finite.
- A class of exactly two samples: both deviate equally from their mean, so Ledoit-Wolf sees no noise and does
  not shrink (nor does scikit-learn's). The same floor keeps KL finite; label a third.
- d = 1: scikit-learn does not shrink there, neither do we.
- N far below d: this is what the shrinkage is for; nothing special happens.
- A class with fewer than two samples: `FeatureError`. It has no covariance.

**Noise.** The metrics do not know how far a head moves, and a head that hardly moves is rounding once it is deployed.
Given what the deployment adds to each head (`offline.hunting.deployment_noise`: errors e_1 … e_n of n segments,
without their mean), N is their covariance, with divisor n − 1 and Ledoit-Wolf shrunk: n is far below d, and the
covariance of the errors alone would call every direction exact that n segments did not touch. Noise is taken as
independent of the class and of the features:

- LDA: N is added to the within-class covariance, δᵀ (Σ_w + N)⁻¹ δ.
- KL: N is added to both classes' covariances, for a Gaussian with noise is the Gaussian with Σ + N.
- MMD: squared distances grow by their expectation, 2 tr N, and γ follows. Those that are 0 stay: the same input is
  rounded in the same way.
- NMI: which cluster a sample falls into has no such expectation. K-means sees the samples with noise of the errors'
  own covariance added, one draw with a fixed seed, the same for all heads.

Errors of zero change no bit of any metric.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotri
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # neither typed nor stubbed

from edge_runtime.errors import FeatureError
from offline.arrays import BoolArray, Float64Array
from offline.console import Progress
from offline.hunting.two_means import two_means

VARIANCE_FLOOR = 1e-9
"""Least variance in any direction, as a share of the head's mean variance. Ordinary shrinkage is far above."""

_SEED = 0
_RESTARTS = 8
# Small enough to stay near the cores' caches; 256 MiB was measured to be three times slower.
_CHUNK_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True, eq=False)
class Saliency:
    """The four raw metrics of every head under every prompt, each float64 (M, L, H), finite and >= 0."""

    lda: Float64Array
    kl: Float64Array
    mmd: Float64Array
    nmi: Float64Array

    def __post_init__(self) -> None:
        for name, metric in self.items():
            if metric.ndim != 3 or metric.shape != self.lda.shape:
                raise FeatureError(f"saliency {name} has shape {metric.shape}; all four are (prompts, layers, heads)")
            if not np.isfinite(metric).all():
                raise FeatureError(f"saliency {name} has values that are not finite")

    def items(self) -> list[tuple[str, Float64Array]]:
        """List the metrics with their names, in the order lda, kl, mmd, nmi."""
        return [(field.name, getattr(self, field.name)) for field in fields(self)]

    def up_to(self, max_layer: int) -> Saliency:
        """Keep the metrics for layers 0 to `max_layer` inclusive."""
        return Saliency(**{name: metric[:, : max_layer + 1] for name, metric in self.items()})


def lda(
    features: NDArray[np.floating], labels: BoolArray, errors: NDArray[np.floating] | None = None
) -> Float64Array:
    """Compute Fisher's criterion δᵀ Σ_w⁻¹ δ, δ the difference of the class means. (N, B, d) -> (B,).

    Σ_w is the within-class covariance: every sample centred on its own class mean, both classes pooled,
    Ledoit-Wolf shrunk as already centred (divisor N). O(B (N d² + d³)). Of every metric `errors`, (n, B, d), are
    the noise, see the module.
    """
    check_labels(labels, features.shape[0])
    x, spread = _standardised(features)
    return _lda(*_split(x, labels), _Noise.of(errors, spread))


def symmetric_kl(
    features: NDArray[np.floating], labels: BoolArray, errors: NDArray[np.floating] | None = None
) -> Float64Array:
    """½ [KL(a‖n) + KL(n‖a)] of Gaussians with the classes' means and Ledoit-Wolf covariances. (N, B, d) -> (B,).

    The log-determinants of the two directions cancel. O(B (N d² + d³)).
    """
    check_labels(labels, features.shape[0])
    x, spread = _standardised(features)
    return _symmetric_kl(*_split(x, labels), _Noise.of(errors, spread))


def mmd(
    features: NDArray[np.floating], labels: BoolArray, errors: NDArray[np.floating] | None = None
) -> Float64Array:
    """Compute the squared maximum mean discrepancy, biased estimate, RBF kernel exp(−γ‖x − y‖²). (N, B, d) -> (B,).

    γ = 1 / (2 · median of the non-zero squared distances of all pairs of samples, both classes pooled).
    Gretton et al. 2012, eq. 5. O(B N² (d + 1)).
    """
    check_labels(labels, features.shape[0])
    x, spread = _standardised(features)
    return _mmd(_gram(x), labels, features.shape[2], _Noise.of(errors, spread))


def nmi(
    features: NDArray[np.floating], labels: BoolArray, errors: NDArray[np.floating] | None = None
) -> Float64Array:
    """I(Y, Ŷ) / sqrt(H(Y) H(Ŷ)), Ŷ from K-means with K = 2; 0 where an entropy is 0. (N, B, d) -> (B,).

    k-means++ and a tabu search, 8 restarts, fixed seed, the partition of least inertia: see
    `offline.hunting.two_means`.
    """
    check_labels(labels, features.shape[0])
    x, spread = _standardised(features)
    return _nmi(_gram(_Noise.of(errors, spread).on(x)), labels)


def saliency(
    features: NDArray[np.floating],
    labels: BoolArray,
    *,
    errors: NDArray[np.floating] | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
    chunk_bytes: int = _CHUNK_BYTES,
) -> Saliency:
    """Compute all four metrics of every head under every prompt.

    Each head is computed by itself on one thread, so neither `workers` nor `chunk_bytes` changes a bit of the result.

    Args:
        features: (N, M, L, H, d), finite.
        labels: bool (N,).
        errors: What the deployment adds to n segments, (n, L, H, d), under whichever prompt; None for nothing. A head
            with errors that are not finite gives no numbers once it is deployed: all its metrics are 0.
        workers: How many chunks of heads are processed at a time; one per usable core by default.
        chunk_bytes: Working memory of a chunk, about (one head at least), and as much again for K-means, which takes
            several chunks together.
        progress: Counts heads, of all prompts.

    Raises:
        FeatureError: Shapes disagree, a class has fewer than two samples, or values are not finite.
    """
    if features.ndim != 5 or 0 in features.shape:
        raise FeatureError(
            f"features have shape {features.shape}; expected (videos, prompts, layers, heads, head_dim)"
        )
    check_labels(labels, features.shape[0])
    samples, prompts, layers, heads, width = features.shape
    of_heads, lost = _check_errors(errors, features.shape)
    # Measured: about three float64 copies of the features, five N x N and six d x d matrices a head.
    head_bytes = 8 * (3 * samples * width + 5 * samples**2 + 6 * width**2)
    step = max(1, chunk_bytes // head_bytes)
    threads = workers or usable_cores()
    # K-means makes many small moves, for all its heads at a time: few heads would cost as much as many. Their Gram
    # matrices and its copy of them are what it needs memory for. Every thread gets heads of its own.
    group = max(step, min(chunk_bytes // (16 * samples**2), -(-layers * heads // threads)))
    jobs = [(m, start) for m in range(prompts) for start in range(0, layers * heads, group)]
    result = np.empty((4, prompts, layers * heads))

    def work(job: tuple[int, int]) -> tuple[int, slice, Float64Array]:
        m, start = job
        chunk = slice(start, min(start + group, layers * heads))
        # A view where a prompt's layers and heads lie together in memory, as they do in a feature store.
        batch = features[:, m].reshape(samples, layers * heads, width)[:, chunk]
        values = _all_metrics(batch, labels, step, None if of_heads is None else of_heads[:, chunk])
        return m, chunk, np.where(lost[chunk], 0.0, values)

    # BLAS on one thread: its splitting of a product would round differently with every number of threads,
    # and chunks side by side use the cores better than 128 x 128 matrices do.
    done = 0
    with (
        threadpool_limits(limits=1, user_api="blas"),
        ThreadPoolExecutor(max_workers=threads) as pool,
    ):
        try:
            for m, chunk, values in pool.map(work, jobs):
                result[:, m, chunk] = values
                done += values.shape[1]
                if progress is not None:
                    progress(done, prompts * layers * heads)
        except BaseException:
            # Ctrl-C must not wait for the chunks that nobody will look at.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return Saliency(*result.reshape(4, prompts, layers, heads))


def _check_errors(
    errors: NDArray[np.floating] | None, shape: tuple[int, ...]
) -> tuple[NDArray[np.floating] | None, BoolArray]:
    """The errors by head, (n, L·H, d), all of them finite, and which heads had others, (L·H,)."""
    _, _, layers, heads, width = shape
    if errors is None:
        return None, np.zeros(layers * heads, dtype=np.bool_)
    if errors.ndim != 4 or errors.shape[1:] != shape[2:] or len(errors) < 2:
        raise FeatureError(
            f"the deployment's errors have shape {errors.shape}; "
            f"expected (segments, {layers}, {heads}, {width}) of at least 2 segments"
        )
    by_head = errors.reshape(len(errors), layers * heads, width)
    lost = ~np.isfinite(by_head).all(axis=(0, 2))
    return np.where(lost[:, None], 0.0, by_head) if lost.any() else by_head, lost


def check_labels(labels: BoolArray, samples: int) -> None:
    """Refuse labels that are not bool (samples,) with at least two samples of each class.

    Raises:
        FeatureError: They are something else.
    """
    if labels.dtype != np.bool_ or labels.shape != (samples,):
        raise FeatureError(
            f"labels are {labels.dtype} {labels.shape}; expected bool ({samples},), one for each sample"
        )
    abnormal = int(labels.sum())
    if min(abnormal, samples - abnormal) < 2:
        raise FeatureError(
            f"{samples - abnormal} normal and {abnormal} anomalous samples; "
            f"each class needs at least 2, label more videos"
        )


def normalise(metric: Float64Array) -> Float64Array:
    """Scale to [0, 1] by minimum and maximum over all heads of each prompt, (M, L, H); 0 where a prompt is constant.

    A spread at the level of rounding counts as constant: it must not be blown up into evidence.
    """
    low = metric.min(axis=(1, 2), keepdims=True)
    span = metric.max(axis=(1, 2), keepdims=True) - low
    magnitude = np.abs(metric).max(axis=(1, 2), keepdims=True)
    varies = span > 1e-12 * magnitude
    normalised: Float64Array = np.where(varies, (metric - low) / np.where(varies, span, 1.0), 0.0)
    return normalised


def combine(raw: Saliency) -> Float64Array:
    """Compute S(k, m): the mean of the four normalised metrics, (M, L, H), in [0, 1]."""
    score: Float64Array = np.mean([normalise(metric) for _, metric in raw.items()], axis=0)
    return score


def robust_saliency(score: Float64Array, penalty: float) -> Float64Array:
    """Compute the mean over the prompts minus `penalty` population standard deviations (RSS, eq. 9).

    Args:
        score: (M, L, H), in [0, 1].
        penalty: λ.

    Returns:
        (L, H). With one prompt the deviation is 0.
    """
    rss: Float64Array = score.mean(axis=0) - penalty * score.std(axis=0)
    return rss


def usable_cores() -> int:
    """Cores this process may run on, which in a container is less than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _all_metrics(
    batch: NDArray[np.floating], labels: BoolArray, step: int, errors: NDArray[np.floating] | None = None
) -> Float64Array:
    """(N, B, d) -> (4, B), all but K-means `step` heads at a time; errors are (n, B, d).

    What the metrics share is computed once: centred features and, without errors, Gram matrices.
    """
    samples, heads, width = batch.shape
    values = np.empty((4, heads))
    grams = np.empty((heads, samples, samples))
    for start in range(0, heads, step):
        chunk = slice(start, start + step)
        x, spread = _standardised(batch[:, chunk])
        noise = _Noise.of(None if errors is None else errors[:, chunk], spread)
        classes = _split(x, labels)
        gram = _gram(x)
        values[0, chunk] = _lda(*classes, noise)
        values[1, chunk] = _symmetric_kl(*classes, noise)
        values[2, chunk] = _mmd(gram, labels, width, noise)
        grams[chunk] = gram if errors is None else _gram(noise.on(x))
    values[3] = _nmi(grams, labels)
    return values


def _standardised(features: NDArray[np.floating]) -> tuple[Float64Array, Float64Array]:
    """(N, B, d) -> (B, N, d), a float64 copy, every head centred and of mean variance 1 (0 if constant).

    With it what each head was divided by, (B,).
    """
    x = np.array(np.moveaxis(features, 0, 1), dtype=np.float64, order="C")
    # First by a sample, then by the mean: so a constant becomes exactly 0, and a large offset costs no digits.
    x -= x[:, :1].copy()
    x -= x.mean(axis=1, keepdims=True)
    spread = np.sqrt(_inner(x, x) / x[0].size)
    spread = np.where(spread > 0.0, spread, 1.0)
    x /= spread[:, None, None]
    return x, spread


@dataclass(frozen=True, slots=True, eq=False)
class _Scatter:
    """What a covariance is made of, for samples that are already centred.

    Attributes:
        samples: n.
        products: XᵀX, (B, d, d).
        fourth: The sum over samples of ‖x‖⁴, (B,).
    """

    samples: int
    products: Float64Array
    fourth: Float64Array

    @classmethod
    def of(cls, centred: Float64Array) -> _Scatter:
        """Of samples (B, n, d)."""
        norms = np.vecdot(centred, centred)
        return cls(centred.shape[1], centred.mT @ centred, np.square(norms).sum(axis=1))

    def __add__(self, other: _Scatter) -> _Scatter:
        """Of both sets of samples together."""
        return _Scatter(self.samples + other.samples, self.products + other.products, self.fourth + other.fourth)


@dataclass(frozen=True, slots=True, eq=False)
class _Noise:
    """What the deployment adds to standardised heads.

    Attributes:
        covariance: N, (B, d, d); 0.0 for nothing.
        pairs: What it adds to squared distances, 2 tr N, (B, 1); 0.0 for nothing.
        errors: Centred, (B, n, d), scaled so that EᵀE is their covariance; None for nothing.
    """

    covariance: Float64Array | float = 0.0
    pairs: Float64Array | float = 0.0
    errors: Float64Array | None = None

    @classmethod
    def of(cls, errors: NDArray[np.floating] | None, spread: Float64Array) -> _Noise:
        """Of errors (n, B, d) of heads that were divided by `spread`, (B,)."""
        if errors is None:
            return cls()
        e = np.array(np.moveaxis(errors, 0, 1), dtype=np.float64, order="C")
        e -= e.mean(axis=1, keepdims=True)
        e *= np.sqrt(e.shape[1] / (e.shape[1] - 1)) / spread[:, None, None]
        covariance = _ledoit_wolf(_Scatter.of(e))
        pairs = 2.0 * np.trace(covariance, axis1=1, axis2=2)[:, None]
        return cls(covariance, pairs, e / np.sqrt(e.shape[1]))

    def on(self, x: Float64Array) -> Float64Array:
        """Samples (B, N, d) with a draw of the noise added."""
        if self.errors is None:
            return x
        drawn = np.random.default_rng(_SEED).standard_normal((x.shape[1], self.errors.shape[1]))
        # K-means counts on samples that are centred.
        drawn -= drawn.mean(axis=0)
        return x + drawn @ self.errors


def _split(x: Float64Array, labels: BoolArray) -> tuple[Float64Array, _Scatter, _Scatter]:
    """The difference of the class means (B, d), and the scatter of the abnormal and of the normal samples."""
    abnormal, normal = _of_class(x, labels), _of_class(x, ~labels)
    mean_abnormal, mean_normal = (one.mean(axis=1, keepdims=True) for one in (abnormal, normal))
    abnormal -= mean_abnormal
    normal -= mean_normal
    return (mean_abnormal - mean_normal)[:, 0], _Scatter.of(abnormal), _Scatter.of(normal)


def _of_class(x: Float64Array, members: BoolArray) -> Float64Array:
    """A copy of the samples of one class, (B, N, d) -> (B, n, d)."""
    # Not x[:, members]: how that lies in memory, and so the rounding of what follows, depends on B.
    return x.compress(members, axis=1)


def _shrunk_covariance(scatter: _Scatter) -> Float64Array:
    """Ledoit-Wolf covariance (B, d, d), with a floor under every variance."""
    return _ledoit_wolf(scatter, VARIANCE_FLOOR)


def _ledoit_wolf(scatter: _Scatter, floor: float = 0.0) -> Float64Array:
    """Ledoit-Wolf covariance (B, d, d).

    The formula and divisors of `sklearn.covariance.LedoitWolf(assume_centered=True)`, from Ledoit and Wolf
    2004. Its sum over all features of (X²)ᵀ(X²) is the sum over samples of ‖x‖⁴, which costs nothing.
    """
    samples, width = scatter.samples, scatter.products.shape[1]
    covariance = scatter.products / samples
    mean_variance = np.trace(covariance, axis1=1, axis2=2) / width
    squared_norm = _inner(covariance, covariance)
    noise = (scatter.fourth / samples - squared_norm) / (width * samples)
    distance = squared_norm / width - np.square(mean_variance)
    shrinks = (distance > 0.0) & (width > 1)
    # The noise is >= 0 by Jensen's inequality; rounding may say otherwise.
    shrinkage = np.where(
        shrinks, np.clip(noise, 0.0, np.maximum(distance, 0.0)) / np.where(shrinks, distance, 1.0), 0.0
    )
    covariance *= (1.0 - shrinkage)[:, None, None]
    # A view of the diagonals, (B, d).
    np.einsum("bii->bi", covariance)[...] += np.maximum(shrinkage * mean_variance, floor)[:, None]
    return covariance


def _lda(delta: Float64Array, abnormal: _Scatter, normal: _Scatter, noise: _Noise) -> Float64Array:
    within = _shrunk_covariance(abnormal + normal) + noise.covariance
    solution = np.linalg.solve(within, delta[:, :, None])[:, :, 0]
    return _without_rounding_below_zero((delta * solution).sum(axis=1))


def _symmetric_kl(delta: Float64Array, of_abnormal: _Scatter, of_normal: _Scatter, noise: _Noise) -> Float64Array:
    abnormal, normal = (_shrunk_covariance(one) + noise.covariance for one in (of_abnormal, of_normal))
    inverse_abnormal, inverse_normal = _inverse(abnormal), _inverse(normal)
    # For symmetric matrices the trace of a product is the sum of the elementwise product.
    traces = _inner(inverse_normal, abnormal) + _inner(inverse_abnormal, normal)
    shift = (((inverse_abnormal + inverse_normal) @ delta[:, :, None])[:, :, 0] * delta).sum(axis=1)
    return _without_rounding_below_zero(0.25 * (traces - 2 * delta.shape[1] + shift))


def _inverse(covariance: Float64Array) -> Float64Array:
    """Of symmetric positive definite matrices (B, d, d), in half the time of `numpy.linalg.inv`."""
    inverse = np.empty_like(covariance)
    for matrix, target in zip(covariance, inverse, strict=True):
        factor, failed = dpotrf(matrix)
        upper, _ = dpotri(factor, overwrite_c=1)
        # The floor of the variance keeps every direction away from 0.
        assert not failed
        target[...] = upper + np.triu(upper, k=1).T
    return inverse


def _inner(one: Float64Array, other: Float64Array) -> Float64Array:
    """The sum of the elementwise product by head, (B, …) twice -> (B,)."""
    # Not einsum, whose order of summation depends on B.
    inner: Float64Array = np.vecdot(one.reshape(len(one), -1), other.reshape(len(other), -1))
    return inner


def _without_rounding_below_zero(metric: Float64Array) -> Float64Array:
    """A quantity that is >= 0 by definition, where rounding may have left it just below."""
    return np.maximum(metric, 0.0, dtype=np.float64)


def _gram(x: Float64Array) -> Float64Array:
    return x @ x.mT


def _mmd(gram: Float64Array, labels: BoolArray, width: int, noise: _Noise) -> Float64Array:
    # Each pair once: distances are symmetric, and 0 from a sample to itself.
    first, second = np.triu_indices(labels.size, k=1)
    # Not by indices in brackets: how that lies in memory, and so the rounding of sums, depends on B.
    norms = np.diagonal(gram, axis1=1, axis2=2)
    scale = norms.take(first, axis=1) + norms.take(second, axis=1)
    distances = scale - 2.0 * gram.reshape(len(gram), -1).take(first * labels.size + second, axis=1)
    # Copies of one sample come out as rounding, not as 0. Inner products of d terms are exact to about
    # d · eps of the norms, so what is below that (with a margin) cannot be told from 0, and is 0: otherwise
    # copies would count as pairs at a tiny distance and pull the median down.
    distances[distances <= 8 * width * np.finfo(np.float64).eps * scale] = 0.0
    distances += np.where(distances > 0.0, noise.pairs, 0.0)
    medians = np.array([_median_of_positive(head) for head in distances])
    # With weights 1/n_a and −1/n_n, the three means of the biased estimate are one quadratic form. The weights
    # sum to 0, so a constant may be taken from the kernel: without it a constant head is exactly 0.
    kernel = np.exp(distances / (-2.0 * medians[:, None])) - 1.0
    weights = np.where(labels, 1.0 / labels.sum(), -1.0 / (~labels).sum())
    return _without_rounding_below_zero(2.0 * (kernel * (weights[first] * weights[second])).sum(axis=1))


def _median_of_positive(values: Float64Array) -> float:
    """The median of the values above 0; 1 if there are none, which makes the kernel 1 and the MMD 0."""
    positive = values[values > 0.0]
    if not positive.size:
        return 1.0
    # As numpy's median, which looks for NaN too and takes twice as long.
    middle = positive.size // 2
    positive.partition(middle)
    upper = positive[middle]
    return float(upper if positive.size % 2 else (positive[:middle].max() + upper) / 2)


def _nmi(gram: Float64Array, labels: BoolArray) -> Float64Array:
    member, _ = two_means(gram, restarts=_RESTARTS, seed=_SEED)
    # Joint distribution (B, 2, 2): rows the labels, columns the clusters.
    in_first = np.stack([member[:, ~labels].sum(axis=1), member[:, labels].sum(axis=1)], axis=1)
    of_class = np.array([(~labels).sum(), labels.sum()])
    joint = np.stack([in_first, of_class - in_first], axis=2) / labels.size
    entropy_y = _entropy(joint.sum(axis=2))
    entropy_cluster = _entropy(joint.sum(axis=1))
    information = entropy_y + entropy_cluster - _entropy(joint.reshape(-1, 4))
    product = entropy_y * entropy_cluster
    ratio = information / np.sqrt(np.where(product > 0.0, product, 1.0))
    bounded: Float64Array = np.where(product > 0.0, np.clip(ratio, 0.0, 1.0), 0.0)
    return bounded


def _entropy(probabilities: Float64Array) -> Float64Array:
    """Shannon entropy in nats over the last axis."""
    safe = np.where(probabilities > 0.0, probabilities, 1.0)
    entropy: Float64Array = -(safe * np.log(safe)).sum(axis=-1)
    return entropy
