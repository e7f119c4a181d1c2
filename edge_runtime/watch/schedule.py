"""When a camera is watched: hours of weekdays by the clock on the wall. Pure: the time is given.

An hour that a change to summer time leaves out does not come; one that the change back repeats comes twice.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = 24 * 60
_WEEK = 7 * _DAY
# Hours of one weekday may fall into the hour that summer time leaves out: the week after has them.
_HORIZON = timedelta(days=16)
_HOURS = re.compile(r"([0-9]{1,2}):([0-9]{2})-([0-9]{1,2}):([0-9]{2})")
_EXAMPLE = "write it as mon-fri 22:00-06:00; sat,sun 00:00-24:00"


@dataclass(frozen=True, slots=True)
class Schedule:
    """Stretches of a week.

    Attributes:
        stretches: (start, end) in minutes since Monday 00:00, half-open, in order and apart from each other.
        zone: Whose clock; None: the system's.
    """

    stretches: tuple[tuple[int, int], ...]
    zone: tzinfo | None = None

    @classmethod
    def parse(cls, text: str | Sequence[str], zone: tzinfo | None = None) -> Schedule:
        """Read `mon-fri 22:00-06:00; sat,sun 00:00-24:00`, or a list of such.

        An entry is days and hours. Days are single, `mon-fri` (`sat-mon` goes over Sunday) or both with commas;
        without them, or as `daily`, it is every day. Hours are one `start-end` or several with commas; an end
        before its start is on the next day.

        Args:
            text: What the operator wrote.
            zone: Whose clock; None: the system's.

        Raises:
            ValueError: It cannot be read, or holds no entry; the message quotes the entry and says what it takes.
        """
        texts = [text] if isinstance(text, str) else text
        entries = [entry.strip().lower() for one in texts for entry in one.split(";") if entry.strip()]
        if not entries:
            raise ValueError(f"a schedule without hours; {_EXAMPLE}, or leave it out to watch always")
        return cls(_merged(stretch for entry in entries for stretch in _entry(entry)), zone)

    def active(self, moment: datetime) -> bool:
        """Whether the camera is watched at that moment.

        Raises:
            ValueError: The moment has no time zone.
        """
        local = self._local(moment)
        minute = local.weekday() * _DAY + local.hour * 60 + local.minute
        before = bisect_right(self.stretches, (minute, _WEEK + 1)) - 1
        return before >= 0 and minute < self.stretches[before][1]

    def next_change(self, moment: datetime) -> datetime | None:
        """When `active` next becomes another, in UTC; None where it never does.

        Raises:
            ValueError: The moment has no time zone.
        """
        now = self.active(moment)
        moments = sorted({*self._edges(moment), *self._leaps(moment)})
        return next((edge for edge in moments if edge > moment and self.active(edge) != now), None)

    def _local(self, moment: datetime) -> datetime:
        if moment.tzinfo is None:
            raise ValueError("a moment without a time zone is no moment")
        return moment.astimezone(self.zone)

    def _edges(self, moment: datetime) -> Iterator[datetime]:
        """Every moment around now at which the clock shows the start or end of a stretch."""
        today = self._local(moment).date()
        # The weeks' Mondays; a stretch that ends now may have begun a week ago.
        monday = today - timedelta(days=today.weekday())
        for week in range(-1, 4):
            begin = datetime.combine(_later(monday, week * 7), datetime.min.time())
            for minute in {minute for stretch in self.stretches for minute in stretch}:
                wall = begin + timedelta(minutes=minute)
                for fold in (0, 1):
                    yield wall.replace(tzinfo=self.zone, fold=fold).astimezone(UTC)

    def _leaps(self, moment: datetime) -> Iterator[datetime]:
        """Moments at which the clock is put forward or back, to the second."""
        hour = timedelta(hours=1)
        earlier = moment.astimezone(UTC).replace(microsecond=0)
        end = earlier + _HORIZON
        while earlier < end:
            later = earlier + hour
            if (offset := self._local(earlier).utcoffset()) != self._local(later).utcoffset():
                low, high = earlier, later
                while high - low > timedelta(seconds=1):
                    middle = low + timedelta(seconds=(high - low) // timedelta(seconds=1) // 2)
                    low, high = (middle, high) if self._local(middle).utcoffset() == offset else (low, middle)
                yield high
            earlier = later


def _later(day: date, days: int) -> date:
    return day + timedelta(days=days)


def _entry(entry: str) -> Iterator[tuple[int, int]]:
    """Stretches of one entry; those over the end of the week in two parts."""
    named, hours = re.fullmatch(r"([^0-9]*)(.*)", entry, re.DOTALL).groups()  # type: ignore[union-attr]
    days = set(range(7))
    if named.strip() not in ("", "daily"):
        days = {day for part in named.split(",") for day in _days(part.strip(), entry)}
    for text in hours.split(","):
        found = _HOURS.fullmatch(text.strip())
        if found is None:
            raise ValueError(f"{entry!a} is no entry of a schedule; {_EXAMPLE}")
        start_hour, start_minute, end_hour, end_minute = map(int, found.groups())
        start, end = start_hour * 60 + start_minute, end_hour * 60 + end_minute
        if max(start_minute, end_minute) > 59 or start >= _DAY or end > _DAY:
            raise ValueError(f"{entry!a}: hours are 00:00 to 23:59, an end may be 24:00")
        if start == end:
            raise ValueError(f"{entry!a}: starts when it ends; a whole day is 00:00-24:00")
        for day in days:
            begin = day * _DAY + start
            until = day * _DAY + end + (_DAY if end < start else 0)
            yield begin, min(until, _WEEK)
            if until > _WEEK:
                yield 0, until - _WEEK


def _days(part: str, entry: str) -> Iterator[int]:
    first, dash, last = (word.strip() for word in part.partition("-"))
    for word in (first, *([last] if dash else [])):
        if word not in DAYS:
            raise ValueError(f"{entry!a}: {word!a} is no day; days are {', '.join(DAYS)}")
    begin = DAYS.index(first)
    length = (DAYS.index(last) - begin) % 7 if dash else 0
    return ((begin + step) % 7 for step in range(length + 1))


def _merged(stretches: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(stretches):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return tuple(merged)
