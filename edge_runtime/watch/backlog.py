"""What cameras have finished and nobody has scored yet, in bounded memory. Knows clips and holes; no model.

A camera cannot be asked to wait. When scoring falls behind, the oldest waiting segment of that camera becomes a
hole in its place: what is scored is recent, what is not is said, and the order is kept.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence

from edge_runtime.records import CameraRecord
from edge_runtime.stream.segments import Gap, Segment

log = logging.getLogger(__name__)

Item = Segment | Gap | CameraRecord


class Backlog:
    """One queue a camera, and the cameras in turn. Any thread may call anything.

    cameras: their names. clips: how many segments of one camera may wait with their pixels. Holes and state
    changes take little, but a consumer may stand still for days: beyond `items` the older half is summed up.
    """

    def __init__(self, cameras: Sequence[str], clips: int = 2, items: int = 64) -> None:
        self._clips, self._items = clips, items
        self._waiting: OrderedDict[str, deque[Item]] = OrderedDict((name, deque()) for name in cameras)
        self._changed = threading.Condition()

    def put(self, camera: str, item: Item) -> None:
        """Add what comes next from `camera`; never waits."""
        with self._changed:
            queue = self._waiting[camera]
            queue.append(item)
            clips = [place for place, waiting in enumerate(queue) if isinstance(waiting, Segment)]
            if len(clips) > self._clips:
                oldest = queue[clips[0]]
                assert isinstance(oldest, Segment)
                queue[clips[0]] = _hole(oldest)
                log.warning(
                    "camera %s: scoring falls behind, the segment from %.1f s is dropped", camera, oldest.start_s
                )
            if len(queue) > self._items:
                half = len(queue) // 2
                summary = sum_up([queue.popleft() for _ in range(half)])
                queue.extendleft(reversed(summary))
            self._changed.notify()

    def take(self, timeout_s: float) -> tuple[str, Item] | None:
        """The oldest item of the camera whose turn it is; None where nothing comes within `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: any(self._waiting.values()), timeout_s)
            for camera, queue in self._waiting.items():
                if queue:
                    self._waiting.move_to_end(camera)
                    return camera, queue.popleft()
            return None

    def is_empty(self, camera: str) -> bool:
        """Whether nothing waits from `camera`."""
        with self._changed:
            return not self._waiting[camera]


def sum_up(items: Sequence[Item]) -> list[Item]:
    """Items in order as one hole over all of them, and the last state change; either only if there was one."""
    stretches = [_hole(item) if isinstance(item, Segment) else item for item in items]
    holes = [item for item in stretches if isinstance(item, Gap)]
    states = [item for item in stretches if isinstance(item, CameraRecord)]
    summary: list[Item] = []
    if holes:
        first, last = holes[0], holes[-1]
        segments = last.index + last.segments - first.index
        reason = first.reason if {hole.reason for hole in holes} == {first.reason} else "dropped"
        summary.append(Gap(first.index, segments, first.start_s, last.end_s, reason))
    return [*summary, *states[-1:]]


def _hole(clip: Segment) -> Gap:
    return Gap(clip.index, 1, clip.start_s, clip.end_s, "dropped")
