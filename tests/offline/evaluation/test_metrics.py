from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score

from edge_runtime.errors import DatasetError
from offline.data.spans import spans
from offline.evaluation.metrics import (
    EventCounts,
    average_precision,
    best_f1,
    check_scores,
    detection_delays,
    f1_at,
    false_alarms,
    frame_auc,
    match_events,
    pr_auc_trapezoid,
    temporal_iou,
)

# Few distinct values, so that ties, which segment scores are full of, are the rule.
frames = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])), min_size=2, max_size=40)
events = st.lists(st.integers(0, 60), unique=True, max_size=10).map(
    lambda cuts: list(zip(sorted(cuts)[0::2], sorted(cuts)[1::2], strict=False))
)


def arrays(rows: list[tuple[bool, float]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([label for label, _ in rows], dtype=bool), np.array([score for _, score in rows])


@given(frames)
def test_auc_is_the_share_of_pairs_in_order(rows: list[tuple[bool, float]]) -> None:
    labels, scores = arrays(rows)
    pairs = [(a > b) + (a == b) / 2 for a in scores[labels] for b in scores[~labels]]
    value = frame_auc(labels, scores)
    assert value == (pytest.approx(np.mean(pairs)) if pairs else None)


@given(frames)
def test_the_two_areas_under_precision_and_recall(rows: list[tuple[bool, float]]) -> None:
    labels, scores = arrays(rows)
    step, area, recall, precision = 0.0, 0.0, 0.0, 1.0
    for threshold in sorted(set(scores), reverse=True):
        alarm = scores >= threshold
        hits = (alarm & labels).sum()
        now = hits / max(labels.sum(), 1)
        step += (now - recall) * hits / alarm.sum()
        area += (now - recall) * (hits / alarm.sum() + precision) / 2
        recall, precision = now, hits / alarm.sum()
    if labels.any() and not labels.all():
        assert average_precision(labels, scores) == pytest.approx(step)
        assert pr_auc_trapezoid(labels, scores) == pytest.approx(area)
    else:
        assert average_precision(labels, scores) is None
        assert pr_auc_trapezoid(labels, scores) is None


@given(frames)
def test_best_f1_is_the_best_over_every_threshold(rows: list[tuple[bool, float]]) -> None:
    labels, scores = arrays(rows)
    best = best_f1(labels, scores)
    if not labels.any() or labels.all():
        assert best is None
        return
    assert best is not None
    every = [f1_score(labels, scores > threshold, zero_division=0) for threshold in [-1.0, *scores]]
    assert best.f1 == pytest.approx(max(every))
    # The threshold that is reported gives what is reported.
    assert f1_at(labels, scores, best.threshold) == best


@given(frames, st.sampled_from([-1.0, 0.0, 0.3, 0.5, 1.0]))
def test_f1_at_a_threshold_is_scikit_learns(rows: list[tuple[bool, float]], threshold: float) -> None:
    labels, scores = arrays(rows)
    point = f1_at(labels, scores, threshold)
    if point is None:
        assert labels.all() or not labels.any()
        return
    alarm = scores > threshold
    assert point.f1 == pytest.approx(f1_score(labels, alarm, zero_division=0))
    assert point.recall == pytest.approx(recall_score(labels, alarm))
    assert point.precision == (pytest.approx(precision_score(labels, alarm)) if alarm.any() else None)


@pytest.mark.parametrize("figure", [frame_auc, average_precision, pr_auc_trapezoid, best_f1])
def test_one_class_or_a_bad_score_is_never_a_number(figure) -> None:
    scores = np.linspace(0, 1, 5)
    assert figure(np.zeros(5, dtype=bool), scores) is None
    assert figure(np.ones(5, dtype=bool), scores) is None
    assert figure(np.zeros(0, dtype=bool), np.zeros(0)) is None
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(DatasetError, match="not finite, the first at index 3"):
            figure(np.array([True, False, True, False]), np.array([0.0, 0.5, 1.0, bad]))
    with pytest.raises(ValueError, match="one length"):
        figure(np.ones(4, dtype=bool), scores)
    with pytest.raises(ValueError, match="must be bool"):
        figure(np.array([0, 1, 0, 1, 1]), scores)


def test_bad_scores_name_the_video() -> None:
    with pytest.raises(DatasetError, match=r"gate\.mp4: 1 of 3 scores"):
        check_scores(np.array([0.0, np.nan, 1.0]), "gate.mp4")


@given(st.lists(st.booleans(), max_size=40))
def test_spans_and_masks_are_the_same_thing(mask: list[bool]) -> None:
    rebuilt = np.zeros(len(mask), dtype=bool)
    found = spans(np.array(mask, dtype=bool))
    for start, end in found:
        assert start < end
        rebuilt[start:end] = True
    assert rebuilt.tolist() == mask
    assert all(end < start for (_, end), (start, _) in itertools.pairwise(found))


@settings(max_examples=60, deadline=None)
@given(events, events, st.sampled_from([0.1, 0.3, 0.5, 0.7, 1.0]))
def test_matching_is_one_to_one_and_the_largest(real: list, predicted: list, iou: float) -> None:
    counts = match_events(real, predicted, iou)
    few, many = sorted((real, predicted), key=len)
    best = max(
        sum(temporal_iou(a, b) >= iou for a, b in zip(few, order, strict=True))
        for order in itertools.permutations(many, len(few))
    )
    assert counts == EventCounts(best, len(real) - best, len(predicted) - best)


@given(st.tuples(st.integers(0, 20), st.integers(1, 20)), st.tuples(st.integers(0, 20), st.integers(1, 20)))
def test_iou_counts_frames(first: tuple[int, int], second: tuple[int, int]) -> None:
    (a, n), (b, m) = first, second
    one, two = set(range(a, a + n)), set(range(b, b + m))
    assert temporal_iou((a, a + n), (b, b + m)) == len(one & two) / len(one | two)


def test_an_event_found_twice_counts_once() -> None:
    counts = match_events([(0, 100)], [(0, 60), (60, 100)], 0.3)
    assert counts == EventCounts(matched=1, missed=0, spurious=1)
    assert (counts.precision, counts.recall, counts.f1) == (0.5, 1.0, pytest.approx(2 / 3))
    nothing = match_events([], [], 0.5)
    assert (nothing.precision, nothing.recall, nothing.f1) == (None, None, None)
    assert match_events([], [(0, 5)], 0.5).precision == 0.0
    assert match_events([(0, 5)], [], 0.5).f1 == 0.0
    assert counts + nothing == counts
    with pytest.raises(ValueError, match="IoU"):
        match_events([], [], 0.0)


def test_delay_and_false_alarms() -> None:
    alarm = np.zeros(100, dtype=bool)
    alarm[15:25] = alarm[40:60] = True
    assert detection_delays([(10, 30), (50, 70), (80, 90)], alarm) == [5, 0, None]
    assert false_alarms([(10, 30), (50, 70)], spans(alarm)) == 0
    # Half-open: an alarm that ends where the event starts does not touch it.
    assert false_alarms([(25, 40)], spans(alarm)) == 2
