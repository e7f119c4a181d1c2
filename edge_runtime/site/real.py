"""What operators call real is taken out of what budgets count, as soon as they say so, whoever noted it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

from edge_runtime.site.store import Mark, Store
from edge_runtime.stream.locator import LocatorSpec, radius, smooth

# An event that was told so lately may still go on, and reach higher scores than it has.
_SETTLED_S = 60.0

_Key = tuple[str, str]


class Discount(Protocol):
    """As of `Alarms.discount`."""

    def __call__(self, camera: str, peak: float, ago_s: float, *, back: bool = False) -> None:
        """Take an event out of the counts, or put it back."""


class RealEvents:
    """Compares the marks of one store with those of before. For one thread.

    What was marked before the first look is in the counts already, which outlive the run. A mark that is deleted
    while its segments are there puts its event back; one that was forgotten with them does not.

    Args:
        discount: Told of each event.
        locator_of: How a camera's scores are smoothed.
    """

    def __init__(self, discount: Discount, locator_of: Callable[[str], LocatorSpec]) -> None:
        self._discount, self._locator_of = discount, locator_of
        self._looked: tuple[Store, int] | None = None
        self._known: dict[_Key, Mark] | None = None
        self._waiting: dict[_Key, Mark] = {}

    def look(self, store: Store) -> None:
        """Take what was said since the last look. Where nobody wrote to the store it costs microseconds.

        Raises:
            sqlite3.Error: The store cannot be read; the next look takes it.
        """
        # The numbers of two connections say nothing about each other.
        looked = store, store.changes()
        if looked == self._looked and not self._waiting:
            return
        marks = {_key(mark): mark for mark in store.marks() if mark.verdict == "missed"}
        if self._known is None:
            self._known = marks
        for key in self._known.keys() - marks.keys():
            # One that was not taken out yet is not put back.
            if key not in self._waiting:
                self._tell(store, self._known[key], back=True)
            self._waiting.pop(key, None)
            del self._known[key]
        self._waiting |= {key: marks[key] for key in marks.keys() - self._known.keys()}
        self._known |= marks
        for key, mark in list(self._waiting.items()):
            if mark.event is None or time.time() - _end_of(store, mark) > _SETTLED_S:
                self._tell(store, mark)
                del self._waiting[key]
        # Last: what could not be read is looked at again.
        self._looked = looked

    def _tell(self, store: Store, mark: Mark, *, back: bool = False) -> None:
        locator = self._locator_of(mark.camera)
        peak = _smoothed_peak(store, mark.camera, mark.start, _end_of(store, mark), locator)
        if peak is not None:
            self._discount(mark.camera, peak, time.time() - mark.start, back=back)


def _end_of(store: Store, mark: Mark) -> float:
    """When it ended: an event that was marked while it was open has gone on."""
    event = None if mark.event is None else store.event(mark.event)
    return mark.end if event is None else event.end


def _key(mark: Mark) -> _Key:
    # One that is marked again has another number.
    return mark.camera, mark.event or f"{mark.start!r} {mark.end!r}"


def _smoothed_peak(store: Store, camera: str, start: float, end: float, locator: LocatorSpec) -> float | None:
    """The highest smoothed score of a stretch, as it was told; None where nothing of it is kept."""
    inside = store.scores(camera, start, end)
    if not len(inside[0]):
        return None
    reach = (radius(locator.sigma) + 1) * float(np.max(inside[1] - inside[0]))
    starts, ends, scores = store.scores(camera, start - reach, end + reach)
    smoothed = smooth(scores.tolist(), locator.sigma, locator.lookahead)
    middles = (starts + ends) / 2
    return max(
        (value for value, at in zip(smoothed, middles, strict=True) if value is not None and start <= at <= end),
        default=None,
    )
