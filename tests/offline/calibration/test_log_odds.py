"""The scorer of log-odds head by head: it folds into one linear layer, and its folds hold whole videos."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score

from edge_runtime.errors import FeatureError
from offline.calibration.log_odds import HeadModel, _fit_heads, _folds, fit_log_odds
from offline.calibration.scorer import fit_scorer

KINDS: tuple[HeadModel, ...] = ("logistic", "gaussian")


def drawn(seed: int, heads: int = 4, width: int = 6, videos: int = 24, told: float = 1.5):
    """Samples of videos with a trait of their own; head 0 knows the label, the others do not."""
    rng = np.random.default_rng(seed)
    names = np.repeat([f"v{i}" for i in range(videos)], 3)
    labels = np.repeat(np.arange(videos) % 2 == 0, 3)
    x = rng.standard_normal((len(names), heads, width)) + rng.standard_normal((videos, heads, width)).repeat(
        3, axis=0
    )
    x[labels, 0] += told
    return x.reshape(len(names), -1).astype(np.float32), labels, tuple(names.tolist())


@given(st.integers(0, 10**6), st.sampled_from(KINDS), st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_the_scorer_is_the_weighed_sum_of_what_heads_say(seed: int, kind: HeadModel, heads: int) -> None:
    x, labels, videos = drawn(seed, heads)
    scorer = fit_log_odds(x, labels, videos, 6, kind)
    each = _fit_heads(x.astype(np.float64).reshape(len(x), heads, 6), labels, kind, 0)
    said = each(x.astype(np.float64).reshape(len(x), heads, 6))
    # The decision is one linear function of what heads say: nothing else of the features gets in.
    decision = scorer.decision_function(x)
    design = np.column_stack([said, np.ones(len(said))])
    weights, *_ = np.linalg.lstsq(design, decision, rcond=None)
    np.testing.assert_allclose(design @ weights, decision, atol=1e-6 * (1 + np.abs(decision).max()))


def test_a_gaussian_head_is_scikit_learns_shrunk_discriminant() -> None:
    x, labels, _ = drawn(3, heads=1)
    ours = _fit_heads(x.astype(np.float64)[:, None], labels, "gaussian", 0)
    oracle = LinearDiscriminantAnalysis(solver="lsqr", priors=[0.5, 0.5])
    # Its shrinkage is estimated by class and on standardised features; unshrunk, both are Fisher's direction.
    oracle.fit(x, labels)
    a, b = ours.weights[0], oracle.coef_[0]
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.97


@pytest.mark.parametrize("kind", KINDS)
def test_heads_that_know_nothing_get_little_weight(kind: HeadModel) -> None:
    x, labels, videos = drawn(5, heads=6, videos=60)
    new, truth, _ = drawn(6, heads=6, videos=60)
    auc = roc_auc_score(truth, fit_log_odds(x, labels, videos, 6, kind).predict_proba(new)[:, 1])
    alone = roc_auc_score(truth, fit_scorer(x[:, :6], labels).predict_proba(new[:, :6])[:, 1])
    assert auc > alone - 0.03


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_no_video_is_in_two_folds_and_each_sample_is_in_one(seed: int) -> None:
    _, labels, videos = drawn(seed)
    names = np.array(videos)
    folds = _folds(labels, names, seed)
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == list(range(len(names)))
    assert all(not set(names[train]) & set(names[test]) for train, test in folds)


def test_the_same_seed_gives_the_same_scorer() -> None:
    x, labels, videos = drawn(1)
    first, second = (fit_log_odds(x, labels, videos, 6, seed=4)[-1].coef_ for _ in range(2))
    assert np.array_equal(first, second)


def test_the_scorer_is_exported_like_the_usual_one(tmp_path) -> None:
    import onnxruntime

    from export.scorer import export_scorer

    x, labels, videos = drawn(2)
    scorer = fit_log_odds(x, labels, videos, 6)
    assert export_scorer(scorer, x, tmp_path / "scorer.onnx") < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "scorer.onnx", providers=["CPUExecutionProvider"])
    (given,) = session.run(["probabilities"], {"features": x})
    np.testing.assert_allclose(given, scorer.predict_proba(x), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_that_does_not_move_says_nothing(kind: HeadModel) -> None:
    x, labels, videos = drawn(8, heads=2)
    x[:, 6:] = 0.25
    scorer = fit_log_odds(x, labels, videos, 6, kind)
    assert np.isfinite(scorer.predict_proba(x)).all()
    assert np.abs(scorer[-1].coef_[0, 6:]).max() < 1e-9


def test_what_cannot_be_fitted_is_refused() -> None:
    x, labels, videos = drawn(1)
    with pytest.raises(FeatureError, match="two of each class"):
        fit_log_odds(
            x, labels, tuple("one" if label else name for label, name in zip(labels, videos, strict=True)), 6
        )
    with pytest.raises(FeatureError, match="whole heads of width 7"):
        fit_log_odds(x, labels, videos, 7)
    x[3, 2] = np.nan
    with pytest.raises(FeatureError, match="not finite"):
        fit_log_odds(x, labels, videos, 6)


def test_one_video_with_most_of_a_class_leaves_no_sample_without_log_odds() -> None:
    """One anomalous video of 100 segments, one of a single anomalous segment among 50, and a normal one."""
    names = np.repeat(["long", "mixed", "normal"], [100, 51, 60])
    labels = np.zeros(211, dtype=bool)
    labels[:101] = True
    for seed in range(5):
        folds = _folds(labels, names, seed)
        assert sorted(np.concatenate([test for _, test in folds]).tolist()) == list(range(211))
        assert all(labels[train].any() and not labels[train].all() for train, _ in folds)
    x = np.random.default_rng(0).standard_normal((211, 12)).astype(np.float32)
    first, second = (fit_log_odds(x, labels, tuple(names.tolist()), 6)[-1].coef_ for _ in range(2))
    assert np.array_equal(first, second)


def test_videos_that_cannot_be_split_are_refused() -> None:
    names = ("a", "a", "b", "b")
    labels = np.array([True, False, True, False])
    assert len(_folds(labels, np.array(names), 0)) == 2
    # Without the one video, nothing normal is left; without the other, nothing anomalous.
    with pytest.raises(FeatureError, match="no split of 2 calibration videos"):
        _folds(np.array([True, True, False, False]), np.array(names), 0)
