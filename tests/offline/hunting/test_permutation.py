"""The permutation test is right about useless heads, finds a useful one, and never splits a video."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from models.heads import HeadRef
from offline.hunting.permutation import (
    Permuted,
    columns_auc,
    distinct_labellings,
    label_free_folds,
    out_of_fold,
    permute,
    permuted_labels,
    resampled,
)

VIDEOS, SEGMENTS, L, H, D = 16, 3, 2, 2, 3
NAMES = tuple(f"v{i // SEGMENTS}" for i in range(VIDEOS * SEGMENTS))


def null_set(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Segments of a video are alike in features and labels, and neither has to do with the other."""
    rng = np.random.default_rng(seed)
    of_video = rng.standard_normal((VIDEOS, 1, L, H, D))
    features = (of_video + 0.2 * rng.standard_normal((VIDEOS, SEGMENTS, L, H, D))).reshape(-1, L, H, D)
    labels = np.repeat(rng.permutation(VIDEOS) < VIDEOS // 2, SEGMENTS)
    return features.astype(np.float32), labels


def share_below(level: float, names: tuple[str, ...]) -> int:
    """Of 60 sets without any knowledge: how many have p <= level."""
    return sum(permute(*null_set(seed), names, 39, seed=seed).p <= level for seed in range(60))


def test_useless_heads_are_told_apart_from_chance_no_more_often_than_p_says() -> None:
    ps = np.array([permute(*null_set(seed), NAMES, 39, seed=seed).p for seed in range(60)])
    for level in (0.05, 0.25, 0.5):
        # At most one in a thousand right tests would fail this.
        assert (ps <= level).sum() <= binom.ppf(0.999, 60, level)
    # Nor is it uselessly strict: p is uniform on 1/40, 2/40 ... 1.
    assert (ps <= 0.5).sum() >= binom.ppf(0.001, 60, 0.5)


def test_without_the_videos_chance_looks_like_knowledge() -> None:
    """What grouping is for: the same useless sets, each segment called a video of its own."""
    alone = tuple(map(str, range(len(NAMES))))
    assert share_below(0.05, alone) > 2 * binom.ppf(0.999, 60, 0.05)


def test_a_head_that_knows_is_found() -> None:
    features, labels = null_set(0)
    features[labels, 1, 0] += 2.0
    found = permute(features, labels, NAMES, 99)
    assert found.best == HeadRef(1, 0)
    assert (found.p, found.reached) == (0.01, 0)
    assert found.auc > max(found.permuted)
    assert np.mean(found.permuted) < 0.8 < found.auc


def test_the_same_seed_gives_the_same_and_progress_counts_heads() -> None:
    features, labels = null_set(1)
    steps: list[tuple[int, int]] = []
    once = permute(features, labels, NAMES, 19, seed=3, progress=lambda done, total, *_: steps.append((done, total)))
    assert once == permute(features, labels, NAMES, 19, seed=3)
    assert once != permute(features, labels, NAMES, 19, seed=4)
    assert steps == [(done, L * H) for done in range(1, L * H + 1)]


def test_predictions_are_those_of_scikit_learns_ridge_in_every_fold() -> None:
    rng = np.random.default_rng(0)
    for width in (3, 60):
        features = rng.normal(5.0, 3.0, (24, width))
        labellings = rng.random((24, 4)) > 0.5
        fold = np.arange(24) // 3 % 4
        found = out_of_fold(features, labellings, fold, penalty=7.0)
        x = StandardScaler().fit_transform(features)
        for out in range(4):
            train, test = fold != out, fold == out
            for column, labels in enumerate(labellings.T.astype(float)):
                ridge = Ridge(alpha=7.0).fit(x[train], labels[train])
                expected = ridge.predict(x[test]) - labels[train].mean()
                np.testing.assert_allclose(found[test, column], expected, atol=1e-10)


def test_the_smoother_of_the_identity_gives_every_prediction_and_knows_no_held_out_label() -> None:
    rng = np.random.default_rng(1)
    features, fold = rng.standard_normal((20, 6)), np.arange(20) % 5
    labellings = (rng.random((20, 7)) > 0.4).astype(float)
    smoother = out_of_fold(features, np.eye(20), fold)
    np.testing.assert_allclose(smoother @ labellings, out_of_fold(features, labellings, fold), atol=1e-12)
    assert not smoother[fold[:, None] == fold[None, :]].any()


def test_a_constant_head_predicts_nothing() -> None:
    labels = np.arange(12) % 2 == 0
    predicted = out_of_fold(np.full((12, 4), 1e7, np.float32), labels[:, None], np.arange(12) % 3)
    np.testing.assert_array_equal(predicted, 0.0)
    np.testing.assert_array_equal(columns_auc(labels[:, None], predicted), [0.5])


@given(seed=st.integers(0, 1000))
def test_auc_is_scikit_learns_with_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.stack([rng.permutation(12) < k for k in (1, 5, 11)], axis=1)
    scores = rng.integers(0, 5, (12, 3)).astype(float)
    expected = [roc_auc_score(labels[:, i], scores[:, i]) for i in range(3)]
    np.testing.assert_allclose(columns_auc(labels, scores), expected, atol=1e-12)


@given(
    videos=st.lists(st.integers(0, 6), min_size=2, max_size=30).filter(lambda v: len(set(v)) > 1),
    folds=st.integers(2, 6),
)
def test_no_video_is_in_two_folds_and_folds_are_even(videos: list[int], folds: int) -> None:
    names = [str(v) for v in videos]
    fold = label_free_folds(names, folds, np.random.default_rng(0))
    of_video: dict[str, set[int]] = {}
    for name, one in zip(names, fold.tolist(), strict=True):
        of_video.setdefault(name, set()).add(one)
    assert all(len(one) == 1 for one in of_video.values())
    sizes = np.bincount([one for (one,) in of_video.values()])
    assert len(sizes) == min(folds, len(of_video))
    assert sizes.max() - sizes.min() <= 1


def test_whole_videos_exchange_their_labels() -> None:
    labels = np.array([0, 0, 1, 0, 0, 0, 1, 1, 1], dtype=bool)
    names = list("aaabbbccc")
    drawn = permuted_labels(labels, names, 50, np.random.default_rng(0))
    kept = sorted(labels.reshape(3, 3).tolist())
    assert all(sorted(one.reshape(3, 3).tolist()) == kept for one in drawn)
    assert len({one.tobytes() for one in drawn}) == 6 == distinct_labellings(labels, names)


def test_a_sequence_keeps_its_shape_in_another_length() -> None:
    sequence = np.array([0, 0, 1, 1], dtype=bool)
    assert resampled(sequence, 4).tolist() == sequence.tolist()
    assert resampled(sequence, 8).tolist() == [False] * 4 + [True] * 4
    assert resampled(sequence, 2).tolist() == [False, True]


def test_permuted_labels_have_both_classes() -> None:
    labels = np.array([1, 0, 0, 0, 0, 0, 0], dtype=bool)  # the first of six segments; squeezed to one it is lost
    drawn = permuted_labels(labels, list("aaaaaab"), 20, np.random.default_rng(0))
    assert all(0 < one.sum() < 7 for one in drawn)


def test_p_counts_the_true_labelling_and_cannot_be_smaller_than_there_are_labellings() -> None:
    found = Permuted(HeadRef(0, 0), 0.7, (0.6, 0.7, 0.8, 0.5), 3.0)
    assert (found.reached, found.p, found.least_p) == (2, 3 / 5, 1 / 3)
    assert Permuted(HeadRef(0, 0), 0.7, (0.6,) * 19, 1e300).least_p == 1 / 20


def test_many_videos_have_many_labellings() -> None:
    assert distinct_labellings(np.arange(6) % 2 == 0, list("abcdef")) == 20
    many = np.arange(4000) % 2 == 0
    assert 1e299 < distinct_labellings(many, [str(i) for i in range(4000)]) < 1e301


def test_what_cannot_be_permuted_is_refused() -> None:
    features, labels = null_set(0)
    for bad in ((features, labels, ("one",) * len(NAMES), 9), (features, labels & False, NAMES, 9)):
        with pytest.raises(ValueError, match="two videos"):
            permute(*bad)
    with pytest.raises(ValueError, match="at least one"):
        Permuted(HeadRef(0, 0), 0.7, (), 3.0)
