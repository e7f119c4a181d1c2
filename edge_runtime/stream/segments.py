"""Frames to segments. Knows time and counting; nothing of what a frame shows.

Two clocks cut a stream: `FrameSegmenter` counts frames (files, and what the paper does), `TimeSegmenter`
cuts by timestamps (live cameras, which drop frames and have a rate of their own). Both take a frame as a
function that prepares its pixels; which frames are prepared is decided here, because preparing (converting
and resizing) is the per-frame cost of an idle camera.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import InvalidFrame
from edge_runtime.records import GapReason
from edge_runtime.stream.pixels import UInt8Array

Clock = Literal["frames", "time"]

# One frame: called at most once, at once or never, it gives uint8 (S, S, 3).
PreparePixels = Callable[[], UInt8Array]
ReadAgain = Callable[[Sequence[int]], dict[int, UInt8Array]]

# Times come from a clock or from index / fps: a smaller difference is rounding, not distance.
ROUNDING_S = 1e-6
# A segment's frames are held in memory: beyond this a manifest is damaged, not ambitious.
MOST_FRAMES = 100_000


class SegmentSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a bundle cuts a stream: `frames` a segment, of which the model sees `sampled`; `fps` of calibration."""

    frames: int = 48
    sampled: int = 16
    fps: float = 30.0

    def __post_init__(self) -> None:
        if min(self.frames, self.sampled) < 1:
            raise ValueError(f"segment.frames and segment.sampled start at 1, got {self.frames} and {self.sampled}")
        if max(self.frames, self.sampled) > MOST_FRAMES:
            raise ValueError(
                f"segment.frames and segment.sampled end at {MOST_FRAMES}, got {self.frames} and {self.sampled}"
            )
        if not 1e-3 <= self.fps <= 1e3:
            raise ValueError(f"segment.fps must lie in 0.001..1000, got {self.fps}")

    @property
    def duration_s(self) -> float:
        """Length of a full segment on the `time` clock, in seconds."""
        return self.frames / self.fps

    def places(self, pause_s: float) -> int:
        """How many segments a pause stands for in the count of segments: at least one."""
        return max(1, round(pause_s / self.duration_s))


