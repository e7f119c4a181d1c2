"""Bundles are exchanged while cameras go on: every frame belongs to one segment, and each segment to one bundle."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from bucket import spoiled_copy
from edge_command import with_manifest
from scripted_camera import ScriptedCamera, flow
from served_run import serving, wait_for

from edge_runtime.bundle.keys import PrivateKey
from edge_runtime.bundle.manifest import MANIFEST
from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.errors import UsageError
from edge_runtime.inference.engine import Engine
from edge_runtime.records import CameraRecord, EventRecord, GapRecord, Record, SegmentRecord
from edge_runtime.stream.clock import RunClock
from edge_runtime.stream.segments import Gap, Segment
from edge_runtime.video.journal import CameraListener
from edge_runtime.video.sources import Source, parse_source
from edge_runtime.watch.backlog import Backlog, CameraEnd, Handover, sum_up
from edge_runtime.watch.cameras import LiveRun
from edge_runtime.watch.detectors import Detectors
from edge_runtime.watch.exchange import Exchange
from edge_runtime.watch.options import CameraOptions, RunOptions

EVERYTHING = {"sigma": 0.0, "threshold": 0.0, "lookahead": 0, "calibrated": True, "f1": None}


def load(bundle: Bundle, engine: Engine | None) -> Detector:
    return Detector(bundle, "cpu", threads=1, engine=engine, self_test=False)


@pytest.fixture
def eights(bundle_dir: Path, tmp_path: Path) -> Path:
    """Cuts every 8 frames, and everything is an event."""
    locators = {"full": EVERYTHING, "low_latency": EVERYTHING}
    return with_manifest(bundle_dir, tmp_path / "eights", segment={"frames": 8, "sampled": 16}, locators=locators)


@pytest.fixture
def tens(bundle_dir: Path, tmp_path: Path) -> Path:
    """Cuts every 10 frames."""
    return with_manifest(bundle_dir, tmp_path / "tens", segment={"frames": 10, "sampled": 16})


class SteadyCamera:
    """Gives frames at 15 a second of its own time, as fast as it is told to."""

    def __init__(self) -> None:
        self.given = 0
        self.wanted = threading.Semaphore(0)

    def script(self, listener: CameraListener, stopping: threading.Event) -> None:
        listener.on_state("online", "", 0.0)
        while not stopping.is_set():
            if self.wanted.acquire(timeout=0.02):
                flow(listener, self.given, 1, self.given / 15.0)
                self.given += 1

    def give(self, frames: int) -> None:
        aim = self.given + frames
        for _ in range(frames):
            self.wanted.release()
        wait_for(lambda: self.given >= aim)


def settle(run: LiveRun) -> None:
    """All that is cut is taken to be scored: nothing is dropped because a machine is slow."""
    wait_for(lambda: all(one.waiting == 0 for one in run.figures()))


def segments(records: list[Record]) -> list[SegmentRecord]:
    return [record for record in records if isinstance(record, SegmentRecord)]


@pytest.mark.parametrize("clock", ["time", "frames"])
@pytest.mark.parametrize("max_batch", [1, 8])
def test_no_frame_is_lost_or_scored_twice(eights: Path, tens: Path, clock: str, max_batch: int) -> None:
    camera, records = SteadyCamera(), list[Record]()
    with Detectors(load) as detectors:
        first, second = (detectors.open(Bundle.open(path)) for path in (eights, tens))
        options = RunOptions(clock=clock, max_batch=max_batch)  # type: ignore[arg-type]
        run = LiveRun(first, records.append, options, open_reader=ScriptedCamera.of(camera.script))
        run.add(parse_source("gate=rtsp://camera/1"))
        with serving(run):
            for after, before in ((second, first), (first, second), (second, first)):
                # A segment and a half: the exchange comes in the middle of one.
                for _ in range(3):
                    camera.give(5)
                    settle(run)
                run.exchange(before, after)
                assert run.bundle_id == after.bundle.manifest.bundle_id
                wait_for(lambda before=before: not run.uses(before))
            camera.give(12)
    found = segments(records)
    assert not [record for record in records if isinstance(record, GapRecord)]
    assert [one.index for one in found] == list(range(len(found)))
    assert found[0].start_frame == 0
    assert found[-1].end_frame == camera.given
    assert all(before.end_frame == after.start_frame for before, after in pairwise(found))
    # Who has cut them is who was told.
    most, told = 8, []
    for record in records:
        if isinstance(record, CameraRecord) and isinstance(record.bundle_id, str):
            told.append(record.bundle_id)
            most = 8 if record.bundle_id == first.bundle.manifest.bundle_id else 10
            assert record.state == "online"
        if isinstance(record, SegmentRecord):
            assert record.end_frame - record.start_frame <= most
    assert told == [one.bundle.manifest.bundle_id for one in (second, first, second)]
    # An event ends with its bundle, and no other one has its id.
    events = [record for record in records if isinstance(record, EventRecord)]
    begun, ended = ([one.id for one in events if one.state == state] for state in ("new", "end"))
    assert len(begun) >= 2
    assert begun == ended
    assert len(set(begun)) == len(begun)


def test_a_stride_that_does_not_go_with_the_new_bundle_changes_nothing(eights: Path, tens: Path) -> None:
    with Detectors(load) as detectors:
        first, second = (detectors.open(Bundle.open(path)) for path in (eights, tens))
        camera, records = SteadyCamera(), list[Record]()
        run = LiveRun(first, records.append, RunOptions(stride=4), open_reader=ScriptedCamera.of(camera.script))
        run.add(parse_source("gate=rtsp://camera/1"))
        with serving(run):
            with pytest.raises(UsageError, match="stride"):
                run.exchange(first, second)
            camera.give(20)
        assert run.uses(first) or run.names == []
        assert not run.uses(second)
        assert [one.end_frame - one.start_frame for one in segments(records)[:4]] == [4, 4, 4, 4]


def test_a_camera_that_comes_later_has_the_new_bundle(eights: Path, tens: Path) -> None:
    camera, records = SteadyCamera(), list[Record]()
    with Detectors(load) as detectors:
        first, second = (detectors.open(Bundle.open(path)) for path in (eights, tens))
        run = LiveRun(first, records.append, RunOptions(), open_reader=ScriptedCamera.of(camera.script))
        run.exchange(first, second)
        assert not run.uses(first)
        run.add(parse_source("gate=rtsp://camera/1"))
        with serving(run):
            camera.give(21)
            wait_for(lambda: len(segments(records)) == 2)
    assert [one.end_frame - one.start_frame for one in segments(records)] == [10, 10, 1]


def test_cameras_of_one_bundle_in_two_folders_are_told_apart(eights: Path, tens: Path, tmp_path: Path) -> None:
    """Both have the same detector; only that folder's camera changes whose bundle does."""
    cameras = {name: SteadyCamera() for name in ("gate", "yard")}
    own, records = tmp_path / "own", list[Record]()
    with Detectors(load) as detectors:
        first, second = (detectors.open(Bundle.open(path)) for path in (eights, tens))

        def reader(source: Source, listener: CameraListener, clock: RunClock) -> ScriptedCamera:
            return ScriptedCamera(cameras[source.name].script, source, listener, clock)

        run = LiveRun(first, records.append, RunOptions(), open_reader=reader)
        run.add(parse_source("gate=rtsp://camera/1"))
        run.add(parse_source("yard=rtsp://camera/2"), CameraOptions(detector=first, bundle=own))
        with serving(run):
            run.exchange(first, second, own)
            for _ in range(8):
                for camera in cameras.values():
                    camera.give(5)
                    settle(run)
            for camera in cameras.values():
                camera.give(1)
            wait_for(lambda: sum(one.camera == "gate" for one in segments(records)) == 5)
            assert run.uses(first)
            assert run.bundle_id == first.bundle.manifest.bundle_id
    lengths = {
        name: {one.end_frame - one.start_frame for one in segments(records) if one.camera == name} for name in cameras
    }
    assert lengths == {"gate": {8, 1}, "yard": {10, 1}}


