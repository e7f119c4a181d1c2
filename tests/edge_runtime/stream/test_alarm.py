"""Least duration and cooldown of events, and alarms that change while a stream goes on."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.records import EventRecord, Record, SegmentRecord
from edge_runtime.site.budget import LEVELS, EventCounts
from edge_runtime.stream.alarm import LONGEST_S, Alarm
from edge_runtime.stream.by_count import FrameSegmenter
from edge_runtime.stream.events import EventGrouper
from edge_runtime.stream.locator import LocatorSpec
from edge_runtime.stream.segments import Gap, Segment, SegmentSpec
from edge_runtime.stream.track import LocatedStream, SegmentTimes, locate

STEP_S = 3.2
# None is a gap.
series = st.lists(st.one_of(st.floats(0, 1), st.none()), max_size=60)
alarms = st.builds(
    Alarm,
    st.floats(0, 1),
    st.one_of(st.just(0.0), st.integers(0, 5).map(lambda count: count * STEP_S), st.floats(0, 20)),
    st.one_of(st.just(0.0), st.integers(0, 8).map(lambda count: count * STEP_S), st.floats(0, 40)),
)


def times(index: int) -> SegmentTimes:
    return SegmentTimes(index, 48 * index, 48 * (index + 1), STEP_S * index, STEP_S * (index + 1))


def spec(threshold: float = 0.5) -> LocatorSpec:
    return LocatorSpec(sigma=0, threshold=threshold, lookahead=0, calibrated=True)


def step(stream: LocatedStream, index: int, score: float | None) -> list[Record]:
    if score is None:
        return stream.gap(Gap(index, 1, STEP_S * index, STEP_S * (index + 1), "lost"))
    return stream.push(times(index), score)


def told(scores: list[float | None], alarm: Alarm | None, threshold: float = 0.5) -> list[Record]:
    stream = LocatedStream("gate", spec(threshold), "run")
    if alarm is not None:
        stream.alarm = alarm
    records = [record for index, score in enumerate(scores) for record in step(stream, index, score)]
    return records + stream.flush()


def runs_of(scores: list[float | None], threshold: float) -> list[list[int]]:
    found: list[list[int]] = []
    for index, score in enumerate(scores):
        if score is not None and score > threshold:
            if found and found[-1][-1] == index - 1:
                found[-1].append(index)
            else:
                found.append([index])
    return found


@given(series, st.floats(0, 1))
def test_without_duration_and_cooldown_records_are_as_they_were(scores: list[float | None], threshold: float) -> None:
    """As an earlier version grouped: byte for byte."""
    expected: list[str] = []
    run: list[tuple[int, float]] = []

    def record(state: str) -> str:
        (first, _), (last, _) = run[0], run[-1]
        values = [score for _, score in run]
        return EventRecord(
            state=state,  # type: ignore[arg-type]
            id=f"run-gate-{first}",
            camera="gate",
            start_s=STEP_S * first,
            end_s=STEP_S * (last + 1),
            start_frame=48 * first,
            end_frame=48 * (last + 1),
            peak=max(values),
            mean=sum(values) / len(values),
        ).to_json()

    for index, score in enumerate([*scores, None]):
        if score is not None and score > threshold:
            run.append((index, score))
            expected.append(record("new" if len(run) == 1 else "update"))
        elif run:
            expected.append(record("end"))
            run.clear()
    for alarm in (None, Alarm(threshold)):
        records = [one for one in told(scores, alarm, threshold) if isinstance(one, EventRecord)]
        assert [one.to_json() for one in records] == expected


@given(series, alarms)
def test_what_lasts_long_enough_and_comes_late_enough_is_told_whole(scores: list[float | None], alarm: Alarm) -> None:
    events: dict[str, list[EventRecord]] = {}
    for record in told(scores, alarm):
        if isinstance(record, EventRecord):
            events.setdefault(record.id, []).append(record)
    ended = -math.inf
    expected = []
    for run in runs_of(scores, alarm.threshold):
        start_s, end_s = STEP_S * run[0], STEP_S * (run[-1] + 1)
        if end_s - start_s >= alarm.min_duration_s - 0.005:
            if start_s - ended >= alarm.cooldown_s - 0.005:
                expected.append(run)
            ended = end_s
    assert list(events) == [f"run-gate-{run[0]}" for run in expected]
    for run, records in zip(expected, events.values(), strict=True):
        shortest, _ = alarm.in_segments(STEP_S)
        assert [one.state for one in records] == ["new", *["update"] * (len(run) - shortest), "end"]
        for place, record in enumerate(records):
            known = [scores[index] for index in run[: min(shortest + place, len(run))]]
            assert record.start_s == STEP_S * run[0]
            assert record.end_s == pytest.approx(STEP_S * (run[0] + len(known)))
            assert record.peak == max(known)
            assert record.mean == pytest.approx(sum(known) / len(known))


@given(series, st.integers(0, len(LEVELS) - 1), st.integers(0, 5), st.integers(0, 8))
def test_a_budget_counts_what_is_told(scores: list[float | None], level: int, shortest: int, cooldown: int) -> None:
    alarm = Alarm(float(LEVELS[level]), shortest * STEP_S, cooldown * STEP_S)
    counts = EventCounts(*alarm.in_segments(STEP_S))
    for index, score in enumerate(scores):
        if score is not None:
            counts.push(index, score)
    new = [one for one in told(scores, alarm) if isinstance(one, EventRecord) and one.state == "new"]
    assert counts.counts[level] == len(new)


@given(
    st.lists(st.floats(0, 1), max_size=60),
    st.integers(0, len(LEVELS) - 1),
    st.sampled_from([2, 4, 8, 16]),
    st.floats(0, 20),
    st.floats(0, 40),
)
def test_a_budget_counts_what_is_told_where_segments_overlap(
    scores: list[float], level: int, stride: int, shortest_s: float, cooldown_s: float
) -> None:
    cut = SegmentSpec(frames=16, sampled=2, fps=5.0, stride=stride)
    segmenter = FrameSegmenter(cut)
    segments = [
        found
        for frame in range(len(scores) * stride + 16 - stride)
        for found in segmenter.push(lambda: np.zeros((1, 1, 3), np.uint8), frame / cut.fps)
    ]
    alarm = Alarm(float(LEVELS[level]), shortest_s, cooldown_s)
    counts, stream = EventCounts(*alarm.in_segments(cut.step_s)), LocatedStream("gate", spec(), "run", cut.overlap)
    stream.alarm = alarm
    records: list[Record] = []
    for one, score in zip(segments, scores, strict=False):
        assert isinstance(one, Segment)
        bounds = SegmentTimes(one.index, one.start_frame, one.end_frame, one.start_s, one.end_s)
        records += stream.push(bounds, score)
    records += stream.flush()
    for record in records:
        if isinstance(record, SegmentRecord):
            counts.push(record.index, record.smoothed)
    new = [one for one in records if isinstance(one, EventRecord) and one.state == "new"]
    assert counts.counts[level] == len(new)


@given(series, alarms, st.floats(0, 2).filter(lambda sigma: sigma == 0 or sigma > 0.1))
def test_the_batch_form_is_the_stream_run_to_its_end(scores: list[float | None], alarm: Alarm, sigma: float) -> None:
    smoothing = LocatorSpec(sigma=sigma, threshold=0.5, lookahead=math.ceil(sigma), calibrated=True)
    stream = LocatedStream("gate", smoothing, "batch")
    stream.alarm = alarm
    records = []
    for index, score in enumerate(scores):
        if score is None:
            records += stream.gap(Gap(index, 1, times(index).start_s, times(index).end_s, "unscored"))
        else:
            records += stream.push(times(index), score)
    records += stream.flush()
    assert locate([times(index) for index in range(len(scores))], scores, smoothing, "gate", alarm) == records


@given(st.lists(st.tuples(st.one_of(st.floats(0, 1), st.none()), st.none() | alarms), max_size=60))
def test_however_an_alarm_changes_each_event_begins_once_and_ends_once(
    steps: list[tuple[float | None, Alarm | None]],
) -> None:
    stream, records = LocatedStream("gate", spec(), "run"), []
    for index, (score, alarm) in enumerate(steps):
        if alarm is not None:
            stream.alarm = alarm
        records += step(stream, index, score)
    records += stream.flush()
    opened: EventRecord | None = None
    seen: set[str] = set()
    for record in records:
        if isinstance(record, EventRecord):
            if record.state == "new":
                assert opened is None
                assert record.id not in seen
                seen.add(record.id)
            else:
                assert opened is not None
                assert (record.id, record.start_s) == (opened.id, opened.start_s)
                assert record.end_s >= opened.end_s
            opened = None if record.state == "end" else record
        elif isinstance(record, SegmentRecord) and not record.anomalous:
            # What was open is ended by the record that follows at once.
            following = records[records.index(record) + 1 :]
            if opened is not None:
                assert isinstance(following[0], EventRecord)
                assert following[0].state == "end"
    assert opened is None


def states(records: list[Record]) -> list[str]:
    return [one.state for one in records if isinstance(one, EventRecord)]


def test_an_event_that_was_told_goes_on_under_a_longer_duration_and_cooldown() -> None:
    stream = LocatedStream("gate", spec(), "run")
    assert states(step(stream, 0, 0.9)) == ["new"]
    stream.alarm = Alarm(0.5, 60.0, 600.0)
    assert states(step(stream, 1, 0.9)) == ["update"]
    assert states(step(stream, 2, 0.1)) == ["end"]
    # It was the last event: its cooldown holds for what comes.
    assert states([*step(stream, 3, 0.9), *step(stream, 4, 0.9)]) == []


def test_what_was_not_told_yet_is_told_once_a_shorter_duration_or_cooldown_lets_it() -> None:
    stream = LocatedStream("gate", spec(), "run")
    stream.alarm = Alarm(0.5, 60.0)
    assert states([*step(stream, 0, 0.7), *step(stream, 1, 0.9)]) == []
    stream.alarm = Alarm(0.5, 6.0, 600.0)
    (new,) = [one for one in step(stream, 2, 0.8) if isinstance(one, EventRecord)]
    assert (new.state, new.id, new.start_s, new.peak) == ("new", "run-gate-0", 0.0, 0.9)
    assert states(step(stream, 3, 0.1)) == ["end"]
    assert states([one for index in range(4, 8) for one in step(stream, index, 0.9)]) == []
    stream.alarm = Alarm(0.5)
    assert states(step(stream, 8, 0.9)) == ["new"]


def test_a_threshold_that_rises_above_an_open_event_ends_it() -> None:
    stream = LocatedStream("gate", spec(), "run")
    step(stream, 0, 0.7)
    stream.threshold = 0.8
    records = step(stream, 1, 0.7)
    assert states(records) == ["end"]
    assert [one.anomalous for one in records if isinstance(one, SegmentRecord)] == [False]
    assert stream.alarm == Alarm(0.8)


def test_another_thread_may_change_it_at_any_moment() -> None:
    stream, ended = LocatedStream("gate", spec(), "run"), threading.Event()

    def change() -> None:
        while not ended.is_set():
            for alarm in (Alarm(0.2, 10.0, 10.0), Alarm(0.8)):
                stream.alarm = alarm

    thread = threading.Thread(target=change)
    thread.start()
    records = [record for index in range(2000) for record in step(stream, index, (index * 7919 % 100) / 100)]
    ended.set()
    thread.join()
    records += stream.flush()
    assert sum(isinstance(one, SegmentRecord) for one in records) == 2000
    assert states(records).count("new") == states(records).count("end")


def test_a_grouper_that_is_told_of_no_alarm_tells_every_event() -> None:
    grouper = EventGrouper("gate", "run")
    record = SegmentRecord("gate", 0, 0, 48, 0.0, 3.2, 0.9, 0.9, True)
    assert [one.state for one in grouper.push(record)] == ["new"]


@pytest.mark.parametrize(
    "values", [(-0.1,), (1.1,), (math.nan,), (0.5, -1.0), (0.5, math.inf), (0.5, 0.0, LONGEST_S + 1), (0.5, math.nan)]
)
def test_nonsense_is_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"lies in 0\.\."):
        Alarm(*values)
