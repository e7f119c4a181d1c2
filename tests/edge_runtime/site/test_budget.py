"""Counting at many thresholds against the edge's own events, and budgets that are kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import UsageError
from edge_runtime.records import EventRecord, SegmentRecord
from edge_runtime.site import budget
from edge_runtime.site.budget import DAY_S, LEAST_SEGMENTS, LEVELS, Budget, EventCounts
from edge_runtime.stream.locator import LocatorSpec
from edge_runtime.stream.segments import Gap
from edge_runtime.stream.track import LocatedStream, SegmentTimes

STEP_S = 3.2
# None is a gap.
series = st.lists(st.one_of(st.floats(0, 1), st.none()), max_size=60)
levels = st.integers(0, len(LEVELS) - 1)


@given(series, levels)
def test_a_level_counts_the_events_that_its_threshold_gives(scores, level):
    spec = LocatorSpec(sigma=0, threshold=float(LEVELS[level]), lookahead=0, calibrated=True)
    stream, counts = LocatedStream("gate", spec, "run"), EventCounts()
    records = []
    for index, score in enumerate(scores):
        if score is None:
            records += stream.gap(Gap(index, 1, index, index + 1, "lost"))
        else:
            records += stream.push(SegmentTimes(index, index, index + 1, index, index + 1), score)
            counts.push(index, score)
    expected = sum(isinstance(record, EventRecord) and record.state == "new" for record in records)
    assert counts.counts[level] == expected
    assert counts.segments == sum(score is not None for score in scores)


@given(series, levels, st.integers(1, 4), st.integers(0, 6))
def test_short_ones_and_those_of_the_cooldown_do_not_count(scores, level, shortest, cooldown):
    counts = EventCounts(shortest, cooldown)
    runs: list[list[int]] = []
    for index, score in enumerate(scores):
        if score is None:
            continue
        counts.push(index, score)
        if score > LEVELS[level]:
            if runs and runs[-1][1] == index:
                runs[-1][1] += 1
            else:
                runs.append([index, index + 1])
    expected, ended = 0, None
    for start, end in runs:
        if end - start >= shortest:
            expected += ended is None or start - ended >= cooldown
            ended = end
    assert counts.counts[level] == expected


@pytest.mark.parametrize("per_day", [0, -1, float("nan"), float("inf")])
def test_no_budget_is_refused_by_its_value(per_day):
    with pytest.raises(UsageError, match="above 0"):
        Budget(per_day, 0.5, STEP_S)


def test_events_have_a_segment_at_least():
    with pytest.raises(UsageError, match="1 segment or more"):
        EventCounts(shortest=0)


def test_before_ten_thousand_segments_the_calibrated_threshold_holds_and_says_how_many_are_missing():
    kept = Budget(2.0, 0.65, STEP_S)
    for index in range(LEAST_SEGMENTS - 1):
        threshold = kept.push(index, 0.1)
        assert threshold.value == 0.65
        assert threshold.missing == LEAST_SEGMENTS - 1 - index
    assert kept.push(LEAST_SEGMENTS - 1, 0.1).by_budget


def test_a_smaller_budget_needs_a_longer_time():
    assert Budget(0.1, 0.65, STEP_S).needed == pytest.approx(10 * DAY_S / STEP_S / budget.FACTOR, abs=1)


def test_a_site_without_any_distinct_score_keeps_the_lowest_level_that_gives_nothing():
    kept = Budget(2.0, 0.65, STEP_S)
    for index in range(LEAST_SEGMENTS):
        kept.push(index, 0.1)
    assert LEVELS[0] <= kept.threshold.value < 0.5


def test_scores_of_one_leave_no_threshold_but_one():
    kept = Budget(2.0, 0.65, STEP_S)
    for index in range(0, 2 * LEAST_SEGMENTS, 2):
        kept.push(index, 1.0)
    assert kept.threshold.value == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_the_budget_is_kept_where_scores_are_drawn_alike(seed):
    rng = np.random.default_rng(seed)
    kept = Budget(20.0, 0.5, STEP_S)
    days, events, anomalous = 3, 0, False
    for index, score in enumerate(rng.beta(1, 8, int(days * DAY_S / STEP_S))):
        above, counted = score > kept.threshold.value, kept.threshold.by_budget
        events += bool(counted and above and not anomalous)
        anomalous = above
        kept.push(index, float(score))
    in_force_days = days - kept.needed * STEP_S / DAY_S
    assert 1 / 1.5 <= events / in_force_days / 20.0 <= 1.5


@pytest.mark.parametrize(("recent", "kept_within"), [(budget.RECENT, True), (budget.PARTS, False)])
def test_where_events_double_every_week_the_last_days_keep_the_budget(monkeypatch, recent, kept_within):
    """Three weeks of segments of half a minute; without a word of the last days the budget is not kept."""
    step_s, per_day, weeks = 32.0, 20.0, 3
    monkeypatch.setattr(budget, "PART", 5400)
    monkeypatch.setattr(budget, "RECENT", recent)
    rng = np.random.default_rng(0)
    count = int(weeks * 7 * DAY_S / step_s)
    odds = rng.exponential(0.3, count) - 3 + 0.3 * np.log(2) * np.arange(count) / count * weeks
    kept, events, anomalous, in_force = Budget(per_day, 0.5, step_s), 0, False, 0
    for index, score in enumerate(1 / (1 + np.exp(-odds))):
        above = score > kept.threshold.value
        in_force += kept.threshold.by_budget
        events += bool(kept.threshold.by_budget and above and not anomalous)
        anomalous = above
        kept.push(index, float(score))
    factor = events / (in_force * step_s / DAY_S) / per_day
    assert (1 / 1.5 <= factor <= 1.5) == kept_within


@settings(max_examples=20)
@given(st.lists(st.floats(0, 1), max_size=60))
def test_what_was_kept_goes_on_as_before(scores):
    before, after = Budget(2.0, 0.5, STEP_S), Budget(2.0, 0.5, STEP_S)
    for index, score in enumerate(scores):
        before.push(index, score)
    after.restore(before.events.arrays())
    assert (after.events.counts == before.events.counts).all()
    assert after.threshold == before.threshold


def test_counts_of_other_events_are_not_taken_over():
    before, after = EventCounts(), EventCounts(shortest=2)
    before.push(0, 0.9)
    after.restore(before.arrays())
    assert after.segments == 0


def test_arrays_of_something_else_are_refused():
    arrays = EventCounts().arrays()
    for name, wrong in (
        ("parts", np.zeros(3)),
        ("parts", np.zeros((99, 1024), np.int64)),
        ("sizes", np.array([-1, 0, 1])),
    ):
        with pytest.raises(ValueError):
            EventCounts().restore(arrays | {name: wrong})


def test_a_real_event_is_taken_out_and_put_back():
    kept = Budget(2.0, 0.5, STEP_S)
    kept.push(0, 0.9)
    counted = kept.events.counts
    kept.events.discount(0.9, 1)
    assert not kept.events.counts.any()
    kept.events.discount(0.9, 0, back=True)
    np.testing.assert_array_equal(kept.events.counts, counted)


def test_a_real_event_is_taken_out_where_it_was_counted(monkeypatch):
    monkeypatch.setattr(budget, "PART", 10)
    counts = EventCounts()
    for index in range(35):
        counts.push(index, 0.9 if index in (12, 31) else 0.001)
    # The newest part holds 5 segments, and three before it 10 each.
    counts.discount(0.9, 35 - 12)
    level = np.searchsorted(LEVELS, 0.5)
    assert [counts.newest(parts)[0][level] for parts in (1, 2, 3, 4)] == [1, 1, 1, 1]
    # Of before the first segment.
    counts.discount(0.9, 36)
    assert counts.counts[level] == 1


def test_memory_stays_and_old_events_are_forgotten(monkeypatch):
    monkeypatch.setattr(budget, "PART", 10)
    counts = EventCounts()
    for index in range(0, 1000, 2):
        counts.push(index, 0.9 if index < 500 else 0.001)
    assert 10 * (budget.PARTS - 1) <= counts.segments <= 10 * budget.PARTS
    assert counts.counts[np.searchsorted(LEVELS, 0.5)] == 0


def test_a_stream_decides_by_the_threshold_that_a_budget_set():
    stream = LocatedStream("gate", LocatorSpec(sigma=0, threshold=0.5, lookahead=0, calibrated=True), "run")
    anomalous = []
    for index, threshold in enumerate((0.5, 0.7, 0.5)):
        stream.threshold = threshold
        records = stream.push(SegmentTimes(index, index, index + 1, index, index + 1), 0.6)
        anomalous += [record.anomalous for record in records if isinstance(record, SegmentRecord)]
    assert anomalous == [True, False, True]
