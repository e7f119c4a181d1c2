"""Smoothing against the formula, written out once more in plain numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import UsageError
from edge_runtime.stream.locator import LARGEST_SIGMA, LocatorSpec, Smoother, kernel, radius, smooth

probabilities = st.floats(0, 1)
# None is a gap; a run of them is a gap of any length.
series = st.lists(st.one_of(probabilities, st.none()), max_size=60)
sigmas = st.one_of(st.just(0.0), st.floats(0.05, 4))


@st.composite
def operating_points(draw):
    sigma = draw(sigmas)
    return sigma, draw(st.integers(0, math.ceil(3 * sigma)))


def smoothed_directly(scores, sigma, lookahead):
    """p′_t = Σ p_j G(t − j) / Σ G(t − j) over the j within [t − r, t + lookahead] that have a score."""
    r = math.ceil(3 * sigma)
    out = []
    for t, own in enumerate(scores):
        near = [j for j in range(max(0, t - r), min(len(scores), t + lookahead + 1)) if scores[j] is not None]
        gauss = [1.0 if j == t else math.exp(-((t - j) ** 2) / (2 * sigma**2)) for j in near]
        out.append(None if own is None else float(np.average([scores[j] for j in near], weights=gauss)))
    return out


@given(scores=series, point=operating_points())
def test_smooth_is_the_formula(scores, point):
    expected = smoothed_directly(scores, *point)
    got = smooth(scores, *point)
    assert [value is None for value in got] == [value is None for value in expected]
    assert [v for v in got if v is not None] == pytest.approx([v for v in expected if v is not None], abs=1e-12)


@given(
    stretches=st.lists(st.tuples(st.integers(1, 12) | st.integers(100, 10**12), st.lists(probabilities, max_size=8))),
    point=operating_points(),
    told=st.booleans(),
)
def test_gaps_of_any_length_told_or_not(stretches, point, told):
    """A gap that `advance_to` announces, and one that is only seen by the next index, give the same scores."""
    sigma, lookahead = point
    smoother, final, index, squeezed = Smoother(sigma, lookahead), [], 0, []
    for gap, scores in stretches:
        index += gap
        # Beyond the kernel's reach the length of a gap makes no difference.
        squeezed += [None] * min(gap, 30)
        if told:
            final += smoother.advance_to(index - 1)
        for score in scores:
            final += smoother.push(index, score)
            index += 1
            squeezed.append(score)
    final += smoother.flush()
    expected = [value for value in smoothed_directly(squeezed, sigma, lookahead) if value is not None]
    assert [value for _, value in final] == pytest.approx(expected, abs=1e-12)
    assert [i for i, _ in final] == sorted({i for i, _ in final})
    assert smoother.flush() == []


@given(scores=st.lists(probabilities, min_size=1, max_size=40), point=operating_points())
def test_each_score_is_final_as_soon_as_its_lookahead_is_there(scores, point):
    sigma, lookahead = point
    smoother = Smoother(sigma, lookahead)
    for index, score in enumerate(scores):
        assert [i for i, _ in smoother.push(index, score)] == ([index - lookahead] if index >= lookahead else [])


@given(score=probabilities, point=operating_points(), gaps=st.lists(st.booleans(), max_size=40))
def test_a_mean_stays_within_its_terms(score, point, gaps):
    """Equal scores stay exactly equal: at the threshold, rounding must not make an alarm."""
    assert set(smooth([None if gap else score for gap in gaps], *point)) <= {score, None}


@given(sigma=st.floats(1e-9, 1e-4), scores=st.lists(probabilities, max_size=10))
def test_a_tiny_sigma_is_no_smoothing(sigma, scores):
    assert smooth(scores, sigma, 1) == pytest.approx(scores)


def test_memory_does_not_grow():
    smoother = Smoother(2.0, 6)
    for index in range(10_000):
        smoother.push(index, 0.5)
    assert len(smoother._scores) <= 2 * radius(2.0) + 1
    assert len(smoother._pending) == 6
    smoother.advance_to(20_000)
    assert not smoother._scores
    assert not smoother._pending


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_no_score(score):
    with pytest.raises(ValueError, match="is a gap"):
        Smoother(1.0, 0).push(0, score)


def test_indices_only_grow():
    smoother = Smoother(1.0, 0)
    smoother.push(5, 0.1)
    for index in (5, 4):
        with pytest.raises(ValueError, match="came after"):
            smoother.push(index, 0.1)


@pytest.mark.parametrize(("sigma", "lookahead"), [(1.0, 4), (0.0, 1), (1.0, -1)])
def test_a_lookahead_beyond_the_kernel_is_refused(sigma, lookahead):
    with pytest.raises(UsageError, match="lookahead"):
        Smoother(sigma, lookahead)
    with pytest.raises(ValueError, match="lookahead"):
        LocatorSpec(sigma=sigma, threshold=0.5, lookahead=lookahead, calibrated=False)


@pytest.mark.parametrize("sigma", [-0.1, math.nan, math.inf, 1e300, LARGEST_SIGMA + 1])
def test_a_sigma_that_is_none_is_refused(sigma):
    with pytest.raises(ValueError, match="sigma"):
        LocatorSpec(sigma=sigma, threshold=0.5, lookahead=0, calibrated=False)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan])
def test_a_threshold_that_is_no_probability_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold"):
        LocatorSpec(sigma=1.0, threshold=threshold, lookahead=0, calibrated=False)


def test_kernel_and_radius():
    assert [radius(sigma) for sigma in (0, 0.1, 1 / 3, 0.5, 1.5, 3)] == [0, 1, 1, 2, 5, 9]
    assert kernel(0).tolist() == [1.0]
    assert kernel(2.0) == pytest.approx([math.exp(-(k**2) / 8) for k in range(7)])
