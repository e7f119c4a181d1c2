"""Every example runs as it stands, stays short, and does what it says."""

from __future__ import annotations

import asyncio
import http.server
import importlib.util
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from clips import ROOT, write_clip
from edge_command import hh_edge, of_type, parsed, start
from rtsp import RtspServer

from edge_runtime import Bundle, Detector, EventRecord, Output, OutputFailed, Outputs, Record, SegmentRecord

EXAMPLES = ROOT / "examples"
PROGRAMS = sorted(EXAMPLES.glob("*.py"))
GENEROUS_S = 120


def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return done


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(EXAMPLES))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(EXAMPLES))
    return module


def wait_for(condition: Callable[[], Any]) -> None:
    end_s = time.monotonic() + GENEROUS_S
    while not condition():
        assert time.monotonic() < end_s, "nothing came of it"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whole segment and a tail of 12 frames, 4 seconds long."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 60, (10, 40), seed=5)


@pytest.fixture(scope="module")
def expected(clip: Path, bundle: Bundle) -> list[dict[str, Any]]:
    """The records of the clip, from the frames that OpenCV reads: as calibration saw its videos."""
    with Detector(bundle, provider="cpu") as detector:
        stream, capture, records = detector.stream("gate", clock="frames"), cv2.VideoCapture(str(clip)), []
        for number in range(60):
            records += stream.push(np.asarray(capture.read()[1], dtype=np.uint8), number / 15)
        return [record.to_dict() for record in records + stream.flush()]


@pytest.fixture
def detector(bundle: Bundle) -> Iterator[Detector]:
    with Detector(bundle, provider="cpu", self_test=False) as opened:
        yield opened


def scores(records: list[dict[str, Any]]) -> list[float]:
    return [record["score"] for record in of_type(records, "segment")]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_an_example_is_read_in_a_minute(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) < 80
    # A recorder has what `pip install "headhunt-edge[cpu]"` brings, and the public names.
    assert {line.split()[1] for line in text.splitlines() if line.startswith("from edge_runtime")} <= {"edge_runtime"}


def test_frames_of_ones_own_decoder(bundle_dir: Path, clip: Path, expected: list[dict[str, Any]]) -> None:
    records = parsed(run("own_decoder", bundle_dir, clip).stdout)
    assert len(of_type(records, "segment")) == 2
    assert scores(records) == scores(expected)


def test_an_error_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "own_decoder.py"), str(tmp_path / "nowhere"), "clip.mp4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "no such folder" in done.stderr


def test_a_callback_gets_records_and_gaps_for_what_was_refused(bundle_dir: Path, clip: Path) -> None:
    done = run("callback", bundle_dir, clip)
    records = parsed(done.stdout)
    refused = int(done.stderr.split()[-3])
    assert of_type(records, "segment") or of_type(records, "gap")
    # How many were refused is a matter of the machine; that two are not passed over in silence is not.
    assert refused < 2 or of_type(records, "gap")


def test_a_callbacks_decoder_never_waits(detector: Detector) -> None:
    called, go_on, records = threading.Event(), threading.Event(), []

    def on_record(record: Record) -> None:
        records.append(record)
        called.set()
        go_on.wait(GENEROUS_S)

    with closing(load("callback").Watcher(detector, "gate", on_record, places=4)) as watcher:
        seconds = (number / 15 for number in count())
        frame = np.zeros((48, 64, 3), np.uint8)
        while not called.is_set():
            watcher.on_frame(frame, next(seconds))
            time.sleep(1e-3)  # a loop that never lets go of the interpreter would starve the thread it waits for
        taken = [watcher.on_frame(frame, next(seconds)) for _ in range(20)]
        assert sum(taken) <= 4
        # What is no picture is left out, and ends nothing.
        watcher._frames.queue.append((np.zeros((48, 64), np.uint8), next(seconds), None))
        go_on.set()
        # With room again: the first that fits says where the hole began.
        wait_for(lambda: watcher.on_frame(frame, next(seconds)))
    assert any(record.to_dict().get("reason") == "dropped" for record in records)


def test_the_async_form_gives_the_same_records(bundle_dir: Path, clip: Path, expected: list[dict[str, Any]]) -> None:
    done = run("asynchronous", bundle_dir, clip, clip)
    found = scores(parsed(done.stdout))
    assert sorted(found) == sorted(2 * scores(expected))
    assert "the loop stood still" in done.stderr


