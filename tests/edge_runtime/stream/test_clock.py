"""One clock for a run: seconds from its start, whatever the clock underneath counts from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from edge_runtime.stream.clock import RunClock


def test_seconds_count_from_the_start_of_the_run() -> None:
    readings = iter([5000.0, 5000.0, 5001.5, 8600.0])
    clock = RunClock(lambda: next(readings))
    assert [clock.now_s() for _ in range(3)] == [0.0, 1.5, 3600.0]


def test_the_start_is_known_in_utc() -> None:
    before = datetime.now(UTC)
    clock = RunClock()
    assert before <= clock.started_at <= datetime.now(UTC)
    assert clock.started_at.tzinfo is UTC


def test_the_real_clock_never_goes_back() -> None:
    clock = RunClock()
    readings = [clock.now_s() for _ in range(1000)]
    assert readings == sorted(readings)
    assert readings[0] >= 0


def test_times_of_day_are_counted_from_the_start_until_the_date_is_set() -> None:
    start = datetime(2031, 1, 1, tzinfo=UTC)
    now, date = [5000.0], [start]
    clock = RunClock(lambda: now[0], lambda: date[0])
    now[0] += 10
    # Two clocks are never read at the same moment.
    date[0] = start + timedelta(seconds=10.05)
    assert clock.utc(8.0) == "2031-01-01T00:00:08.000Z"
    assert clock.utc(8.0004) == "2031-01-01T00:00:08.000Z"
    date[0] = start + timedelta(hours=1, seconds=10)
    assert clock.utc(8.0) == "2031-01-01T01:00:08.000Z"
