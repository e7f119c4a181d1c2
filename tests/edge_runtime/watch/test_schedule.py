"""Hours of the week against a clock that is asked every minute."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_runtime.watch.schedule import DAYS, Schedule

BERLIN = ZoneInfo("Europe/Berlin")
# A quarter of an hour off, half an hour of summer time, a day that was left out, none at all.
ZONES = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Asia/Kathmandu",
    "America/Sao_Paulo",
    "UTC",
]
MINUTE = timedelta(minutes=1)

Entry = tuple[frozenset[int], int, int]

entries = st.tuples(
    st.frozensets(st.integers(0, 6), min_size=1),
    st.integers(0, 24 * 60 - 1),
    st.integers(0, 24 * 60),
).filter(lambda entry: entry[1] != entry[2])
# Around the changes of the clock, and the day that Samoa left out.
moments = st.one_of(
    st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1)),
    st.datetimes(datetime(2026, 3, 28), datetime(2026, 3, 30)),
    st.datetimes(datetime(2026, 10, 24), datetime(2026, 10, 26)),
    st.datetimes(datetime(2011, 12, 28), datetime(2012, 1, 1)),
).map(lambda moment: moment.replace(tzinfo=UTC))


def clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def written(entry: Entry) -> str:
    days, start, end = entry
    return f"{','.join(DAYS[day] for day in sorted(days))} {clock(start)}-{clock(end)}"


def oracle(wanted: list[Entry], moment: datetime, zone: ZoneInfo) -> bool:
    """What a person with a watch and a calendar says."""
    local = moment.astimezone(zone)
    minute = local.hour * 60 + local.minute
    for days, start, end in wanted:
        if start < end:
            if local.weekday() in days and start <= minute < end:
                return True
        elif (local.weekday() in days and minute >= start) or ((local.weekday() - 1) % 7 in days and minute < end):
            return True
    return False


@given(st.lists(entries, min_size=1, max_size=4), moments, st.sampled_from(ZONES))
def test_it_is_what_a_watch_and_a_calendar_say(wanted: list[Entry], moment: datetime, zone: str) -> None:
    where = ZoneInfo(zone)
    schedule = Schedule.parse("; ".join(map(written, wanted)), where)
    for minutes in range(0, 1440, 37):
        at = moment + minutes * MINUTE
        assert schedule.active(at) == oracle(wanted, at, where)


@settings(max_examples=40)
@example([(frozenset({6}), 2 * 60 + 15, 2 * 60 + 45)], datetime(2026, 3, 28, tzinfo=UTC), "Europe/Berlin")
@example([(frozenset({6}), 2 * 60 + 15, 2 * 60 + 45)], datetime(2026, 10, 24, tzinfo=UTC), "Europe/Berlin")
@example([(frozenset(range(7)), 22 * 60, 6 * 60)], datetime(2011, 12, 29, tzinfo=UTC), "Pacific/Apia")
@given(st.lists(entries, min_size=1, max_size=3), moments, st.sampled_from(ZONES))
def test_the_next_change_is_the_first_minute_that_differs(wanted: list[Entry], moment: datetime, zone: str) -> None:
    where = ZoneInfo(zone)
    schedule = Schedule.parse([written(entry) for entry in wanted], where)
    change = schedule.next_change(moment)
    now = oracle(wanted, moment, where)
    whole = moment.replace(second=0, microsecond=0)
    later = (whole + minutes * MINUTE for minutes in range(1, 16 * 1440))
    expected = next((at for at in later if oracle(wanted, at, where) != now), None)
    assert change == expected


@pytest.mark.parametrize("text", ["mon-sun 00:00-24:00", "00:00-24:00", "daily 00:00-12:00, 12:00-24:00"])
def test_always_has_no_change(text: str) -> None:
    schedule = Schedule.parse(text, BERLIN)
    assert schedule.active(datetime(2031, 5, 6, 7, 8, tzinfo=UTC))
    assert schedule.next_change(datetime(2031, 5, 6, 7, 8, tzinfo=UTC)) is None


def test_days_go_over_sunday_and_hours_over_midnight() -> None:
    schedule = Schedule.parse("fri-mon 22:00-06:00; Wed 10:00-11:00", BERLIN)
    # 2026-11-20 is a Friday.
    seen = [schedule.active(datetime(2026, 11, 20 + day, 23, tzinfo=BERLIN)) for day in range(7)]
    assert seen == [True, True, True, True, False, False, False]
    assert schedule.active(datetime(2026, 11, 24, 5, 59, tzinfo=BERLIN))
    assert not schedule.active(datetime(2026, 11, 24, 6, 0, tzinfo=BERLIN))
    assert schedule.active(datetime(2026, 11, 25, 10, 30, tzinfo=BERLIN))


def test_the_systems_own_clock() -> None:
    now = datetime.now(UTC)
    local = now.astimezone()
    text = f"{clock(local.hour * 60 + local.minute)}-{clock((local.hour * 60 + local.minute + 2) % 1440)}"
    schedule = Schedule.parse(text)
    assert schedule.active(now)
    change = schedule.next_change(now)
    assert change is not None
    assert timedelta() < change - now <= 2 * MINUTE


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "without hours"),
        ([], "without hours"),
        (" ; ", "without hours"),
        ("mon", "no entry"),
        ("mon 9-17", "no entry"),
        ("mon 09:00", "no entry"),
        ("mon 09:00-25:00", "24:00"),
        ("mon 24:00-06:00", "23:59"),
        ("mon 09:60-10:00", "23:59"),
        ("mon 09:00-09:00", "00:00-24:00"),
        ("moon 09:00-10:00", "'moon' is no day"),
        ("mon-fry 09:00-10:00", "'fry' is no day"),
        ("mon, 09:00-10:00", "'' is no day"),
        ("9:00-10:00 mon", "no entry"),
    ],
)
def test_what_cannot_be_read(text: str | list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Schedule.parse(text)


@given(st.text(alphabet="monfriu 0123456789:-,;", max_size=40))
def test_any_text_is_a_schedule_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert Schedule.parse(text).stretches


def test_a_moment_has_a_zone() -> None:
    with pytest.raises(ValueError, match="without a time zone"):
        Schedule.parse("00:00-12:00").active(datetime(2026, 1, 1))
