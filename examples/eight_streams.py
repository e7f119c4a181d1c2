"""Eight cameras on one detector. When scoring is slower than they are, you choose: they wait, or frames are dropped.

    python examples/eight_streams.py bundle/ clip.mp4 [drop|wait] [places] [speed]

Once a second stderr says how many frames of each camera wait, and how many were dropped.
"""

import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime import Bundle, Detector, Stream


class Camera:
    """One camera's frames that nobody has scored yet: at most `places`, so many times a frame's size in memory."""

    def __init__(self, stream: Stream, places: int, when_full: str) -> None:
        self.stream, self.places, self.when_full = stream, places, when_full
        self.frames: deque[tuple[NDArray[np.uint8], float]] = deque()
        self.dropped, self.lost_from_s, self.ended = 0, float("inf"), False
        self.changed = threading.Condition()

    def put(self, frame: NDArray[np.uint8], seconds: float) -> None:
        """The decoder's side. Full: wait for a place, or give up all that waits, so that what is scored is new."""
        with self.changed:
            if self.when_full == "wait":
                self.changed.wait_for(lambda: len(self.frames) < self.places)
            elif len(self.frames) >= self.places:
                self.dropped += len(self.frames)
                self.lost_from_s = min(self.lost_from_s, self.frames[0][1])
                self.frames.clear()
            self.frames.append((frame, seconds))
            self.changed.notify_all()

    def score(self) -> None:
        """The model's side, in this camera's thread: what was dropped is a gap, never a score."""
        while self.frames or not self.ended:
            with self.changed:
                if not self.changed.wait_for(lambda: self.frames, timeout=0.2):
                    continue
                (frame, seconds), lost_from_s = self.frames.popleft(), self.lost_from_s
                self.lost_from_s = float("inf")
                self.changed.notify_all()
            lost = self.stream.gap(lost_from_s, seconds, "dropped") if lost_from_s < seconds else []
            print(*(record.to_json() + "\n" for record in lost + self.stream.push(frame, seconds)), sep="", end="")
        print(*(record.to_json() + "\n" for record in self.stream.flush()), sep="", end="")

    def decode(self, path: str, speed: float) -> None:
        """Stands for your decoder: frames when they are due, as from a camera."""
        capture = cv2.VideoCapture(path)
        fps = capture.get(cv2.CAP_PROP_FPS) or 25.0
        while (read := capture.read())[0]:
            self.put(read[1].astype(np.uint8, copy=False), capture.get(cv2.CAP_PROP_POS_FRAMES) / fps)
            time.sleep(1 / fps / speed)
        self.ended = True


def main(bundle: str, path: str, when_full: str = "drop", places: str = "16", speed: str = "1") -> None:
    """Eight times the same file, as eight cameras."""
    with Detector(Bundle.open(bundle), provider="cpu") as detector, ThreadPoolExecutor(16) as pool:
        cameras = [Camera(detector.stream(f"camera{n}"), int(places), when_full) for n in range(8)]
        works = [pool.submit(camera.score) for camera in cameras]
        works += [pool.submit(camera.decode, path, float(speed)) for camera in cameras]
        while not all(work.done() for work in works):
            time.sleep(1)
            waiting = (f"{one.stream.camera}: {len(one.frames)} wait, {one.dropped} dropped" for one in cameras)
            print(*waiting, sep="; ", file=sys.stderr)
    print(*(work.exception() or "" for work in works), sep="", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
