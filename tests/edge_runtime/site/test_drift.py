"""Distances against scikit-learn, what the bets promise, and cameras that turn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import LedoitWolf

from edge_runtime.site import drift
from edge_runtime.site.drift import (
    ADOPTED_AFTER,
    BLOCK,
    DriftSpace,
    DriftWatch,
    bet,
    farthest_video,
    ledoit_wolf,
)

SIZE = 6
STEP_S = 3.2
TWO_MINUTES = 37


def flat(size: int = SIZE) -> DriftSpace:
    """A space in which features are distances already."""
    zeros, ones = np.zeros(size), np.ones(size)
    return DriftSpace.of(zeros, ones, zeros, ones, np.zeros((0, size)))


class Camera:
    """A stream of segments that are drawn around a view."""

    def __init__(self, watch: DriftWatch, seed: int = 0) -> None:
        self.watch, self.number = watch, 0
        self.rng = np.random.default_rng(seed)

    def show(self, segments: int, view: float = 0.0):
        """Push so many; (number of the segment from here, change) of what was told."""
        told = []
        for count in range(segments):
            features = view + self.rng.standard_normal(SIZE)
            start_s = self.number * STEP_S
            self.number += 1
            if (change := self.watch.push(features, start_s, start_s + STEP_S)) is not None:
                told.append((count + 1, change))
        return told


def learned(seed: int = 0, blocks: int = 1000) -> Camera:
    camera = Camera(DriftWatch(flat(), learning=blocks), seed)
    assert camera.show(blocks * BLOCK) == []
    return camera


@pytest.mark.parametrize(("count", "size"), [(30, 80), (200, 12)])
def test_distances_are_those_of_scikit_learn(count, size):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((count, size)) @ rng.standard_normal((size, size)) + 3
    new = rng.standard_normal((5, size))
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    oracle = LedoitWolf().fit((rows - mean) / scale)
    assert ledoit_wolf((rows - mean) / scale) == pytest.approx(oracle.shrinkage_, rel=1e-9)
    squared = (DriftSpace.fitted(rows).whitened(new) ** 2).sum(axis=1)
    np.testing.assert_allclose(squared, oracle.mahalanobis((new - mean) / scale), rtol=1e-8)


@pytest.mark.parametrize("rank", [0, 3, 12])
def test_distances_are_mahalanobis_of_diagonal_and_factor(rank):
    rng = np.random.default_rng(1)
    mean, scale, centre, diagonal = (
        rng.standard_normal(8),
        rng.random(8) + 0.5,
        rng.standard_normal(8),
        rng.random(8) + 0.1,
    )
    factor, features = rng.standard_normal((rank, 8)), rng.standard_normal((4, 8))
    apart = (features - mean) / scale - centre
    inverse = np.linalg.inv(np.diag(diagonal) + factor.T @ factor)
    expected = np.einsum("bi,ij,bj->b", apart, inverse, apart)
    whitened = DriftSpace.of(mean, scale, centre, diagonal, factor).whitened(features)
    np.testing.assert_allclose((whitened**2).sum(axis=1), expected, rtol=1e-9)


@given(st.integers(1, 5000))
def test_a_bet_is_worth_no_more_than_1_on_average_whatever_it_is_ranked_among(count):
    assert np.mean([bet(rank / (count + 1)) for rank in range(1, count + 2)]) <= 1 + 1e-12


def test_false_alarms_are_as_rare_as_is_stated():
    # A level that a test can wait for: once in 100 blocks or fewer.
    lengths = []
    for seed in range(40):
        watch = DriftWatch(flat(2), learning=0, level=100)
        rng = np.random.default_rng(seed)
        blocks = 0
        while blocks < 400:
            blocks += 1
            if any(watch.push(rng.standard_normal(2), 0, 0) for _ in range(BLOCK)):
                break
        lengths.append(blocks)
    assert np.mean(lengths) >= 100


def test_a_camera_that_stays_is_not_told_and_a_turned_one_is_within_two_minutes():
    camera = learned()
    assert camera.show(5000) == []
    turned_s = camera.number * STEP_S
    ((after, change),) = camera.show(60, view=3.0)
    assert after <= TWO_MINUTES
    assert change.drifted
    assert "turned" in change.detail
    assert change.since_s == pytest.approx(turned_s, abs=BLOCK * STEP_S)
    assert camera.watch.drifted
    assert camera.watch.since_s == change.since_s


def test_it_ends_when_the_camera_is_turned_back():
    camera = learned()
    camera.show(200, view=3.0)
    ((_, change),) = camera.show(200)
    assert not change.drifted
    assert not camera.watch.drifted
    assert camera.watch.since_s is None
    # And is told again.
    assert len(camera.show(60, view=3.0)) == 1


def test_what_stays_for_hours_becomes_usual_and_stays_so():
    camera = learned()
    told = camera.show((ADOPTED_AFTER + 20) * BLOCK, view=3.0)
    assert [change.drifted for _, change in told] == [True, False]
    assert "usual" in told[1][1].detail
    assert camera.show(500) == []
    assert camera.show(500, view=3.0) == []
    assert len(camera.show(60, view=-3.0)) == 1


def test_day_and_night_of_the_first_day_are_both_usual():
    camera = Camera(DriftWatch(flat(), learning=1000))
    assert camera.show(4000) == []
    assert camera.show(5000, view=5.0) == []
    for _ in range(3):
        assert camera.show(1000) == []
        assert camera.show(1000, view=5.0) == []
    assert len(camera.show(60, view=10.0)) == 1


def test_the_known_views_are_bounded(monkeypatch):
    monkeypatch.setattr(drift, "VIEWS", 3)
    camera = Camera(DriftWatch(flat(), learning=5000))
    for view in range(8):
        camera.show(1000, view=5.0 * view)
    assert len(camera.watch.arrays()["views"]) <= 3


def test_a_site_unlike_any_calibration_video_is_told_and_when_that_ends():
    near = DriftWatch(flat(), farthest=4.0, learning=0)
    camera = Camera(near)
    assert camera.show(2000) == []
    far = Camera(DriftWatch(flat(), farthest=4.0, learning=10**6))
    ((_, change),) = far.show(2000, view=4.0)
    assert change.drifted
    assert "calibration" in change.detail
    assert far.watch.distance == pytest.approx(np.sqrt(SIZE * 17), rel=0.1)
    ((_, change),) = far.show(2000)
    assert not change.drifted


def test_how_far_videos_are_from_each_other_needs_some_videos():
    distances, videos = np.arange(10.0), np.arange(10) // 2
    assert farthest_video(distances, videos) == 8.5
    assert farthest_video(distances[:8], videos[:8]) is None


@pytest.mark.parametrize("cut", [0, 5, 4003])
def test_what_was_kept_goes_on_as_before(cut):
    camera = Camera(DriftWatch(flat(), learning=400))
    camera.show(cut)
    restarted = DriftWatch(flat(), learning=400)
    restarted.restore(camera.watch.arrays())
    again = Camera(restarted, seed=9)
    assert again.watch.learning_left == camera.watch.learning_left
    assert again.show(4000) == []
    assert len(again.show(60, view=3.0)) == 1


def test_arrays_of_something_else_are_refused():
    camera = learned(blocks=50)
    arrays = camera.watch.arrays()
    for name, wrong in (
        ("views", np.zeros((1, SIZE + 1), dtype=np.float32)),
        ("views", np.full((1, SIZE), np.nan, dtype=np.float32)),
        ("weights", np.array([0.0])),
        ("history", np.zeros((2, 2))),
        ("blocks", np.array([-1])),
    ):
        with pytest.raises(ValueError):
            DriftWatch(flat()).restore(arrays | {name: wrong})
