"""The whole command against a real RTSP server that is killed, stopped and comes back."""

from __future__ import annotations

import itertools
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from edge_command import STOP_S, of_type, parsed, start, with_manifest
from rtsp import RtspServer

Server = Callable[..., RtspServer]
SECRET = "s3cret"
# A camera is opened, and opened again after a wait, within this many seconds also on a busy machine.
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def quick_bundle(bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Segments of half a second."""
    return with_manifest(bundle_dir, tmp_path_factory.mktemp("quick") / "bundle", segment={"fps": 96.0})


class Run:
    """A running `hh-edge run` on one camera; its records as they come."""

    def __init__(self, bundle: Path, server: RtspServer) -> None:
        camera = f"gate={server.url}"
        self.child = start("run", "--bundle", bundle, "--camera", camera, "--threads", 1)
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._arrived: queue.Queue[None] = queue.Queue()
        self._threads = [
            threading.Thread(target=self._read, args=(self.child.stdout, self.lines), daemon=True),
            threading.Thread(target=self._read, args=(self.child.stderr, self.errors), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, pipe: Any, lines: list[str]) -> None:
        for line in pipe:
            lines.append(line)
            self._arrived.put(None)

    @property
    def records(self) -> list[dict[str, Any]]:
        return parsed("".join(self.lines))

    def wait_for(self, condition: Callable[[list[dict[str, Any]]], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition(self.records):
            assert self.child.poll() is None, self.errors
            assert time.monotonic() < deadline, (self.lines, self.errors)
            try:
                self._arrived.get(timeout=0.5)
            except queue.Empty:
                continue

    def end(self, number: signal.Signals) -> int:
        """Send the signal; the exit code, which must come in time."""
        self.child.send_signal(number)
        code = self.child.wait(timeout=STOP_S)
        for thread in self._threads:
            thread.join(10)
        everything = "".join(self.lines + self.errors)
        assert SECRET not in everything
        assert "Traceback" not in everything
        states = [event["state"] for event in of_type(self.records, "event")]
        assert states.count("new") == states.count("end")
        return code


@pytest.fixture
def run(quick_bundle: Path) -> Iterator[Callable[[RtspServer], Run]]:
    runs: list[Run] = []

    def begin(server: RtspServer) -> Run:
        runs.append(Run(quick_bundle, server))
        return runs[-1]

    yield begin
    for each in runs:
        if each.child.poll() is None:
            each.child.kill()
        each.child.wait()


def segments(count: int) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda records: len(of_type(records, "segment")) >= count


def check_contiguous(records: list[dict[str, Any]]) -> None:
    stretches = [record for record in records if record["type"] in ("segment", "gap")]
    for before, after in itertools.pairwise(stretches):
        assert after["start_s"] == pytest.approx(before["end_s"], abs=2e-6)
    frames = of_type(records, "segment")
    assert frames[0]["start_frame"] == 0
    for before, after in itertools.pairwise(frames):
        assert after["start_frame"] == before["end_frame"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_records_follow_each_other_until_a_signal(
    rtsp_server: Server, run: Callable[[RtspServer], Run], number: signal.Signals, code: int
) -> None:
    live = run(rtsp_server(login=("operator", SECRET), fps=10))
    live.wait_for(segments(3))
    flowing = len(of_type(live.records, "segment"))
    assert live.end(number) == code
    records = live.records
    assert [record["type"] for record in records[:2]] == ["run", "camera"]
    assert records[1]["state"] == "online"
    times = [record["time"] for record in records[1:]]
    assert times == sorted(times)
    assert times[0] >= records[0]["started"]
    assert of_type(records, "gap") == []
    assert len(of_type(records, "segment")) > flowing  # the one that was running when the signal came
    check_contiguous(records)


def test_a_signal_while_the_camera_stalls(rtsp_server: Server, run: Callable[[RtspServer], Run]) -> None:
    server = rtsp_server(login=("operator", SECRET))
    live = run(server)
    live.wait_for(segments(2))
    server.pause()
    try:
        assert live.end(signal.SIGTERM) == 0
    finally:
        server.resume()
    assert len(of_type(live.records, "segment")) >= 2
    check_contiguous(live.records)


def test_a_stall_ends_the_event_and_is_told(rtsp_server: Server, run: Callable[[RtspServer], Run]) -> None:
    server = rtsp_server()
    live = run(server)
    live.wait_for(segments(2))
    server.pause()
    live.wait_for(lambda records: of_type(records, "camera")[-1]["state"] == "stalled")
    assert live.end(signal.SIGINT) == 130
    server.resume()
    (gap,) = of_type(live.records, "gap")
    assert gap["reason"] == "stalled"
    check_contiguous(live.records)


def test_a_camera_that_is_lost_and_found(rtsp_server: Server, run: Callable[[RtspServer], Run]) -> None:
    server = rtsp_server(login=("operator", SECRET), size=(320, 240))
    live = run(server)
    live.wait_for(segments(2))
    server.kill()
    live.wait_for(lambda records: of_type(records, "camera")[-1]["state"] in ("offline", "stalled"))
    before = len(of_type(live.records, "segment"))
    server.size = (640, 480)
    server.start()
    live.wait_for(segments(before + 2))
    assert live.end(signal.SIGINT) == 130
    records = live.records
    states = [record["state"] for record in of_type(records, "camera")]
    assert (states[0], states[-1]) == ("online", "reconnected")
    (gap,) = of_type(records, "gap")
    assert gap["end_s"] > gap["start_s"]
    assert any(segment["start_s"] >= gap["end_s"] for segment in of_type(records, "segment"))
    check_contiguous(records)


def test_two_cameras_and_one_goes(quick_bundle: Path, rtsp_server: Server) -> None:
    stays, goes = rtsp_server(), rtsp_server()
    child: subprocess.Popen[str] = start(
        "run", "--bundle", quick_bundle, "--camera", f"stays={stays.url}", "--camera", f"goes={goes.url}", "--quiet"
    )
    assert child.stdout is not None
    lines: list[str] = []
    gone, after = False, 0
    for line in child.stdout:
        lines.append(line)
        (record,) = parsed(line)
        own = of_type([item for item in parsed("".join(lines)) if item.get("camera") == "goes"], "segment")
        if own and not gone:
            goes.kill()
            gone = True
        after += gone and record["type"] == "segment" and record.get("camera") == "stays"
        if after == 6:
            break
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=STOP_S)
    assert child.returncode == 0, err
    records = parsed("".join(lines) + out)
    check_contiguous([record for record in records if record.get("camera") == "stays"])
    assert of_type([record for record in records if record.get("camera") == "stays"], "gap") == []
    assert of_type([record for record in records if record.get("camera") == "goes"], "gap") != []
