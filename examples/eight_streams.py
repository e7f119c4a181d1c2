"""Eight cameras on one detector. When scoring is slower than they are, you choose: they wait, or frames are dropped.

    python examples/eight_streams.py bundle/ clip.mp4 [drop|wait] [places] [speed]

Once a second stderr says how many frames of each camera wait, and how many were dropped.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime import Bundle, Detector, Record

CHANGED = threading.Condition()


class Camera:
    """One camera's frames that nobody has scored yet: at most `places`, so many times a frame's size in memory."""

    def __init__(self, name: str, places: int, when_full: str) -> None:
        self.name, self.places, self.when_full = name, places, when_full
        self.frames: deque[tuple[NDArray[np.uint8], float]] = deque()
        self.dropped, self.lost_from_s, self.ended = 0, math.inf, False

    def put(self, frame: NDArray[np.uint8], seconds: float) -> None:
        """Wait for a place, or give up all that waits, so that what is scored next is new."""
        with CHANGED:
            if self.when_full == "wait":
                CHANGED.wait_for(lambda: len(self.frames) < self.places)
            elif len(self.frames) >= self.places:
                self.dropped += len(self.frames)
                self.lost_from_s = min(self.lost_from_s, self.frames[0][1])
                self.frames.clear()
            self.frames.append((frame, seconds))
            CHANGED.notify_all()

    def decode(self, path: str, speed: float) -> None:
        """Stands for your decoder: frames when they are due, as from a camera."""
        capture, number = cv2.VideoCapture(path), 0
        fps = capture.get(cv2.CAP_PROP_FPS) or 25.0
        while (read := capture.read())[0]:
            self.put(read[1].astype(np.uint8, copy=False), number / fps)
            number += 1
            time.sleep(1 / fps / speed)
        self.ended = True


def tell(records: list[Record]) -> None:
    """Yours: hand them on."""
    print(*(record.to_json() + "\n" for record in records), sep="", end="")


def score(detector: Detector, cameras: list[Camera]) -> None:
    """Take a frame of each camera in turn until all have ended."""
    streams, told_s = {camera.name: detector.stream(camera.name) for camera in cameras}, 0.0
    while not all(camera.ended and not camera.frames for camera in cameras):
        if time.monotonic() - told_s > 1:
            told_s = time.monotonic()
            print(
                *(f"{one.name}: {len(one.frames)} wait, {one.dropped} dropped;" for one in cameras), file=sys.stderr
            )
        for camera in cameras:
            with CHANGED:
                CHANGED.wait_for(lambda: any(one.frames for one in cameras), timeout=0.1)
                if not camera.frames:
                    continue
                (frame, seconds), lost_from_s = camera.frames.popleft(), camera.lost_from_s
                camera.lost_from_s = math.inf
                CHANGED.notify_all()
            stream = streams[camera.name]
            tell(stream.gap(lost_from_s, seconds, "dropped") if lost_from_s < seconds else [])
            tell(stream.push(frame, seconds))
    for stream in streams.values():
        tell(stream.flush())


def main(bundle: str, path: str, when_full: str = "drop", places: str = "16", speed: str = "1") -> None:
    """Eight times the same file, as eight cameras."""
    cameras = [Camera(f"camera{number}", int(places), when_full) for number in range(8)]
    with Detector(Bundle.open(bundle), provider="cpu") as detector:
        for camera in cameras:
            threading.Thread(target=camera.decode, args=(path, float(speed)), daemon=True).start()
        score(detector, cameras)


if __name__ == "__main__":
    main(*sys.argv[1:])
