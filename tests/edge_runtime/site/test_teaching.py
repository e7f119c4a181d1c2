"""What a page, MQTT and the command line do with marks: all bundles of a run as one, from any thread."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.bundle.reader import Bundle
from edge_runtime.errors import Conflict, HeadHuntError, OutputFailed, UsageError
from edge_runtime.site.learned import read_learned
from edge_runtime.site.place import Site
from edge_runtime.site.seal import Seal
from edge_runtime.site.store import KnownEvent, Remembered
from edge_runtime.site.teaching import Teaching
from edge_runtime.stream.locator import LocatorSpec

DAY_S = 86_400.0


def loud(site: Site) -> NDArray[np.float32]:
    """Features that the bundle's scorer takes for an anomaly."""
    known = site.calibration
    way = known.prior_mean[:-1]
    z = way * (4.0 - known.prior_mean[-1]) / (way @ way)
    return (known.mean + known.scale * z).astype(np.float32)


def fill(site: Site, camera: str, events: int = 2) -> None:
    """Some events of a camera, ten segments each, a minute apart; named `<camera>-<number>`."""
    features, zero = loud(site), float(int(time.time()) - 3600)
    with site.open_store() as store:
        for number in range(events):
            start = zero + 60 * number
            segments = [Remembered(camera, start + 3 * i, start + 3 * i + 3, 0.9, features) for i in range(10)]
            store.remember(segments, [KnownEvent(f"{camera}-{number}", camera, start, start + 30, 0.9)])


@pytest.fixture
def site(bundle: Bundle, tmp_path: Path) -> Site:
    return Site.of(bundle, tmp_path / "site", Seal(tmp_path / "state"))


@pytest.fixture
def both(site: Site, tmp_path: Path) -> list[Site]:
    """Two bundles of one run."""
    twin = msgspec.structs.replace(site.manifest, bundle_id="ab" * 32)
    return [site, Site(tmp_path / "other", twin, site.calibration, site.seal)]


def test_nothing_is_kept_yet(site: Site) -> None:
    teaching = Teaching([site])
    assert teaching.status().to_dict() == {"marks": [], "scorer": None, "can_undo": False}
    assert teaching.verdicts() == {}
    assert teaching.newest_event("gate") is None
    assert teaching.mark_event("gate-1", None) is None
    for wrong in (
        lambda: teaching.mark_event("gate-1", "missed"),
        lambda: teaching.mark_missed("gate", 1.0, 2.0),
        teaching.propose,
        lambda: teaching.accept("x"),
        teaching.undo,
    ):
        with pytest.raises(UsageError):
            wrong()
    assert not any(teaching.unmark(number) for number in (-1, 0, 1, 10**9, 10**18))
    assert not site.folder.exists()


def test_what_is_agreed_to_is_what_was_shown(site: Site) -> None:
    fill(site, "gate")
    teaching = Teaching([site])
    first = teaching.mark_event("gate-0", "false_alarm")
    assert first is not None
    assert teaching.verdicts() == {"gate-0": "false_alarm"}
    shown = teaching.propose()
    assert teaching.propose().parts[0] is shown.parts[0]
    # Somebody marks in between, here or in another process.
    Teaching([site]).mark_event("gate-1", "false_alarm")
    with pytest.raises(Conflict):
        teaching.accept(shown.id)
    assert read_learned(site) is None
    newer = teaching.propose()
    assert newer.id != shown.id
    assert newer.marks == 2
    learned = teaching.accept(newer.id)
    assert read_learned(site) == learned
    # Pressed twice: what was shown has become something else by then.
    with pytest.raises(Conflict):
        teaching.accept(newer.id)
    assert not teaching.propose().changes
    status = teaching.status()
    assert (status.scorer is not None, status.can_undo) == (True, True)
    assert teaching.unmark(first.id)
    assert not teaching.unmark(first.id)
    assert teaching.undo() is None
    assert not teaching.status().can_undo


def test_what_is_shown_is_plain(site: Site) -> None:
    fill(site, "gate")
    teaching = Teaching([site])
    teaching.mark_event("gate-0", "false_alarm")
    told = teaching.propose().to_dict()
    assert told["marks"] == told["false_alarms"] == 1
    assert (told["segments"], told["wrong_before"]) == (10, 1)
    assert told["kept"] + told["gone_in_all"] == 2
    (mark,) = teaching.status().to_dict()["marks"]
    assert mark["start"].endswith("Z")
    assert mark["event"] == "gate-0"


def test_an_event_has_one_mark_however_it_grows(site: Site) -> None:
    fill(site, "gate")
    teaching = Teaching([site])
    teaching.mark_event("gate-0", "false_alarm")
    with site.open_store() as store:
        event = store.event("gate-0")
        assert event is not None
        store.remember([], [KnownEvent(event.id, event.camera, event.start, event.end + 3, 0.9)])
    teaching.mark_event("gate-0", "missed")
    assert [mark.verdict for mark in teaching.marks()] == ["missed"]
    with pytest.raises(UsageError, match="another camera"):
        teaching.mark_event("gate-0", "missed", "yard")
    teaching.mark_event("gate-0", None, "yard")
    assert len(teaching.marks()) == 1
    teaching.mark_event("gate-0", None)
    assert teaching.marks() == []


