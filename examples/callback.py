"""A callback for records: your decoder's thread hands frames over and never waits for the model.

python examples/callback.py bundle/ clip.mp4
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime import Bundle, Detector, Record

Frame = NDArray[np.uint8]


class Watcher:
    """Scores one camera in a thread of its own; what does not fit into its queue becomes a gap, never a score."""

    def __init__(self, detector: Detector, name: str, on_record: Callable[[Record], None], places: int = 32) -> None:
        self._stream = detector.stream(name, locator="low_latency")
        self._on_record = on_record
        self._frames: queue.Queue[tuple[Frame, float, float | None] | None] = queue.Queue(places)
        self._refused_from_s: float | None = None
        self._thread = threading.Thread(target=self._work, name=f"watch-{name}")
        self._thread.start()

    def on_frame(self, frame: Frame, seconds: float) -> bool:
        """Take a frame, which is the watcher's from now on; False where the queue was full. Never waits."""
        try:
            self._frames.put_nowait((frame, seconds, self._refused_from_s))
        except queue.Full:
            if self._refused_from_s is None:
                self._refused_from_s = seconds
            return False
        self._refused_from_s = None
        return True

    def close(self) -> None:
        """Score what waits and what is open, call back for it, and end."""
        self._frames.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (taken := self._frames.get()) is not None:
            frame, seconds, refused_from_s = taken
            if refused_from_s is not None:
                self._tell(self._stream.gap(refused_from_s, seconds, "dropped"))
            self._tell(self._stream.push(frame, seconds))
        self._tell(self._stream.flush())

    def _tell(self, records: list[Record]) -> None:
        for record in records:
            self._on_record(record)


def main(bundle: str, path: str) -> None:
    """Play a file as a camera would: at its own pace, whether anybody keeps up or not."""
    with Detector(Bundle.open(bundle), provider="cpu") as detector:
        watcher = Watcher(detector, "gate", lambda record: print(record.to_json()))
        capture, refused, begun_s = cv2.VideoCapture(path), 0, time.monotonic()
        while (read := capture.read())[0]:
            refused += not watcher.on_frame(read[1].astype(np.uint8, copy=False), time.monotonic() - begun_s)
            time.sleep(1 / (capture.get(cv2.CAP_PROP_FPS) or 25))
        watcher.close()
    print(f"{refused} frames refused", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:3])
