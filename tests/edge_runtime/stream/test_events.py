"""Decisions to events, against grouping with itertools."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.records import SegmentRecord
from edge_runtime.stream.events import EventGrouper


def segment(index: int, anomalous: bool, score: float = 0.5) -> SegmentRecord:
    return SegmentRecord(
        camera="gate",
        index=index,
        start_frame=48 * index,
        end_frame=48 * (index + 1),
        start_s=1.6 * index,
        end_s=1.6 * (index + 1),
        score=score,
        smoothed=score,
        anomalous=anomalous,
    )


# None is a place in the count that no segment takes.
decisions = st.lists(st.none() | st.tuples(st.booleans(), st.floats(0, 1)), max_size=60)


@given(decisions=decisions, closed_at_gaps=st.booleans())
def test_events_are_the_maximal_runs_of_consecutive_anomalous_segments(decisions, closed_at_gaps):
    grouper, records = EventGrouper("gate", "run"), []
    for index, decision in enumerate(decisions):
        if decision is not None:
            records += grouper.push(segment(index, *decision))
        elif closed_at_gaps:
            records += grouper.close()
    records += grouper.close()

    runs = [
        [(index, decision[1]) for index, decision in members]
        for anomalous, members in itertools.groupby(
            enumerate(decisions), key=lambda item: item[1] is not None and item[1][0]
        )
        if anomalous
        for members in [list(members)]
    ]
    told = iter(records)
    for run in runs:
        for seen in range(1, len(run) + 2):
            record, known = next(told), run[: min(seen, len(run))]
            assert record.state == ("new" if seen == 1 else "update" if seen <= len(run) else "end")
            assert record.id == f"run-gate-{run[0][0]}"
            assert (record.start_frame, record.end_frame) == (48 * run[0][0], 48 * (known[-1][0] + 1))
            assert (record.start_s, record.end_s) == pytest.approx((1.6 * run[0][0], 1.6 * (known[-1][0] + 1)))
            assert record.peak == max(score for _, score in known)
            assert record.mean == pytest.approx(sum(score for _, score in known) / len(known))
    assert next(told, None) is None


def test_closing_twice_ends_once():
    grouper = EventGrouper("gate", "run")
    grouper.push(segment(3, True))
    assert [record.state for record in grouper.close() + grouper.close()] == ["end"]
    assert grouper.push(segment(4, True))[0].state == "new"
