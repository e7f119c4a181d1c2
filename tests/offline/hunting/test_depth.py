"""The depth curve says what a separate hunt at each depth would give, frame for frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from edge_runtime.errors import FeatureError, UsageError
from offline.evaluation.metrics import best_f1, frame_auc
from offline.extraction.features import FeatureSet
from offline.hunting.depth import DepthPoint, Fit, Trial, Units, depth_curve, unit_figures
from offline.hunting.hunt import Hunt, Selection, hunt

PROMPTS = ("coarse", "detailed")
N, V, L, H, D = 24, 30, 5, 3, 6


def fit(features: NDArray[np.floating], labels: NDArray[np.bool_]) -> LogisticRegression:
    return LogisticRegression().fit(features, labels)


def sample(n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Noise, but for one weak head in layer 1 and one strong head in layer 3."""
    labels = np.arange(n) % 3 == 0
    x = np.random.default_rng(seed).standard_normal((n, len(PROMPTS), L, H, D), dtype=np.float32)
    x[labels, :, 1, 2] += 0.5
    x[labels, :, 3, 0] += 2.0
    return x, labels


def trial(calibration: tuple[NDArray[np.float32], NDArray[np.bool_]], validation: Units, fit: Fit = fit) -> Trial:
    features, labels = calibration
    return Trial(FeatureSet(features, labels, PROMPTS, tuple(map(str, range(len(features))))), validation, fit)


@pytest.fixture(scope="module")
def calibration() -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    return sample(N, 0)


