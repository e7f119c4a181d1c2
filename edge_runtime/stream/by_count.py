"""Cuts a stream into segments by counting its frames: for files, and what the paper does."""

from __future__ import annotations

import numpy as np

from edge_runtime.errors import InvalidFrame
from edge_runtime.stream.pixels import UInt8Array
from edge_runtime.stream.segments import Gap, PreparePixels, ReadAgain, Segment, SegmentSpec, nearest, sample_indices
from edge_runtime.stream.timestamps import Timestamps


class FrameSegmenter:
    """Cuts a stream by counting frames: every `spec.frames` frames are a segment.

    Where the stream's length is known, only the sampled frames are prepared. Otherwise every frame of the running
    segment is, since any of them may be a sampled frame of a tail that ends early.

    Args:
        spec: How to cut.
        length: The stream's number of frames, where it is known. One that turns out too long is repaired in
            `flush`.
    """

    def __init__(self, spec: SegmentSpec, length: int | None = None) -> None:
        self._spec = spec
        self._length = length
        self._timestamps = Timestamps(spec.duration_s)
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
        if self._length is None or place in self._centres or self._start + self._spec.frames > self._length:
            self._pixels[place] = frame()
        if place == 0:
            self._first_s = seconds
        self._count = place + 1
        self._last_s = seconds
        return [self._close()] if self._count == self._spec.frames else []

    def idle(self, seconds: float) -> list[Segment | Gap]:
        """Nothing: a silence is no frame, and only frames end a segment here."""
        return []

    def flush(self, read_again: ReadAgain | None = None) -> list[Segment | Gap]:
        """End the stream: the tail is a segment like any other.

        Args:
            read_again: Prepares frames again. Needed only where `length` promised more frames than came, so that
                frames of the tail were not prepared. A frame that it leaves out is replaced by the nearest one that
                was prepared; where there is none, the tail is a gap.

        Returns:
            The tail, if there is one.

        Raises:
            InvalidFrame: Frames of the tail are missing and there is no `read_again`. The stream is unchanged.
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
