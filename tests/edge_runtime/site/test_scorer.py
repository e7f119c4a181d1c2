"""The site's scorer against scikit-learn and SciPy, and what must hold of it whatever was marked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from edge_runtime.bundle.calibration import Calibration
from edge_runtime.errors import BundleRefused, FeatureError, InferenceFailed
from edge_runtime.site.scorer import SiteScorer, log_loss, refit


def calibration(size: int = 8, rows: int = 5, seed: int = 0, centred: bool = False) -> Calibration:
    rng = np.random.default_rng(seed)
    mean = np.zeros(size + 1) if centred else rng.normal(size=size + 1)
    return Calibration(
        prior_mean=mean,
        prior_diagonal=np.append(np.full(size, 3.0), 0.0),
        prior_factor=rng.normal(size=(rows, size + 1)),
        mean=rng.normal(size=size),
        scale=rng.uniform(0.5, 2.0, size=size),
        centre=np.zeros(size),
        covariance_diagonal=np.ones(size),
        covariance_factor=np.zeros((0, size)),
        normal_scores=np.zeros(0),
        normal_smoothed=np.zeros((2, 0)),
        distances=np.zeros(0),
        videos=np.zeros(0, np.int64),
    )


def precision(known: Calibration) -> np.ndarray:
    return np.diag(known.prior_diagonal) + known.prior_factor.T @ known.prior_factor


def rows_of(known: Calibration, features: np.ndarray) -> np.ndarray:
    return np.column_stack([known.standardised(features), np.ones(len(features))])


def marks(count: int, size: int = 8, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, size)) * 3, rng.random(count) < 0.4


@pytest.mark.parametrize("count", [1, 2, 7, 60])
def test_scikit_learn_finds_the_same_weights(count: int) -> None:
    """A prior around 0 of precision A is scikit-learn's L2 on features that A's square root has whitened."""
    known = calibration(centred=True)
    features, labels = marks(count)
    labels[0] = True
    if count > 1:
        labels[1] = False
    root = np.linalg.cholesky(precision(known))
    white = np.linalg.solve(root, rows_of(known, features).T).T
    found = refit(known, features, labels, range(count))
    if count > 1:
        oracle = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-12, solver="newton-cholesky").fit(
            white, labels
        )
        wanted = np.linalg.solve(root.T, oracle.coef_[0])
        np.testing.assert_allclose(found.weights, wanted, atol=1e-6)
    assert np.abs(found.weights).max() > 0.01


@pytest.mark.parametrize("seed", range(4))
def test_scipy_finds_the_same_weights_from_any_prior(seed: int) -> None:
    known = calibration(seed=seed)
    features, labels = marks(12, seed=seed)
    rows, a = rows_of(known, features), precision(known)
    signs = np.where(labels, 1.0, -1.0)

    def objective(w: np.ndarray) -> tuple[float, np.ndarray]:
        apart = w - known.prior_mean
        margins = signs * (rows @ w)
        pull = -signs / (1 + np.exp(margins))
        return np.logaddexp(0, -margins).sum() + apart @ a @ apart / 2, rows.T @ pull + a @ apart

    wanted = minimize(objective, known.prior_mean, jac=True, method="BFGS", options={"gtol": 1e-10}).x
    found = refit(known, features, labels, range(12))
    np.testing.assert_allclose(found.weights, wanted, atol=1e-6)
    np.testing.assert_allclose(objective(found.weights)[1], 0, atol=1e-8)


def test_what_is_left_out_is_what_a_refit_without_it_gives() -> None:
    known = calibration()
    features, labels = marks(9)
    groups = np.array([0, 0, 1, 2, 2, 2, 3, 4, 5])
    found = refit(known, features, labels, groups)
    for mark in range(6):
        rest = groups != mark
        without = refit(known, features[rest], labels[rest], groups[rest])
        scorer = SiteScorer(without.weights, known.mean, known.scale)
        np.testing.assert_allclose(scorer.probabilities(features[~rest]), found.left_out[~rest], atol=1e-6)


def test_without_marks_it_is_the_bundles_scorer_to_the_bit() -> None:
    known = calibration()
    found = refit(known, np.empty((0, 8)), np.empty(0, bool), [])
    assert found.weights.tobytes() == known.prior_mean.tobytes()
    assert log_loss(found.before, np.empty(0, bool)) is None


@example(seed=30, count=8, spread=1e3, one_class=False)
@example(seed=120, count=10, spread=1e3, one_class=None)
@example(seed=178, count=12, spread=1e3, one_class=True)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 12),
    spread=st.sampled_from([1e-3, 1.0, 1e3]),
    one_class=st.sampled_from([None, True, False]),
)
def test_whatever_is_marked_the_weights_are_a_minimum_and_bounded(
    seed: int, count: int, spread: float, one_class: bool | None
) -> None:
    """Separable, of one class, far away: each number of a is in -1..1, so the weights move no farther than that."""
    known = calibration(seed=seed % 5)
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 8)) * spread
    labels = rng.random(count) < 0.5 if one_class is None else np.full(count, one_class)
    found = refit(known, features, labels, range(count))
    rows = rows_of(known, features)
    logits = rows @ found.weights
    pull = rows.T @ (1 / (1 + np.exp(-np.clip(logits, -700, 700))) - labels)
    back = precision(known) @ (found.weights - known.prior_mean)
    np.testing.assert_allclose(pull + back, 0, atol=1e-6 * max(1.0, np.abs(rows).max()))
    assert np.abs(back).max() <= np.abs(rows).sum(axis=0).max() * (1 + 1e-6)
    # Each mark is believed more than before, or was believed already.
    assert log_loss(found.after, labels) <= log_loss(found.before, labels) + 1e-9


def test_marks_that_contradict_each_other_leave_the_matter_open() -> None:
    known = calibration()
    features = np.repeat(marks(1)[0], 20, axis=0)
    labels = np.arange(20) % 2 == 0
    found = refit(known, features, labels, range(20))
    assert abs(found.after[0] - 0.5) < abs(found.before[0] - 0.5)


def test_one_mark_moves_its_own_segment_and_its_like_most() -> None:
    known = calibration()
    features, _ = marks(1)
    found = refit(known, features, np.array([False]), [0])
    scorer = SiteScorer(found.weights, known.mean, known.scale)
    before = SiteScorer(known.prior_mean, known.mean, known.scale)
    like = features + 0.01
    moved = before.probabilities(like) - scorer.probabilities(like)
    assert moved[0] > 0
    assert found.left_out[0] == pytest.approx(found.before[0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused(bad: float) -> None:
    known = calibration()
    features, labels = marks(3)
    features[1, 2] = bad
    with pytest.raises(FeatureError, match="not finite"):
        refit(known, features, labels, range(3))
    with pytest.raises(InferenceFailed, match="not finite"):
        SiteScorer(known.prior_mean, known.mean, known.scale).probabilities(features)


def test_features_of_another_bundle_and_a_prior_that_is_none_are_refused() -> None:
    known = calibration()
    with pytest.raises(FeatureError, match="shape"):
        refit(known, np.zeros((2, 9)), np.zeros(2, bool), range(2))
    with pytest.raises(FeatureError, match="labels"):
        refit(known, np.zeros((2, 8)), np.zeros(3, bool), range(2))
    with pytest.raises(BundleRefused, match="says nothing of some weight"):
        refit(calibration(rows=0), np.zeros((2, 8)), np.zeros(2, bool), range(2))


def test_it_takes_milliseconds_of_arithmetic_at_full_size() -> None:
    """640 features, 60 calibration samples, 30 marks of three segments: the same minimum, whatever the clock says."""
    known = calibration(640, 60)
    features, labels = marks(90, 640)
    found = refit(known, features, labels, np.repeat(range(30), 3))
    rows = rows_of(known, features)
    pull = rows.T @ (found.after - labels)
    np.testing.assert_allclose(pull + precision(known) @ (found.weights - known.prior_mean), 0, atol=1e-6)
