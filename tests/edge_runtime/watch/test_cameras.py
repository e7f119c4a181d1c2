"""Live cameras come and go while a run goes on, on one clock and in one order of records."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from edge_command import with_manifest
from scripted_camera import ScriptedCamera, flow
from served_run import LIMIT_S, serving, wait_for

from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.errors import UsageError
from edge_runtime.records import CameraRecord, EventRecord, Record, SegmentRecord
from edge_runtime.stream.clock import RunClock
from edge_runtime.stream.segments import Segment
from edge_runtime.video.capture import DecodedFrame
from edge_runtime.video.journal import CameraListener
from edge_runtime.video.sources import parse_source
from edge_runtime.watch.cameras import LiveRun
from edge_runtime.watch.options import CameraOptions, RunOptions


@pytest.fixture
def detector(bundle: Bundle) -> Iterator[Detector]:
    with Detector(bundle, "cpu", threads=1) as opened:
        yield opened


def one_segment(listener: CameraListener, stopping: threading.Event) -> None:
    """A camera that gives one segment and the first frame of the next, then nothing until it is stopped."""
    listener.on_state("online", "", 0.0)
    flow(listener, 0, 49, 0.0)
    stopping.wait(LIMIT_S)


def segments(records: list[Record], camera: str) -> list[tuple[int, int]]:
    return [(r.start_frame, r.end_frame) for r in records if isinstance(r, SegmentRecord) and r.camera == camera]


def test_a_camera_is_added_and_removed_while_running(detector: Detector) -> None:
    records: list[Record] = []
    run = LiveRun(detector, records.append, RunOptions(), open_reader=ScriptedCamera.of(one_segment))
    run.add(parse_source("gate=rtsp://camera/1"))
    with serving(run):
        wait_for(lambda: len(segments(records, "gate")) == 1)
        run.add(parse_source("yard=rtsp://camera/2"))
        wait_for(lambda: len(segments(records, "yard")) == 1)
        run.remove("gate")
        # What had begun is scored; then nothing more comes of it, and its name is free again.
        wait_for(lambda: run.names == ["yard"])
        assert segments(records, "gate") == [(0, 48), (48, 49)]
        run.add(parse_source("gate=rtsp://camera/1"))
        wait_for(lambda: len(segments(records, "gate")) == 3)
    assert segments(records, "yard") == [(0, 48), (48, 49)]
    assert segments(records, "gate") == [(0, 48), (48, 49)] * 2
    assert run.names == []
    assert run.left_behind == []


def test_a_name_that_is_taken_and_one_that_is_not_there(detector: Detector) -> None:
    run = LiveRun(detector, lambda record: None, RunOptions(), open_reader=ScriptedCamera.of(one_segment))
    run.add(parse_source("gate=rtsp://camera/1"))
    with pytest.raises(UsageError, match="'gate' is running already"):
        run.add(parse_source("gate=rtsp://camera/2"))
    with pytest.raises(UsageError, match="no camera called 'yard'; there are gate"):
        run.remove("yard")
    run.remove("gate")
    with pytest.raises(UsageError, match="no camera called 'gate'"):
        run.remove("gate")
    run.close()
    with pytest.raises(UsageError, match="the run has ended"):
        run.add(parse_source("yard=rtsp://camera/2"))


def test_a_camera_that_is_added_later_has_the_same_time_axis(detector: Detector) -> None:
    """Its frames carry the run's seconds: an hour after the start, its first segment starts an hour in."""
    now = [100.0]

    class Clocked(ScriptedCamera):
        """Gives frames at the times that the run's clock says, as LiveCamera does."""

        def start(self) -> None:
            since_s = self.clock.now_s()
            self.listener.on_state("online", "", since_s)
            flow(self.listener, 0, 49, since_s)

    records: list[Record] = []
    clock = RunClock(monotonic=lambda: now[0])
    run = LiveRun(
        detector,
        records.append,
        RunOptions(),
        clock,
        lambda source, listener, clock: Clocked(lambda listener, stopping: None, source, listener, clock),
    )
    run.add(parse_source("gate=rtsp://camera/1"))
    now[0] += 3600
    run.add(parse_source("yard=rtsp://camera/2"))
    for camera in run._running():
        camera.reader.thread.start()  # type: ignore[attr-defined]  # so that stop() has a thread to join
    stop = threading.Event()
    stop.set()
    run.serve(stop)
    starts = {
        camera: next(r.start_s for r in records if isinstance(r, SegmentRecord) and r.camera == camera)
        for camera in ("gate", "yard")
    }
    assert starts == {"gate": 0.0, "yard": 3600.0}


