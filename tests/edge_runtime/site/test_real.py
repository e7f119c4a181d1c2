"""What operators call real is told once, with the score that was told, and taken back when they do."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
from site_calibration import ID, SIZE, calibration

from edge_runtime.site.real import RealEvents
from edge_runtime.site.store import KnownEvent, Remembered, Store
from edge_runtime.stream.locator import LocatorSpec, smooth

STEP_S = 3.0
LOCATOR = LocatorSpec(sigma=1.0, threshold=0.5, lookahead=3, calibrated=True)
SCORES = [0.1, 0.2, 0.1, 0.9, 0.7, 0.95, 0.2, 0.1, 0.1, 0.3]
SMOOTHED = smooth(SCORES, LOCATOR.sigma, LOCATOR.lookahead)


class Discounts:
    """What was told, as (peak, ago, back)."""

    def __init__(self) -> None:
        self.told: list[tuple[float, float, bool]] = []

    def __call__(self, camera: str, peak: float, ago_s: float, *, back: bool = False) -> None:
        assert camera == "gate"
        self.told.append((peak, ago_s, back))


@pytest.fixture
def begun_s() -> float:
    return float(int(time.time()) - 1000)


@pytest.fixture
def store(tmp_path: Path, begun_s: float) -> Store:
    store = Store(tmp_path / "features.sqlite", ID, calibration())
    segments = [
        Remembered(
            "gate", begun_s + STEP_S * place, begun_s + STEP_S * (place + 1), score, np.zeros(SIZE, dtype=np.float32)
        )
        for place, score in enumerate(SCORES)
    ]
    store.remember(segments, [KnownEvent("e", "gate", begun_s + 3 * STEP_S, begun_s + 6 * STEP_S, 0.95)])
    return store


@pytest.fixture
def other(store: Store) -> Store:
    """The same file, as another process has it open."""
    return Store(store.path, ID, calibration())


@pytest.fixture
def discounts() -> Discounts:
    return Discounts()


@pytest.fixture
def real(discounts: Discounts, store: Store) -> RealEvents:
    real = RealEvents(discounts, lambda _: LOCATOR)
    real.look(store)
    return real


def test_an_event_is_told_once_with_its_smoothed_peak(
    store: Store, other: Store, real: RealEvents, discounts: Discounts, begun_s: float
) -> None:
    other.mark_event("e", "missed", 1.0)
    for _ in range(3):
        real.look(store)
    # Said again.
    other.mark_event("e", "missed", 2.0)
    real.look(store)
    ((peak, ago_s, back),) = discounts.told
    assert peak == pytest.approx(max(value for value in SMOOTHED if value is not None))
    assert ago_s == pytest.approx(time.time() - begun_s - 3 * STEP_S, abs=60)
    assert not back


def test_a_false_alarm_is_not_told(store: Store, other: Store, real: RealEvents, discounts: Discounts) -> None:
    other.mark_event("e", "false_alarm", 1.0)
    real.look(store)
    assert not discounts.told


def test_another_word_puts_it_back(store: Store, other: Store, real: RealEvents, discounts: Discounts) -> None:
    other.mark_event("e", "missed", 1.0)
    real.look(store)
    other.mark_event("e", "false_alarm", 2.0)
    real.look(store)
    assert [back for _, _, back in discounts.told] == [False, True]
    assert discounts.told[0][0] == discounts.told[1][0]


def test_what_was_forgotten_is_not_put_back(
    store: Store, other: Store, real: RealEvents, discounts: Discounts, begun_s: float
) -> None:
    other.mark_event("e", "missed", 1.0)
    real.look(store)
    other.forget(None, begun_s, begun_s + 100)
    real.look(store)
    assert len(discounts.told) == 1


def test_marks_of_before_the_run_are_in_the_counts(store: Store, other: Store, discounts: Discounts) -> None:
    other.mark_event("e", "missed", 1.0)
    real = RealEvents(discounts, lambda _: LOCATOR)
    real.look(store)
    real.look(store)
    assert not discounts.told


def test_an_event_that_may_go_on_is_waited_for(
    store: Store,
    other: Store,
    real: RealEvents,
    discounts: Discounts,
    monkeypatch: pytest.MonkeyPatch,
    begun_s: float,
) -> None:
    monkeypatch.setattr(time, "time", lambda: begun_s + 8 * STEP_S)
    other.remember([], [KnownEvent("e", "gate", begun_s + 3 * STEP_S, begun_s + 5 * STEP_S, 0.9)])
    other.mark_event("e", "missed", 1.0)
    real.look(store)
    assert not discounts.told
    # It went on to its highest score.
    other.remember([], [KnownEvent("e", "gate", begun_s + 3 * STEP_S, begun_s + 6 * STEP_S, 0.95)])
    monkeypatch.setattr(time, "time", lambda: begun_s + 6 * STEP_S + 61)
    real.look(store)
    ((peak, _, _),) = discounts.told
    assert peak == pytest.approx(SMOOTHED[4] if SMOOTHED[4] > SMOOTHED[5] else SMOOTHED[5])


def test_one_that_was_unsaid_while_it_was_waited_for_changes_nothing(
    store: Store,
    other: Store,
    real: RealEvents,
    discounts: Discounts,
    monkeypatch: pytest.MonkeyPatch,
    begun_s: float,
) -> None:
    monkeypatch.setattr(time, "time", lambda: begun_s + 8 * STEP_S)
    other.mark_event("e", "missed", 1.0)
    real.look(store)
    other.unmark_event("e")
    monkeypatch.setattr(time, "time", lambda: begun_s + 1000)
    real.look(store)
    assert not discounts.told


def test_a_store_that_was_opened_again_is_looked_at(
    store: Store, other: Store, real: RealEvents, discounts: Discounts
) -> None:
    store.close()
    other.mark_event("e", "missed", 1.0)
    with Store(other.path, ID, calibration()) as again:
        real.look(again)
    assert len(discounts.told) == 1


def test_what_could_not_be_read_is_taken_by_the_next_look(
    store: Store, other: Store, real: RealEvents, discounts: Discounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise sqlite3.OperationalError("database is locked")

    other.mark_event("e", "missed", 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(store, "scores", busy)
        with pytest.raises(sqlite3.OperationalError):
            real.look(store)
    real.look(store)
    other.unmark_event("e")
    with monkeypatch.context() as patch:
        patch.setattr(store, "scores", busy)
        with pytest.raises(sqlite3.OperationalError):
            real.look(store)
    real.look(store)
    assert [back for _, _, back in discounts.told] == [False, True]


def test_one_that_went_on_is_put_back_as_it_was_taken_out(
    store: Store,
    other: Store,
    real: RealEvents,
    discounts: Discounts,
    monkeypatch: pytest.MonkeyPatch,
    begun_s: float,
) -> None:
    monkeypatch.setattr(time, "time", lambda: begun_s + 8 * STEP_S)
    other.remember([], [KnownEvent("e", "gate", begun_s + 3 * STEP_S, begun_s + 4 * STEP_S, 0.9)])
    other.mark_event("e", "missed", 1.0)
    real.look(store)
    other.remember([], [KnownEvent("e", "gate", begun_s + 3 * STEP_S, begun_s + 6 * STEP_S, 0.95)])
    monkeypatch.setattr(time, "time", lambda: begun_s + 1000)
    real.look(store)
    other.unmark_event("e")
    real.look(store)
    assert [back for _, _, back in discounts.told] == [False, True]
    assert discounts.told[0][0] == discounts.told[1][0]
