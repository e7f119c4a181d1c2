"""What cameras have finished and nobody has scored yet, in bounded memory.

A camera cannot be asked to wait. When a camera's queue is full, its oldest segment becomes a gap in the same
place: the order is kept, and what is scored is recent.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_runtime.records import CameraRecord
from edge_runtime.repeats import RepeatedTrouble
from edge_runtime.stream.pixels import UInt8Array
from edge_runtime.stream.segments import Gap, Segment

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CameraEnd:
    """The camera was removed: nothing of it comes after this."""


@dataclass(frozen=True, slots=True, eq=False)
class SampledFrames:
    """First samples of a running segment, to be encoded while there is time; nothing is lost without them.

    Attributes:
        pixels: uint8 (H, W, 3) each, in order, those that were put before included.
    """

    pixels: tuple[UInt8Array, ...]


Item = Segment | Gap | CameraRecord | CameraEnd | SampledFrames


@dataclass(slots=True, eq=False)
class _Queue:
    items: deque[Item]
    drops: RepeatedTrouble
    priority: int


class Backlog:
    """One queue a camera; of equal priority they come in turn. Any thread may call anything.

    Args:
        segments: How many segments of one camera may wait with their pixels.
        items: How much may wait of one camera in all. Gaps and state changes take little, but a consumer may
            stand still for days: beyond this the older half is summed up.
        dropped: Called for every segment that becomes a gap because its queue is full.
    """

    def __init__(self, segments: int = 2, items: int = 64, dropped: Callable[[], None] = lambda: None) -> None:
        self._segments, self._items = segments, items
        self._tell_dropped = dropped
        self._waiting: OrderedDict[str, _Queue] = OrderedDict()
        self._changed = threading.Condition()

    def add(self, camera: str, priority: int = 0) -> None:
        """Give a camera a queue. A name that has one is a ValueError.

        Args:
            camera: Its name.
            priority: Those of a higher one are taken first, always.
        """
        with self._changed:
            if camera in self._waiting:
                raise ValueError(f"camera {camera} has a queue already")

            def more(count: int, seconds: int) -> str:
                return f"camera {camera}: {count} more segments were dropped in the last {seconds} s"

            self._waiting[camera] = _Queue(deque(), RepeatedTrouble(log, logging.WARNING, more), priority)

    def remove(self, camera: str) -> None:
        """Take a camera's queue away, with what waits in it."""
        with self._changed:
            queue = self._waiting.pop(camera, None)
        if queue is not None:
            queue.drops.sum_up(at_once=True)

    def put(self, camera: str, item: Item) -> None:
        """Add what comes next from `camera`; never waits. Of a camera that was removed nothing is taken."""
        with self._changed:
            queue = self._waiting.get(camera)
            if queue is None:
                return
            dropped = self._append(queue.items, item)
            self._changed.notify()
        if dropped is not None:
            self._tell_dropped()
            queue.drops.happened(
                f"camera {camera}: scoring falls behind, the segment from {dropped.start_s:.1f} s is dropped"
            )

    def take(self, timeout_s: float) -> tuple[str, Item] | None:
        """The oldest item of the camera whose turn it is; None where nothing comes within `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: any(queue.items for queue in self._waiting.values()), timeout_s)
            ready = [(-queue.priority, place) for place, queue in enumerate(self._waiting.values()) if queue.items]
            if not ready:
                return None
            camera = list(self._waiting)[min(ready)[1]]
            self._waiting.move_to_end(camera)
            return camera, self._waiting[camera].items.popleft()

    def wait_for_segments(self, count: int, timeout_s: float) -> None:
        """Wait until so many segments are there, or the time is up."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready() >= count, timeout_s)

    def _ready(self) -> int:
        """How many segments wait."""
        return sum(isinstance(item, Segment) for queue in self._waiting.values() for item in queue.items)

    def is_empty(self, camera: str) -> bool:
        """Whether nothing waits from `camera`."""
        with self._changed:
            return camera not in self._waiting or not self._waiting[camera].items

    def sum_up_drops(self) -> None:
        """Log how many segments were dropped since that was last said, at most once a minute a camera."""
        with self._changed:
            queues = list(self._waiting.values())
        for queue in queues:
            queue.drops.sum_up()

    def _append(self, queue: deque[Item], item: Item) -> Segment | None:
        """Add an item within the bounds; returns the segment that became a gap for it."""
        # Whatever comes next holds these frames, or ends what they were for.
        for waiting in [one for one in queue if isinstance(one, SampledFrames)]:
            queue.remove(waiting)
        queue.append(item)
        dropped = None
        places = [place for place, waiting in enumerate(queue) if isinstance(waiting, Segment)]
        if len(places) > self._segments:
            oldest = queue[places[0]]
            assert isinstance(oldest, Segment)
            queue[places[0]], dropped = _gap(oldest), oldest
        if len(queue) > self._items:
            half = len(queue) // 2
            summary = sum_up([queue.popleft() for _ in range(half)])
            queue.extendleft(reversed(summary))
        return dropped


def sum_up(items: Sequence[Item]) -> list[Item]:
    """Items in order as one gap over all of them, and the last state change; either only if there was one."""
    stretches = [_gap(item) if isinstance(item, Segment) else item for item in items]
    gaps = [item for item in stretches if isinstance(item, Gap)]
    states = [item for item in stretches if isinstance(item, CameraRecord)]
    ends = [item for item in stretches if isinstance(item, CameraEnd)]
    summary: list[Item] = []
    if gaps:
        first, last = gaps[0], gaps[-1]
        segments = last.index + last.segments - first.index
        reason = first.reason if {gap.reason for gap in gaps} == {first.reason} else "dropped"
        interrupts = any(gap.interrupts for gap in gaps)
        summary.append(Gap(first.index, segments, first.start_s, last.end_s, reason, interrupts))
    return [*summary, *states[-1:], *ends]


def _gap(segment: Segment) -> Gap:
    return Gap(segment.index, 1, segment.start_s, segment.end_s, "dropped", interrupts=False)
