"""Pictures of events: one in the middle of what was the most anomalous so far, at its full size, as JPEG."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_runtime.errors import one_line
from edge_runtime.outputs.encoded import Blank, last_picture
from edge_runtime.repeats import RepeatedTrouble
from edge_runtime.stream.packets import VideoFormat, VideoPacket

log = logging.getLogger(__name__)

# Of one camera; a later peak waits.
_EVERY_S = 5.0
# Their packets are in memory meanwhile.
_WAITING = 64
_QUALITY = 90

# on_snapshot(camera, jpeg)
OnSnapshot = Callable[[str, bytes], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A picture that is to be made.

    Attributes:
        camera: The camera's name.
        event: The event's id.
        day: When it began, as 2026-01-31.
        video: What the packets are.
        packets: From a key frame to the moment of the picture.
        blank: Blanks what nobody may see.
    """

    camera: str
    event: str
    day: str
    video: VideoFormat
    packets: Sequence[VideoPacket]
    blank: Blank | None


class Snapshots:
    """Makes pictures in a thread of its own.

    Args:
        keep: Takes every picture as a JPEG file, in that thread.
        on_snapshot: Told of each, too; the list may grow.
    """

    def __init__(self, keep: Callable[[Wanted, bytes], None], on_snapshot: Sequence[OnSnapshot]) -> None:
        self._keep, self._on_snapshot = keep, on_snapshot
        self._changed = threading.Condition()
        # By event: a later peak takes the place of the one before.
        self._wanted: OrderedDict[str, tuple[float, Wanted]] = OrderedDict()
        self._made_s: dict[str, float] = {}
        self._closing = False
        self._left_out = RepeatedTrouble(
            log, logging.WARNING, lambda count, seconds: f"{count} more snapshots were left out in {seconds} s"
        )
        self._thread = threading.Thread(target=self._work, name="snapshots", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def ask(self, wanted: Wanted, *, first: bool) -> None:
        """Have a picture made; does not wait.

        Args:
            wanted: The picture.
            first: Whether it is the event's first, which is made at once. Others wait until five seconds after the
                camera's last one.
        """
        with self._changed:
            now_s = time.monotonic()
            due_s = now_s if first else max(now_s, self._made_s.get(wanted.camera, -math.inf) + _EVERY_S)
            before = self._wanted.pop(wanted.event, None)
            self._wanted[wanted.event] = (due_s if before is None else min(due_s, before[0]), wanted)
            if (full := len(self._wanted) > _WAITING) is True:
                self._wanted.popitem(last=False)
            self._changed.notify()
        if full:
            self._left_out.happened("snapshots are made too slowly; the oldest is left out")

    def close(self, timeout_s: float) -> None:
        """Make what waits, as far as there is time."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._left_out.sum_up(at_once=True)

    def _work(self) -> None:
        while (wanted := self._next()) is not None:
            try:
                self._make(wanted)
            except Exception as error:  # noqa: BLE001  whatever is wrong with one picture, the next may be good
                log.warning("camera %s: no snapshot of event %s: %s", wanted.camera, wanted.event, one_line(error))

    def _next(self) -> Wanted | None:
        with self._changed:
            while True:
                due = min(((due_s, event) for event, (due_s, _) in self._wanted.items()), default=None)
                now_s = time.monotonic()
                if due is not None and (self._closing or due[0] <= now_s):
                    wanted = self._wanted.pop(due[1])[1]
                    self._made_s[wanted.camera] = now_s
                    return wanted
                if self._closing:
                    return None
                self._changed.wait(None if due is None else due[0] - now_s)

    def _make(self, wanted: Wanted) -> None:
        import cv2

        picture = last_picture(wanted.video, wanted.packets)
        if picture is None:
            log.warning("camera %s: no snapshot of event %s: its video gives no picture", wanted.camera, wanted.event)
            return
        if wanted.blank is not None:
            picture = wanted.blank(picture)
        good, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        if not good:
            return
        jpeg = encoded.tobytes()
        self._keep(wanted, jpeg)
        for told in list(self._on_snapshot):
            try:
                told(wanted.camera, jpeg)
            except Exception as error:  # noqa: BLE001  one that cannot take it must not keep it from the others
                log.warning("camera %s: a snapshot could not be handed over: %s", wanted.camera, one_line(error))