def test_events_of_a_camera_that_comes_back_have_other_ids(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector, "score", lambda frames: np.full(len(frames), 1.0, np.float32))
    records: list[Record] = []
    run = LiveRun(detector, records.append, RunOptions(), open_reader=ScriptedCamera.of(one_segment))
    run.add(parse_source("gate=rtsp://camera/1"))
    with serving(run):
        for times in (1, 2):
            wait_for(lambda times=times: sum(isinstance(r, SegmentRecord) for r in records) >= 2 * times - 1)
            run.remove("gate")
            wait_for(lambda: run.names == [])
            if times == 1:
                run.add(parse_source("gate=rtsp://camera/1"))
    events = [record for record in records if isinstance(record, EventRecord)]
    assert [record.state for record in events].count("end") == 2
    assert len({record.id for record in events}) == 2


def test_a_run_says_which_cameras_it_had_to_leave_behind(detector: Detector) -> None:
    never = threading.Event()

    def script(listener: CameraListener, stopping: threading.Event) -> None:
        one_segment(listener, stopping) if listener.camera == "gate" else never.wait(LIMIT_S)  # type: ignore[attr-defined]

    records: list[Record] = []
    run = LiveRun(detector, records.append, RunOptions(), open_reader=ScriptedCamera.of(script))
    run.add(parse_source("gate=rtsp://camera/1"))
    run.add(parse_source("hung=rtsp://camera/2"))
    with serving(run):
        wait_for(lambda: len(segments(records, "gate")) == 1)
    assert run.left_behind == ["hung"]
    never.set()


def test_nothing_of_a_camera_comes_after_its_end(detector: Detector) -> None:
    """Its reader is still blocked when it is removed, and delivers once more later: that is passed over."""
    late = threading.Event()

    def script(listener: CameraListener, stopping: threading.Event) -> None:
        listener.on_state("online", "", 0.0)
        flow(listener, 0, 49, 0.0)
        late.wait(LIMIT_S)
        listener.on_frame(DecodedFrame(49, 4.0, lambda: np.zeros((9, 16, 3), np.uint8)))
        listener.on_state("offline", "late", 5.0)

    records: list[Record] = []
    run = LiveRun(detector, records.append, RunOptions(), open_reader=ScriptedCamera.of(script))
    run.add(parse_source("gate=rtsp://camera/1"))
    run.add(parse_source("yard=rtsp://camera/2"))
    with serving(run):
        wait_for(lambda: len(segments(records, "gate")) == 1)
        run.remove("gate")
        wait_for(lambda: run.names == ["yard"])
        told = len([r for r in records if getattr(r, "camera", "") == "gate"])
        late.set()
    assert len([r for r in records if getattr(r, "camera", "") == "gate"]) == told
    assert not [r for r in records if isinstance(r, CameraRecord) and r.camera == "gate" and r.state == "offline"]


class Failed(ScriptedCamera):
    """Its listener failed: `stop` says so, and it has ended."""

    def stop(self, timeout_s: float | None = None) -> bool:
        super().stop(timeout_s)
        raise RuntimeError("the listener failed")


def test_a_reader_that_fails_to_stop_leaves_the_run_all_the_same(detector: Detector) -> None:
    records: list[Record] = []
    run = LiveRun(
        detector,
        records.append,
        RunOptions(),
        open_reader=lambda source, listener, clock: (Failed if source.name == "bad" else ScriptedCamera)(
            one_segment, source, listener, clock
        ),
    )
    for name in ("bad", "gate"):
        run.add(parse_source(f"{name}=rtsp://camera/{name}"))
    with serving(run):
        wait_for(lambda: len(segments(records, "bad")) == 1)
        with pytest.raises(RuntimeError, match="the listener failed"):
            run.remove("bad")
        wait_for(lambda: run.names == ["gate"])
        assert segments(records, "bad") == [(0, 48), (48, 49)]


