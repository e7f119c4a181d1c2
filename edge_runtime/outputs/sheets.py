"""Contact sheets of events: the frames that the model saw of the most anomalous segment, as one picture.

A segment is scored before anybody knows whether it becomes part of an event, so the sheets of segments that nearly
are an alarm are made ahead, in a thread of its own, and the newest of each camera are kept in memory.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import one_line
from edge_runtime.repeats import RepeatedTrouble
from edge_runtime.stream.pixels import UInt8Array
from edge_runtime.stream.segments import Segment

__all__ = ["SheetWanted", "Sheets"]

log = logging.getLogger(__name__)

#: Width of one frame on a sheet, in pixels, and how many it has at most: of more, so many are taken evenly.
TILE, MOST = 160, 36
#: Of one camera; more than the locator waits for, strides included.
KEPT = 24
# Segments with their pixels: of each some megabytes.
_WAITING = 16
# Cameras that came and went must not fill the memory.
_CAMERAS = 256
_QUALITY = 80
# Times are the same numbers on both sides; this is for those that were written and read.
_SAME_S = 1e-3

# keep(wanted, jpeg)
Keep = Callable[["SheetWanted", bytes], None]
# listener(camera, segment, features, score)
Listener = Callable[[str, Segment, NDArray[np.float32], float], None]


@dataclass(frozen=True, slots=True)
class SheetWanted:
    """An event was told whose most anomalous segment so far has a sheet, perhaps.

    Attributes:
        camera: The camera's name.
        event: The event's id.
        day: When it began, as 2026-01-31.
        end_s: End of that segment, in seconds of the run.
    """

    camera: str
    event: str
    day: str
    end_s: float


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    camera: str
    end_s: float
    pixels: UInt8Array


class Sheets:
    """Makes them. Begins with `start`; what is told before waits.

    Args:
        keep: Takes every sheet that was wanted as a JPEG file, in the thread that makes them.
    """

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._changed = threading.Condition()
        self._queue: deque[_Seen | SheetWanted] = deque()
        self._segments = 0
        self._made: dict[str, deque[tuple[float, bytes]]] = {}
        self._closing = False
        self._left_out = RepeatedTrouble(
            log, logging.WARNING, lambda count, seconds: f"{count} more contact sheets were left out in {seconds} s"
        )
        self._thread = threading.Thread(target=self._work, name="sheets", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def listener(self, notable: Callable[[str], float]) -> Listener:
        """What a detector's `seen` is to be told: of a segment that is not notable nothing but a comparison is made.

        Args:
            notable: From which score on a segment's sheet is made, by the camera's name.
        """

        def seen(camera: str, segment: Segment, features: NDArray[np.float32], score: float) -> None:
            if score >= notable(camera):
                self._take(camera, segment)

        return seen

    def _take(self, camera: str, segment: Segment) -> None:
        with self._changed:
            self._queue.append(_Seen(camera, segment.end_s, segment.pixels))
            self._segments += 1
            if full := self._segments > _WAITING:
                self._queue.remove(next(item for item in self._queue if isinstance(item, _Seen)))
                self._segments -= 1
            self._changed.notify()
        if full:
            self._left_out.happened("contact sheets are made too slowly; the oldest is left out")

    def ask(self, wanted: SheetWanted) -> None:
        """Have the sheet of an event kept; does not wait. Where that segment was not notable nothing happens."""
        with self._changed:
            self._queue.append(wanted)
            self._changed.notify()

    def close(self, timeout_s: float) -> None:
        """Make what waits, as far as there is time."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._left_out.sum_up(at_once=True)

    def _work(self) -> None:
        while (item := self._next()) is not None:
            try:
                if isinstance(item, _Seen):
                    self._make(item)
                else:
                    self._find(item)
            except Exception as error:  # noqa: BLE001  whatever is wrong with one sheet, the next may be good
                log.warning("camera %s: no contact sheet: %s", item.camera, one_line(error))

    def _next(self) -> _Seen | SheetWanted | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            if not self._queue:
                return None
            item = self._queue.popleft()
            self._segments -= isinstance(item, _Seen)
            return item

    def _make(self, seen: _Seen) -> None:
        # The camera that was seen last is the last to go.
        kept = self._made.pop(seen.camera, None) or deque(maxlen=KEPT)
        self._made[seen.camera] = kept
        if len(self._made) > _CAMERAS:
            del self._made[next(iter(self._made))]
        kept.append((seen.end_s, contact_sheet(seen.pixels)))

    def _find(self, wanted: SheetWanted) -> None:
        for end_s, jpeg in reversed(self._made.get(wanted.camera, ())):
            if abs(end_s - wanted.end_s) < _SAME_S:
                self._keep(wanted, jpeg)
                return


def contact_sheet(pixels: UInt8Array) -> bytes:
    """Frames side by side, row by row, as a JPEG.

    Args:
        pixels: uint8 (F, H, W, 3), red-green-blue, as the model sees them.
    """
    import cv2

    frames, height, width = pixels.shape[:3]
    chosen = pixels if frames <= MOST else pixels[np.linspace(0, frames - 1, MOST).round().astype(int)]
    size = min(TILE, width), max(1, round(height * min(TILE, width) / width))
    columns = min(len(chosen), 4 if len(chosen) <= 16 else 6)
    rows = -(-len(chosen) // columns)
    sheet = np.zeros((rows * size[1], columns * size[0], 3), np.uint8)
    for place, frame in enumerate(chosen):
        row, column = divmod(place, columns)
        tile = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        sheet[row * size[1] : (row + 1) * size[1], column * size[0] : (column + 1) * size[0]] = tile[..., ::-1]
    good, jpeg = cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not good:
        raise ValueError(f"{frames} frames of {width} x {height} make no picture")
    return jpeg.tobytes()
