"""What a run counts is what happened, and counting or looking changes nothing of it."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from scripted_camera import ScriptedCamera, flow
from served_run import LIMIT_S, serving, wait_for

from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.outputs.sink import Output, Outputs
from edge_runtime.records import EventRecord, GapRecord, Record, SegmentRecord
from edge_runtime.video.capture import DecodedFrame
from edge_runtime.video.journal import CameraListener
from edge_runtime.video.sources import parse_source
from edge_runtime.watch.cameras import LiveRun
from edge_runtime.watch.figures import Histogram, RunFigures, process_figures
from edge_runtime.watch.glimpses import Glimpses
from edge_runtime.watch.options import RunOptions


@pytest.fixture
def detector(bundle: Bundle) -> Iterator[Detector]:
    with Detector(bundle, "cpu", threads=1) as opened:
        yield opened


@given(st.lists(st.floats(0, 200)), st.lists(st.floats(0.001, 100), min_size=1, unique=True).map(sorted))
def test_a_histogram_counts_as_prometheus_reads_it(values: list[float], bounds: list[float]) -> None:
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    found = histogram.distribution()
    assert found.up_to() == [(bound, sum(value <= bound for value in values)) for bound in (*bounds, math.inf)]
    assert found.count == len(values)
    assert found.total == pytest.approx(sum(values))


def a_life(listener: CameraListener, stopping: threading.Event) -> None:
    """Two segments, an outage of ten seconds, one segment and what the run makes of the rest; twice lost."""
    listener.on_state("online", "", 0.0)
    flow(listener, 0, 97, 0.0)
    listener.on_state("offline", "", 8.0, "timeout")
    listener.on_outage(6.4, 18.0, "lost")
    listener.on_state("reconnected", "", 18.0)
    flow(listener, 97, 48, 18.0)
    listener.on_state("stalled", "", 24.0, "timeout")
    listener.on_outage(21.2, 25.0, "stalled")
    listener.on_state("reconnected", "", 25.0)
    flow(listener, 145, 1, 25.0)
    stopping.wait(LIMIT_S)


def test_cameras_are_counted_as_their_records_say(detector: Detector) -> None:
    records: list[Record] = []
    figures = RunFigures()
    assert figures.take().cameras == ()
    run = LiveRun(detector, records.append, RunOptions(figures=figures), open_reader=ScriptedCamera.of(a_life))
    run.add(parse_source("gate=rtsp://camera/1"))
    run.add(parse_source("yard=rtsp://camera/2"))
    with serving(run):
        wait_for(
            lambda: all(
                camera.up and camera.frames == 146 and camera.gaps("stalled")[0] for camera in figures.take().cameras
            )
        )
        now = figures.take()
        assert [camera.name for camera in now.cameras] == ["gate", "yard"]
        assert (now.run, now.bundle_id) == (run.run_id, detector.bundle.manifest.bundle_id)
        for camera in now.cameras:
            own = [one for one in records if getattr(one, "camera", None) == camera.name]
            scored = [one for one in own if isinstance(one, SegmentRecord)]
            gaps = [one for one in own if isinstance(one, GapRecord)]
            assert (camera.up, camera.frames, camera.reconnections, camera.recent_reconnections) == (True, 146, 2, 2)
            assert camera.tally.counts["segments"] == len(scored) == camera.decision.count
            assert camera.last == msgspec.structs.replace(scored[-1], time=UNSET)
            for reason in ("lost", "stalled", "dropped"):
                of_it = [gap.end_s - gap.start_s for gap in gaps if gap.reason == reason]
                assert camera.gaps(reason) == (len(of_it), pytest.approx(sum(of_it)))
            events = {one.id for one in own if isinstance(one, EventRecord)}
            assert camera.tally.counts["events"] == len(events)
            assert camera.last_frame_age_s >= 0
        # Whatever a segment was scored with.
        assert now.scoring_batch.total == sum(isinstance(one, SegmentRecord) for one in records)
        assert now.scoring_seconds.count == now.scoring_batch.count
        assert now.scoring_seconds.total > 0
        run.remove("gate")
        wait_for(lambda: [camera.name for camera in figures.take().cameras] == ["yard"])


def test_segments_that_wait_are_counted_and_those_that_had_to_go_are_gaps(detector: Detector) -> None:
    let_go = threading.Event()
    records: list[Record] = []

    def emit(record: Record) -> None:
        records.append(record)
        let_go.wait(LIMIT_S)

    def much(listener: CameraListener, stopping: threading.Event) -> None:
        listener.on_state("online", "", 0.0)
        flow(listener, 0, 10 * 48 + 1, 0.0)
        stopping.wait(LIMIT_S)

    figures = RunFigures()
    options = RunOptions(figures=figures, locator="low_latency")
    run = LiveRun(detector, emit, options, open_reader=ScriptedCamera.of(much))
    run.add(parse_source("gate=rtsp://camera/1"))
    with serving(run):
        wait_for(lambda: figures.take().cameras[0].frames == 481 and bool(records))
        assert figures.take().cameras[0].waiting == 2
        let_go.set()
        wait_for(lambda: figures.take().cameras[0].waiting == 0 and figures.take().cameras[0].last is not None)
        (camera,) = figures.take().cameras
        gaps = [one for one in records if isinstance(one, GapRecord)]
        assert camera.gaps("dropped")[0] == len(gaps) > 0


def plain(records: list[Record]) -> list[str]:
    """Records as lines, without the day's time."""
    return [
        msgspec.structs.replace(one, time=UNSET).to_json() if hasattr(one, "time") else one.to_json()
        for one in records
    ]


