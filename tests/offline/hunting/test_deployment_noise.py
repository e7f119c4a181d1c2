"""Noise of a deployment: measured without shifts, counted as a covariance, and decisive where a head hardly moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform
from sklearn.covariance import LedoitWolf

from edge_runtime.errors import FeatureError
from models.heads import HeadRef
from offline.hunting.deployment_noise import DeploymentNoise, Survival
from offline.hunting.hunt import Selection, hunt
from offline.hunting.saliency import _Noise, lda, mmd, nmi, saliency, symmetric_kl

Array = NDArray[np.float64]
N, L, H, D, SEGMENTS = 40, 2, 3, 6, 12
LABELS = np.arange(N) % 2 == 0


def some_features(seed: int = 0) -> Array:
    """(N, 1, L, H, D), each class with scatter of its own and means that differ a little."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, 1, L, H, D)) * rng.uniform(0.5, 2.0, (L, H, D)) + 3.0
    x[LABELS] = 1.2 * x[LABELS] + 0.4
    return x


def some_errors(seed: int = 1, scale: float = 0.5) -> Array:
    rng = np.random.default_rng(seed)
    return scale * rng.standard_normal((SEGMENTS, L, H, D)) * rng.uniform(0.2, 2.0, D)


def covariance_of(errors: Array) -> Array:
    """By scikit-learn: shrunk, with divisor n - 1; (n, d) to (d, d)."""
    centred = errors - errors.mean(axis=0)
    found: Array = LedoitWolf(assume_centered=True).fit(centred).covariance_
    return found * len(errors) / (len(errors) - 1)


def within(x: Array) -> Array:
    centred = np.concatenate([x[LABELS] - x[LABELS].mean(axis=0), x[~LABELS] - x[~LABELS].mean(axis=0)])
    found: Array = LedoitWolf(assume_centered=True).fit(centred).covariance_
    return found


def test_lda_is_the_formula_with_the_noise_in_the_covariance_within_the_classes() -> None:
    x, errors = some_features()[:, 0].reshape(N, L * H, D), some_errors().reshape(SEGMENTS, L * H, D)
    found = lda(x, LABELS, errors)
    for k in range(L * H):
        delta = x[LABELS, k].mean(axis=0) - x[~LABELS, k].mean(axis=0)
        wanted = delta @ np.linalg.solve(within(x[:, k]) + covariance_of(errors[:, k]), delta)
        assert found[k] == pytest.approx(wanted, rel=1e-6)
    assert (found < lda(x, LABELS)).all()


def test_kl_is_that_of_the_two_gaussians_with_noise_on_them() -> None:
    x, errors = some_features()[:, 0].reshape(N, L * H, D), some_errors().reshape(SEGMENTS, L * H, D)
    found = symmetric_kl(x, LABELS, errors)
    for k in range(L * H):
        (mean_a, a), (mean_n, n) = (
            (x[rows, k].mean(axis=0), LedoitWolf().fit(x[rows, k]).covariance_ + covariance_of(errors[:, k]))
            for rows in (LABELS, ~LABELS)
        )
        delta = mean_a - mean_n
        inverse = np.linalg.inv(a) + np.linalg.inv(n)
        traces = np.trace(np.linalg.solve(n, a)) + np.trace(np.linalg.solve(a, n))
        assert found[k] == pytest.approx(0.25 * (traces - 2 * D + delta @ inverse @ delta), rel=1e-6)


def test_mmd_sees_distances_as_they_are_expected_with_the_noise() -> None:
    x, errors = some_features()[:, 0].reshape(N, L * H, D), some_errors().reshape(SEGMENTS, L * H, D)
    found = mmd(x, LABELS, errors)
    weights = np.where(LABELS, 1 / LABELS.sum(), -1 / (~LABELS).sum())
    for k in range(L * H):
        distances = pdist(x[:, k], "sqeuclidean") + 2 * np.trace(covariance_of(errors[:, k]))
        kernel = np.exp(-squareform(distances) / (2 * np.median(distances)))
        assert found[k] == pytest.approx(weights @ kernel @ weights, rel=1e-6)


def test_nmi_falls_to_chance_where_noise_drowns_the_clusters() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((N, 1, D)) + 10.0 * LABELS[:, None, None]
    assert nmi(x, LABELS)[0] == pytest.approx(1.0)
    errors = rng.standard_normal((SEGMENTS, 1, D))
    assert nmi(x, LABELS, 0.1 * errors)[0] == pytest.approx(1.0)
    assert nmi(x, LABELS, 300.0 * errors)[0] < 0.2


