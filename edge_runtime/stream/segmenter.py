"""What both ways of cutting a stream have in common, so that callers need not know which one they use."""

from __future__ import annotations

from typing import Protocol

from edge_runtime.errors import UsageError
from edge_runtime.records import GapReason
from edge_runtime.stream.by_count import FrameSegmenter
from edge_runtime.stream.by_time import TimeSegmenter
from edge_runtime.stream.pixels import UInt8Array
from edge_runtime.stream.segments import Clock, Gap, PreparePixels, ReadAgain, Segment, SegmentSpec


class Segmenter(Protocol):
    """Cuts the frames of one stream into segments. Not to be shared between threads."""

    @property
    def last_s(self) -> float | None:
        """Time of the newest frame, None before the first."""

    @property
    def next_index(self) -> int:
        """Index that the running segment will get."""

    @property
    def frames(self) -> int:
        """How many frames have come, those before its first included."""

    @property
    def is_open(self) -> bool:
        """Whether the running segment holds a frame."""

    @property
    def sampled(self) -> list[UInt8Array]:
        """Pixels of the running segment's first samples, as far as they are certain if it becomes a full one."""

    def push(self, frame: PreparePixels, seconds: float) -> list[Segment | Gap]:
        """Take one frame; returns what it made final. Raises InvalidFrame, and the frame does not count."""

    def idle(self, seconds: float) -> list[Segment | Gap]:
        """Say that no frame has come until `seconds`; returns what that made final."""

    def flush(self, read_again: ReadAgain | None = None) -> list[Segment | Gap]:
        """End the stream; returns the rest."""

    def interrupt(
        self, segments: int, end_s: float | None = None, read_again: ReadAgain | None = None
    ) -> list[Segment | Gap]:
        """End the running segment, at `end_s` if given, before a gap of `segments` places; returns it."""


def segmenter_for(
    spec: SegmentSpec,
    clock: Clock,
    length: int | None = None,
    sparing: bool = False,
    first: tuple[int, int] = (0, 0),
) -> Segmenter:
    """Make the segmenter of a clock.

    Args:
        spec: How to cut.
        clock: `frames` counts frames, `time` cuts by their timestamps.
        length: The stream's number of frames, where it is known; for `frames`.
        sparing: As of `TimeSegmenter`; for `time`.
        first: Index of the first segment, and number of its first frame, where another segmenter came before.

    Raises:
        UsageError: There is no such clock.
    """
    if clock == "frames":
        return FrameSegmenter(spec, length, first)
    if clock == "time":
        return TimeSegmenter(spec, sparing, first)
    raise UsageError(f"unknown clock {clock!r}; choose from frames, time")


def interrupt(
    segmenter: Segmenter,
    spec: SegmentSpec,
    start_s: float,
    end_s: float,
    reason: GapReason,
    read_again: ReadAgain | None = None,
) -> list[Segment | Gap]:
    """End the running segment of a segmenter and put a gap behind it.

    Args:
        segmenter: Of the stream that has no frames from `start_s` to `end_s`.
        spec: How it cuts; says how many places the gap takes.
        start_s: Start of the gap, not before the newest frame.
        end_s: End of the gap, not before its start.
        reason: Why there are no frames.
        read_again: As of `FrameSegmenter.flush`.

    Returns:
        The running segment, if there was one, and the gap.

    Raises:
        InvalidFrame: As of `FrameSegmenter.flush`.
    """
    places = spec.places(end_s - start_s)
    done = segmenter.interrupt(places, start_s, read_again)
    return [*done, Gap(segmenter.next_index - places, places, start_s, end_s, reason)]
