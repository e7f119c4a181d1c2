"""P-values against counting, and what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.site import pvalues
from edge_runtime.site.pvalues import GUARD, OWN_FROM, PValues, Scores

# Few distinct values, so that there are ties; 0 and 1 among them.
tied = st.lists(st.sampled_from([0.0, 1e-9, 0.1, 0.1000001, 0.5, 0.9, 0.999999, 1.0]), max_size=60)
any_scores = st.lists(st.floats(0, 1), max_size=60)
NONE = np.empty(0)


@pytest.fixture(autouse=True)
def short_tail(monkeypatch):
    monkeypatch.setattr(pvalues, "_TAIL", 8)


def scores_of(values) -> Scores:
    scores = Scores()
    for value in values:
        scores.add(value)
    return scores


@given(st.one_of(tied, any_scores), st.floats(0, 1))
def test_the_highest_are_counted_exactly_and_no_count_is_too_low(values, score):
    exact = sum(value >= score for value in values)
    counted = scores_of(values).at_least(score)
    assert counted >= exact
    if exact < 8 or len(values) <= 8:
        assert counted == exact


@given(st.one_of(tied, any_scores))
def test_a_higher_score_is_never_less_rare(values):
    scores = scores_of(values)
    counts = [scores.at_least(score) for score in np.linspace(0, 1, 101)]
    assert counts == sorted(counts, reverse=True)


@given(st.one_of(tied, any_scores).filter(bool), st.floats(0.001, 1))
def test_among_exchangeable_scores_p_is_at_most_a_in_at_most_a_of_all_cases(values, a):
    # Each of them was as likely to come last.
    ps = [PValues(np.array(values[:i] + values[i + 1 :])).of(value) for i, value in enumerate(values)]
    assert sum(found is not None and found.p <= a for found in ps) <= a * len(values) + 1e-9


def test_three_hundred_normals_cannot_say_less_than_1_in_301():
    found = PValues(np.linspace(0, 0.9, 300)).of(1.0)
    assert found is not None
    assert (found.p, found.one_in, found.among, found.own) == (1 / 301, 301, 300, False)


def test_with_nothing_to_compare_with_there_is_no_p_value():
    assert PValues(NONE).of(0.5) is None


def test_what_is_no_probability_is_refused():
    for wrong in ([1.5], [float("nan")], [[0.5]]):
        with pytest.raises(ValueError):
            PValues(np.array(wrong))


def test_the_site_speaks_for_itself_when_it_has_shown_enough():
    values = PValues(np.full(300, 0.99))
    for _ in range(OWN_FROM + GUARD):
        found = values.push(0.5, in_event=False)
        assert found is not None
        assert not found.own
        assert found.p == 1
    found = values.of(0.9)
    assert found is not None
    assert found.own
    assert found.p == 1 / (OWN_FROM + 1)


@given(st.lists(st.booleans(), max_size=120))
def test_quiet_is_what_is_no_event_nor_near_one(in_events):
    values = PValues(NONE, guard=3)
    for in_event in in_events:
        values.push(0.5, in_event)
    count = len(in_events)
    quiet = [i for i in range(count) if not any(in_events[max(0, i - 3) : i + 4])]
    # The last three may still turn out to be near an event.
    assert values.quiet == sum(i < count - 3 for i in quiet)


few = st.lists(st.floats(0, 1), max_size=4)  # no more than are kept exactly


@given(few, few, st.floats(0, 1))
def test_real_events_among_the_quiet_ones_make_scores_less_rare_by_no_more_than_their_share(quiet, real, score):
    found = {}
    for name, values in (("clean", quiet), ("mixed", quiet + real)):
        found[name] = (1 + scores_of(values).at_least(score)) / (1 + len(values))
    share = len(real) / (1 + len(quiet) + len(real))
    assert found["mixed"] <= found["clean"] + share + 1e-12


def test_memory_stays_and_old_scores_are_forgotten(monkeypatch):
    monkeypatch.setattr(pvalues, "GENERATION", 100)
    values = PValues(NONE)
    for number in range(1000):
        values.admit(0.9 if number < 500 else 0.1)
    assert 100 <= values.quiet <= 200
    assert values._now.at_least(0.5) + values._before.at_least(0.5) == 0


@given(any_scores)
def test_what_was_kept_goes_on_as_before(scores):
    before, after = PValues(NONE), PValues(NONE)
    for score in scores:
        before.admit(score)
    after.restore(before.arrays())
    assert after.quiet == before.quiet
    for score in np.linspace(0, 1, 21):
        assert after._now.at_least(score) == before._now.at_least(score)


def test_arrays_that_contradict_each_other_are_refused():
    values = PValues(NONE)
    values.admit(0.5)
    for name, wrong in (
        ("now_counts", np.zeros(3, dtype=np.int64)),
        ("now_tail", np.array([0.5, 0.6])),
        ("now_tail", np.array([np.nan])),
        ("before_counts", np.full(2048, -1)),
    ):
        with pytest.raises(ValueError):
            PValues(NONE).restore(values.arrays() | {name: wrong})
