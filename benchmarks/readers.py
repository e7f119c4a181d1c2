"""Readers of network cameras: PyAV in this process, OpenCV, and PyAV in a process per camera.

    python benchmarks/readers.py opening     # 8 good cameras and 4 hanging ones, opened at once
    python benchmarks/readers.py decoding VIDEO
    python benchmarks/readers.py memory      # a 1080p camera more

Needs the RTSP server of the tests (tests/support/rtsp.py) and ffmpeg. Figures: docs/adr/0016. How soon a whole run
has 40 cameras is measured by benchmarks/live/opening.py.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT)]

PROBE = (
    "import sys; from edge_runtime.video.probe import probe; from edge_runtime.video.sources import parse_source; "
)


def by_pyav(url: str) -> bool:
    from edge_runtime.errors import CameraUnavailable
    from edge_runtime.video.probe import probe
    from edge_runtime.video.sources import parse_source

    try:
        return probe(parse_source(url)) is not None
    except CameraUnavailable:
        return False


def by_opencv(url: str) -> bool:
    import cv2

    options = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 5000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 5000, cv2.CAP_PROP_N_THREADS, 1]
    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, options)
    return bool(capture.isOpened() and capture.read()[0])


def by_process(url: str) -> bool:
    program = f"{PROBE} probe(parse_source(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", program, url], capture_output=True, cwd=ROOT, check=False)
    return done.returncode == 0


def opening() -> None:
    from rtsp import RtspServer

    from benchmarks.live.served import hanging

    servers = [RtspServer(fps=15) for _ in range(8)]
    with contextlib.ExitStack() as stack:
        for server in servers:
            server.start()
            stack.callback(server.kill)
        urls = stack.enter_context(hanging(4)) + [server.url for server in servers]
        for way in (by_pyav, by_process, by_opencv):
            print(way.__name__, *(f"{kind} {seconds:.1f} s" for kind, seconds in sorted(_together(way, urls))))


def _together(way: Callable[[str], bool], urls: list[str]) -> list[tuple[str, float]]:
    answers: list[tuple[str, float]] = []
    begun = time.perf_counter()

    def one(url: str) -> None:
        answers.append(("good" if way(url) else "hanging", time.perf_counter() - begun))

    threads = [threading.Thread(target=one, args=(url,)) for url in urls]
    for thread in threads:
        thread.start()
        time.sleep(0.01)
    for thread in threads:
        thread.join()
    return answers


def decoding(path: str) -> None:
    import av
    import cv2
    from av.video.reformatter import VideoReformatter

    for convert in (False, True):
        capture, count, begun = (
            cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1]),
            0,
            time.process_time(),
        )
        while capture.grab():
            count += 1
            if convert:
                capture.retrieve()
        print(
            "OpenCV",
            "converted" if convert else "decoded",
            f"{count / (time.process_time() - begun):.0f} frames/s of CPU",
        )
        reformatter, count, begun = VideoReformatter(), 0, time.process_time()
        with av.open(path) as container:
            container.streams.video[0].codec_context.thread_count = 1
            for frame in container.decode(video=0):
                count += 1
                if convert:
                    reformatter.reformat(frame, format="bgr24", interpolation="BICUBIC").to_ndarray()
        print(
            "PyAV",
            "converted" if convert else "decoded",
            f"{count / (time.process_time() - begun):.0f} frames/s of CPU",
        )


def memory() -> None:
    from rtsp import RtspServer

    from edge_runtime.video.network import NetworkConnection
    from edge_runtime.video.sources import parse_source

    server = RtspServer(size=(1920, 1080), fps=5, shared=True)
    server.start()
    connections = []
    try:
        print(f"before: {resident_mb():.0f} MB")
        for _ in range(4):
            connection = NetworkConnection(parse_source(server.url), 5, 5)
            for _ in range(5):
                connection.grab()
            connection.picture()
            connections.append(connection)
            print(f"{len(connections)} in this process: {resident_mb():.0f} MB")
        program = (
            f"{PROBE} from edge_runtime.video.network import NetworkConnection as C\n"
            "c = C(parse_source(sys.argv[1]), 5, 5)\n"
            "for _ in range(5): c.grab()\n"
            "c.picture(); print(open('/proc/self/smaps_rollup').read())"
        )
        command = [sys.executable, "-c", program, server.url]
        out = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
        private = [line.split() for line in out.stdout.splitlines() if line.startswith(("Rss", "Private"))]
        print("a process of its own:", {name: f"{int(kilobytes) / 1000:.0f} MB" for name, kilobytes, _ in private})
    finally:
        for connection in connections:
            connection.close()
        server.kill()


def resident_mb() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1000


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["opening"]:
            opening()
        case ["decoding", video]:
            decoding(video)
        case ["memory"]:
            memory()
        case _:
            raise SystemExit(__doc__)
