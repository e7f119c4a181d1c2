"""What a stream is cut into: segments, gaps, and which frames of a segment the model sees.

`by_count` and `by_time` do the cutting. Both take a frame as a function that prepares its pixels and call it only
for frames that may be sampled: preparing (converting and resizing) is the per-frame cost of an idle camera.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from edge_runtime.errors import UsageError
from edge_runtime.records import GapReason, Quality
from edge_runtime.stream.pixels import UInt8Array

#: What cuts a stream: the count of its frames, or their timestamps.
Clock = Literal["frames", "time"]

#: When sampled frames are encoded: each when it comes, or all of a segment at its end.
Encode = Literal["eager", "batch"]

#: One frame's pixels, uint8 (H, W, 3). A segmenter calls it at most once, and only while it is pushed.
PreparePixels = Callable[[], UInt8Array]
#: Prepares frames that went by, by their index in the stream; leaves out what it cannot read again.
ReadAgain = Callable[[Sequence[int]], dict[int, UInt8Array]]

#: Times come from a clock or from index / fps: a smaller difference is rounding, not distance.
ROUNDING_S = 1e-6
# A segment's frames are held in memory: beyond this a manifest is damaged, not ambitious.
MOST_FRAMES = 100_000


class SegmentSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a bundle cuts a stream into segments.

    Attributes:
        frames: Frames of a full segment, 1 to 100,000.
        sampled: Frames of a segment that the model sees, 1 to 100,000.
        fps: Frames a second of the calibration videos, 0.001 to 1000.
        stride: Frames from the start of one segment to that of the next; a divisor of `frames`, which it is where
            segments do not overlap.
    """

    frames: int = 48
    sampled: int = 16
    fps: float = 30.0
    stride: int | UnsetType = UNSET

    def __post_init__(self) -> None:
        if min(self.frames, self.sampled) < 1:
            raise ValueError(f"segment.frames and segment.sampled start at 1, got {self.frames} and {self.sampled}")
        if max(self.frames, self.sampled) > MOST_FRAMES:
            raise ValueError(
                f"segment.frames and segment.sampled end at {MOST_FRAMES}, got {self.frames} and {self.sampled}"
            )
        if not 1e-3 <= self.fps <= 1e3:
            raise ValueError(f"segment.fps must lie in 0.001..1000, got {self.fps}")
        if self.stride is not UNSET and (self.stride < 1 or self.frames % self.stride):
            divisors = ", ".join(str(step) for step in range(1, self.frames + 1) if self.frames % step == 0)
            raise ValueError(
                f"a stride must divide the {self.frames} frames of a segment, got {self.stride}; {divisors} do"
            )

    @property
    def duration_s(self) -> float:
        """Length of a full segment on the `time` clock, in seconds."""
        return self.frames / self.fps

    @property
    def step(self) -> int:
        """Frames from the start of one segment to that of the next."""
        return self.frames if self.stride is UNSET else self.stride

    @property
    def overlap(self) -> int:
        """How many segments cover a frame: 1 where they do not overlap."""
        return self.frames // self.step

    @property
    def step_s(self) -> float:
        """From the start of one segment to that of the next on the `time` clock, in seconds."""
        return self.step / self.fps

    def places(self, pause_s: float) -> int:
        """How many segments a pause of `pause_s` seconds stands for in the count of segments: at least one."""
        return max(1, round(pause_s / self.step_s))

    def striding(self, stride: int | None) -> SegmentSpec:
        """The same with another stride; None leaves it as it is.

        Raises:
            UsageError: The stride does not divide a segment's frames; the message lists what does.
        """
        if stride is None or stride == self.step:
            return self
        try:
            return msgspec.structs.replace(self, stride=UNSET if stride == self.frames else stride)
        except ValueError as error:
            raise UsageError(str(error)) from error


@dataclass(frozen=True, slots=True)
class Segment:
    """One finished segment with the pixels of its sampled frames. Frames and seconds are half-open.

    Where segments overlap, these are the bounds of its first step, which is the last one to be covered by it; its
    pixels are of all of it. So every frame lies in exactly one, as without an overlap.

    Attributes:
        index: Counts the segments of a stream from 0, gaps included.
        start_frame: First frame.
        end_frame: Frame behind the last one.
        start_s: Start in seconds.
        end_s: End in seconds.
        pixels: uint8 (F, H, W, 3), the F sampled frames in order.
        quality: What was told to be wrong with the picture between its bounds.
    """

    index: int
    start_frame: int
    end_frame: int
    start_s: float
    end_s: float
    pixels: UInt8Array
    quality: tuple[Quality, ...] = ()


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch that cannot be scored.

    Attributes:
        index: Its first place in the count of segments.
        segments: How many places it takes there.
        start_s: Start in seconds.
        end_s: End in seconds.
        reason: Why there is no score.
        interrupts: Whether frames are missing; without, only a score is, and segments before may cover this one.
    """

    index: int
    segments: int
    start_s: float
    end_s: float
    reason: GapReason
    interrupts: bool = True


def sample_indices(frames: int, sampled: int) -> NDArray[np.intp]:
    """Which frames of a segment the model sees: bin centres, floor((i + 0.5) · n / F) for frame i of F.

    Integer arithmetic, so that no rounding of a float moves a frame.

    Args:
        frames: n, the frames of the segment.
        sampled: F.

    Returns:
        (F,) indices in [0, n) that do not decrease; they repeat where n < F.

    Raises:
        ValueError: `frames` or `sampled` is below 1.
    """
    if frames < 1 or sampled < 1:
        raise ValueError(f"a segment has at least one frame and one sample, got {frames} and {sampled}")
    return ((2 * np.arange(sampled) + 1) * frames // (2 * sampled)).astype(np.intp)


def cut(frames: int, length: int) -> list[tuple[int, int]]:
    """Cut a video of `frames` frames into segments of `length`, the tail included.

    Returns:
        Half-open (start, end) pairs; every frame lies in exactly one.
    """
    return [(start, min(start + length, frames)) for start in range(0, frames, length)]


def nearest(times: NDArray[np.float64], centres: NDArray[np.float64]) -> list[int]:
    """Index of the time nearest to each centre; the earlier one where two are equally near.

    Args:
        times: (n,) that do not decrease, n >= 1.
        centres: (F,).

    Returns:
        F indices into `times`.
    """
    distances = np.abs(times[None, :] - centres[:, None])
    return [int(np.flatnonzero(row <= row.min() + ROUNDING_S)[0]) for row in distances]
