"""Partitions into two clusters, improved by moving one sample at a time: a tabu search from Gram matrices.

Lloyd's algorithm stops where no sample is nearer to the other centre. Moving a sample moves both centres, so the
sample itself may still be better off on the other side, and the wider the features are beside the number of
samples, the more often (Hartigan and Wong 1979). What a move changes is exact and cheap. With the words of
`offline.hunting.two_means`, σ_i = 1 in cluster 1 and −1 in cluster 2:

    the squared length of the sum of cluster 1     q' = q + e_i,   e_i = G_ii − 2 σ_i g_i
    inertia                                        trace G − q' N / (n₁' n₂')

A tabu search (Glover 1989) makes the best move of all, also where it is for the worse, but takes none of its
last few moves back; so it leaves local optima, and the best partition on the way is what counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from offline.arrays import BoolArray, Float64Array

# A gain below this share of the trace is rounding: without it, two equally good partitions could alternate for ever.
_ROUNDING = 1e-12


def walk(gram: Float64Array, member: BoolArray, *, moves: int, tenure: int) -> BoolArray:
    """Walk from each partition by single moves and give the best partition on the way, the start included.

    Every walk is computed by itself: the others in the batch change nothing.

    Cost: O(B R N) a move. Memory: O(B N² + B R (N + moves)).

    Args:
        gram: (B, N, N), inner products of samples that were centred per data set.
        member: (B, R, N), R partitions of each data set, True for cluster 1.
        moves: How many moves each walk makes.
        tenure: For how many moves a sample stays where it was put; fewer where there are no more samples.

    Returns:
        (B, R, N).
    """
    sets, walks, samples = member.shape
    share = _shares(samples)
    sums, squared = _sums(gram, member)
    norms = np.diagonal(gram, axis1=1, axis2=2)[:, None, :]
    # From here on the walks of all data sets lie below each other, (W, N) with W = B R.
    sign = np.where(member, 1.0, -1.0)
    # u_i = σ_i (q + e_i): one addition of σ and one product then compare the values after all moves.
    u = (sign * (squared[:, :, None] + norms) - 2.0 * sums).reshape(-1, samples)
    sign = sign.reshape(-1, samples)
    doubled = (2.0 * gram).reshape(-1, samples)
    q = squared.ravel()
    size = member.sum(axis=2).ravel()
    first_row = np.repeat(np.arange(sets) * samples, walks)
    first_cell = np.arange(sets * walks) * samples
    flat_u, flat_sign = u.reshape(-1), sign.reshape(-1)
    value, row = np.empty_like(u), np.empty_like(u)
    flat_value = value.reshape(-1)

    tenure = min(tenure, samples - 1)
    moved = np.empty((moves, sets * walks), dtype=np.intp)
    best, best_after = q * share[size], np.zeros(sets * walks, dtype=np.intp)
    for move in range(moves):
        leaving, joining = share[size - 1], share[size + 1]
        both = leaving + joining
        # (q + e_i) (leaving or joining) is this, up to a factor that all samples of a walk have in common.
        np.add(sign, ((leaving - joining) / np.where(both > 0.0, both, 1.0))[:, None], out=value)
        value *= u
        flat_value[moved[max(0, move - tenure) : move]] = -np.inf
        sample = value.argmax(axis=1)
        cell = moved[move]
        np.add(first_cell, sample, out=cell)

        side = flat_sign[cell]
        change = side * flat_u[cell] - q
        np.take(doubled, first_row + sample, axis=0, out=row, mode="clip")
        row *= side[:, None]
        u += row
        np.multiply(sign, change[:, None], out=row)
        u += row
        flat_u[cell] = -side * q
        flat_sign[cell] = -side
        q = q + change
        size = size - side.astype(np.intp)

        reached = q * share[size]
        better = reached > best
        best[better] = reached[better]
        best_after[better] = move + 1
    return _retraced(member, moved, best_after)


def settle(gram: Float64Array, member: BoolArray) -> BoolArray:
    """Make the best single move of each partition for as long as it gains; (B, R, N) to (B, R, N).

    No move of one sample makes the result better by more than rounding, so Lloyd's algorithm would not change it
    either.
    """
    samples = member.shape[2]
    share = _shares(samples)
    settled = member.copy()
    sums, squared = _sums(gram, member)
    norms = np.diagonal(gram, axis1=1, axis2=2)
    least_gain = _ROUNDING * norms.sum(axis=1)
    of_set, of_walk = (index.ravel() for index in np.indices(member.shape[:2]))
    g, q, mine = sums[of_set, of_walk], squared[of_set, of_walk], member[of_set, of_walk]
    while True:
        size = mine.sum(axis=1)
        reached = q[:, None] + norms[of_set] + np.where(mine, -2.0, 2.0) * g
        value = reached * np.where(mine, share[size - 1][:, None], share[size + 1][:, None])
        row = np.arange(len(value))
        sample = value.argmax(axis=1)
        gains = value[row, sample] > q * share[size] + least_gain[of_set]
        if not gains.any():
            return settled
        of_set, of_walk, sample, mine = of_set[gains], of_walk[gains], sample[gains], mine[gains]
        row = np.arange(len(sample))
        q = reached[gains][row, sample]
        side = np.where(mine[row, sample], -1.0, 1.0)
        g = g[gains] + side[:, None] * gram[of_set, sample]
        mine[row, sample] ^= True
        settled[of_set, of_walk] = mine


def _shares(samples: int) -> Float64Array:
    """N / (n₁ n₂) by n₁; 0 where a cluster is empty, and for n₁ = −1 and N + 1, which no cluster has."""
    size = np.arange(samples + 2)
    product = size * (samples - size)
    shares: Float64Array = np.where(product > 0, samples / np.maximum(product, 1), 0.0)
    return shares


def _sums(gram: Float64Array, member: BoolArray) -> tuple[Float64Array, Float64Array]:
    """g (B, R, N) and q (B, R)."""
    indicator = member.astype(np.float64)
    sums = indicator @ gram
    return sums, np.vecdot(sums, indicator)


def _retraced(member: BoolArray, moved: NDArray[np.intp], until: NDArray[np.intp]) -> BoolArray:
    """The partitions after the first `until` moves of each walk."""
    made = moved[np.arange(len(moved))[:, None] < until]
    odd = np.bincount(made, minlength=member.size) % 2 == 1
    retraced: BoolArray = member ^ odd.reshape(member.shape)
    return retraced
