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
from itertools import islice

from msgspec import UNSET

from edge_runtime.detector import Detector
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


@dataclass(frozen=True, slots=True, eq=False)
class Handover:
    """What comes after this is cut for another bundle, and scored by it.

    Attributes:
        detector: What scores it.
        run: Goes into the ids of its events.
    """

    detector: Detector
    run: str


Item = Segment | Gap | CameraRecord | CameraEnd | SampledFrames | Handover


@dataclass(slots=True, eq=False)
class _Queue:
    items: deque[Item]
    drops: RepeatedTrouble
    undecoded: RepeatedTrouble
    priority: int
    segments: int


class Backlog:
    """One queue a camera; of equal priority they come in turn. Any thread may call anything.

    Args:
        segments: How many segments of one camera may wait with their pixels, where it has no bound of its own.
        items: How much may wait of one camera in all. Gaps and state changes take little, but a consumer may
            stand still for days: beyond this the older half is summed up.
        dropped: Called for every segment that becomes a gap because its queue is full, with False, and for every
            stretch of frames that nobody had time to decode, with True.
    """

    def __init__(self, segments: int = 2, items: int = 64, dropped: Callable[[bool], None] = lambda _: None) -> None:
        self._segments, self._items = segments, items
        self._tell_dropped = dropped
        self._waiting: OrderedDict[str, _Queue] = OrderedDict()
        self._changed = threading.Condition()

    def add(self, camera: str, priority: int = 0, segments: int | None = None) -> None:
        """Give a camera a queue. A name that has one is a ValueError.

        Args:
            camera: Its name.
            priority: Those of a higher one are taken first, always.
            segments: How many of its segments may wait, where that is not the bound of all.
        """
        with self._changed:
            if camera in self._waiting:
                raise ValueError(f"camera {camera} has a queue already")

            def more(count: int, seconds: int) -> str:
                return f"camera {camera}: {count} more segments were dropped in the last {seconds} s"

            def more_undecoded(count: int, seconds: int) -> str:
                return f"camera {camera}: {count} more stretches were left out undecoded in the last {seconds} s"

            drops = RepeatedTrouble(log, logging.WARNING, more)
            undecoded = RepeatedTrouble(log, logging.WARNING, more_undecoded)
            self._waiting[camera] = _Queue(deque(), drops, undecoded, priority, segments or self._segments)

    def allow(self, camera: str, segments: int) -> None:
        """Let so many segments of a camera wait from now on."""
        with self._changed:
            if (queue := self._waiting.get(camera)) is not None:
                queue.segments = segments

    def remove(self, camera: str) -> None:
        """Take a camera's queue away, with what waits in it."""
        with self._changed:
            queue = self._waiting.pop(camera, None)
        if queue is not None:
            queue.drops.sum_up(at_once=True)
            queue.undecoded.sum_up(at_once=True)

    def put(self, camera: str, item: Item) -> None:
        """Add what comes next from `camera`; never waits. Of a camera that was removed nothing is taken."""
        with self._changed:
            queue = self._waiting.get(camera)
            if queue is None:
                return
            dropped = self._append(queue.items, item, queue.segments)
            self._changed.notify()
        if dropped is not None:
            self._tell_dropped(False)
            queue.drops.happened(
                f"camera {camera}: scoring falls behind, the segment from {dropped.start_s:.1f} s is dropped"
            )

    def left_out(self, camera: str, start_s: float, end_s: float) -> None:
        """Frames of `camera` were not decoded, because there was no time; says so."""
        with self._changed:
            queue = self._waiting.get(camera)
        if queue is not None:
            self._tell_dropped(True)
            queue.undecoded.happened(
                f"camera {camera}: decoding falls behind, the frames from {start_s:.1f} to {end_s:.1f} s are left out"
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

    def waiting(self, camera: str) -> int:
        """How many segments of `camera` wait."""
        with self._changed:
            queue = self._waiting.get(camera)
            return 0 if queue is None else sum(isinstance(item, Segment) for item in queue.items)

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
            queue.undecoded.sum_up()

    def _append(self, queue: deque[Item], item: Item, segments: int) -> Segment | None:
        """Add an item within the bounds; returns the segment that became a gap for it."""
        # Whatever comes next holds these frames, or ends what they were for.
        for waiting in [one for one in queue if isinstance(one, SampledFrames)]:
            queue.remove(waiting)
        queue.append(item)
        dropped = None
        places = [place for place, waiting in enumerate(queue) if isinstance(waiting, Segment)]
        if len(places) > segments:
            oldest = queue[places[0]]
            assert isinstance(oldest, Segment)
            queue[places[0]], dropped = _gap(oldest), oldest
        if len(queue) > self._items:
            self._shorten(queue)
        return dropped

    @staticmethod
    def _shorten(queue: deque[Item]) -> None:
        """Sum up the older half, and more where that is a sum already."""
        count = len(queue) // 2
        while len(summary := sum_up(list(islice(queue, count)))) == count < len(queue):
            count += 1
        for _ in range(count):
            queue.popleft()
        queue.extendleft(reversed(summary))


def sum_up(items: Sequence[Item]) -> list[Item]:
    """Items in order as one gap over all of them, and what the camera was like last.

    That is its last change of state and, where that does not say what its pictures are like, the last that did.
    Of either nothing where there was none. What hands over to another bundle stays, behind the gap.
    """
    stretches = [_gap(item) if isinstance(item, Segment) else item for item in items]
    gaps = [item for item in stretches if isinstance(item, Gap)]
    states = [item for item in stretches if isinstance(item, CameraRecord)]
    ends = [item for item in stretches if isinstance(item, CameraEnd)]
    handovers = [item for item in stretches if isinstance(item, Handover)]
    summary: list[Item] = []
    if gaps:
        first, last = gaps[0], gaps[-1]
        segments = last.index + last.segments - first.index
        reason = first.reason if {gap.reason for gap in gaps} == {first.reason} else "dropped"
        interrupts = any(gap.interrupts for gap in gaps)
        summary.append(Gap(first.index, segments, first.start_s, last.end_s, reason, interrupts))
    judged = [place for place, state in enumerate(states) if state.quality is not UNSET]
    kept = sorted({*judged[-1:], len(states) - 1} - {-1})
    return [*summary, *(states[place] for place in kept), *handovers, *ends]


def _gap(segment: Segment) -> Gap:
    return Gap(segment.index, 1, segment.start_s, segment.end_s, "dropped", interrupts=False)