def test_a_blocked_reader_is_named_although_another_fails_to_stop(detector: Detector) -> None:
    class Blocked(ScriptedCamera):
        def stop(self, timeout_s: float | None = None) -> bool:
            return False

    run = LiveRun(
        detector,
        lambda record: None,
        RunOptions(),
        open_reader=lambda source, listener, clock: (Failed if source.name == "bad" else Blocked)(
            lambda listener, stopping: stopping.wait(LIMIT_S) and None, source, listener, clock
        ),
    )
    run.add(parse_source("bad=rtsp://camera/1"))
    run.add(parse_source("hung=rtsp://camera/2"))
    with pytest.raises(RuntimeError, match="the listener failed"):
        run.close()
    assert run.left_behind == ["hung"]


def test_a_camera_that_cannot_be_started_is_not_there(detector: Detector) -> None:
    class NoThread(ScriptedCamera):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    starts = iter([NoThread, ScriptedCamera])
    run = LiveRun(
        detector,
        lambda record: None,
        RunOptions(),
        open_reader=lambda source, listener, clock: next(starts)(one_segment, source, listener, clock),
    )
    with pytest.raises(RuntimeError, match="can't start"):
        run.add(parse_source("gate=rtsp://camera/1"))
    assert run.names == []
    run.add(parse_source("gate=rtsp://camera/1"))
    assert run.names == ["gate"]
    run.close()


def test_as_many_segments_wait_as_the_camera_s_own_bundle_runs_at_once(
    bundle_dir: Path, tmp_path: Path, detector: Detector
) -> None:
    come = threading.Barrier(3)

    def script(listener: CameraListener, stopping: threading.Event) -> None:
        listener.on_state("online", "", 0.0)
        flow(listener, 0, 48 * 6 + 1, 0.0)
        come.wait(LIMIT_S)
        stopping.wait(LIMIT_S)

    own = with_manifest(bundle_dir, tmp_path / "own", segment={"stride": 12})
    with Detector(Bundle.open(own), engine=detector.engine, self_test=False) as other:
        run = LiveRun(detector, lambda record: None, RunOptions(), open_reader=ScriptedCamera.of(script))
        run.add(parse_source("gate=rtsp://camera/1"))
        run.add(parse_source("yard=rtsp://camera/2"), CameraOptions(detector=other))
        come.wait(LIMIT_S)
        waiting = Counter(
            camera for camera, item in iter(lambda: run._backlog.take(0.0), None) if isinstance(item, Segment)
        )
        run.close()
    assert waiting == {"gate": 2, "yard": 5}


def test_the_rate_of_a_camera_is_told_while_it_gives_frames_and_0_when_it_goes(detector: Detector) -> None:
    now, told = [0.0], []
    frames, gone = threading.Semaphore(0), threading.Event()

    def script(listener: CameraListener, stopping: threading.Event) -> None:
        listener.on_state("online", "", 0.0)
        listener.on_frame(DecodedFrame(0, 0.0, lambda: np.zeros((90, 160, 3), np.uint8)))
        frames.acquire()
        flow(listener, 1, 100, 0.1, 10.0)
        gone.wait(LIMIT_S)
        listener.on_state("offline", "refused", 10.1)
        stopping.wait(LIMIT_S)

    options = RunOptions(rate=lambda camera, fps: told.append((camera, fps)))
    clock = RunClock(monotonic=lambda: now[0])
    run = LiveRun(detector, lambda record: None, options, clock, ScriptedCamera.of(script))
    run.add(parse_source("gate=rtsp://camera/1"))
    (camera,) = run._running()
    wait_for(lambda: camera.feed.frames == 1)
    looked = threading.Event()
    with serving(run):
        wait_for(lambda: camera._rate._since is not None)
        frames.release()
        wait_for(lambda: camera.feed.frames == 101)
        looked.wait(0.5)
        assert told == []
        now[0] = 10.0
        wait_for(lambda: told == [("gate", 10.0)])
        gone.set()
        wait_for(lambda: told == [("gate", 10.0), ("gate", 0.0)])
        looked.wait(0.5)
    assert len(told) == 2