def test_graphs_that_are_shared_stay_until_the_last_one_is_retired(
    bundle_dir: Path, eights: Path, tens: Path
) -> None:
    with Detectors(load) as detectors:
        owner, sharer = (detectors.open(Bundle.open(path)) for path in (bundle_dir, eights))
        assert owner.engine is sharer.engine
        detectors.retire(owner)
        assert sharer.engine is not None
        features = sharer.bundle.golden().frames
        assert sharer.score(features[:1]).shape == (1,)
        again = detectors.open(Bundle.open(bundle_dir))
        assert again is not owner
        assert again.engine is sharer.engine, "what is there is used"
        for one in (sharer, again):
            detectors.retire(one)
        assert owner.engine is sharer.engine is again.engine is None
        assert detectors.open(Bundle.open(tens)).engine is not None


def test_what_hands_over_is_never_summed_up_away(bundle: Bundle) -> None:
    with load(bundle, None) as detector:
        handover = Handover(detector, "run.2")
        items = [Gap(0, 2, 0.0, 2.0, "lost"), handover, Gap(2, 3, 2.0, 5.0, "lost"), CameraEnd()]
        gap, kept, end = sum_up(items)
        assert gap == Gap(0, 5, 0.0, 5.0, "lost")
        assert kept is handover
        assert isinstance(end, CameraEnd)
        backlog = Backlog(segments=2, items=8)
        backlog.add("gate")
        for index in range(100):
            backlog.put("gate", handover if index == 50 else Gap(index, 1, float(index), index + 1.0, "lost"))
        taken = []
        while (one := backlog.take(0.0)) is not None:
            taken.append(one[1])
        assert taken.count(handover) == 1
        assert not [one for one in taken if isinstance(one, Segment)]