def test_no_noise_changes_no_bit() -> None:
    x = some_features().astype(np.float32)
    plain, silent = saliency(x, LABELS), saliency(x, LABELS, errors=np.zeros((SEGMENTS, L, H, D)))
    for (name, one), (_, other) in zip(plain.items(), silent.items(), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


def test_neither_chunks_nor_workers_change_a_bit_of_it() -> None:
    x, errors = some_features(), some_errors()
    whole, single = (
        saliency(x, LABELS, errors=errors, workers=workers, chunk_bytes=size)
        for workers, size in ((1, 2**30), (3, 1))
    )
    for (name, one), (_, other) in zip(whole.items(), single.items(), strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.mark.parametrize("shape", [(1, L, H, D), (SEGMENTS, L, H + 1, D), (SEGMENTS, L, D)])
def test_errors_of_other_heads_or_of_one_segment_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(FeatureError, match="at least 2 segments"):
        saliency(some_features(), LABELS, errors=np.zeros(shape))


# ---- what is measured


def test_a_shift_of_all_segments_is_no_noise() -> None:
    rng = np.random.default_rng(0)
    exact, shift = rng.standard_normal((SEGMENTS, L, H, D)), rng.standard_normal((L, H, D))
    noise = DeploymentNoise.of(exact, exact + 100 * shift)
    assert noise.share.max() < 1e-12
    np.testing.assert_array_equal(DeploymentNoise.of(exact, exact).errors, 0.0)


def test_the_share_is_the_noise_over_the_spread() -> None:
    rng = np.random.default_rng(0)
    exact, errors = rng.standard_normal((2000, L, H, D)), rng.standard_normal((2000, L, H, D))
    scale = np.array([[0.01, 0.1, 1.0], [0.0, 0.5, 2.0]])
    found = DeploymentNoise.of(exact * 3.0, exact * 3.0 + errors * 3.0 * scale[..., None]).share
    np.testing.assert_allclose(found, scale, rtol=0.05)


def test_heads_that_are_constant_or_not_finite_have_a_share_all_the_same() -> None:
    exact = some_errors()
    exact[:, 0, 0] = 7.0
    exact[:, 0, 1] = 7.0
    deployed = exact.copy()
    deployed[:, 0, 1] += some_errors(5)[:, 0, 1]
    deployed[3, 1, 2, 0] = np.inf
    noise = DeploymentNoise.of(exact, deployed)
    assert noise.share[0, 0] == 0.0
    assert noise.share[0, 1] == np.inf
    assert noise.share[1, 2] == np.inf
    assert np.isfinite(noise.errors[:, 0]).all()


def test_features_that_cannot_be_compared_are_refused() -> None:
    x = some_errors()
    for exact, deployed in ((x, x[:, :1]), (x[:1], x[:1]), (x[0], x[0])):
        with pytest.raises(FeatureError, match="cannot be compared"):
            DeploymentNoise.of(exact, deployed)
    with pytest.raises(FeatureError, match="not all finite"):
        DeploymentNoise.of(np.full_like(x, np.nan), x)


# ---- what it changes


def planted() -> Array:
    """Head (0, 1) tells the classes perfectly and hardly moves; (1, 2) tells them modestly and moves."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, 2, L, H, D))
    x[:, :, 0, 1] = 50.0 + 1e-3 * (0.1 * x[:, :, 0, 1] + 3.0 * LABELS[:, None, None])
    x[:, :, 1, 2] += 1.5 * LABELS[:, None, None]
    return x


def test_a_head_that_hardly_moves_wins_only_where_it_is_not_rounded_away() -> None:
    x, exact = planted(), np.random.default_rng(1).standard_normal((SEGMENTS, L, H, D))
    exact[:, 0, 1] = 50.0 + 1e-3 * exact[:, 0, 1]
    # The same absolute noise on every head: 1 % of the spread of most, ten times that of the one.
    noise = DeploymentNoise.of(exact, exact + some_errors(2, 0.01))
    assert noise.share[0, 1] > 5
    assert noise.share[1, 2] < 0.05
    selection = Selection(top_k=1)
    without = hunt(x, LABELS, ("coarse", "plain"), selection)
    assert without.experts[0].ref == HeadRef(0, 1)
    found = hunt(x, LABELS, ("coarse", "plain"), replace(selection, noise=noise))
    assert found.experts[0].ref == HeadRef(1, 2)
    assert found.rss[0, 1] < 0.5 * without.rss[0, 1]


def test_a_head_that_gives_no_numbers_once_deployed_is_worth_nothing() -> None:
    x, exact = planted(), some_errors()
    deployed = exact.copy()
    deployed[0, 0, 1, 0] = np.nan
    noise = DeploymentNoise.of(exact, deployed)
    found = hunt(x, LABELS, ("coarse", "plain"), Selection(top_k=1, noise=noise))
    assert found.experts[0].ref == HeadRef(1, 2)
    assert all((metric[:, 0, 1] == 0).all() for _, metric in found.saliency.items())


def test_a_hunt_in_fewer_layers_takes_the_noise_of_those() -> None:
    x, noise = some_features(), DeploymentNoise.of(some_errors(7), some_errors(7) + some_errors(8))
    shallow = hunt(x, LABELS, ("coarse",), Selection(top_k=2, max_layer=0, noise=noise))
    whole = hunt(x, LABELS, ("coarse",), Selection(top_k=2, noise=noise))
    np.testing.assert_array_equal(shallow.rss, whole.up_to(0).rss)


def test_what_changed_is_said_in_sentences() -> None:
    share = np.array([[0.01, 0.3, np.inf], [0.06, 0.02, 7.0]])
    survival = Survival("int8", share, (HeadRef(0, 1), HeadRef(1, 1), HeadRef(0, 2)), 12, "coarse")
    said = survival.sentences([HeadRef(1, 1), HeadRef(0, 0), HeadRef(1, 0)])
    assert said[0].startswith("int8 moves 4 of 6 heads by more than 5% of their spread")
    assert said[1:] == [
        "(0,1), noise 30.0% of its spread, would be an expert without counting it; "
        "(0,0), noise 1.0% of its spread, is one in its place.",
        "(0,2), noise all of its spread, would be an expert without counting it; "
        "(1,0), noise 6.0% of its spread, is one in its place.",
    ]
    assert survival.sentences(survival.without)[1:] == [
        "The experts are those that the hunt finds without counting it."
    ]


def test_noise_leaves_samples_centred_for_k_means() -> None:
    x = np.random.default_rng(0).standard_normal((3, 20, 4))
    x -= x.mean(axis=1, keepdims=True)
    errors = np.random.default_rng(1).standard_normal((6, 3, 4))
    noisy = _Noise.of(errors, np.ones(3)).on(x)
    np.testing.assert_allclose(noisy.mean(axis=1), 0, atol=1e-12)
    assert np.abs(noisy - x).max() > 0.1
