"""Cuts a stream into segments by its timestamps: for live cameras, which drop frames and have a rate of their own."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from edge_runtime.stream.pixels import UInt8Array
from edge_runtime.stream.segments import ROUNDING_S, Gap, PreparePixels, ReadAgain, Segment, SegmentSpec, nearest
from edge_runtime.stream.timestamps import Timestamps, check_seconds


class TimeSegmenter:
    """Cuts a stream by timestamps: segments of `spec.duration_s` seconds, counted from the first frame.

    The sampled frames are those nearest to the bin centres in time, the earlier one where two are equally near. A
    pause longer than a segment is a gap: the running segment ends with its last frame, and a new one begins with
    the next frame, which also starts the count of seconds anew.

    Args:
        spec: How to cut.
        sparing: Prepare only frames that, by the camera's rhythm so far, may be nearest to a bin centre. For live
            decoders, where preparing is costly and cannot be made up for; where frames then drop unexpectedly, the
            nearest frame that was prepared is sampled instead.
    """

    def __init__(self, spec: SegmentSpec, sparing: bool = False) -> None:
        self._spec = spec
        self._duration_s = spec.duration_s
        self._sparing = sparing
        self._timestamps = Timestamps(self._duration_s)
        self._index = 0
        self._frame = 0
        self._start_frame = 0
        # A segment's bounds are multiples of its duration from the anchor: sums would drift over the days.
        self._anchor_s: float | None = None
        self._cell = 0
        self._last_s: float | None = None
        self._period_s = 1.0 / spec.fps
        self._kept: list[tuple[float, UInt8Array]] = []
        self._count = 0
        # When the silence began for which `idle` ended a segment; the next frame says how long it was.
        self._silent_s: float | None = None
        # Ended by a frame that then had no picture: returned with the next call.
        self._ready: list[Segment | Gap] = []

    @property
    def last_s(self) -> float | None:
        """Time of the newest frame, None before the first."""
        return self._last_s

    @property
    def next_index(self) -> int:
        """Index that the running segment will get."""
        return self._index

    @property
    def is_open(self) -> bool:
        """Whether the running segment holds a frame."""
        return self._count > 0

    @property
    def sampled(self) -> list[UInt8Array]:
        """Pixels of the running segment's first samples, as far as they are certain if it becomes a full one."""
        if not self._kept or self._anchor_s is None or self._last_s is None:
            return []
        centres = self._centres(self._bound_s(0), self._bound_s(1))
        # Behind a centre, later frames are only farther from it.
        passed = centres[centres <= self._last_s]
        return [self._kept[place][1] for place in nearest(self._times(), passed)]

    def push(self, frame: PreparePixels, seconds: float) -> list[Segment | Gap]:
        """Take one frame.

        Args:
            frame: Prepares its pixels; called at once or never.
            seconds: Its time on a monotonic clock.

        Returns:
            What it made final: nothing, a segment, a gap, or a segment and the gap behind it.

        Raises:
            InvalidFrame: The time is none or goes back, or `frame()` found no picture. The frame does not count; a
                segment that ended before it comes with the next call.
        """
        seconds = self._timestamps.check(seconds, self._last_s)
        done = self._ready
        if self._anchor_s is not None and self._last_s is not None:
            pause = seconds - self._last_s
            if pause > self._duration_s + ROUNDING_S:
                done.extend(self.idle(seconds))
            elif self._count and seconds >= self._bound_s(1) - ROUNDING_S:
                done.append(self._close(self._bound_s(1)))
            if 0 < pause <= self._duration_s:
                # Slow average: one late frame must not change what counts as near.
                self._period_s += 0.1 * (pause - self._period_s)
        if self._silent_s is not None:
            places = self._spec.places(seconds - self._silent_s)
            done.append(Gap(self._index, places, self._silent_s, seconds, "lost"))
            self._index += places
            self._silent_s = None
        # Of several frames at one time the earliest is taken: a clock that stands still must not fill the memory.
        if self._may_be_nearest(seconds) if self._sparing else not self._kept or seconds > self._kept[-1][0]:
            self._kept.append((seconds, frame()))
        if self._anchor_s is None:
            self._anchor_s, self._cell = seconds, 0
        self._count += 1
        self._frame += 1
        self._last_s = seconds
        self._ready = []
        return done

    def idle(self, seconds: float) -> list[Segment | Gap]:
        """Say that no frame has come until `seconds`.

        Args:
            seconds: The time now, on the clock of the frames.

        Returns:
            The running segment, if the silence is longer than a segment. It is the one that would otherwise come
            with the next frame.

        Raises:
            InvalidFrame: The time is none.
        """
        seconds = check_seconds(seconds)
        if self._anchor_s is None or self._last_s is None:
            return []
        if seconds - self._last_s <= self._duration_s + ROUNDING_S:
            return []
        # No segment reaches beyond its bound, even if its last frame would have stood for longer.
        self._silent_s = min(self._last_s + self._period_s, self._bound_s(1)) if self._count else self._bound_s(0)
        done: list[Segment | Gap] = [self._close(self._silent_s)] if self._count else []
        self._anchor_s, self._last_s = None, seconds
        return done

    def flush(self, read_again: ReadAgain | None = None) -> list[Segment | Gap]:
        """End the stream: the tail is a segment like any other.

        Args:
            read_again: Not used: every frame that may be sampled was prepared when it came.

        Returns:
            What there is of the running segment.
        """
        return self.interrupt(0)

    def interrupt(
        self, segments: int, end_s: float | None = None, read_again: ReadAgain | None = None
    ) -> list[Segment | Gap]:
        """End the running segment before a gap; a new one begins with the next frame.

        Args:
            segments: Places that the gap takes in the count of segments.
            end_s: Where the running segment ends; by default a frame's length after its last frame.
            read_again: Not used, as in `flush`.

        Returns:
            What there is of the running segment.
        """
        done, self._ready = self._ready, []
        if self._count and self._last_s is not None:
            done.append(self._close(self._last_s + self._period_s if end_s is None else max(end_s, self._last_s)))
        self._anchor_s = self._silent_s = None
        self._index += segments
        return done

    def _bound_s(self, cells: int) -> float:
        """Start of the segment `cells` after the running one."""
        assert self._anchor_s is not None
        return self._anchor_s + (self._cell + cells) * self._duration_s

    def _may_be_nearest(self, seconds: float) -> bool:
        if not self._kept:
            return True
        if seconds <= self._kept[-1][0]:
            return False
        bin_s = self._duration_s / self._spec.sampled
        period_s = self._period_s if self._last_s is None else max(self._period_s, seconds - self._last_s)
        # Halfway to the frame that is there already; halfway to the next one, with room for its coming late.
        # Of two frames that are equally near the earlier one is taken, as in `nearest`.
        halfway_s = (self._kept[-1][0] + seconds + ROUNDING_S) / 2, seconds + 0.75 * period_s
        before, last = (math.floor((edge_s - self._bound_s(0)) / bin_s - 0.5) for edge_s in halfway_s)
        return max(before + 1, 0) <= min(last, self._spec.sampled - 1)

    def _times(self) -> NDArray[np.float64]:
        return np.array([seconds for seconds, _ in self._kept])

    def _centres(self, start_s: float, end_s: float) -> NDArray[np.float64]:
        """The bin centres between two times."""
        bins: NDArray[np.float64] = (np.arange(self._spec.sampled) + 0.5) / self._spec.sampled
        return start_s + bins * (end_s - start_s)

    def _close(self, end_s: float) -> Segment:
        start_s = self._bound_s(0)
        end_s = min(end_s, self._bound_s(1))
        chosen = nearest(self._times(), self._centres(start_s, end_s))
        segment = Segment(
            index=self._index,
            start_frame=self._start_frame,
            end_frame=self._frame,
            start_s=start_s,
            end_s=end_s,
            pixels=np.stack([self._kept[place][1] for place in chosen]),
        )
        self._index += 1
        self._start_frame = self._frame
        self._cell += 1
        self._kept = []
        self._count = 0
        return segment
