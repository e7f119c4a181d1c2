"""What a run writes for feedback: features as they are scored, events, and never a delay."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.records import EventRecord, RunRecord
from edge_runtime.site.feedback import accept, propose
from edge_runtime.site.learned import undo_learned
from edge_runtime.site.place import Site
from edge_runtime.site.real import RealEvents
from edge_runtime.site.recorder import Recorder
from edge_runtime.site.recorders import Kept, Recorders
from edge_runtime.site.seal import Seal
from edge_runtime.site.store import row_bytes
from edge_runtime.site.teaching import Teaching
from edge_runtime.stream.clock import rfc3339
from edge_runtime.stream.locator import LocatorSpec
from edge_runtime.stream.segments import Segment


@pytest.fixture(scope="module")
def opened(bundle: Bundle) -> Iterator[Detector]:
    with Detector(bundle, "cpu", self_test=False) as detector:
        yield detector


@pytest.fixture
def detector(bundle: Bundle, opened: Detector) -> Detector:
    return Detector(bundle, engine=opened.engine, self_test=False)


@pytest.fixture
def site(bundle: Bundle, tmp_path: Path) -> Site:
    return Site.of(bundle, tmp_path / "site", Seal(tmp_path / "state"))


def until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def begun(started: float) -> RunRecord:
    from datetime import UTC, datetime

    moment = rfc3339(datetime.fromtimestamp(started, UTC))
    return RunRecord(run="r", started=moment, bundle_id="", version="", cameras=["gate"])


def event(state: str, end_s: float) -> EventRecord:
    return EventRecord(state, "r-gate-1", "gate", 0.0, end_s, 0, 96, 0.9, 0.8)  # type: ignore[arg-type]


def score(detector: Detector, count: int = 2) -> list[float]:
    frames = detector.bundle.golden().frames
    return [
        detector.score_segment("gate", Segment(i, 48 * i, 48 * i + 48, 3.0 * i, 3.0 * i + 3, frames[i % 2])) or 0.0
        for i in range(count)
    ]


def test_what_is_scored_and_told_is_kept_and_can_be_marked(site: Site, detector: Detector, bundle: Bundle) -> None:
    recorder, started = Recorder(site, detector), float(int(time.time()) - 100)
    recorder.write(begun(started))
    scores = score(detector)
    recorder.write(event("new", 3.0))
    recorder.write(event("end", 6.0))
    until(site.store_path.is_file)
    with site.open_store() as store:
        until(lambda: len(store.segments("gate")) == 2 and store.event("r-gate-1") is not None)
        segments = store.segments("gate")
        assert [one.start for one in segments] == [started, started + 3]
        assert [one.score for one in segments] == pytest.approx(scores)
        scale = site.calibration.scale
        kept = np.stack([one.features for one in segments])
        assert (np.abs(kept - bundle.golden().features) / scale).max() < 0.01
        until(lambda: store.event("r-gate-1").end == started + 6)  # type: ignore[union-attr]
        store.mark_event("r-gate-1", "false_alarm", 1.0)
        assert len(store.marked()[0]) == 2
    recorder.close()
    assert detector.seen == []


def test_what_anybody_calls_real_is_told_while_the_run_goes_on(site: Site, detector: Detector) -> None:
    told: list[tuple[str, float, bool]] = []

    def discount(camera: str, peak: float, ago_s: float, *, back: bool = False) -> None:
        assert 90 < ago_s < 300
        told.append((camera, peak, back))

    real = RealEvents(discount, lambda _: LocatorSpec(sigma=0, threshold=0.5, lookahead=0, calibrated=True))
    recorder = Recorder(site, detector, real=real)
    recorder.write(begun(float(int(time.time()) - 100)))
    scores = score(detector)
    recorder.write(event("end", 6.0))
    until(site.store_path.is_file)
    # Whoever marks it: another process has the store open, too.
    with site.open_store() as store:
        until(lambda: store.event("r-gate-1") is not None)
        store.mark_event("r-gate-1", "missed", 1.0)
        until(lambda: len(told) == 1)
        store.unmark_event("r-gate-1")
        until(lambda: len(told) == 2)
    recorder.close()
    assert told == [("gate", pytest.approx(max(scores)), False), ("gate", pytest.approx(max(scores)), True)]


def test_an_accepted_scorer_is_used_within_seconds_and_the_bundles_after_undo(site: Site, detector: Detector) -> None:
    recorder = Recorder(site, detector)
    recorder.write(begun(time.time() - 100))
    plain = score(detector)
    assert detector.site_scorer is None
    with site.open_store() as store:
        until(lambda: len(store.segments("gate")) == 2)
        first = store.segments("gate")[0]
        store.mark("missed", "gate", first.start, first.end, 1.0)
        accept(site, propose(site, store))
    until(lambda: detector.site_scorer is not None)
    taught = score(detector)
    assert taught[0] > plain[0]
    # The bundle's golden values are still those of its own scorer.
    detector.self_test()
    undo_learned(site)
    until(lambda: detector.site_scorer is None)
    assert score(detector) == plain
    recorder.close()


def test_a_scorer_that_cannot_be_read_changes_nothing(site: Site, detector: Detector) -> None:
    site.folder.mkdir()
    site.scorer_path.write_text("nonsense")
    recorder = Recorder(site, detector)
    assert detector.site_scorer is None
    recorder.close()


def test_a_disk_that_takes_nothing_delays_no_scoring(site: Site, detector: Detector) -> None:
    """The store's folder is a file: nothing can be written, everything is scored."""
    site.folder.write_text("in the way")
    recorder = Recorder(site, detector)
    recorder.write(begun(time.time()))
    assert len(score(detector, 4)) == 4
    recorder.close()


