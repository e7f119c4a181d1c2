"""Saliency against scikit-learn, SciPy and closed forms, and what it must not depend on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist
from scipy.stats import ortho_group
from sklearn.cluster import KMeans
from sklearn.covariance import LedoitWolf
from sklearn.metrics import normalized_mutual_info_score
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from edge_runtime.errors import FeatureError
from offline.hunting.saliency import (
    VARIANCE_FLOOR,
    Saliency,
    combine,
    lda,
    mmd,
    nmi,
    normalise,
    robust_saliency,
    saliency,
    symmetric_kl,
)

Array = NDArray[np.float64]
Metric = Callable[[Array, NDArray[np.bool_]], Array]
ALL: list[Metric] = [lda, symmetric_kl, mmd, nmi]


def gaussian_heads(
    seed: int, samples: int, heads: int, width: int, shift: float = 1.0
) -> tuple[Array, NDArray[np.bool_]]:
    """Correlated Gaussian features (N, B, d) with an offset, the abnormal class moved and stretched; labels."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(samples, dtype=np.bool_)
    labels[rng.choice(samples, max(2, samples * 2 // 5), replace=False)] = True
    mixing = rng.standard_normal((heads, width, width)) / np.sqrt(width)
    x = np.einsum("nbi,bij->nbj", rng.standard_normal((samples, heads, width)), mixing)
    direction = rng.standard_normal((heads, width)) / np.sqrt(width)
    x = np.where(labels[:, None, None], 1.3 * x + shift * direction, x) + 5.0
    return x, labels


def lda_oracle(x: Array, labels: NDArray[np.bool_]) -> float:
    means = {c: x[labels == c].mean(axis=0) for c in (False, True)}
    within = np.concatenate([x[labels == c] - means[c] for c in (False, True)])
    covariance = LedoitWolf(assume_centered=True).fit(within).covariance_
    delta = means[True] - means[False]
    return float(delta @ np.linalg.solve(covariance, delta))


def kl_of_gaussians(mean_p: Array, cov_p: Array, mean_q: Array, cov_q: Array) -> float:
    delta = mean_q - mean_p
    _, logdet_p = np.linalg.slogdet(cov_p)
    _, logdet_q = np.linalg.slogdet(cov_q)
    trace = np.trace(np.linalg.solve(cov_q, cov_p))
    return float(0.5 * (trace + delta @ np.linalg.solve(cov_q, delta) - len(delta) + logdet_q - logdet_p))


def kl_oracle(x: Array, labels: NDArray[np.bool_]) -> float:
    a, n = (LedoitWolf().fit(x[labels == c]) for c in (True, False))
    there = kl_of_gaussians(a.location_, a.covariance_, n.location_, n.covariance_)
    back = kl_of_gaussians(n.location_, n.covariance_, a.location_, a.covariance_)
    return 0.5 * (there + back)


def mmd_oracle(x: Array, labels: NDArray[np.bool_]) -> float:
    pairs = pdist(x, "sqeuclidean")
    gamma = 1.0 / (2.0 * np.median(pairs[pairs > 0]))
    a, n = x[labels], x[~labels]
    return float(
        np.exp(-gamma * cdist(a, a, "sqeuclidean")).mean()
        + np.exp(-gamma * cdist(n, n, "sqeuclidean")).mean()
        - 2 * np.exp(-gamma * cdist(a, n, "sqeuclidean")).mean()
    )


def two_blobs(seed: int, samples: int, heads: int, width: int) -> tuple[Array, NDArray[np.bool_]]:
    """Two well separated clusters per head, whose membership is only partly that of the labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(samples) % 2 == 0
    cluster = np.where(rng.random((samples, heads)) < 0.8, labels[:, None], ~labels[:, None])
    x = rng.standard_normal((samples, heads, width))
    x[..., 0] += 40.0 * cluster
    return x, labels


@pytest.mark.parametrize(("samples", "width"), [(40, 6), (12, 64), (8, 200), (300, 3), (30, 1), (8, 2)], ids=str)
@pytest.mark.parametrize(("metric", "oracle"), [(lda, lda_oracle), (symmetric_kl, kl_oracle), (mmd, mmd_oracle)])
def test_metric_equals_the_library_head_by_head(
    metric: Metric, oracle: Callable[[Array, NDArray[np.bool_]], float], samples: int, width: int
) -> None:
    x, labels = gaussian_heads(samples + width, samples, 5, width)
    expected = [oracle(x[:, k], labels) for k in range(5)]
    np.testing.assert_allclose(metric(x, labels), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("samples", "width"), [(40, 5), (14, 60), (9, 1)])
def test_nmi_equals_sklearn_where_the_clusters_are_clear(samples: int, width: int) -> None:
    x, labels = two_blobs(samples, samples, 6, width)
    expected = [
        normalized_mutual_info_score(
            labels,
            KMeans(2, n_init=10, random_state=0).fit_predict(x[:, k]),
            average_method="geometric",
        )
        for k in range(6)
    ]
    np.testing.assert_allclose(nmi(x, labels), expected, atol=1e-9)


def test_lda_and_kl_of_isotropic_gaussians_approach_the_closed_form() -> None:
    # Unit covariance in d dimensions, means apart by D: LDA is D²; with scale s on the abnormal class,
    # the symmetric KL is ¼ [d (s² + 1/s² − 2) + D² (1 + 1/s²)].
    rng = np.random.default_rng(3)
    samples, width, distance, s = 40_000, 4, 3.0, 2.0
    labels = np.arange(samples) % 2 == 0
    x = rng.standard_normal((samples, width))
    same, stretched = x.copy(), x.copy()
    same[labels, 0] += distance
    stretched[labels] *= s
    stretched[labels, 0] += distance
    # The O(N²) metrics are not called; these two are linear in N.
    assert lda(same[:, None], labels)[0] == pytest.approx(distance**2, rel=0.02)
    closed = 0.25 * (width * (s**2 + 1 / s**2 - 2) + distance**2 * (1 + 1 / s**2))
    assert symmetric_kl(stretched[:, None], labels)[0] == pytest.approx(closed, rel=0.03)


def test_mmd_of_two_points_has_its_closed_form() -> None:
    # Every class sits on one point: one non-zero distance, γ is half its inverse, the kernel there e^-½.
    x = np.repeat([[0.0, 0.0], [3.0, 4.0]], 3, axis=0)[:, None]
    labels = np.arange(6) >= 3
    assert mmd(x, labels)[0] == pytest.approx(2 - 2 * np.exp(-0.5), rel=1e-12)


def test_copies_of_a_sample_do_not_pull_the_bandwidth_down() -> None:
    x, labels = gaussian_heads(11, 24, 3, 40)
    copied = np.concatenate([x, x, x])
    tripled = np.tile(labels, 3)
    expected = [mmd_oracle(copied[:, k], tripled) for k in range(3)]
    np.testing.assert_allclose(mmd(copied, tripled), expected, rtol=1e-9)


# ---- what the metrics must not depend on


@given(seed=st.integers(0, 10_000), samples=st.integers(6, 40), width=st.integers(2, 20))
@settings(max_examples=25, deadline=None)
def test_invariances(seed: int, samples: int, width: int) -> None:
    x, labels = gaussian_heads(seed, samples, 3, width)
    rng = np.random.default_rng(seed)
    order = rng.permutation(samples)
    rotation = ortho_group.rvs(width, random_state=seed)
    for metric in ALL:
        value = metric(x, labels)
        same = {
            "order of the samples": metric(x[order], labels[order]),
            "order of the heads": metric(x[:, ::-1], labels)[::-1],
            "names of the classes": metric(x, ~labels),
            "shift and scale": metric(1e-3 * x - 7.0, labels),
            "rotation": metric(x @ rotation, labels),
        }
        for change, other in same.items():
            np.testing.assert_allclose(other, value, rtol=1e-6, atol=1e-9, err_msg=f"{metric} {change}")


@given(seed=st.integers(0, 10_000), samples=st.integers(4, 30), width=st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_bounds(seed: int, samples: int, width: int) -> None:
    x, labels = gaussian_heads(seed, samples, 4, width, shift=float(seed % 5))
    assert (lda(x, labels) >= 0).all()
    assert (symmetric_kl(x, labels) >= 0).all()
    assert ((mmd(x, labels) >= 0) & (mmd(x, labels) <= 2)).all()
    assert ((nmi(x, labels) >= 0) & (nmi(x, labels) <= 1)).all()


def some_features(seed: int = 0, shape: tuple[int, ...] = (20, 2, 3, 5, 24)) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def test_neither_chunks_nor_threads_nor_place_change_a_bit() -> None:
    features, labels = some_features(), np.arange(20) % 3 == 0
    features[:, :, 2, 4] = features[:, :, 0, 1]  # one head twice
    whole = saliency(features, labels, workers=1)
    tiny = saliency(features, labels, workers=3, chunk_bytes=1)
    odd = saliency(np.asfortranarray(features), labels, workers=2, chunk_bytes=200_000)
    with threadpool_limits(limits=2):
        threaded = saliency(features, labels)
    for (name, expected), *others in zip(whole.items(), tiny.items(), odd.items(), threaded.items(), strict=True):
        for _, other in others:
            np.testing.assert_array_equal(other, expected, err_msg=name)
        np.testing.assert_array_equal(expected[:, 2, 4], expected[:, 0, 1], err_msg=name)


def test_saliency_is_the_four_metrics_prompt_by_prompt_and_reports_progress() -> None:
    features, labels = some_features(4), np.arange(20) % 2 == 0
    steps: list[tuple[int, int]] = []
    raw = saliency(features, labels, progress=lambda done, total: steps.append((done, total)), chunk_bytes=1)
    for metric, values in zip(ALL, (raw.lda, raw.kl, raw.mmd, raw.nmi), strict=True):
        for m in range(2):
            flat = features[:, m].reshape(20, 15, 24)
            np.testing.assert_allclose(values[m].ravel(), metric(flat.astype(np.float64), labels), rtol=1e-9)
    assert steps == [(done, 30) for done in range(1, 31)]


# ---- degenerate input


def test_a_constant_head_has_no_saliency() -> None:
    for value in (0.0, 0.1, -3e5):
        x = np.full((9, 2, 7), value)
        for metric in ALL:
            np.testing.assert_array_equal(metric(x, np.arange(9) < 4), [0.0, 0.0])


@pytest.mark.parametrize("samples", [8, 50])
def test_a_constant_feature_is_as_good_as_what_the_library_makes_of_it(samples: int) -> None:
    x, labels = gaussian_heads(2, samples, 3, 10)
    x[:, :, 4] = 1234.567
    for metric, oracle in ((lda, lda_oracle), (symmetric_kl, kl_oracle), (mmd, mmd_oracle)):
        expected = [oracle(x[:, k], labels) for k in range(3)]
        np.testing.assert_allclose(metric(x, labels), expected, rtol=1e-6)
    assert np.isfinite(nmi(x, labels)).all()


def test_classes_without_scatter_are_far_apart_but_not_infinitely() -> None:
    labels = np.arange(8) < 4
    x = np.where(labels[:, None, None], 2.0, 1.0) * np.ones((8, 1, 5))
    # Mean variance 1 after scaling, means 2 apart in each of 5 features, variance at the floor.
    far = 4 * 5 / VARIANCE_FLOOR
    assert lda(x, labels)[0] == pytest.approx(far, rel=1e-6)
    assert symmetric_kl(x, labels)[0] == pytest.approx(far / 2, rel=1e-6)
    assert nmi(x, labels)[0] == pytest.approx(1.0)


def test_one_class_without_scatter_is_finite() -> None:
    x, labels = gaussian_heads(6, 20, 2, 30)
    x[labels] = x[labels][:1]
    for metric in ALL:
        value = metric(x, labels)
        assert np.isfinite(value).all()
        assert (value > 0).all()


def test_a_class_of_two_is_finite() -> None:
    x, _ = gaussian_heads(9, 12, 3, 20)
    labels = np.arange(12) < 2
    for metric in ALL:
        assert np.isfinite(metric(x, labels)).all()
    np.testing.assert_allclose(lda(x, labels), [lda_oracle(x[:, k], labels) for k in range(3)], rtol=1e-6)


def test_extreme_scales_of_float32_are_finite_and_change_nothing() -> None:
    features, labels = some_features(7), np.arange(20) % 2 == 0
    plain = saliency(features, labels)
    for scale in (np.float32(2.0**110), np.float32(2.0**-100)):
        for (_, expected), (_, scaled) in zip(plain.items(), saliency(features * scale, labels).items(), strict=True):
            np.testing.assert_allclose(scaled, expected, rtol=1e-9)


@pytest.mark.parametrize("abnormal", [0, 1, 8, 9])
@pytest.mark.parametrize("metric", ALL)
def test_a_class_needs_two_samples(metric: Metric, abnormal: int) -> None:
    with pytest.raises(FeatureError, match=f"{9 - abnormal} normal and {abnormal} anomalous"):
        metric(np.zeros((9, 1, 2)), np.arange(9) < abnormal)


def test_labels_that_are_no_labels() -> None:
    with pytest.raises(FeatureError, match="int64"):
        lda(np.zeros((4, 1, 2)), np.array([0, 1, 0, 1]))
    with pytest.raises(FeatureError, match=r"expected bool \(4,\)"):
        lda(np.zeros((4, 1, 2)), np.array([True, False, True]))


def test_features_that_are_not_finite_give_no_saliency() -> None:
    features = some_features()
    features[3, 1, 2, 0, 5] = np.nan
    with pytest.raises(FeatureError, match="not finite"):
        saliency(features, np.arange(20) % 2 == 0)
    with pytest.raises(FeatureError, match="expected"):
        saliency(features[0], np.arange(2) % 2 == 0)


# ---- mixture and stability


@given(seed=st.integers(0, 1000), prompts=st.integers(1, 5), penalty=st.floats(0, 5))
@settings(max_examples=50, deadline=None)
def test_scores_and_rss_are_bounded(seed: int, prompts: int, penalty: float) -> None:
    rng = np.random.default_rng(seed)
    raw = Saliency(*rng.exponential(size=(4, prompts, 3, 4)))
    score = combine(raw)
    assert score.min() >= 0
    assert score.max() <= 1
    rss = robust_saliency(score, penalty)
    assert (rss <= score.mean(axis=0)).all()
    # The population deviation of values in [0, 1] is at most ½.
    assert (rss >= score.mean(axis=0) - penalty / 2 - 1e-12).all()
    for _, metric in raw.items():
        one = normalise(metric)
        assert (one.min(axis=(1, 2)) == 0).all()
        assert (one.max(axis=(1, 2)) == 1).all()


def test_one_prompt_has_no_deviation() -> None:
    score = np.random.default_rng(0).random((1, 3, 4))
    np.testing.assert_array_equal(robust_saliency(score, 0.5), score[0])


def test_rss_by_hand() -> None:
    score = np.array([[[0.2, 1.0]], [[0.6, 0.0]]])
    np.testing.assert_allclose(robust_saliency(score, 0.5), [[0.4 - 0.5 * 0.2, 0.5 - 0.5 * 0.5]])


def test_a_prompt_with_a_constant_metric_counts_zero_there() -> None:
    metric = np.array([[[3.0, 3.0, 3.0]], [[1.0, 3.0, 2.0]]])
    np.testing.assert_array_equal(normalise(metric), [[[0, 0, 0]], [[0, 1, 0.5]]])
    rounding = np.array([[[0.1, 0.1 * (1 + 4e-16)]]])
    np.testing.assert_array_equal(normalise(rounding), np.zeros((1, 1, 2)))
