"""K-means with two clusters on many data sets at once, from their Gram matrices.

With centred data and K = 2, everything Lloyd's algorithm needs is in the Gram matrix G = X Xᵀ. Let a mark
the samples of cluster 1, n₁ and n₂ be the sizes, g = G a and q = aᵀ G a. The data is centred, so the sum over
cluster 2 is minus the sum over cluster 1, and

    sample i is nearer to centre 1   iff   g_i > q (1/n₁ − 1/n₂) / 2
    inertia                            =   trace G − q (1/n₁ + 1/n₂)

One matrix product with the N x N matrix is a Lloyd step for all restarts of a data set, whatever the width of
the features. The sum over cluster 1 of (distance to centre 1 − distance to centre 2) is −n₁ times the distance
of the centres, so a cluster never empties unless the centres coincide.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from offline.arrays import BoolArray, Float64Array

# Lloyd's algorithm ends by itself (finitely many partitions, falling inertia); the bound is for rounding
# that could make two equally good partitions alternate. Observed: at most about 40 steps.
_MAX_STEPS = 300


def two_means(gram: Float64Array, *, restarts: int = 10, seed: int = 0) -> tuple[BoolArray, Float64Array]:
    """Partition every data set into two clusters: k-means++ seeds, `restarts` runs, the least inertia wins.

    Every data set gets the same random draws, applied to its samples in the order of their distance from
    the mean. So the result depends neither on which other data sets are in the batch, nor, ties apart, on
    the order of the samples or a rotation of the features.

    Cost: O(B · restarts · N²) a step. Memory: O(B · restarts · N) beside the input.

    Args:
        gram: (B, N, N), inner products of samples that were centred per data set.
        restarts: How many runs.
        seed: Of the draws.

    Returns:
        The membership (B, N), True for cluster 1, and the inertia (B,). Which cluster is called 1 has no meaning.
        Where all samples coincide, all are in one cluster.
    """
    member = _seeded_partition(gram, restarts, seed)
    active, of_active = np.arange(len(gram)), gram
    for _ in range(_MAX_STEPS):
        # Converged runs of an active data set are stepped too; they are fixed points and stay.
        moved = _lloyd_step(of_active, member[active])
        moving = (moved != member[active]).any(axis=(1, 2))
        member[active] = moved
        if not moving.all():
            active = active[moving]
            of_active = gram[active]
        if active.size == 0:
            break
    inertia = _inertia(gram, member)
    best = inertia.argmin(axis=1)
    row = np.arange(len(gram))
    return member[row, best], inertia[row, best]


def _seeded_partition(gram: Float64Array, restarts: int, seed: int) -> BoolArray:
    """k-means++: a uniform first seed, a second one with probability ∝ squared distance. (B, restarts, N)."""
    samples = gram.shape[1]
    # Run by run, so that more restarts add to fewer and are never worse.
    uniform = np.random.default_rng(seed).random((restarts, 2)).T
    norms = np.diagonal(gram, axis1=1, axis2=2)
    order = norms.argsort(axis=1, kind="stable")
    row = np.arange(len(gram))[:, None]

    first = order[:, (uniform[0] * samples).astype(np.intp)]
    to_first = _squared_distances(gram, norms, first)
    cumulative = np.take_along_axis(to_first, order[:, None, :], axis=2).cumsum(axis=2)
    # Strictly beyond the draw: a sample at distance 0 (the first seed and its copies) has no width to hit.
    draw = uniform[1][None, :, None] * cumulative[:, :, -1:]
    position = np.minimum((cumulative <= draw).sum(axis=2), samples - 1)
    second = order[row, position]
    return to_first < _squared_distances(gram, norms, second)


def _squared_distances(gram: Float64Array, norms: Float64Array, index: NDArray[np.intp]) -> Float64Array:
    """Squared distances of all samples from the samples at `index` (B, R): (B, R, N)."""
    row = np.arange(len(gram))[:, None]
    distances = norms[row, index][:, :, None] + norms[:, None, :] - 2.0 * gram[row, index]
    clipped: Float64Array = np.maximum(distances, 0.0)
    return clipped


def _cluster_sums(
    gram: Float64Array, member: BoolArray
) -> tuple[Float64Array, Float64Array, Float64Array, Float64Array]:
    """g (B, R, N), q (B, R), 1/n₁ and 1/n₂ (B, R) of the module's docstring; an empty cluster counts as 1."""
    indicator = member.astype(np.float64)
    g = indicator @ gram
    size = member.sum(axis=2)
    q = np.vecdot(g, indicator)
    return g, q, 1.0 / np.maximum(size, 1), 1.0 / np.maximum(gram.shape[1] - size, 1)


def _lloyd_step(gram: Float64Array, member: BoolArray) -> BoolArray:
    g, q, share_1, share_2 = _cluster_sums(gram, member)
    nearer: BoolArray = g > (0.5 * q * (share_1 - share_2))[:, :, None]
    return nearer


def _inertia(gram: Float64Array, member: BoolArray) -> Float64Array:
    _, q, share_1, share_2 = _cluster_sums(gram, member)
    trace = np.trace(gram, axis1=1, axis2=2)
    inertia: Float64Array = np.maximum(trace[:, None] - q * (share_1 + share_2), 0.0)
    return inertia
