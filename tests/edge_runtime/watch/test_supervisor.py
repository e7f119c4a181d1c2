"""A run's cameras follow the clock and the configuration, and leave each other alone."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from scripted_camera import ScriptedCamera, flow

from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.errors import BundleRefused, Conflict, UsageError
from edge_runtime.records import CameraRecord, Record, RunRecord, SegmentRecord
from edge_runtime.site.alarms import Alarms
from edge_runtime.site.sites import Sites
from edge_runtime.stream.alarm import Alarm
from edge_runtime.stream.clock import RunClock
from edge_runtime.video.journal import CameraListener
from edge_runtime.video.sources import Source, parse_source
from edge_runtime.watch.config import Plan, PlannedCamera, read_plan
from edge_runtime.watch.options import CameraOptions, RunOptions
from edge_runtime.watch.run import Runner
from edge_runtime.watch.sites import configure_alarms
from edge_runtime.watch.supervisor import Supervisor, check_reloaded

LIMIT_S = 60.0
GATE = "  gate: {source: rtsp://camera/1}\n"
YARD = "  yard: {source: rtsp://camera/2}\n"


@pytest.fixture(scope="module")
def detector(bundle: Bundle) -> Iterator[Detector]:
    with Detector(bundle, "cpu", threads=1) as opened:
        yield opened


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def one_segment(listener: CameraListener, stopping: threading.Event) -> None:
    listener.on_state("online", "", 0.0)
    flow(listener, 0, 49, 0.0)
    stopping.wait(LIMIT_S)


def never_there(listener: CameraListener, stopping: threading.Event) -> None:
    listener.on_state("offline", "refused", 0.0)
    stopping.wait(LIMIT_S)


class Board:
    """Remembers what it was told last, as a broker does."""

    def __init__(self, cameras: list[str]) -> None:
        self.paused = dict.fromkeys(cameras, False)
        self.unwatched: dict[str, str | None] = dict.fromkeys(cameras)

    def announce(self, camera: str) -> None:
        assert camera not in self.paused
        self.paused[camera], self.unwatched[camera] = False, None

    def forget(self, camera: str) -> None:
        del self.paused[camera], self.unwatched[camera]

    def publish_pause(self, camera: str, paused: bool) -> None:
        self.paused[camera] = paused

    def publish_unwatched(self, camera: str, why: str | None) -> None:
        self.unwatched[camera] = why

    def publish_rate(self, camera: str, fps: float) -> None:
        """Comes from the run itself."""


class Site:
    """A configuration in a folder, a date that is set by hand, and a run of scripted cameras."""

    def __init__(self, folder: Path, detector: Detector) -> None:
        self.path = folder / "cameras.yaml"
        self.detector = detector
        self.opened: list[ScriptedCamera] = []
        self.records: list[Record] = []
        self.now = datetime(2031, 5, 6, 12, tzinfo=UTC)
        self.asked = threading.Event()
        self.script = one_segment
        self.board = Board([])
        self.options = RunOptions()

    def write(self, cameras: str, head: str = "") -> None:
        self.path.write_text(f"version: 1\ntimezone: UTC\n{head}cameras:\n{cameras}")
        self.path.chmod(0o600)

    def read(self) -> Plan:
        return check_reloaded(read_plan(self.path, {}))

    def _open(self, source: Source, listener: CameraListener, clock: RunClock) -> ScriptedCamera:
        camera = ScriptedCamera(self.script, source, listener, clock)
        self.opened.append(camera)
        return camera

    @property
    def reading(self) -> list[str]:
        """Names of the cameras that are read now, as often as they are."""
        return sorted(camera.source.name for camera in self.opened if camera.thread.is_alive())

    def segments(self, camera: str) -> int:
        return sum(isinstance(record, SegmentRecord) and record.camera == camera for record in self.records)

    @contextmanager
    def running(self, **options: Any) -> Iterator[Supervisor]:
        stop, failed = threading.Event(), []
        plan = self.read()
        supervisor = Supervisor(plan, self.read, self.asked, tick_s=0.05, now=lambda: self.now, **options)
        self.board = supervisor.board = Board([camera.source.name for camera in plan.cameras])
        runner = Runner(self.detector, self.records.append, stop, options=self.options, open_reader=self._open)

        def run() -> None:
            try:
                runner.run([camera.source for camera in plan.cameras], supervisor=supervisor)
            except BaseException as error:  # noqa: BLE001
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield supervisor
        finally:
            stop.set()
            thread.join(LIMIT_S)
        assert not thread.is_alive()
        assert not failed
        assert self.reading == []


@pytest.fixture
def site(tmp_path: Path, detector: Detector, caplog: pytest.LogCaptureFixture) -> Site:
    caplog.set_level(logging.INFO, "edge_runtime")
    return Site(tmp_path, detector)


def test_a_camera_is_watched_within_its_schedule_and_not_outside(site: Site) -> None:
    site.write('  gate: {source: rtsp://camera/1, schedule: "22:00-06:00"}\n' + YARD)
    with site.running():
        wait_for(lambda: site.segments("yard") == 1)
        assert site.reading == ["yard"]
        site.now = datetime(2031, 5, 6, 22, tzinfo=UTC)
        wait_for(lambda: site.segments("gate") == 1)
        site.now = datetime(2031, 5, 7, 6, tzinfo=UTC)
        # What had begun of the next segment is scored.
        wait_for(lambda: site.segments("gate") == 2)
        wait_for(lambda: site.reading == ["yard"])
        site.now = datetime(2031, 5, 7, 23, tzinfo=UTC)
        wait_for(lambda: site.segments("gate") == 3)
    assert [camera.source.name for camera in site.opened].count("yard") == 1


def test_all_outside_their_schedules_is_no_end(site: Site) -> None:
    site.write('  gate: {source: rtsp://camera/1, schedule: "22:00-06:00"}\n')
    with site.running():
        wait_for(lambda: any(isinstance(record, RunRecord) for record in site.records))
        time.sleep(0.5)
        assert site.opened == []
        site.now = datetime(2031, 5, 6, 23, tzinfo=UTC)
        wait_for(lambda: site.segments("gate") == 1)


def test_no_camera_that_answers_is_no_end(site: Site) -> None:
    site.script = never_there
    site.write(GATE)
    with site.running():
        wait_for(lambda: any(isinstance(record, CameraRecord) for record in site.records))
        time.sleep(0.5)
        assert site.reading == ["gate"]


def test_cameras_are_added_changed_and_removed_without_touching_the_others(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.write(GATE + YARD)
    with site.running():
        wait_for(lambda: site.segments("gate") == site.segments("yard") == 1)
        untouched = next(camera for camera in site.opened if camera.source.name == "gate")

        site.write(GATE + YARD + "  dock: {source: rtsp://camera/3}\n")
        site.asked.set()
        wait_for(lambda: site.segments("dock") == 1)

        site.write(GATE + "  yard: {source: rtsp://camera/2, locator: low_latency}\n")
        site.asked.set()
        wait_for(lambda: [camera.source.name for camera in site.opened].count("yard") == 2)
        wait_for(lambda: site.reading == ["gate", "yard"])

        site.write(GATE + "  yard: {source: rtsp://camera/2, locator: low_latency, enabled: false}\n")
        site.asked.set()
        wait_for(lambda: site.reading == ["gate"])
        assert untouched.thread.is_alive()
    assert [camera.source.name for camera in site.opened].count("gate") == 1
    assert "1 cameras added, 0 removed, 0 changed, 2 as before" in caplog.text
    assert "0 cameras added, 1 removed, 1 changed, 1 as before" in caplog.text
    assert "camera yard: is disabled" in caplog.text


def test_a_new_schedule_alone_does_not_touch_a_camera_that_is_watched(site: Site) -> None:
    site.write(GATE)
    with site.running() as supervisor:
        wait_for(lambda: site.segments("gate") == 1)
        site.write('  gate: {source: rtsp://camera/1, schedule: "10:00-14:00"}\n')
        site.asked.set()
        wait_for(lambda: supervisor.plan.cameras[0].schedule is not None)
        time.sleep(0.3)
        assert len(site.opened) == 1
        site.now = datetime(2031, 5, 6, 14, tzinfo=UTC)
        wait_for(lambda: site.reading == [])


def test_alarms_change_while_their_cameras_go_on(site: Site) -> None:
    alarms, manifest = Alarms(), site.detector.bundle.manifest
    site.options = RunOptions(sites=Sites(alarms, learns=False))
    site.write(GATE + YARD, "alarm: {cooldown: 30}\n")
    configure_alarms(alarms, site.read(), manifest)
    with site.running() as supervisor:
        supervisor.planned = lambda plan: configure_alarms(alarms, plan, manifest)
        wait_for(lambda: site.segments("gate") == site.segments("yard") == 1)
        assert alarms.of("gate").alarm == Alarm(manifest.locators.full.threshold, 0.0, 30.0)
        site.write("  gate: {source: rtsp://camera/1, alarm: {threshold: 0.9, min_duration: 10}}\n" + YARD)
        site.asked.set()
        wait_for(lambda: alarms.of("gate").alarm == Alarm(0.9, 10.0))
        assert alarms.of("yard").alarm == Alarm(manifest.locators.full.threshold)
        assert site.reading == ["gate", "yard"]
    assert len(site.opened) == 2


def test_a_wrong_configuration_is_one_line_and_the_old_one_stays(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.write(GATE)
    with site.running() as supervisor:
        wait_for(lambda: site.segments("gate") == 1)
        before = supervisor.plan
        for wrong in ("  gate: {soruce: rtsp://camera/1}\n", "  gate: {source: film.mp4}\n", "  gate: [\n"):
            caplog.clear()
            site.write(wrong)
            site.asked.set()
            wait_for(lambda: "the configuration before stays" in caplog.text)
            (line,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
            assert line.getMessage().isprintable()
        site.path.unlink()
        caplog.clear()
        site.asked.set()
        wait_for(lambda: "cannot be read" in caplog.text)
        assert supervisor.plan is before
        assert site.reading == ["gate"]
    assert len(site.opened) == 1


def test_who_asks_in_the_moment_after_a_wait_is_heard(site: Site) -> None:
    class Late(threading.Event):
        """Somebody sets it between the end of a wait without a result and what comes next."""

        asking = False

        def wait(self, timeout: float | None = None) -> bool:
            found = super().wait(timeout)
            if self.asking and not found:
                self.asking = False
                self.set()
            return found

    site.asked = late = Late()
    site.write(GATE)
    with site.running():
        wait_for(lambda: site.segments("gate") == 1)
        site.write(GATE + YARD)
        late.asking = True
        wait_for(lambda: site.segments("yard") == 1)


def test_what_cannot_change_while_a_run_lasts_is_said(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.write(GATE)
    with site.running():
        wait_for(lambda: site.segments("gate") == 1)
        site.write(GATE, "bundle: other\nprovider: cuda\nlocator: full\n")
        site.asked.set()
        wait_for(lambda: "held until the run is started again: bundle, provider" in caplog.text)
    assert len(site.opened) == 1


def test_a_file_that_is_followed_is_read_when_it_has_settled(site: Site) -> None:
    site.write(GATE)
    with site.running(follow=True):
        wait_for(lambda: site.segments("gate") == 1)
        site.write(GATE + YARD)
        wait_for(lambda: site.segments("yard") == 1)
        # As editors do: another file takes the place of the old one.
        other = site.path.with_name("other.yaml")
        other.write_text(site.path.read_text().replace("yard", "dock"))
        other.replace(site.path)
        wait_for(lambda: site.segments("dock") == 1)
        wait_for(lambda: site.reading == ["dock", "gate"])


def test_a_fault_of_the_supervisor_ends_the_run(site: Site) -> None:
    site.write(GATE)
    stop = threading.Event()

    def broken() -> datetime:
        raise ZeroDivisionError

    supervisor = Supervisor(site.read(), site.read, tick_s=0.05, now=broken)
    runner = Runner(site.detector, site.records.append, stop, open_reader=site._open)
    with pytest.raises(ZeroDivisionError):
        runner.run([], supervisor=supervisor)


def test_a_file_cannot_come_to_live_cameras(site: Site) -> None:
    site.write(GATE + "  film: {source: film.mp4}\n")
    with pytest.raises(UsageError, match=r"cameras\.film\.source: .*film\.mp4 is a file"):
        site.read()


def test_a_camera_that_cannot_be_watched_is_told_once_and_tried_with_the_next_configuration(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    asked_for: list[str] = []

    def options_of(camera: PlannedCamera) -> CameraOptions:
        asked_for.append(camera.source.name)
        if camera.bundle is not None:
            raise BundleRefused(f"{camera.bundle.name}: is no bundle")
        return camera.options

    site.write(GATE + "  yard: {source: rtsp://camera/2, bundle: other}\n")
    with site.running(options_of=options_of):
        wait_for(lambda: site.segments("gate") == 1)
        wait_for(lambda: "camera yard: cannot be watched: other: is no bundle" in caplog.text)
        time.sleep(0.3)
        assert asked_for.count("yard") == 1
        site.write(GATE + YARD)
        site.asked.set()
        wait_for(lambda: site.segments("yard") == 1)
    assert len(site.opened) == 2


# ---- paused


def test_a_camera_is_paused_and_resumed_and_the_other_is_not_touched(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.write(GATE + YARD)
    with site.running() as supervisor:
        wait_for(lambda: site.segments("gate") == site.segments("yard") == 1)
        supervisor.pause("gate", True)
        assert site.board.paused == {"gate": True, "yard": False}
        wait_for(lambda: site.reading == ["yard"])
        # What had begun of the next segment is scored.
        wait_for(lambda: site.segments("gate") == 2)
        wait_for(lambda: site.board.unwatched["gate"] == "is paused, and not watched until it is resumed")
        supervisor.pause("gate", True)
        time.sleep(0.3)
        assert site.reading == ["yard"]
        assert supervisor.paused == {"gate"}
        supervisor.pause("gate", False)
        wait_for(lambda: site.segments("gate") == 3)
        assert site.board.paused == {"gate": False, "yard": False}
        assert site.board.unwatched == {"gate": None, "yard": None}
        assert supervisor.paused == frozenset()
    assert [camera.source.name for camera in site.opened].count("yard") == 1
    assert caplog.text.count("camera gate: is paused by request") == 1
    assert caplog.text.count("camera gate: is resumed by request") == 1


def test_a_pause_lasts_while_the_camera_stays_in_the_configuration(site: Site) -> None:
    site.write(GATE + YARD)
    with site.running() as supervisor:
        wait_for(lambda: site.segments("gate") == site.segments("yard") == 1)
        supervisor.pause("gate", True)
        wait_for(lambda: site.reading == ["yard"])
        site.write("  gate: {source: rtsp://camera/9, locator: low_latency}\n" + YARD)
        site.asked.set()
        wait_for(lambda: supervisor.plan.cameras[0].options.locator == "low_latency")
        site.write(GATE)
        site.asked.set()
        wait_for(lambda: site.reading == [])
        assert site.board.paused == {"gate": True}, "the yard is forgotten"
        site.write(YARD)
        site.asked.set()
        wait_for(lambda: site.reading == ["yard"])
        site.write(GATE + YARD)
        site.asked.set()
        # Removed and back: it is another camera of that name.
        wait_for(lambda: site.reading == ["gate", "yard"])
        assert site.board.paused == {"gate": False, "yard": False}


def test_a_camera_that_is_not_watched_says_why(site: Site) -> None:
    gate = '  gate: {source: rtsp://camera/1, schedule: "22:00-06:00"}\n'
    site.write(gate + "  yard: {source: rtsp://camera/2, enabled: false}\n")
    with site.running() as supervisor:
        wait_for(lambda: site.board.unwatched["yard"] == "is disabled, and not watched")
        assert site.board.unwatched["gate"] == "is outside its schedule until 2031-05-06T22:00:00.000Z"
        # A camera outside its schedule can be paused beforehand.
        supervisor.pause("gate", True)
        wait_for(lambda: "paused" in str(site.board.unwatched["gate"]))
        site.now = datetime(2031, 5, 6, 23, tzinfo=UTC)
        time.sleep(0.3)
        assert site.reading == []
        supervisor.pause("gate", False)
        wait_for(lambda: site.reading == ["gate"])
        assert site.board.unwatched["gate"] is None
        site.now = datetime(2031, 5, 7, 7, tzinfo=UTC)
        wait_for(lambda: "until 2031-05-07T22" in str(site.board.unwatched["gate"]))
        site.write(gate + YARD)
        site.asked.set()
        wait_for(lambda: site.reading == ["yard"])
        assert site.board.unwatched["yard"] is None


def test_a_camera_that_cannot_be_watched_says_why(site: Site) -> None:
    def options_of(camera: PlannedCamera) -> CameraOptions:
        if camera.bundle is not None:
            raise BundleRefused(f"{camera.bundle.name}: is no bundle")
        return camera.options

    site.write("  gate: {source: rtsp://camera/2, bundle: other}\n")
    with site.running(options_of=options_of):
        wait_for(lambda: site.board.unwatched["gate"] == "cannot be watched: other: is no bundle")
        site.write(GATE)
        site.asked.set()
        wait_for(lambda: site.segments("gate") == 1)
        assert site.board.unwatched["gate"] is None


def test_a_camera_that_is_not_there_or_disabled_cannot_be_paused(site: Site) -> None:
    site.write(GATE + "  yard: {source: rtsp://camera/2, enabled: false}\n")
    supervisor = Supervisor(site.read(), site.read)
    with pytest.raises(UsageError, match="there is no camera called dock; there are gate, yard"):
        supervisor.pause("dock", True)
    with pytest.raises(UsageError, match=r"camera yard is disabled; enable it in .*cameras\.yaml"):
        supervisor.pause("yard", True)
    assert supervisor.paused == frozenset()


def test_cameras_are_added_and_removed_beside_the_configuration_and_stay_when_it_is_read_again(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    barn = PlannedCamera(parse_source("barn=rtsp://user:hunter2@camera/3"), CameraOptions())
    site.write(GATE)
    with site.running() as supervisor:
        supervisor.add(barn)
        assert supervisor.is_added("barn")
        wait_for(lambda: site.reading == ["barn", "gate"])
        with pytest.raises(Conflict, match="choose another name"):
            supervisor.add(barn)
        site.write(GATE + YARD)
        site.asked.set()
        wait_for(lambda: site.reading == ["barn", "gate", "yard"])
        assert "barn" in site.board.paused
        with pytest.raises(Conflict, match="remove it there"):
            supervisor.drop("yard")
        with pytest.raises(UsageError, match="no camera"):
            supervisor.drop("nowhere")
        supervisor.pause("barn", True)
        wait_for(lambda: site.reading == ["gate", "yard"])
        supervisor.drop("barn")
        assert (supervisor.paused, "barn" in site.board.paused) == (frozenset(), False)
        # One whose name the configuration gets is the configuration's from then on.
        supervisor.add(barn)
        wait_for(lambda: "barn" in site.reading)
        site.write(GATE + "  barn: {source: rtsp://camera/4}\n")
        site.asked.set()
        wait_for(lambda: not supervisor.is_added("barn") and site.reading == ["barn", "gate"])
        assert supervisor.plan.cameras[1].source.target == "rtsp://camera/4"
    assert "hunter2" not in caplog.text


def test_a_camera_that_is_removed_and_added_at_once_is_begun_anew(site: Site) -> None:
    barn = PlannedCamera(parse_source("barn=rtsp://camera/3"), CameraOptions())
    site.write(GATE)
    with site.running() as supervisor:
        supervisor.add(barn)
        wait_for(lambda: site.reading == ["barn", "gate"])
        # Nothing is looked at in between: a pause of the looking thread would do.
        with supervisor._lock:
            supervisor.drop("barn")
            supervisor.add(barn)
        wait_for(lambda: [one.source.name for one in site.opened].count("barn") == 2)
        wait_for(lambda: site.reading == ["barn", "gate"])