def test_a_thread_that_is_stuck_is_not_waited_for(site: Site, detector: Detector) -> None:
    """Another process holds the store: features queue, and scoring goes on."""
    with site.open_store() as store:
        store._db.execute("BEGIN IMMEDIATE")
        recorder = Recorder(site, detector)
        recorder.write(begun(time.time()))
        done = threading.Event()

        def scored() -> None:
            score(detector, 2)
            done.set()

        thread = threading.Thread(target=scored)
        thread.start()
        assert done.wait(60)
        thread.join()
        store._db.execute("ROLLBACK")
        until(lambda: len(store.segments("gate")) == 2)
    recorder.close()


def test_a_camera_has_its_bytes_a_day(site: Site, detector: Detector) -> None:
    row = row_bytes(site.calibration.feature_size)
    recorder = Recorder(site, detector, bytes_a_day=3 * row, step_s=86_400 / 3)
    day = time.time() // 86_400 * 86_400
    recorder.write(begun(day))
    score(detector, 8)
    recorder.write(event("end", 6.0))
    with site.open_store() as store:
        until(lambda: store.event("r-gate-1") is not None)
        assert len(store.segments("gate")) == 3
    recorder.close()


def test_a_scorer_of_another_device_is_not_used_and_the_one_before_stays(site: Site, detector: Detector) -> None:
    recorder = Recorder(site, detector)
    recorder.write(begun(time.time() - 100))
    score(detector)
    with site.open_store() as store:
        until(lambda: len(store.segments("gate")) == 2)
        first = store.segments("gate")[0]
        store.mark("missed", "gate", first.start, first.end, 1.0)
        accept(site, propose(site, store))
        until(lambda: detector.site_scorer is not None)
        used, mine = detector.site_scorer, site.scorer_path.read_bytes()
        other = Site(site.folder, site.manifest, site.calibration, Seal(site.folder / "other"))
        site.scorer_path.unlink()
        accept(other, propose(other, store))
    recorder.use_learned()
    assert detector.site_scorer is used
    site.scorer_path.write_bytes(mine)
    recorder.use_learned()
    recorder.close()


def test_a_bundle_that_comes_later_is_kept_too(site: Site, bundle: Bundle, opened: Detector, tmp_path: Path) -> None:
    """Cameras with a bundle of their own: their features in their site, their events beside them."""
    teaching = Teaching()
    recorders = Recorders(teaching, Kept())
    first, second = (Detector(bundle, engine=opened.engine, self_test=False) for _ in range(2))
    twin = msgspec.structs.replace(site.manifest, bundle_id="ab" * 32)
    later = Site(tmp_path / "later", twin, site.calibration, site.seal)
    recorders.add(site, first)
    recorders.add(site, second)
    recorders.write(begun(float(int(time.time()) - 100)))
    recorders.add(later, second)
    assert [one.bundle_id for one in teaching.sites] == [site.bundle_id, twin.bundle_id]
    score(first)
    second.score_segment("yard", Segment(0, 0, 48, 0.0, 3.0, bundle.golden().frames[0]))
    for camera in ("gate", "yard"):
        recorders.write(EventRecord("end", f"r-{camera}-1", camera, 0.0, 3.0, 0, 48, 0.9, 0.8))
    until(lambda: teaching.newest_event("yard") == "r-yard-1" and teaching.newest_event("gate") == "r-gate-1")
    with site.open_store() as one, later.open_store() as other:
        assert (one.cameras(), other.cameras()) == (["gate"], ["yard"])
        assert ([event.camera for event in one.events()], [event.camera for event in other.events()]) == (
            ["gate"],
            ["yard"],
        )
    recorders.close()
    assert (first.seen, second.seen) == ([], [])


def test_a_store_that_is_damaged_when_it_is_opened_is_set_aside(site: Site, detector: Detector) -> None:
    garbage = b"no database " * 1000
    site.store_path.parent.mkdir(parents=True, exist_ok=True)
    site.store_path.write_bytes(garbage)
    recorder = Recorder(site, detector)
    recorder.write(begun(float(int(time.time()) - 100)))

    def kept() -> int:
        score(detector)
        if site.store_path.is_file() and site.store_path.read_bytes()[:6] == b"SQLite":
            with site.open_store() as store:
                return len(store.segments("gate"))
        return 0

    until(lambda: kept() > 0)
    recorder.close(60.0)
    assert garbage in [path.read_bytes() for path in site.store_path.parent.iterdir() if path != site.store_path]
