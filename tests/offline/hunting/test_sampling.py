"""The curve over sampled frames says what a hunt with so many frames gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from offline.extraction.features import FeatureSet
from offline.hunting.depth import Trial, Units, judge_experts
from offline.hunting.hunt import Selection, hunt
from offline.hunting.sampling import SamplingPoint, fewer_frames, sampling_curve

PROMPTS = ("coarse", "detailed")
SELECTION = Selection(top_k=2)


def trial(strength: float) -> Trial:
    """One head knows the class, the better the more is seen."""
    random = np.random.default_rng(int(10 * strength))

    def sample(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(count) % 2 == 0
        features = random.standard_normal((count, len(PROMPTS), 3, 2, 4), dtype=np.float32)
        features[labels, :, 1, 1] += strength
        return features, labels

    features, labels = sample(30)
    judged, wrong = sample(40)
    names = tuple(map(str, range(len(labels))))
    validation = Units(judged, np.full(40, 10), np.where(wrong, 10, 0))
    return Trial(FeatureSet(features, labels, PROMPTS, names), validation, LogisticRegression().fit)


@given(sampled=st.integers(1, 64), group=st.integers(1, 4))
def test_fewer_frames_are_parts_of_the_whole_in_whole_groups(sampled: int, group: int) -> None:
    counts = fewer_frames(sampled, group)
    assert counts == sorted(set(counts))
    assert all(0 < count < sampled and sampled % count == 0 and count % group == 0 for count in counts)


def test_usual_numbers() -> None:
    assert fewer_frames(16, 1) == [2, 4, 8]
    assert fewer_frames(16, 2) == [2, 4, 8]
    assert fewer_frames(12, 2) == [6]
    assert fewer_frames(1, 1) == []


def test_each_point_is_a_hunt_of_its_own_and_the_last_one_the_builds() -> None:
    given_trials = {count: trial(0.15 * count) for count in (2, 4, 8, 16)}
    asked = []

    def with_frames(count: int) -> Trial:
        asked.append(count)
        return given_trials[count]

    points = sampling_curve(16, given_trials[16], with_frames, 1, SELECTION)
    assert asked == [2, 4, 8]
    assert [point.sampled for point in points] == [2, 4, 8, 16]
    for point in points:
        one = given_trials[point.sampled]
        found = hunt(one.calibration.features, one.calibration.labels, PROMPTS, SELECTION)
        assert (point.auc, point.f1) == judge_experts(found, one)
    assert points[0].auc is not None
    assert points[-1].auc is not None
    assert points[0].auc < points[-1].auc


def test_no_frames_at_all_are_no_point() -> None:
    with pytest.raises(ValueError, match="at least one"):
        SamplingPoint(0, 0.5, 0.5)
