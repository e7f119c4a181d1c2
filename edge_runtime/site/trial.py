"""What other settings would have told: alarms of two settings on remembered scores, a week of a camera in no time.

A day is 24 hours of remembered segments, as it is for a budget: hours in which a camera was not watched do not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.stream.alarm import ROUNDING_S, Alarm

FloatArray = NDArray[np.float64]

#: How many alarms are listed of each kind, at most.
MOST = 200

_DAY_S = 86_400.0
# Segments that follow each other meet; a gap lasts longer than times may have been rounded by.
_APART_S = 0.05


@dataclass(frozen=True, slots=True)
class TriedAlarm:
    """An alarm as one setting gives it.

    Attributes:
        start: When its first segment began.
        end: When its last segment ended.
        peak: The highest smoothed score of its segments.
    """

    start: float
    end: float
    peak: float


@dataclass(frozen=True, slots=True)
class Counted:
    """How many alarms one setting gives.

    Attributes:
        alarms: All of them.
        per_day: In 24 hours of watching; 0 where nothing is remembered.
    """

    alarms: int
    per_day: float


@dataclass(frozen=True, slots=True)
class Tried:
    """Two settings on the same scores.

    Attributes:
        days: How long was watched, in days.
        now: What the setting that holds gives.
        then: What the other one gives.
        gone_count: Alarms of `now` that meet none of `then`.
        new_count: Alarms of `then` that meet none of `now`.
        gone: The last of them, in order.
        new: The last of them, in order.
    """

    days: float
    now: Counted
    then: Counted
    gone_count: int
    new_count: int
    gone: tuple[TriedAlarm, ...]
    new: tuple[TriedAlarm, ...]


def tried(
    starts: FloatArray, ends: FloatArray, smoothed: FloatArray, now: Alarm, then: Alarm, most: int = MOST
) -> Tried:
    """Compare what two settings tell of one camera's segments.

    Each counts what a run tells of the same smoothed scores. Where a run began anew it forgets a cooldown, which is
    not known here; a gap of less than 50 ms is none.

    Args:
        starts: (n,), in order.
        ends: (n,).
        smoothed: (n,), smoothed scores.
        now: The setting that holds.
        then: The other one.
        most: How many alarms are listed of each kind.
    """
    first, second = (_alarms(starts, ends, smoothed, one) for one in (now, then))
    days = float((ends - starts).sum()) / _DAY_S
    gone, new = first[~_meet(first, second)], second[~_meet(second, first)]
    return Tried(
        days=days,
        now=_counted(first, days),
        then=_counted(second, days),
        gone_count=len(gone),
        new_count=len(new),
        gone=_listed(gone, most),
        new=_listed(new, most),
    )


def _alarms(starts: FloatArray, ends: FloatArray, smoothed: FloatArray, alarm: Alarm) -> FloatArray:
    """Starts, ends and peaks of what is told, (a, 3), in order."""
    above = smoothed > alarm.threshold
    follows = np.zeros(len(above), dtype=np.bool_)
    follows[1:] = above[:-1] & (starts[1:] - ends[:-1] < _APART_S)
    firsts = np.flatnonzero(above & ~follows)
    if not len(firsts):
        return np.empty((0, 3))
    # A run ends where the next segment does not go on with it.
    goes_on = np.append(follows[1:] & above[1:], False)
    lasts = np.flatnonzero(above & ~goes_on)
    begun, ended = starts[firsts], ends[lasts]
    bounds = np.column_stack([firsts, lasts + 1]).ravel()
    # Every other slice is a run; the last bound may lie behind the end.
    padded = np.append(smoothed, -np.inf)
    peaks = np.maximum.reduceat(padded, bounds)[::2]
    # As `Alarm` says, of all of them at once.
    rows = np.column_stack([begun, ended, peaks])[ended - begun >= alarm.min_duration_s - ROUNDING_S]
    if not len(rows):
        return rows
    before = np.concatenate([[-np.inf], rows[:-1, 1]])
    told: FloatArray = rows[rows[:, 0] - before >= alarm.cooldown_s - ROUNDING_S]
    return told


def _meet(alarms: FloatArray, others: FloatArray) -> NDArray[np.bool_]:
    """Whether each overlaps one of the others; both are in order, and those of one setting do not overlap."""
    begun = np.searchsorted(others[:, 0], alarms[:, 1], side="left")
    over = np.searchsorted(others[:, 1], alarms[:, 0], side="right")
    meet: NDArray[np.bool_] = begun > over
    return meet


def _counted(alarms: FloatArray, days: float) -> Counted:
    return Counted(len(alarms), len(alarms) / days if days > 0 else 0.0)


def _listed(alarms: FloatArray, most: int) -> tuple[TriedAlarm, ...]:
    return tuple(TriedAlarm(*row) for row in alarms[max(0, len(alarms) - most) :].tolist())