@pytest.fixture(scope="module")
def validation() -> Units:
    x, labels = sample(V, 1)
    frames = np.random.default_rng(2).integers(1, 49, V)
    return Units(x, frames, np.where(labels, (frames + 1) // 2, 0))


@pytest.fixture(scope="module")
def found(calibration: tuple[NDArray[np.float32], NDArray[np.bool_]]) -> Hunt:
    return hunt(*calibration, PROMPTS, Selection(top_k=2))


def test_each_point_is_what_a_hunt_at_that_depth_gives(
    found: Hunt, calibration: tuple[NDArray[np.float32], NDArray[np.bool_]], validation: Units
) -> None:
    x, labels = calibration
    curve = depth_curve(found, trial(calibration, validation))
    assert [point.max_layer for point in curve] == list(range(L))
    for point in curve:
        alone = hunt(x, labels, PROMPTS, Selection(top_k=2, max_layer=point.max_layer))
        m = PROMPTS.index(alone.prompt)
        pick = [(e.layer, e.head) for e in alone.experts]
        scorer = fit(np.hstack([x[:, m, i, j] for i, j in pick]), labels)
        scores = scorer.predict_proba(np.hstack([validation.features[:, m, i, j] for i, j in pick]))[:, 1]
        # The plain way: every frame by itself.
        frame_scores = np.repeat(scores, validation.frames)
        frame_labels = np.concatenate(
            [np.arange(n) < k for n, k in zip(validation.frames, validation.anomalous_frames, strict=True)]
        )
        best = best_f1(frame_labels, frame_scores)
        assert best is not None
        assert point.auc == pytest.approx(frame_auc(frame_labels, frame_scores), abs=1e-12)
        assert point.f1 == pytest.approx(best.f1, abs=1e-12)
        assert point.cost == pytest.approx((alone.depth + 1) / L)


def test_what_is_deep_shows_when_the_hunt_reaches_it(
    found: Hunt, calibration: tuple[NDArray[np.float32], NDArray[np.bool_]], validation: Units
) -> None:
    auc = [point.auc for point in depth_curve(found, trial(calibration, validation))]
    assert auc[3] is not None
    assert auc[0] is not None
    assert auc[3] > auc[0] + 0.1


def test_equal_experts_are_fitted_once(
    found: Hunt, calibration: tuple[NDArray[np.float32], NDArray[np.bool_]], validation: Units
) -> None:
    x, labels = calibration
    fitted: list[bytes] = []

    def counting(features: NDArray[np.floating], labels: NDArray[np.bool_]) -> LogisticRegression:
        fitted.append(features.tobytes())
        return fit(features, labels)

    curve = depth_curve(found, trial(calibration, validation, counting), 1)
    winners = {
        (alone.prompt, alone.experts[0].ref)
        for alone in (hunt(x, labels, PROMPTS, Selection(top_k=1, max_layer=n)) for n in range(L))
    }
    assert len(fitted) == len(set(fitted)) == len(winners) < len(curve) == L


def test_depths_with_too_few_heads_are_left_out_and_progress_counts_the_rest(
    found: Hunt, calibration: tuple[NDArray[np.float32], NDArray[np.bool_]], validation: Units
) -> None:
    seen: list[tuple[int, int]] = []
    curve = depth_curve(
        found, trial(calibration, validation), H + 1, progress=lambda done, all_: seen.append((done, all_))
    )
    assert [point.max_layer for point in curve] == [1, 2, 3, 4]
    assert seen == [(i, 4) for i in (1, 2, 3, 4)]


def test_a_named_prompt_is_kept_and_the_cost_is_a_share_of_the_whole_decoder(
    found: Hunt, calibration: tuple[NDArray[np.float32], NDArray[np.bool_]], validation: Units
) -> None:
    x, _ = calibration
    seen: list[NDArray[np.floating]] = []

    def recording(features: NDArray[np.floating], labels: NDArray[np.bool_]) -> LogisticRegression:
        seen.append(features)
        return fit(features, labels)

    for m, prompt in enumerate(PROMPTS):
        seen.clear()
        curve = depth_curve(found, trial(calibration, validation, recording), 1, prompt=prompt, decoder_layers=2 * L)
        heads = [x[:, m, i, j] for i in range(L) for j in range(H)]
        assert all(any(np.array_equal(got, head) for head in heads) for got in seen)
        assert max(point.cost for point in curve) <= 0.5


def test_one_class_of_frames_has_no_figure(
    found: Hunt, calibration: tuple[NDArray[np.float32], NDArray[np.bool_]], validation: Units
) -> None:
    normal = Units(validation.features, validation.frames, np.zeros(V, dtype=np.int64))
    assert {(point.auc, point.f1) for point in depth_curve(found, trial(calibration, normal))} == {(None, None)}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_unit_figures_are_those_of_the_expanded_frames(units: list[tuple[int, int, int]]) -> None:
    scores = np.array([score / 4 for score, _, _ in units])
    anomalous = np.array([a for _, a, _ in units])
    frames = anomalous + np.array([b for _, _, b in units])
    auc, f1 = unit_figures(scores, frames, anomalous)
    labels = np.concatenate([np.arange(n) < a for n, a in zip(frames, anomalous, strict=True)])
    expanded = np.repeat(scores, frames)
    best = best_f1(labels, expanded)
    if best is None:
        assert (auc, f1) == (None, None)
    else:
        assert auc == pytest.approx(frame_auc(labels, expanded))
        assert f1 == pytest.approx(best.f1)


def test_bad_input_is_refused_by_name(
    found: Hunt, calibration: tuple[NDArray[np.float32], NDArray[np.bool_]], validation: Units
) -> None:
    x, labels = calibration

    def run(
        calibration: tuple[NDArray[np.float32], NDArray[np.bool_]], validation: Units, *top_k: int, **options: int
    ) -> None:
        depth_curve(found, trial(calibration, validation), *top_k, **options)

    with pytest.raises(FeatureError, match="calibration features have shape"):
        run((x[:, :1], labels), validation)
    with pytest.raises(FeatureError, match="validation features have shape"):
        run(calibration, Units(validation.features[..., :2], validation.frames, validation.anomalous_frames))
    with pytest.raises(FeatureError, match="labels are"):
        run((x, labels[1:]), validation)
    with pytest.raises(UsageError, match="top_k 0"):
        run(calibration, validation, 0)
    with pytest.raises(UsageError, match="decoder_layers 2"):
        run(calibration, validation, decoder_layers=2)
    with pytest.raises(FeatureError, match="unit 0: 99 of 3 frames"):
        Units(validation.features[:1], np.array([3]), np.array([99]))
    with pytest.raises(FeatureError, match="frame counts"):
        Units(validation.features, validation.frames[1:], validation.anomalous_frames)

    class Blind:
        def predict_proba(self, X: NDArray[np.floating], /) -> NDArray[np.floating]:
            return np.full((len(X), 2), np.nan)

    with pytest.raises(FeatureError, match="finite probabilities"):
        depth_curve(found, trial(calibration, validation, lambda x, y: Blind()))


@pytest.mark.parametrize(
    "values", [(-1, 0.5, 0.5, 1.0), (0, 1.5, 0.5, 1.0), (0, 0.5, float("nan"), 1.0), (0, None, None, 0.0)]
)
def test_a_point_refuses_nonsense(values: tuple[int, float | None, float | None, float]) -> None:
    with pytest.raises(ValueError, match="max_layer"):
        DepthPoint(*values)
