"""K-means with two clusters on many data sets at once, from their Gram matrices.

With centred data and K = 2, everything Lloyd's algorithm needs is in the Gram matrix G = X Xᵀ. Let a mark
the samples of cluster 1, n₁ and n₂ be the sizes, g = G a and q = aᵀ G a. The data is centred, so the sum over
cluster 2 is minus the sum over cluster 1, and

    sample i is nearer to centre 1   iff   g_i > q (1/n₁ − 1/n₂) / 2
    inertia                            =   trace G − q (1/n₁ + 1/n₂)

One matrix product with the N x N matrix is a Lloyd step for all restarts of a data set, whatever the width of
the features. The sum over cluster 1 of (distance to centre 1 − distance to centre 2) is −n₁ times the distance
of the centres, so a cluster never empties unless the centres coincide.

Where there are no two clusters, Lloyd's algorithm ends in one of very many partitions that are almost equally good,
and what an analysis sees of it is luck. So its runs are only where `offline.hunting.single_moves` sets out from.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from offline.arrays import BoolArray, Float64Array
from offline.hunting.single_moves import settle, walk

# The walks were measured to find as good partitions from runs of Lloyd's algorithm that are cut short as from such
# that have ended, and moves cost less than its steps.
_LLOYD_STEPS = 2
# Enough to come from the start into good partitions and to look around there, at the price of ten runs of Lloyd's
# algorithm to the end. Long tenures were measured to keep a walk out of the best ones.
_MOVES, _MOVES_A_SAMPLE = 20, 0.75
_TENURE = 8


def two_means(gram: Float64Array, *, restarts: int = 8, seed: int = 0) -> tuple[BoolArray, Float64Array]:
    """Partition every data set into two clusters of the least inertia that a search finds.

    Each of `restarts` runs begins with a k-means++ partition, takes two steps of Lloyd's algorithm and goes on by
    single moves (`walk`). In the best partition of all runs samples are then moved until no single move makes it
    better. The least inertia possible is not guaranteed.

    Every data set gets the same random draws, applied to its samples in the order of their distance from
    the mean. So the result depends neither on which other data sets are in the batch, nor, ties apart, on
    the order of the samples or a rotation of the features.

    Cost: O(B · restarts · N²). Memory: O(B · (N² + restarts · N)) beside the input.

    Args:
        gram: (B, N, N), inner products of samples that were centred per data set.
        restarts: How many runs.
        seed: Of the draws.

    Returns:
        The membership (B, N), True for cluster 1, and the inertia (B,). Which cluster is called 1 has no meaning.
        Where all samples coincide, all are in one cluster.
    """
    member = lloyd(gram, seeded(gram, restarts, seed), steps=_LLOYD_STEPS)
    moves = _MOVES + int(_MOVES_A_SAMPLE * gram.shape[1])
    member = walk(gram, member, moves=moves, tenure=_TENURE)
    best = inertia(gram, member).argmin(axis=1)
    member = settle(gram, member[np.arange(len(gram)), best][:, None])
    return member[:, 0], inertia(gram, member)[:, 0]


def lloyd(gram: Float64Array, member: BoolArray, *, steps: int) -> BoolArray:
    """Take steps of Lloyd's algorithm from each partition until none changes, `steps` at most; (B, R, N) twice."""
    member = member.copy()
    active, of_active = np.arange(len(gram)), gram
    for _ in range(steps):
        # Converged runs of an active data set are stepped too; they are fixed points and stay.
        moved = _lloyd_step(of_active, member[active])
        moving = (moved != member[active]).any(axis=(1, 2))
        member[active] = moved
        if not moving.all():
            active = active[moving]
            of_active = gram[active]
        if active.size == 0:
            break
    return member


def seeded(gram: Float64Array, restarts: int, seed: int) -> BoolArray:
    """k-means++: a uniform first seed, a second one with probability ∝ squared distance. (B, restarts, N)."""
    samples = gram.shape[1]
    # Run by run, so that more restarts add to fewer.
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


def inertia(gram: Float64Array, member: BoolArray) -> Float64Array:
    """The sum of squared distances to the centres of the clusters, (B, R)."""
    _, q, share_1, share_2 = _cluster_sums(gram, member)
    trace = np.trace(gram, axis1=1, axis2=2)
    within: Float64Array = np.maximum(trace[:, None] - q * (share_1 + share_2), 0.0)
    return within