class Run:
    """Counts what is exchanged."""

    def __init__(self) -> None:
        self.exchanged: list[tuple[str, str]] = []
        self.refuses = False
        self.busy: set[int] = set()

    def exchange(self, before: Detector, after: Detector, place: Path | None = None) -> None:
        if self.refuses:
            raise UsageError("no")
        if id(before) in self.busy:
            return
        self.exchanged.append((before.bundle.manifest.bundle_id, after.bundle.manifest.bundle_id))

    def uses(self, detector: Detector) -> bool:
        return id(detector) in self.busy


@contextmanager
def followed(detectors: Detectors, link: Path, run: Run) -> Iterator[tuple[Exchange, Detector]]:
    exchange = Exchange(detectors, tick_s=0.02, leave_s=0.1)
    exchange.opening(link)
    detector = detectors.open_at(link)
    exchange.follow(link, detector)
    with exchange.watching(run):
        yield exchange, detector


def lead(link: Path, target: Path) -> None:
    other = link.with_name("next")
    other.symlink_to(target)
    os.replace(other, link)


def test_one_that_is_refused_is_told_once_and_looked_at_again_when_it_changes(
    bundle_dir: Path, eights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spoiled = spoiled_copy(bundle_dir, tmp_path / "spoiled", PrivateKey.generate("b"), "2026-12-03T00:00:00Z")
    torn = Path(shutil.copytree(eights, tmp_path / "torn"))
    (torn / "report.html").write_text("half of it")
    link, run = tmp_path / "bundle", Run()
    link.symlink_to(eights)

    def told() -> int:
        return caplog.text.count("the bundle before goes on")

    with Detectors(load, self_test=True) as detectors, followed(detectors, link, run) as (exchange, first):
        retired: list[Detector] = []
        exchange.retired = retired.append
        for number, bad in enumerate((spoiled, torn, spoiled), 1):
            lead(link, bad)
            wait_for(lambda number=number: told() == number)
            time.sleep(0.3)
            assert told() == number
        assert run.exchanged == []
        assert first.engine is not None, "the one before goes on"
        lead(link, bundle_dir)
        wait_for(lambda: len(run.exchanged) == 1)
        run.busy = {id(first)}
        time.sleep(0.3)
        assert retired == []
        run.busy = set()
        wait_for(lambda: retired == [first])
        assert retired == [first]
    assert run.exchanged == [(first.bundle.manifest.bundle_id, Bundle.open(bundle_dir).manifest.bundle_id)]


def test_the_same_bundle_written_anew_is_no_other_one(eights: Path, tmp_path: Path) -> None:
    link, run = tmp_path / "bundle", Run()
    link.symlink_to(eights)
    with Detectors(load) as detectors, followed(detectors, link, run):
        lead(link, Path(shutil.copytree(eights, tmp_path / "copy")))
        os.utime(link / MANIFEST)
        time.sleep(0.5)
    assert run.exchanged == []


def test_what_a_run_refuses_goes_on_as_before(
    eights: Path, tens: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    link, run = tmp_path / "bundle", Run()
    link.symlink_to(eights)
    run.refuses = True
    with Detectors(load) as detectors, followed(detectors, link, run) as (_, first):
        lead(link, tens)
        wait_for(lambda: "no; the bundle before goes on" in caplog.text)
        assert first.engine is not None


def test_what_a_run_refused_is_closed_when_another_one_comes(
    bundle_dir: Path, eights: Path, tens: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    link, run, loaded = tmp_path / "bundle", Run(), list[Detector]()
    link.symlink_to(eights)
    run.refuses = True

    def noting(bundle: Bundle, engine: Engine | None) -> Detector:
        loaded.append(load(bundle, engine))
        return loaded[-1]

    with Detectors(noting) as detectors, followed(detectors, link, run) as (_, first):
        lead(link, tens)
        wait_for(lambda: "no; the bundle before goes on" in caplog.text)
        assert loaded[1].engine is not None, "it may be taken the next time"
        run.refuses = False
        lead(link, bundle_dir)
        wait_for(lambda: len(run.exchanged) == 1)
        wait_for(lambda: loaded[1].engine is None)
        assert loaded[2].engine is not None
    assert loaded[0] is first
