"""Stability selection counts what hunts in halves choose."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from edge_runtime.errors import FeatureError, UsageError
from models.heads import HeadRef
from offline.extraction.features import FeatureSet
from offline.hunting.hunt import Selection, hunt
from offline.hunting.stability import Stability, by_frequency, stability

SELECTION = Selection(top_k=2)


def calibration(strength: float, videos: int = 24) -> FeatureSet:
    rng = np.random.default_rng(0)
    labels = np.arange(videos) % 2 == 1
    features = rng.standard_normal((videos, 1, 3, 4, 6)).astype(np.float32)
    features[labels, :, 2, 1] += strength
    features[labels, :, 0, 3] += strength
    return FeatureSet(features, labels, ("plain",), tuple(map(str, range(videos))))


def test_heads_that_know_come_up_always_and_others_by_luck() -> None:
    found = stability(calibration(3.0), SELECTION, 12)
    assert found.of(HeadRef(2, 1)) == found.of(HeadRef(0, 3)) == 1.0
    assert found.frequency.sum() == pytest.approx(2)
    assert found.overlap == 1.0
    luck = stability(calibration(0.0), SELECTION, 12)
    assert luck.frequency.sum() == pytest.approx(2)
    assert luck.overlap < 0.9
    assert luck.overlap_by_chance == 2 / 12


def test_overlap_is_the_mean_over_pairs() -> None:
    rng = np.random.default_rng(0)
    chosen = [set(rng.choice(12, 3, replace=False).tolist()) for _ in range(7)]
    counts = np.bincount([head for one in chosen for head in one], minlength=12).reshape(3, 4)
    expected = np.mean([len(a & b) / 3 for a, b in combinations(chosen, 2)])
    assert Stability(7, 3, counts / 7).overlap == pytest.approx(expected)


def test_the_same_seed_gives_the_same() -> None:
    steps: list[tuple[int, int]] = []
    once = stability(calibration(0.5), SELECTION, 4, 1, lambda done, total, *_: steps.append((done, total)))
    np.testing.assert_array_equal(once.frequency, stability(calibration(0.5), SELECTION, 4, 1).frequency)
    assert once.to_dict()["frequency"] == once.frequency.tolist()
    assert steps[-1] == (48, 48)
    assert steps == sorted(steps)


def test_the_most_frequent_heads_become_the_experts_and_ties_go_to_the_higher_rss() -> None:
    features = calibration(1.0)
    found = hunt(features.features, features.labels, features.prompts, SELECTION)
    counts = np.zeros((3, 4))
    counts[1, 1], counts[0, 0], counts[2, 2] = 1.0, 0.5, 0.5
    experts = Stability(2, 2, counts).most_frequent(found).experts
    second = max(((0, 0), (2, 2)), key=lambda head: found.rss[head])
    assert [(one.layer, one.head) for one in experts] == [(1, 1), second]
    assert all(one.rss == found.rss[one.layer, one.head] for one in experts)
    with pytest.raises(FeatureError, match="layer 3, head 0 is outside 3 x 4"):
        found.choosing([HeadRef(3, 0)])
    with pytest.raises(FeatureError, match="no head"):
        found.choosing([])


def test_the_choice_by_frequency_is_that_of_the_counts() -> None:
    features, steps = calibration(0.5), list[tuple[int, int]]()
    chosen = by_frequency(6, 3)(features, SELECTION, lambda done, total, *_: steps.append((done, total)))
    whole = hunt(features.features, features.labels, features.prompts, SELECTION)
    assert chosen.experts == stability(features, SELECTION, 6, 3).most_frequent(whole).experts
    assert steps[-1][0] == steps[-1][1]
    assert steps == sorted(steps)


def test_too_few_videos_or_draws_are_refused() -> None:
    with pytest.raises(FeatureError, match="3 normal and 3 anomalous"):
        stability(calibration(1.0, 6), SELECTION, 5)
    with pytest.raises(UsageError, match="1 draws"):
        stability(calibration(1.0), SELECTION, 1)