def test_the_loop_runs_on_while_a_frame_is_scored(detector: Detector) -> None:
    """`push` here ends only when the loop has come round: on a loop that waited for it, it never would."""
    stream, came_round = detector.stream("gate"), threading.Event()
    push = stream.push

    def slow(frame: Any, seconds: float) -> list[Record]:
        assert came_round.wait(GENEROUS_S)
        return push(frame, seconds)

    stream.push = slow  # type: ignore[method-assign]

    async def frames() -> Any:
        for number in range(60):
            yield np.zeros((48, 64, 3), np.uint8), number / 15

    async def main() -> list[Record]:
        asyncio.get_running_loop().call_later(0.05, came_round.set)
        with ThreadPoolExecutor(1) as pool:
            return [record async for record in load("asynchronous").records(stream, frames(), pool)]

    assert [record for record in asyncio.run(main()) if isinstance(record, SegmentRecord)]


def test_eight_streams_that_may_wait_lose_nothing(
    bundle_dir: Path, clip: Path, expected: list[dict[str, Any]]
) -> None:
    done = run("eight_streams", bundle_dir, clip, "wait", 4, 1000)
    records = parsed(done.stdout)
    for number in range(8):
        own = [record for record in records if record["camera"] == f"camera{number}"]
        assert [segment["end_frame"] for segment in of_type(own, "segment")][-1] == 60
        assert not of_type(own, "gap")
    assert "camera7: 0 wait, 0 dropped" in done.stderr


def test_frames_that_are_dropped_become_a_gap_and_are_counted(
    detector: Detector, capsys: pytest.CaptureFixture[str]
) -> None:
    camera = load("eight_streams").Camera(detector.stream("gate"), 4, "drop")
    for number in range(10):
        camera.put(np.zeros((48, 64, 3), np.uint8), number / 15)
    assert (len(camera.frames), camera.dropped) == (2, 8)
    camera.ended = True
    camera.score()
    gap, *_ = of_type(parsed(capsys.readouterr().out), "gap")
    assert (gap["start_s"], gap["reason"]) == (0.0, "dropped")
    assert gap["end_s"] == pytest.approx(8 / 15)


def test_a_decoder_that_may_wait_does(detector: Detector) -> None:
    camera = load("eight_streams").Camera(detector.stream("gate"), 4, "wait")

    def decode() -> None:
        for number in range(30):
            camera.put(np.zeros((48, 64, 3), np.uint8), number / 15)
        camera.ended = True

    thread = threading.Thread(target=decode)
    thread.start()
    wait_for(lambda: len(camera.frames) == 4)
    assert thread.is_alive()
    camera.score()
    thread.join()
    assert camera.dropped == 0


@pytest.mark.parametrize("layout", ["nv12", "i420"])
def test_planes_are_scored_as_the_calibration_saw_them(
    bundle_dir: Path, clip: Path, expected: list[dict[str, Any]], layout: str
) -> None:
    records = parsed(run("planes", bundle_dir, clip, layout).stdout)
    assert scores(records) == scores(expected)


def test_a_sink_of_ones_own(bundle_dir: Path, clip: Path, tmp_path: Path, expected: list[dict[str, Any]]) -> None:
    run("custom_sink", bundle_dir, clip, tmp_path / "events.db")
    ended = [record for record in of_type(expected, "event") if record["state"] == "end"]
    if ended:
        with sqlite3.connect(tmp_path / "events.db") as database:
            rows = database.execute("SELECT camera, end_s, peak, state FROM events").fetchall()
        assert rows == [(event["camera"], event["end_s"], pytest.approx(event["peak"]), "end") for event in ended]


def test_the_sink_keeps_an_event_as_it_stood_last_and_tells_of_a_disk_that_fails(tmp_path: Path) -> None:
    table = load("custom_sink").EventTable
    said = [EventRecord(state, "a", "gate", 1.0, end_s, 15, 60, 0.9, 0.8) for state, end_s in
            (("new", 2.0), ("update", 3.0), ("end", 3.0))]  # fmt: skip
    with Outputs([Output(table(str(tmp_path / "events.db")), required=True)]) as outputs:
        for event in said:
            outputs.emit(event)
    with sqlite3.connect(tmp_path / "events.db") as database:
        assert database.execute("SELECT id, end_s, state FROM events").fetchall() == [("a", 3.0, "end")]

    def to_nowhere() -> None:
        with Outputs([Output(table(str(tmp_path / "nowhere" / "events.db")), required=True)]) as outputs:
            outputs.emit(said[0])

    with pytest.raises(OutputFailed, match="nothing more is written"):
        to_nowhere()


def camera_file(folder: Path, bundle_dir: Path, **cameras: Any) -> Path:
    path = folder / "cameras.json"
    path.write_text(json.dumps({"version": 1, "bundle": str(bundle_dir), "cameras": cameras}))
    return path