@dataclass(frozen=True, slots=True)
class Segment:
    """One finished segment: half-open in frames and seconds, with the pixels of its sampled frames.

    pixels: uint8 (F, S, S, 3). `index` counts the segments of a stream, gaps included.
    """

    index: int
    start_frame: int
    end_frame: int
    start_s: float
    end_s: float
    pixels: UInt8Array


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch that cannot be scored, `segments` places long in the count of segments, from `index` on."""

    index: int
    segments: int
    start_s: float
    end_s: float
    reason: GapReason


def sample_indices(frames: int, sampled: int) -> NDArray[np.intp]:
    """Bin centres: frame i of F in a segment of n frames is floor((i + 0.5) · n / F).

    Returns (sampled,) increasing indices in [0, frames); they repeat where frames < sampled. Integer
    arithmetic, so that no rounding of a float moves a frame. Raises ValueError for an empty segment.
    """
    if frames < 1 or sampled < 1:
        raise ValueError(f"a segment has at least one frame and one sample, got {frames} and {sampled}")
    return ((2 * np.arange(sampled) + 1) * frames // (2 * sampled)).astype(np.intp)


def cut(frames: int, length: int) -> list[tuple[int, int]]:
    """Half-open segments of a video of `frames` frames, the tail included: every frame lies in exactly one."""
    return [(start, min(start + length, frames)) for start in range(0, frames, length)]


def _check_seconds(seconds: float, previous: float | None) -> float:
    try:
        value = float(seconds)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise InvalidFrame(f"a frame's time must be a finite number of seconds, got {seconds!r}")
    if previous is not None and value < previous:
        raise InvalidFrame(
            f"a frame's time must not go back: {value} s came after {previous} s; "
            "take timestamps from a monotonic clock, or call flush() and open a new stream"
        )
    return value


class FrameSegmenter:
    """Cuts by counting frames.

    length: the stream's number of frames where it is known. Then only the sampled frames are prepared; without
    it every frame of the running segment is, since any of them may be a sampled frame of a tail that ends
    early. A length that turns out too long is repaired in `flush`.
    """

    def __init__(self, spec: SegmentSpec, length: int | None = None) -> None:
        self._spec = spec
        self._length = length
        self._centres = frozenset(sample_indices(spec.frames, spec.sampled).tolist())
        self._index = 0
        self._start = 0
        self._count = 0
        self._pixels: dict[int, UInt8Array] = {}
        self._first_s = 0.0
        self._last_s: float | None = None

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

    def push(self, frame: PreparePixels, seconds: float) -> list[Segment | Gap]:
        """Take one frame; returns the segment that it completed, if it did. Raises InvalidFrame."""
        seconds = _check_seconds(seconds, self._last_s)
        place = self._count
        full = self._length is not None and self._start + self._spec.frames <= self._length
        if not full or place in self._centres:
            self._pixels[place] = frame()
        if place == 0:
            self._first_s = seconds
        self._count += 1
        self._last_s = seconds
        return [self._close()] if self._count == self._spec.frames else []

    def flush(self, read_again: ReadAgain | None = None) -> list[Segment | Gap]:
        """End the stream: the tail is a segment like any other.

        read_again: prepares frames again by their index in the stream. Needed only where `length` promised more
        frames than came, so that frames of the tail were not prepared. In place of a frame that it leaves out
        stands the nearest one that was prepared; where there is none, the tail is a gap. Without read_again such a
        tail is InvalidFrame, and the stream is unchanged.
        """
        if self._count == 0:
            return []
        missing = [
            place
            for place in sorted(set(sample_indices(self._count, self._spec.sampled).tolist()))
            if place not in self._pixels
        ]
        if missing:
            if read_again is None:
                raise InvalidFrame(
                    f"the stream ended after {self._start + self._count} frames but {self._length} were announced; "
                    "flush with read_again=…, or open the stream without a length"
                )
            again = read_again([self._start + place for place in missing])
            self._pixels |= {index - self._start: pixels for index, pixels in again.items()}
            if not self._pixels:
                return [self._lose()]
            prepared = np.array(sorted(self._pixels), dtype=np.float64)
            for place in missing:
                if place not in self._pixels:
                    (closest,) = nearest(prepared, np.array([float(place)]))
                    self._pixels[place] = self._pixels[int(prepared[closest])]
        return [self._close()]

    def interrupt(
        self, segments: int, end_s: float | None = None, read_again: ReadAgain | None = None
    ) -> list[Segment | Gap]:
        """End the running segment before a gap of `segments` places. read_again: as of `flush`."""
        done = self.flush(read_again)
        self._index += segments
        return done

    def _close(self) -> Segment:
        segment = Segment(
            index=self._index,
            start_frame=self._start,
            end_frame=self._start + self._count,
            start_s=self._first_s,
            end_s=self._end_s(),
            pixels=np.stack([self._pixels[i] for i in sample_indices(self._count, self._spec.sampled).tolist()]),
        )
        self._next()
        return segment

    def _lose(self) -> Gap:
        gap = Gap(self._index, 1, self._first_s, self._end_s(), "dropped")
        self._next()
        return gap

    def _end_s(self) -> float:
        assert self._last_s is not None
        # The last frame lasts as long as the others of its segment did on average.
        steps = self._count - 1
        return self._last_s + ((self._last_s - self._first_s) / steps if steps else 1.0 / self._spec.fps)

    def _next(self) -> None:
        self._index += 1
        self._start += self._count
        self._count = 0
        self._pixels = {}


class TimeSegmenter:
    """Cuts by timestamps: segments of `frames / fps` seconds, counted from the stream's first frame.

    The sampled frames are those nearest to the bin centres in time (the earlier one where two are equally
    near). A pause of more than one segment is a gap: the running segment ends with its last frame, and a new
    one begins with the next. `sparing` is for frames whose preparation is costly and must be decided at once
    (a live decoder): frames that, by the camera's rhythm so far, are not nearest to any centre are passed
    over, and an unforeseen drop then takes the nearest frame that was prepared.
    """

    def __init__(self, spec: SegmentSpec, sparing: bool = False) -> None:
        self._spec = spec
        self._sparing = sparing
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
        # Where the silence began that `idle` ended a segment for; the next frame says how long it was.
        self._silent_s: float | None = None
        # Closed by a frame that then had no picture: handed out with the next call.
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

    def push(self, frame: PreparePixels, seconds: float) -> list[Segment | Gap]:
        """Take one frame; returns what its arrival made final: a segment, or a segment and a gap.

        Raises InvalidFrame for a time that is not finite or goes back, or as `frame()` does for a frame without
        a picture. Such a frame does not count; a segment that ended before it comes with the next call.
        """
        seconds = _check_seconds(seconds, self._last_s)
        done = self._ready
        if self._anchor_s is not None and self._last_s is not None:
            pause = seconds - self._last_s
            if pause > self._spec.duration_s + ROUNDING_S:
                done.extend(self.idle(seconds))
            elif self._count and seconds >= self._bound_s(1) - ROUNDING_S:
                done.append(self._close(self._bound_s(1)))
            if 0 < pause <= self._spec.duration_s:
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
        """No frame has come until `seconds`: where that is more than a segment, the running one is final.

        The same segment would come with the next frame; without one it would wait for it. Raises InvalidFrame.
        """
        seconds = _check_seconds(seconds, None)
        if self._anchor_s is None or self._last_s is None:
            return []
        if seconds - self._last_s <= self._spec.duration_s + ROUNDING_S:
            return []
        # No segment reaches beyond its bound, even if its last frame would have stood for longer.
        self._silent_s = min(self._last_s + self._period_s, self._bound_s(1)) if self._count else self._bound_s(0)
        done: list[Segment | Gap] = [self._close(self._silent_s)] if self._count else []
        self._anchor_s, self._last_s = None, seconds
        return done

    def flush(self, read_again: ReadAgain | None = None) -> list[Segment | Gap]:
        """End the stream: what there is of the running segment is a segment like any other."""
        return self.interrupt(0)

    def interrupt(
        self, segments: int, end_s: float | None = None, read_again: ReadAgain | None = None
    ) -> list[Segment | Gap]:
        """End the running segment before a gap of `segments` places; a new one begins with the next frame.

        end_s: where it ends, by default a frame's length after its last frame. read_again: not needed here.
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
        return self._anchor_s + (self._cell + cells) * self._spec.duration_s

    def _may_be_nearest(self, seconds: float) -> bool:
        if not self._kept:
            return True
        if seconds <= self._kept[-1][0]:
            return False
        bin_s = self._spec.duration_s / self._spec.sampled
        period_s = self._period_s if self._last_s is None else max(self._period_s, seconds - self._last_s)
        # Halfway to the frame that is there already; halfway to the next one, with room for its coming late.
        # Of two frames that are equally near the earlier one is taken, as in `nearest`.
        halfway_s = (self._kept[-1][0] + seconds + ROUNDING_S) / 2, seconds + 0.75 * period_s
        before, last = (math.floor((edge_s - self._bound_s(0)) / bin_s - 0.5) for edge_s in halfway_s)
        return max(before + 1, 0) <= min(last, self._spec.sampled - 1)

    def _close(self, end_s: float) -> Segment:
        start_s = self._bound_s(0)
        end_s = min(end_s, self._bound_s(1))
        times = np.array([seconds for seconds, _ in self._kept])
        bins = (np.arange(self._spec.sampled) + 0.5) / self._spec.sampled
        centres = start_s + bins * (end_s - start_s)
        segment = Segment(
            index=self._index,
            start_frame=self._start_frame,
            end_frame=self._frame,
            start_s=start_s,
            end_s=end_s,
            pixels=np.stack([self._kept[i][1] for i in nearest(times, centres)]),
        )
        self._index += 1
        self._start_frame = self._frame
        self._cell += 1
        self._kept = []
        self._count = 0
        return segment


def nearest(times: NDArray[np.float64], centres: NDArray[np.float64]) -> list[int]:
    """Index of the time nearest to each centre; the earlier one where two are equally near.

    times: (n,) not decreasing, n >= 1. centres: (F,).
    """
    gaps = np.abs(times[None, :] - centres[:, None])
    return [int(np.flatnonzero(row <= row.min() + ROUNDING_S)[0]) for row in gaps]
