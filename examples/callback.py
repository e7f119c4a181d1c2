"""A callback for records: your decoder's thread hands frames over and never waits for the model.

python examples/callback.py bundle/ clip.mp4
"""

import queue
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime import Bundle, Detector, InvalidFrame, Record

Frame = NDArray[np.uint8]


class Watcher:
    """Scores one camera in a thread of its own, which calls `on_record`; what does not fit its queue is a gap."""

    def __init__(self, detector: Detector, name: str, on_record: Callable[[Record], None], places: int = 32) -> None:
        self._stream = detector.stream(name, locator="low_latency")
        self._on_record = on_record
        self._frames: queue.Queue[tuple[Frame | None, float, float | None]] = queue.Queue(places)
        self._refused_from_s: float | None = None
        self._newest_s, self._thread = 0.0, threading.Thread(target=self._work, name=f"watch-{name}")
        self._thread.start()

    def on_frame(self, frame: Frame, seconds: float) -> bool:
        """Take a frame, which is the watcher's from now on; False where the queue was full. Never waits."""
        self._newest_s = seconds
        try:
            self._frames.put_nowait((frame, seconds, self._refused_from_s))
        except queue.Full:
            self._refused_from_s = seconds if self._refused_from_s is None else self._refused_from_s
            return False
        self._refused_from_s = None
        return True

    def close(self) -> None:
        """Score what waits and what is open, call back for it, and end: before the detector is closed."""
        self._frames.put((None, self._newest_s, self._refused_from_s))
        self._thread.join()

    def _work(self) -> None:
        frame: Frame | None = np.empty(0, np.uint8)
        while frame is not None:
            frame, seconds, refused_from_s = self._frames.get()
            try:
                if refused_from_s is not None:
                    self._tell(self._stream.gap(refused_from_s, seconds, "dropped"))
                self._tell(self._stream.push(frame, seconds) if frame is not None else self._stream.flush())
            except InvalidFrame as error:
                print(error, file=sys.stderr)  # the stream is unchanged: the frame is left out

    def _tell(self, records: list[Record]) -> None:
        for record in records:
            self._on_record(record)


def main(bundle: str, path: str) -> None:
    """Play a file as a camera would: at its own pace, whether anybody keeps up or not."""
    capture, refused, begun_s = cv2.VideoCapture(path), 0, time.monotonic()
    with (
        Detector(Bundle.open(bundle), provider="cpu") as detector,
        closing(Watcher(detector, "gate", lambda record: print(record.to_json()))) as watcher,
    ):
        while (read := capture.read())[0]:
            refused += not watcher.on_frame(read[1].astype(np.uint8, copy=False), time.monotonic() - begun_s)
            time.sleep(1 / (capture.get(cv2.CAP_PROP_FPS) or 25))
    print(f"{refused} frames refused", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:3])
