"""The locator's calibration against every frame written out and scikit-learn's F1 at every grid point."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from edge_runtime.stream.locator import LocatorSpec
from offline.calibration.locator import (
    SIGMAS,
    THRESHOLDS,
    ScoredVideo,
    best_threshold,
    calibrate,
    default_locators,
    f1_curve,
)


@st.composite
def videos(draw: st.DrawFn, gaps: bool = True) -> list[ScoredVideo]:
    """One to three videos; scores from a coarse grid, so that ties happen."""
    value = st.integers(0, 20).map(lambda i: i / 20)
    score = st.one_of(value, st.none()) if gaps else value
    out = []
    for _ in range(draw(st.integers(1, 3))):
        count = draw(st.integers(1, 8))
        frames = [draw(st.integers(1, 6)) for _ in range(count)]
        anomalous = [draw(st.integers(0, n)) for n in frames]
        out.append(ScoredVideo([draw(score) for _ in range(count)], np.array(frames), np.array(anomalous)))
    return out


def smoothed_by_hand(scores: list[float | None], sigma: float, causal: bool) -> list[float | None]:
    reach = math.ceil(3 * sigma)
    out: list[float | None] = []
    for t, own in enumerate(scores):
        if own is None:
            out.append(None)
            continue
        last = t if causal else t + reach
        pairs = [(j, p) for j, p in enumerate(scores) if p is not None and t - reach <= j <= last]
        weights = [1.0 if sigma == 0 else math.exp(-((t - j) ** 2) / (2 * sigma**2)) for j, _ in pairs]
        out.append(sum(w * p for w, (_, p) in zip(weights, pairs, strict=True)) / sum(weights))
    return out


def frames_of(given: list[ScoredVideo], sigma: float, causal: bool) -> tuple[np.ndarray, np.ndarray]:
    """Label and smoothed score of every frame that has one."""
    labels: list[bool] = []
    scores: list[float] = []
    for video in given:
        for place, value in enumerate(smoothed_by_hand(list(video.scores), sigma, causal)):
            if value is not None:
                n, hot = int(video.frames[place]), int(video.anomalous_frames[place])
                labels += [True] * hot + [False] * (n - hot)
                scores += [value] * n
    return np.array(labels, dtype=bool), np.array(scores)


def best_by_hand(given: list[ScoredVideo], causal: bool) -> tuple[float, set[tuple[float, float]]]:
    """The best F1 of the whole grid, and the points whose F1 is that to rounding."""
    table: dict[tuple[float, float], float] = {}
    known: dict[tuple[bytes, bytes], float] = {}
    for sigma in [0.0, *np.linspace(0.5, 3.0, 11)]:
        labels, scores = frames_of(given, sigma, causal)
        for threshold in np.linspace(0.1, 0.9, 81):
            alarm = scores > threshold
            # Few of the grid's points differ in what they alarm, and scikit-learn takes its time.
            pattern = (labels.tobytes(), alarm.tobytes())
            if pattern not in known:
                known[pattern] = f1_score(labels, alarm, zero_division=0)
            table[round(sigma, 10), round(threshold, 10)] = known[pattern]
    best = max(table.values())
    return best, {point for point, value in table.items() if value >= best - 1e-12}


@settings(max_examples=25, deadline=None)
@given(given=videos(gaps=False), causal=st.booleans())
def test_the_best_pair_of_the_grid_wins_and_ties_go_where_the_method_says(
    given: list[ScoredVideo], causal: bool
) -> None:
    # Scores off the grid of thresholds: comparing a float with its equal is not what is asked here.
    given = [ScoredVideo([0.9983 * s + 0.0007 for s in v.scores], v.frames, v.anomalous_frames) for v in given]
    hot = sum(int(v.anomalous_frames.sum()) for v in given)
    found = calibrate(given)
    if hot in (0, sum(int(v.frames.sum()) for v in given)):
        assert found == default_locators()
        return
    chosen = found.low_latency if causal else found.full
    best, points = best_by_hand(given, causal)
    assert chosen.calibrated
    assert chosen.f1 == pytest.approx(best, abs=1e-12)
    smallest = min(sigma for sigma, _ in points)
    nearest = min((abs(t - 0.5), t) for sigma, t in points if sigma == smallest)
    assert (chosen.sigma, chosen.threshold) == (smallest, pytest.approx(nearest[1]))
    assert chosen.lookahead == (0 if causal else math.ceil(3 * chosen.sigma))


@settings(max_examples=60, deadline=None)
@given(given=videos(), sigma=st.sampled_from(SIGMAS), causal=st.booleans())
def test_f1_is_that_of_the_frames_that_have_a_score(given: list[ScoredVideo], sigma: float, causal: bool) -> None:
    labels, scores = frames_of(given, sigma, causal)
    if not labels.any():
        return  # undefined, and calibrate does not ask
    curve = f1_curve(given, sigma, 0 if causal else math.ceil(3 * sigma))
    for place in range(0, 81, 8):
        threshold = THRESHOLDS[place]
        if (np.abs(scores - threshold) > 1e-9).all():
            assert curve[place] == pytest.approx(f1_score(labels, scores > threshold, zero_division=0), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(given=videos())
def test_any_pattern_of_gaps_gives_locators(given: list[ScoredVideo]) -> None:
    found = calibrate(given)
    labels, _ = frames_of(given, 0.0, causal=True)
    assert found.full.calibrated == (bool(labels.any()) and not labels.all())
    for locator in (found.full, found.low_latency):
        assert locator.f1 is None or 0 <= locator.f1 <= 1


def test_a_lone_event_within_a_gap_cannot_be_calibrated_on() -> None:
    video = ScoredVideo([0.2, None, 0.3], np.array([48, 48, 48]), np.array([0, 48, 0]))
    assert calibrate([video]) == default_locators()


def test_without_timed_validation_the_papers_values_stand_and_say_so() -> None:
    found = calibrate([])
    assert found.full == LocatorSpec(sigma=1.5, threshold=0.65, lookahead=5, calibrated=False, f1=None)
    assert found.low_latency == LocatorSpec(sigma=1.5, threshold=0.65, lookahead=0, calibrated=False, f1=None)


def test_the_grid_is_the_methods() -> None:
    assert SIGMAS == (0, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 2.75, 3.0)
    assert len(THRESHOLDS) == 81
    assert (THRESHOLDS[0], THRESHOLDS[40], THRESHOLDS[80]) == (0.1, 0.5, 0.9)


def test_a_perfect_separation_takes_no_smoothing_and_the_middle() -> None:
    video = ScoredVideo([0.0, 1.0, 0.0, 1.0], np.full(4, 48), np.array([0, 48, 0, 48]))
    for locator in (calibrate([video]).full, calibrate([video]).low_latency):
        assert (locator.sigma, locator.threshold, locator.f1) == (0.0, 0.5, 1.0)


def test_an_alarm_needs_more_than_the_threshold() -> None:
    video = ScoredVideo([0.5, 0.4], np.array([48, 48]), np.array([48, 0]))
    # At 0.5 itself nothing is found; 0.49 is the nearest that finds it.
    assert calibrate([video]).full.threshold == 0.49


def test_of_two_thresholds_as_near_to_the_middle_the_lower_wins() -> None:
    f1 = np.zeros(81)
    f1[[39, 41, 60]] = 0.7
    assert best_threshold(f1) == (0.49, 0.7)