@pytest.mark.parametrize(
    ("start", "end"), [(0.0, 1e12), (-1e300, 1e300), (0.0, float("inf")), (float("nan"), 1.0), (5.0, 5.0), (6.0, 5.0)]
)
def test_a_stretch_is_one_that_something_can_happen_in(site: Site, start: float, end: float) -> None:
    fill(site, "gate")
    with pytest.raises(UsageError):
        Teaching([site]).mark_missed("gate", start, end)
    assert Teaching([site]).marks() == []


def test_the_threshold_that_holds_for_a_camera_counts(site: Site) -> None:
    class Limits:
        threshold, min_duration_s, cooldown_s = 0.999, 0.0, 0.0

    fill(site, "gate")
    fill(site, "yard")
    limits: dict[str, Limits] = {}
    teaching = Teaching([site], alarm_of=limits.get)
    teaching.mark_event("gate-0", "missed")
    assert {alarm.camera for alarm in teaching.propose().parts[0].kept} == {"gate", "yard"}
    # Set on the page while the proposal is known: the same scorer, other alarms.
    limits["gate"] = Limits()
    assert {alarm.camera for alarm in teaching.propose().parts[0].kept} == {"yard"}


def test_each_camera_has_its_locator(site: Site) -> None:
    asked: list[str] = []

    def locator_of(camera: str) -> str:
        asked.append(camera)
        return "low_latency"

    fill(site, "gate")
    teaching = Teaching([site], locator_of=locator_of)
    teaching.mark_event("gate-0", "missed")
    assert isinstance(site.manifest.locators.low_latency, LocatorSpec)
    teaching.propose()
    assert set(asked) == {"gate"}


def test_two_bundles_are_one_to_an_operator(both: list[Site]) -> None:
    for site, camera in zip(both, ("gate", "yard"), strict=True):
        fill(site, camera)
    teaching = Teaching(both)
    teaching.add(both[1])
    marks = [teaching.mark_event(event, "false_alarm") for event in ("gate-0", "yard-0", "yard-1")]
    numbers = [mark.id for mark in marks if mark is not None]
    assert len(set(numbers)) == 3
    assert teaching.newest_event("yard") == "yard-1"
    shown = teaching.propose()
    assert (shown.marks, len(shown.parts)) == (3, 2)
    teaching.accept(shown.id)
    assert all(read_learned(site) is not None for site in both)
    # One more of one of them: only that one learns.
    teaching.unmark(numbers[2])
    teaching.accept(teaching.propose().id)
    first, second = (read_learned(site) for site in both)
    assert first is not None
    assert second is not None
    assert (first.number, second.number) == (1, 2)
    # Undo takes back what was agreed to at once, one step after the other.
    undone = teaching.undo()
    assert undone is not None
    assert [learned.number for site in both if (learned := read_learned(site)) is not None] == [1, 1]
    assert teaching.undo() is None
    assert [read_learned(site) for site in both] == [None, None]
    erased = teaching.forget(None, 0.0, time.time() + DAY_S)
    assert (erased.kept.marks, erased.kept.events, erased.kept.segments) == (2, 4, 40)
    assert teaching.marks() == []


def test_many_threads_leave_one_truth(site: Site) -> None:
    """Marks from everywhere, and an agreement in between: nothing is lost, and one is agreed to at most at a time."""
    fill(site, "gate", 12)
    teaching, agreed, refused = Teaching([site]), list[int](), list[str]()
    teaching.mark_event("gate-0", "false_alarm")
    begin = threading.Barrier(4)

    def mark(first: int) -> None:
        begin.wait(30)
        for number in range(first, 12, 3):
            Teaching([site]).mark_event(f"gate-{number}", "false_alarm")

    def agree() -> None:
        begin.wait(30)
        for _ in range(6):
            try:
                agreed.append(teaching.accept(teaching.propose().id).number)
            except Conflict as error:
                refused.append(str(error))

    with ThreadPoolExecutor(4) as pool:
        for done in [*[pool.submit(mark, first) for first in range(3)], pool.submit(agree)]:
            done.result(120)
    assert len(teaching.marks()) == 12
    assert agreed == list(range(1, len(agreed) + 1))
    learned = read_learned(site)
    assert (0 if learned is None else learned.number) == len(agreed)


def test_a_store_that_is_damaged_is_told_in_one_line(site: Site) -> None:
    fill(site, "gate")
    teaching = Teaching([site])
    content = bytearray(site.store_path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    site.store_path.write_bytes(content)
    with pytest.raises(HeadHuntError) as told:
        teaching.mark_event("gate-0", "false_alarm")
    assert isinstance(told.value, OutputFailed)
    assert "\n" not in str(told.value)
