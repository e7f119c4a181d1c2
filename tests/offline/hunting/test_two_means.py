"""K-means from Gram matrices against scikit-learn's, and what its partition must fulfil."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

from offline.hunting.two_means import two_means

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
    reference = [KMeans(2, n_init=10, random_state=0).fit(x[:, k]).inertia_ for k in range(10)]
    # Ten local optima of pure noise differ by luck, for either; on average neither is better.
    assert (inertia <= 1.02 * np.array(reference)).all()
    assert inertia.sum() <= 1.005 * np.sum(reference)


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


def test_more_restarts_are_never_worse() -> None:
    gram = gram_of(np.random.default_rng(2).standard_normal((60, 20, 30)))
    few, many = (two_means(gram, restarts=restarts)[1] for restarts in (2, 30))
    assert (many <= few * (1 + 1e-12)).all()
    assert (many < few).any()


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
