"""Cuts a stream into segments by counting its frames: for files, and what the paper does."""

from __future__ import annotations

from collections import deque

import numpy as np

from edge_runtime.errors import InvalidFrame
from edge_runtime.stream.pixels import UInt8Array
from edge_runtime.stream.segments import Gap, PreparePixels, ReadAgain, Segment, SegmentSpec, nearest, sample_indices
from edge_runtime.stream.timestamps import Timestamps


class FrameSegmenter:
    """Cuts a stream by counting frames: every `spec.step` frames a segment of `spec.frames` begins.

    Where the stream's length is known, only the sampled frames are prepared. Otherwise every frame of the running
    segment is, since any of them may be a sampled frame of a tail that ends early.

    Args:
        spec: How to cut.
        length: The stream's number of frames, where it is known. One that turns out too long is repaired in
            `flush`.
        first: Index of the first segment, and number of its first frame.
    """

    def __init__(self, spec: SegmentSpec, length: int | None = None, first: tuple[int, int] = (0, 0)) -> None:
        self._spec = spec
        self._length = length
        self._timestamps = Timestamps(spec.duration_s)
        self._centres = frozenset(sample_indices(spec.frames, spec.sampled).tolist())
        # The start is that of the oldest running segment; later ones begin a step apart within it.
        self._index, self._start = first
        self._count = 0
        self._pixels: dict[int, UInt8Array] = {}
        self._begun_s: deque[float] = deque()
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
    def frames(self) -> int:
        """How many frames have come, those before its first included."""
        return self._start + self._count

    @property
    def is_open(self) -> bool:
        """Whether the running segment holds a frame."""
        return self._count > 0

    @property
    def sampled(self) -> list[UInt8Array]:
        """Pixels of the running segment's first samples, as far as they are certain if it becomes a full one."""
        places = sample_indices(self._spec.frames, self._spec.sampled).tolist()
        return [self._pixels[place] for place in places if place < self._count]

    def push(self, frame: PreparePixels, seconds: float) -> list[Segment | Gap]:
        """Take one frame.

        Args:
            frame: Prepares its pixels; called at once or never.
            seconds: Its time, which never goes back.

        Returns:
            The segment that it completed, if it did.

        Raises:
            InvalidFrame: The time is none or goes back, or `frame()` found no picture. The frame does not count.
        """
        seconds = self._timestamps.check(seconds, self._last_s)
        place = self._count
        if self._may_be_sampled(place):
            self._pixels[place] = frame()
        if place % self._spec.step == 0:
            self._begun_s.append(seconds)
        self._count = place + 1
        self._last_s = seconds
        return [self._close()] if self._count == self._spec.frames else []

    def idle(self, seconds: float) -> list[Segment | Gap]:
        """Nothing: a silence is no frame, and only frames end a segment here."""
        return []

    def flush(self, read_again: ReadAgain | None = None) -> list[Segment | Gap]:
        """End the stream: the tail is a segment like any other, or several where they overlap.

        Args:
            read_again: Prepares frames again. Needed only where `length` promised more frames than came, so that
                frames of the tail were not prepared. A frame that it leaves out is replaced by the nearest one that
                was prepared; where there is none, the tail is a gap.

        Returns:
            The tails, if there are any.

        Raises:
            InvalidFrame: Frames of the tail are missing and there is no `read_again`. The stream is unchanged.
        """
        missing = self._missing()
        if missing and read_again is None:
            raise InvalidFrame(
                f"the stream ended after {self._start + self._count} frames but {self._length} were announced; "
                "flush with read_again=…, or open the stream without a length"
            )
        if missing and read_again is not None:
            again = read_again([self._start + place for place in missing])
            self._pixels |= {index - self._start: pixels for index, pixels in again.items()}
        if missing and self._pixels:
            prepared = np.array(sorted(self._pixels), dtype=np.float64)
            for place in missing:
                if place not in self._pixels:
                    (closest,) = nearest(prepared, np.array([float(place)]))
                    self._pixels[place] = self._pixels[int(prepared[closest])]
        done: list[Segment | Gap] = []
        while self._count:
            done.append(self._close() if self._pixels else self._lose())
        return done

    def interrupt(
        self, segments: int, end_s: float | None = None, read_again: ReadAgain | None = None
    ) -> list[Segment | Gap]:
        """End the running segment before a gap.

        Args:
            segments: Places that the gap takes in the count of segments.
            end_s: Not used: the segment ends a frame's length after its last frame.
            read_again: As of `flush`.

        Returns:
            The running segment, if there is one.

        Raises:
            InvalidFrame: As of `flush`.
        """
        done = self.flush(read_again)
        self._index += segments
        return done

    def _may_be_sampled(self, place: int) -> bool:
        if self._length is None:
            return True
        newest = place - place % self._spec.step
        if self._start + newest + self._spec.frames > self._length:
            # In a tail any frame may be.
            return True
        return any(place - begun in self._centres for begun in range(0, place + 1, self._spec.step))

    def _missing(self) -> list[int]:
        """Places that the tails sample and that were not prepared."""
        sampled: set[int] = set()
        for begun in range(0, self._count, self._spec.step):
            sampled |= set((begun + sample_indices(self._count - begun, self._spec.sampled)).tolist())
        return sorted(sampled - self._pixels.keys())

    def _close(self) -> Segment:
        places = sample_indices(min(self._count, self._spec.frames), self._spec.sampled).tolist()
        end_frame, end_s = self._end()
        segment = Segment(
            index=self._index,
            start_frame=self._start,
            end_frame=end_frame,
            start_s=self._begun_s[0],
            end_s=end_s,
            pixels=np.stack([self._pixels[place] for place in places]),
        )
        self._next()
        return segment

    def _lose(self) -> Gap:
        gap = Gap(self._index, 1, self._begun_s[0], self._end()[1], "dropped")
        self._next()
        return gap

    def _end(self) -> tuple[int, float]:
        """Where the running segment's first step ends."""
        step = self._spec.step
        if self._count > step:
            return self._start + step, self._begun_s[1]
        assert self._last_s is not None
        # The last frame lasts as long as the others of its segment did on average.
        steps = self._count - 1
        frame_s = (self._last_s - self._begun_s[0]) / steps if steps else 1.0 / self._spec.fps
        return self._start + self._count, self._last_s + frame_s

    def _next(self) -> None:
        passed = min(self._count, self._spec.step)
        self._index += 1
        self._start += passed
        self._count -= passed
        self._begun_s.popleft()
        self._pixels = {place - passed: pixels for place, pixels in self._pixels.items() if place >= passed}
