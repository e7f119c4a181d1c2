"""K-means from Gram matrices against scikit-learn's and all partitions, and what its partition must fulfil."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

from offline.hunting.single_moves import settle, walk
from offline.hunting.two_means import inertia as inertia_of
from offline.hunting.two_means import lloyd, seeded, two_means

Array = NDArray[np.float64]


def gram_of(x: Array) -> Array:
    """(N, B, d) -> (B, N, N), centred."""
    centred = np.moveaxis(x - x.mean(axis=0), 1, 0)
    gram: Array = centred @ centred.mT
    return gram


def test_two_means_gives_sklearns_partition_of_separated_data() -> None:
    x = np.random.default_rng(5).standard_normal((50, 8, 7))
    x[:20, :, 0] += 40.0
    member, inertia = two_means(gram_of(x))
    for k in range(8):
        reference = KMeans(2, n_init=10, random_state=0).fit(x[:, k])
        agreement = (member[k] == reference.labels_.astype(bool)).mean()
        assert agreement in (0.0, 1.0)
        assert inertia[k] == pytest.approx(reference.inertia_, rel=1e-9)


@pytest.mark.parametrize(("samples", "width"), [(60, 2), (80, 16), (40, 128)])
def test_two_means_on_noise_is_as_good_as_sklearns(samples: int, width: int) -> None:
    x = np.random.default_rng(samples).standard_normal((samples, 10, width))
    _, inertia = two_means(gram_of(x))
    reference = np.array([KMeans(2, n_init=30, random_state=0).fit(x[:, k]).inertia_ for k in range(10)])
    assert (inertia <= reference * (1 + 1e-9)).all()


def test_two_means_inertia_is_that_of_its_partition_and_a_local_optimum() -> None:
    x = np.random.default_rng(8).standard_normal((31, 6, 5))
    member, inertia = two_means(gram_of(x))
    for k in range(6):
        data = x[:, k]
        centres = np.stack([data[~member[k]].mean(axis=0), data[member[k]].mean(axis=0)])
        distances = cdist(data, centres, "sqeuclidean")
        np.testing.assert_array_equal(distances.argmin(axis=1).astype(bool), member[k])
        assert inertia[k] == pytest.approx(distances.min(axis=1).sum(), rel=1e-9)


def test_the_rest_of_the_batch_changes_nothing() -> None:
    gram = gram_of(np.random.default_rng(1).standard_normal((30, 9, 4)))
    member, inertia = two_means(gram)
    for k in range(9):
        alone, its_inertia = two_means(gram[k : k + 1])
        np.testing.assert_array_equal(alone[0], member[k])
        assert its_inertia[0] == inertia[k]


def test_many_restarts_are_better_than_one() -> None:
    gram = gram_of(np.random.default_rng(2).standard_normal((60, 20, 30)))
    few, many = (two_means(gram, restarts=restarts)[1] for restarts in (1, 30))
    assert (many <= few * (1 + 1e-12)).all()
    assert (many < few * (1 - 1e-12)).any()


def test_samples_that_coincide_are_one_cluster() -> None:
    member, inertia = two_means(np.zeros((2, 6, 6)))
    assert not member.any() or member.all()
    np.testing.assert_array_equal(inertia, [0.0, 0.0])


def test_two_distinct_values_are_the_two_clusters() -> None:
    x = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 1.0])[:, None, None]
    member, inertia = two_means(gram_of(x))
    assert member[0].sum() in (1, 5)
    assert member[0, 5] != member[0, 0]
    assert inertia[0] == pytest.approx(0.0, abs=1e-12)


KINDS = ("gaussian", "heavy tails", "anisotropic", "coarse")


def noise(kind: str, seed: int, samples: int, sets: int, width: int) -> Array:
    """(N, B, d) without clusters; coarse ones have few values, so copies and ties."""
    rng = np.random.default_rng(seed)
    if kind == "heavy tails":
        return rng.standard_t(3, (samples, sets, width))
    x: Array = rng.standard_normal((samples, sets, width))
    if kind == "anisotropic":
        x /= np.sqrt(np.arange(1, width + 1))
    return np.round(x) if kind == "coarse" else x


def least_inertia(gram: Array) -> float:
    """Of all partitions of at most a dozen samples."""
    samples = len(gram)
    # The last sample is in cluster 2: which cluster is which has no meaning.
    every = (np.arange(2 ** (samples - 1))[:, None] >> np.arange(samples)) & 1 == 1
    return float(inertia_of(gram[None], every[None]).min())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("samples", "width"), [(2, 3), (3, 2), (5, 1), (8, 30), (11, 4), (12, 64)])
def test_few_samples_are_parted_as_the_best_of_all_partitions(kind: str, samples: int, width: int) -> None:
    gram = gram_of(noise(kind, 10 * samples, samples, 25, width))
    _, inertia = two_means(gram)
    least = np.array([least_inertia(one) for one in gram])
    trace = np.trace(gram, axis1=1, axis2=2)
    assert (inertia >= least - 1e-12 * trace).all()
    # No search of this kind is sure to find the best; on these sets it does.
    np.testing.assert_allclose(inertia, least, rtol=1e-9, atol=1e-12 * trace.max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("samples", "width"), [(32, 64), (90, 16)])
def test_never_worse_than_ten_runs_of_lloyds_algorithm_and_better_on_many(
    kind: str, samples: int, width: int
) -> None:
    gram = gram_of(noise(kind, samples, samples, 25, width))
    _, inertia = two_means(gram)
    ten = inertia_of(gram, lloyd(gram, seeded(gram, 10, 0), steps=300)).min(axis=1)
    assert (inertia <= ten * (1 + 1e-9)).all()
    assert (inertia < ten * (1 - 1e-9)).mean() >= 0.2


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32 - 1),
    samples=st.integers(2, 40),
    width=st.integers(1, 50),
    restarts=st.integers(1, 9),
)
def test_no_move_of_one_sample_makes_it_better(kind: str, seed: int, samples: int, width: int, restarts: int) -> None:
    x = noise(kind, seed, samples, 2, width)
    member, inertia = two_means(gram_of(x), restarts=restarts)
    for k in range(2):
        # From the features themselves, not from the Gram matrix.
        neighbours = member[k] ^ np.eye(samples, dtype=np.bool_)
        scatter = inertia_of_features(x[:, k], np.ones(samples, dtype=np.bool_))
        assert inertia[k] == pytest.approx(inertia_of_features(x[:, k], member[k]), rel=1e-9, abs=1e-11 * scatter)
        least = min(inertia_of_features(x[:, k], one) for one in neighbours)
        assert least >= inertia[k] - 1e-11 * scatter


def inertia_of_features(x: Array, member: NDArray[np.bool_]) -> float:
    """The definition: squared distances from the mean of the own cluster."""
    return sum(float(np.square(part - part.mean(axis=0)).sum()) for part in (x[member], x[~member]) if len(part))


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32 - 1),
    samples=st.integers(2, 30),
    moves=st.integers(0, 60),
    tenure=st.integers(1, 40),
)
def test_a_walk_is_never_worse_than_its_start_and_longer_ones_never_than_shorter(
    kind: str, seed: int, samples: int, moves: int, tenure: int
) -> None:
    gram = gram_of(noise(kind, seed, samples, 3, 5))
    start = np.random.default_rng(seed).random((3, 4, samples)) < 0.4
    walked = [inertia_of(gram, walk(gram, start, moves=n, tenure=tenure)) for n in (0, moves, moves + 9)]
    small = 1e-12 * np.trace(gram, axis1=1, axis2=2)[:, None]
    np.testing.assert_array_equal(walk(gram, start, moves=0, tenure=tenure), start)
    assert (walked[1] <= walked[0] + small).all()
    assert (walked[2] <= walked[1] + small).all()
    assert (inertia_of(gram, settle(gram, start)) <= walked[0] + small).all()


def test_a_walks_first_move_is_the_best_of_all() -> None:
    gram = gram_of(noise("heavy tails", 4, 15, 6, 7))
    start = np.random.default_rng(4).random((6, 3, 15)) < 0.5
    before = inertia_of(gram, start)
    after = inertia_of(gram, walk(gram, start, moves=1, tenure=3))
    neighbours = start[:, :, None] ^ np.eye(15, dtype=np.bool_)
    best = np.stack([inertia_of(gram, neighbours[:, walks]).min(axis=1) for walks in range(3)], axis=1)
    np.testing.assert_allclose(after, np.minimum(before, best), rtol=1e-12)


def test_the_order_of_the_batch_changes_nothing() -> None:
    gram = gram_of(noise("heavy tails", 3, 50, 12, 20))
    member, inertia = two_means(gram)
    order = np.random.default_rng(3).permutation(12)
    shuffled, its_inertia = two_means(gram[order])
    np.testing.assert_array_equal(shuffled, member[order])
    np.testing.assert_array_equal(its_inertia, inertia[order])


def test_the_same_seed_gives_the_same_partition() -> None:
    gram = gram_of(noise("gaussian", 9, 40, 5, 60))
    np.testing.assert_array_equal(two_means(gram, seed=3)[0], two_means(gram, seed=3)[0])


def test_constant_features_change_nothing() -> None:
    x = noise("gaussian", 6, 30, 4, 8)
    constant = np.concatenate([x, np.full((30, 4, 3), 7.0)], axis=2)
    np.testing.assert_array_equal(two_means(gram_of(constant))[0], two_means(gram_of(x))[0])


def test_copies_stay_together() -> None:
    # Every sample three times: parting copies never pays, the cluster that one of them prefers the others do too.
    x = np.repeat(noise("gaussian", 7, 12, 10, 6), 3, axis=0)
    member, _ = two_means(gram_of(x))
    by_sample = member.reshape(10, 12, 3)
    np.testing.assert_array_equal(by_sample, np.repeat(by_sample[:, :, :1], 3, axis=2))


def test_two_samples_are_two_clusters() -> None:
    member, inertia = two_means(gram_of(noise("gaussian", 8, 2, 5, 4)))
    assert (member.sum(axis=1) == 1).all()
    np.testing.assert_allclose(inertia, 0.0, atol=1e-12)


def test_values_that_are_no_numbers_end_too() -> None:
    # Callers refuse what comes out (`Saliency`); a search that never ended could not be refused.
    _, inertia = two_means(np.full((2, 9, 9), np.nan))
    assert np.isnan(inertia).all()