def cameras_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())["cameras"]
    return found


def start_hook(path: Path, stream: str, port: int) -> subprocess.Popen[bytes]:
    """As MediaMTX starts the command of runOnReady."""
    environment = os.environ | {"MTX_PATH": stream, "RTSP_PORT": str(port)}
    return subprocess.Popen([sys.executable, str(EXAMPLES / "mediamtx_hook.py"), str(path)], env=environment)


def test_streams_that_come_and_go_in_mediamtx_are_cameras_that_do(
    rtsp_server: Callable[..., RtspServer], bundle_dir: Path, tmp_path: Path
) -> None:
    """MediaMTX itself is not here: what it sets and sends by its documentation is, and another RTSP server."""
    server = rtsp_server(size=(320, 240), fps=10)
    path = camera_file(tmp_path, bundle_dir)
    records = tmp_path / "records.jsonl"
    edge = start("run", "--config", path, "--watch", "--output", records)
    hook = start_hook(path, "stream", server.port)
    try:
        wait_for(lambda: records.exists() and '"state":"online"' in records.read_text())
        assert cameras_of(path) == {"stream": {"source": f"rtsp://127.0.0.1:{server.port}/stream"}}
        hook.send_signal(signal.SIGINT)
        assert hook.wait(GENEROUS_S) == 0
        assert cameras_of(path) == {}
    finally:
        hook.kill()
        edge.terminate()
        edge.communicate(timeout=GENEROUS_S)


def test_many_streams_that_come_at_once_are_all_added_and_all_removed(bundle_dir: Path, tmp_path: Path) -> None:
    path = camera_file(tmp_path, bundle_dir, dock={"source": "rtsp://192.0.2.1/dock"})
    hooks = [start_hook(path, f"site/{number}", 8554) for number in range(6)]
    try:
        wait_for(lambda: len(cameras_of(path)) == 7)
        assert cameras_of(path)["site-3"] == {"source": "rtsp://127.0.0.1:8554/site/3"}
        for hook in hooks:
            hook.send_signal(signal.SIGINT)
        assert [hook.wait(GENEROUS_S) for hook in hooks] == [0] * 6
        assert list(cameras_of(path)) == ["dock"]
    finally:
        for hook in hooks:
            hook.kill()


@pytest.fixture
def go2rtc() -> Iterator[tuple[str, dict[str, Any]]]:
    """What go2rtc answers to GET /api/streams by its API document, over a real connection; go2rtc is not here."""
    streams: dict[str, Any] = {}

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/api/streams" else 404)
            self.end_headers()
            self.wfile.write(json.dumps(streams).encode())

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", streams
    server.shutdown()
    server.server_close()


def test_the_streams_of_go2rtc_become_cameras(
    go2rtc: tuple[str, dict[str, Any]], bundle_dir: Path, tmp_path: Path
) -> None:
    api, streams = go2rtc
    hook, rtsp = load("go2rtc_hook"), "rtsp://127.0.0.1:8554"
    path = camera_file(tmp_path, bundle_dir, dock={"source": "rtsp://192.0.2.1/dock"})
    streams.update(
        {
            "gate": {"producers": [{"url": "rtsp://operator:hush@192.0.2.7/stream"}], "consumers": []},
            "back yard": {"producers": [], "consumers": None},
        }
    )
    assert hook.mirror(path, api, rtsp)
    assert not hook.mirror(path, api, rtsp)
    assert cameras_of(path) == {
        "dock": {"source": "rtsp://192.0.2.1/dock"},
        "back-yard": {"source": f"{rtsp}/back%20yard"},
        "gate": {"source": f"{rtsp}/gate"},
    }
    assert "hush" not in path.read_text()
    checked = hh_edge("run", "--config", path, "--check-config")
    assert checked.returncode == 0, checked.stderr
    del streams["gate"]
    assert hook.mirror(path, api, rtsp)
    assert sorted(cameras_of(path)) == ["back-yard", "dock"]


def test_what_was_set_for_a_camera_by_hand_stays(
    go2rtc: tuple[str, dict[str, Any]], bundle_dir: Path, tmp_path: Path
) -> None:
    api, streams = go2rtc
    streams["gate"] = {}
    gate = {"source": "rtsp://127.0.0.1:8554/gate", "priority": 10}
    path = camera_file(tmp_path, bundle_dir, gate=gate)
    assert not load("go2rtc_hook").mirror(path, api, "rtsp://127.0.0.1:8554")
    assert cameras_of(path) == {"gate": gate}
