"""Cuts a stream into segments by its timestamps: for live cameras, which drop frames and have a rate of their own."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from edge_runtime.stream.pixels import UInt8Array
from edge_runtime.stream.segments import ROUNDING_S, Gap, PreparePixels, ReadAgain, Segment, SegmentSpec, nearest
from edge_runtime.stream.timestamps import Timestamps, check_seconds


class TimeSegmenter:
    """Cuts a stream by timestamps: every `spec.step_s` seconds a segment of `spec.duration_s` seconds begins.

    Seconds are counted from the first frame. A segment whose time has frames only behind its first step is one, too.

    The sampled frames are those nearest to the bin centres in time, the earlier one where two are equally near. A
    pause longer than a segment is a gap: the running segment ends with its last frame, and a new one begins with
    the next frame, which also starts the count of seconds anew.

    Args:
        spec: How to cut.
        sparing: Prepare only frames that, by the camera's rhythm so far, may be nearest to a bin centre. For live
            decoders, where preparing is costly and cannot be made up for; where frames then drop unexpectedly, the
            nearest frame that was prepared is sampled instead.
        first: Index of the first segment, and number of its first frame.
    """

    def __init__(self, spec: SegmentSpec, sparing: bool = False, first: tuple[int, int] = (0, 0)) -> None:
        self._spec = spec
        self._duration_s = spec.duration_s
        self._sparing = sparing
        self._timestamps = Timestamps(self._duration_s)
        self._index, self._frame = first
        # The first frame behind the start of the oldest running segment, and of those that began since, a step apart.
        self._begun: deque[int] = deque()
        # A segment's bounds are multiples of a step from the anchor: sums would drift over the days.
        self._anchor_s: float | None = None
        self._cell = 0
        self._last_s: float | None = None
        self._period_s = 1.0 / spec.fps
        self._kept: list[tuple[float, UInt8Array]] = []
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
    def frames(self) -> int:
        """How many frames have come, those before its first included."""
        return self._frame

    @property
    def is_open(self) -> bool:
        """Whether the running segment holds a frame."""
        return bool(self._begun)

    @property
    def sampled(self) -> list[UInt8Array]:
        """Pixels of the running segment's first samples, as far as they are certain if it becomes a full one."""
        if not self._kept or self._anchor_s is None or self._last_s is None:
            return []
        centres = self._centres(self._bound_s(0), self._end_s())
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
            else:
                while self._begun and seconds >= self._end_s() - ROUNDING_S:
                    done.append(self._close(self._end_s()))
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
        while seconds >= self._bound_s(len(self._begun)) - ROUNDING_S:
            self._begun.append(self._frame)
        self._frame += 1
        self._last_s = seconds
        self._ready = []
        return done

    def idle(self, seconds: float) -> list[Segment | Gap]:
        """Say that no frame has come until `seconds`.

        Args:
            seconds: The time now, on the clock of the frames.

        Returns:
            What there is of the running segment, if the silence is longer than a segment; of all that run, where they
            overlap. It is what would otherwise come with the next frame.

        Raises:
            InvalidFrame: The time is none.
        """
        seconds = check_seconds(seconds)
        if self._anchor_s is None or self._last_s is None:
            return []
        if seconds - self._last_s <= self._duration_s + ROUNDING_S:
            return []
        # No segment reaches beyond its bound, even if its last frame would have stood for longer.
        self._silent_s = min(self._last_s + self._period_s, self._end_s()) if self._begun else self._bound_s(0)
        done = self._close_all(self._silent_s)
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
        if self._begun and self._last_s is not None:
            done += self._close_all(self._last_s + self._period_s if end_s is None else max(end_s, self._last_s))
        self._anchor_s = self._silent_s = None
        self._index += segments
        return done

    def _bound_s(self, cells: int) -> float:
        """Start of the segment `cells` after the oldest running one."""
        assert self._anchor_s is not None
        return self._anchor_s + (self._cell + cells) * self._spec.step_s

    def _end_s(self) -> float:
        """End of the oldest running segment, if it becomes a full one."""
        return self._bound_s(self._spec.overlap)

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
        for begun in range(self._spec.overlap):
            before, last = (math.floor((edge_s - self._bound_s(begun)) / bin_s - 0.5) for edge_s in halfway_s)
            if max(before + 1, 0) <= min(last, self._spec.sampled - 1):
                return True
        return False

    def _times(self) -> NDArray[np.float64]:
        return np.array([seconds for seconds, _ in self._kept])

    def _centres(self, start_s: float, end_s: float) -> NDArray[np.float64]:
        """The bin centres between two times."""
        bins: NDArray[np.float64] = (np.arange(self._spec.sampled) + 0.5) / self._spec.sampled
        return start_s + bins * (end_s - start_s)

    def _close_all(self, end_s: float) -> list[Segment | Gap]:
        """All running segments, none of which reaches beyond `end_s`."""
        done: list[Segment | Gap] = []
        while self._begun:
            done.append(self._close(end_s))
        return done

    def _close(self, end_s: float) -> Segment:
        start_s, next_s = self._bound_s(0), self._bound_s(1)
        end_s = min(end_s, self._end_s())
        chosen = nearest(self._times(), self._centres(start_s, end_s))
        start_frame = self._begun.popleft()
        segment = Segment(
            index=self._index,
            start_frame=start_frame,
            end_frame=self._begun[0] if self._begun else self._frame,
            start_s=start_s,
            end_s=min(end_s, next_s),
            pixels=np.stack([self._kept[place][1] for place in chosen]),
        )
        self._index += 1
        self._cell += 1
        # One stays for a segment that runs on: of its own frames none may have been prepared.
        ahead = [one for one in self._kept if one[0] >= next_s - ROUNDING_S]
        self._kept = ahead or self._kept[-1:] if self._begun else []
        return segment