@pytest.mark.parametrize("looking", ["glimpses", "figures"])
def test_records_are_the_same_to_the_byte_whoever_looks(
    detector: Detector, looking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every frame is looked at, not one a second.
    monkeypatch.setattr("edge_runtime.watch.glimpses.EVERY_S", 0.0)

    def run(looked_at: bool) -> list[str]:
        records: list[Record] = []
        glimpses, figures = Glimpses(), RunFigures()
        go, over, looks = threading.Event(), threading.Event(), [0]

        def noise(listener: CameraListener, stopping: threading.Event) -> None:
            go.wait(LIMIT_S)
            listener.on_state("online", "", 0.0)
            for index in range(2 * 48 + 1):
                picture = np.random.default_rng(index // 20).integers(0, 255, (90, 160, 3), dtype=np.uint8)
                listener.on_frame(DecodedFrame(index, index / 15, picture.copy))
            stopping.wait(LIMIT_S)

        def look() -> None:
            while not over.is_set():
                if looking == "figures":
                    looks[0] += len(figures.take().cameras)
                else:
                    looks[0] += glimpses.picture("gate") is not None
                go.set()

        options = RunOptions(locator="low_latency")
        if looked_at:
            options = replace(options, glimpses=glimpses, figures=figures)
        live = LiveRun(detector, records.append, options, open_reader=ScriptedCamera.of(noise))
        live.add(parse_source("gate=rtsp://camera/1"))
        thread = threading.Thread(target=look)
        if looked_at:
            thread.start()
        else:
            go.set()
        with serving(live):
            wait_for(lambda: sum(isinstance(one, SegmentRecord | GapRecord) for one in records) == 2)
        over.set()
        if looked_at:
            thread.join()
            assert looks[0] > 0
        said = plain([one for one in records if isinstance(one, SegmentRecord | EventRecord)])
        return [line.replace(live.run_id, "") for line in said]

    assert run(True) == run(False)


class Stuck:
    """Takes one record and keeps it."""

    name = "a slow one"
    refused = 3

    def __init__(self) -> None:
        self.let_go, self.has = threading.Event(), threading.Event()

    def write(self, record: Record) -> None:
        self.has.set()
        self.let_go.wait(LIMIT_S)

    def close(self) -> None: ...


def test_outputs_say_what_they_have_not_got() -> None:
    sink, figures = Stuck(), RunFigures()
    with Outputs([Output(sink, capacity=4)]) as outputs:
        figures.outputs = outputs
        outputs.emit(GapRecord("gate", 0.0, 1.0, "lost"))
        assert sink.has.wait(LIMIT_S)
        for number in range(6):
            outputs.emit(GapRecord("gate", float(number), number + 1.0, "lost"))
        (found,) = figures.take().outputs
        # Two of six had no place, and three it refused itself.
        assert (found.sink, found.waiting, found.lost) == ("a slow one", 4, 5)
        sink.let_go.set()


def test_the_process_is_measured_as_the_system_does() -> None:
    if not os.path.exists("/proc/self/status"):
        pytest.skip("the system does not say")
    lines = Path("/proc/self/status").read_text().splitlines()
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    found = process_figures()
    assert found.resident_bytes is not None
    assert found.threads is not None
    assert found.resident_bytes == pytest.approx(int(told["VmRSS"].split()[0]) * 1024, rel=0.2)
    # What earlier tests left comes to its end meanwhile.
    assert abs(found.threads - int(told["Threads"])) <= 5
    assert found.open_files is not None
    assert abs(found.open_files - len(os.listdir("/proc/self/fd"))) <= 5
