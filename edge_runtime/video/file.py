"""Reads video files frame by frame, counts their frames and finds damage.

Every frame is decoded, and only the frames that someone asks for are converted to a picture. Rotation metadata is
applied the way OpenCV does by default, the same in every method.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from edge_runtime.errors import UsageError, VideoUnreadable
from edge_runtime.files import shown_path
from edge_runtime.stream.pixels import UInt8Array
from edge_runtime.video.capture import DecodedFrame, open_capture, picture_of
from edge_runtime.video.sources import check_file

if TYPE_CHECKING:
    import cv2

__all__ = ["DecodedFrame", "VideoFile"]

# Above this no camera records; containers without a rate state their tick rate (90000) instead.
_HIGHEST_FPS = 1000.0
_HIGHEST_COUNT = 10**9
# A promise of n frames is kept by n - max(2, 1 % of n): encoders drop or merge a few frames at the ends.
_TOLERATED_FRAMES = 2
_TOLERATED_SHARE = 0.01


class VideoFile:
    """One video file; a context manager, and readable as often as needed.

    Opening decodes the first frame, so that a file without video is refused at once.

    Args:
        path: The file.

    Attributes:
        path: As given.
        shown: The path as one printable line, for messages.
        fps: Frames a second as the container states it; None where that is no rate (not finite, <= 0, > 1000).
        frame_count_hint: How many frames the container promises, exact or estimated from its duration; None where
            it promises none.
        size: Width and height of a picture in pixels, after rotation.

    Raises:
        SourceUnavailable: It is missing, a folder, empty or not permitted.
        VideoUnreadable: It holds no video, or not one frame of it can be decoded.
    """

    def __init__(self, path: Path | str) -> None:
        import cv2

        self.path = Path(path)
        self.shown = shown_path(self.path)
        check_file(self.path)
        self._captures: list[cv2.VideoCapture] = []
        self._closed = False
        self._decoded: int | None = None
        # Of the pass that reached the end: the last frame's timestamp and the longest step between two, in s.
        self._last_s = self._longest_step_s = 0.0
        with self._capture() as capture:
            rate, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
            if not capture.grab():
                raise VideoUnreadable(
                    f"{self.shown}: not one frame can be decoded; check it with ffprobe, or copy it again"
                )
            height, width = self._picture(capture, 0).shape[:2]
        self.fps: float | None = rate if math.isfinite(rate) and 0 < rate <= _HIGHEST_FPS else None
        self.frame_count_hint: int | None = round(count) if 1 <= count <= _HIGHEST_COUNT else None
        self.size: tuple[int, int] = (int(width), int(height))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the decoders, those of unfinished iterations included."""
        self._closed = True
        for capture in self._captures:
            capture.release()
        self._captures.clear()

    def frames(self, stop: int | None = None, *, fallback_fps: float | None = None) -> Iterator[DecodedFrame]:
        """Read the frames in order; the time of a frame is its index / fps.

        Reaching the end of the file sets `complete`; damage is not raised here, see `check_complete`.

        Args:
            stop: Index behind the last frame to read; default: to the end.
            fallback_fps: The rate where the container states none.

        Returns:
            An iterator over the frames.

        Raises:
            VideoUnreadable: The container states no rate, and there is no `fallback_fps`.
            UsageError: The rate is not positive.
        """
        fps = self.fps if self.fps is not None else fallback_fps
        if fps is None:
            raise VideoUnreadable(f"{self.shown}: states no usable frame rate; give one, or re-encode with ffmpeg -r")
        if not (math.isfinite(fps) and fps > 0):
            raise UsageError(f"a frame rate must be positive, got {fps}")
        return self._frames(stop, fps)

    def count_frames(self) -> int:
        """Count the frames that can be decoded, by decoding all of them once."""
        if self._decoded is None:
            for _ in self._frames(None, 1.0):
                pass
        assert self._decoded is not None
        return self._decoded

    @property
    def complete(self) -> bool | None:
        """Whether the promised frames were decoded; None until `frames` or `count_frames` reached the end."""
        return None if self._decoded is None else self._promise_kept(self._decoded)

    def check_complete(self) -> None:
        """Check that the file is whole. Decodes all of it if nothing has read it to its end yet.

        Raises:
            VideoUnreadable: Fewer frames can be decoded than promised, by more than max(2, 1 %).
        """
        decoded = self.count_frames()
        if not self._promise_kept(decoded):
            raise VideoUnreadable(
                f"{self.shown}: truncated or damaged, {decoded} of {self.frame_count_hint} frames can be decoded; "
                "copy the file again or cut it to the part that plays"
            )

    def read_frames(self, indices: Sequence[int]) -> list[UInt8Array]:
        """Read the pictures at given indices, in one pass up to the highest of them.

        It does not seek, because in some containers that lands on other frames.

        Args:
            indices: In any order, repeats allowed.

        Returns:
            BGR uint8 arrays (h, w, 3) in the order of `indices`; a repeated index is the same array.

        Raises:
            VideoUnreadable: An index is past the end.
            ValueError: An index is negative.
        """
        pictures = self.read_again(indices)
        missing = [index for index in indices if index not in pictures]
        if missing:
            raise VideoUnreadable(
                f"{self.shown}: frame {missing[0]} cannot be decoded, the file ends before; copy the file again"
            )
        return [pictures[index] for index in indices]

    def read_again(self, indices: Sequence[int]) -> dict[int, UInt8Array]:
        """Read frames again that went by before it was known that they are needed.

        Args:
            indices: In any order, repeats allowed.

        Returns:
            BGR uint8 (h, w, 3) by index; an index past the end is left out.

        Raises:
            ValueError: An index is negative.
        """
        wanted = {int(index) for index in indices}
        if min(wanted, default=0) < 0:
            raise ValueError(f"frame indices start at 0, got {min(wanted)}")
        if not wanted:
            return {}
        return {
            frame.index: frame.retrieve() for frame in self._frames(max(wanted) + 1, 1.0) if frame.index in wanted
        }

    def _frames(self, stop: int | None, fps: float) -> Iterator[DecodedFrame]:
        import cv2

        with self._capture() as capture:
            current = -1

            def retrieve_at(index: int) -> Callable[[], UInt8Array]:
                def retrieve() -> UInt8Array:
                    if index != current:
                        raise RuntimeError(f"frame {index} is gone: retrieve() before the next frame is grabbed")
                    return self._picture(capture, index)

                return retrieve

            last_s = longest_step_s = 0.0
            try:
                while (stop is None or current + 1 < stop) and capture.grab():
                    current += 1
                    now_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                    last_s, longest_step_s = now_s, max(longest_step_s, now_s - last_s)
                    yield DecodedFrame(current, current / fps, retrieve_at(current))
                if self._closed:
                    raise ValueError(f"{self.shown}: this VideoFile was closed while its frames were read")
                if stop is None or current + 1 < stop:
                    self._decoded = current + 1
                    self._last_s, self._longest_step_s = last_s, longest_step_s
            finally:
                current = -1

    @contextlib.contextmanager
    def _capture(self) -> Iterator[cv2.VideoCapture]:
        import cv2

        if self._closed:
            raise ValueError(f"{self.shown}: this VideoFile is closed")
        # An absolute path, because FFmpeg reads `a:b.mp4` as the protocol `a`. One thread costs
        # a few per cent of decoding speed, and leaves the other cores to inference.
        capture = open_capture(str(self.path.absolute()), cv2.CAP_FFMPEG, {cv2.CAP_PROP_N_THREADS: 1})
        try:
            if not capture.isOpened():
                raise VideoUnreadable(
                    f"{self.shown}: holds no video that FFmpeg can decode (only sound, or no video file at all); "
                    "check it with ffprobe, or convert it with ffmpeg"
                )
            self._captures.append(capture)
            yield capture
        finally:
            capture.release()
            if capture in self._captures:
                self._captures.remove(capture)

    def _picture(self, capture: cv2.VideoCapture, index: int) -> UInt8Array:
        picture = picture_of(capture)
        if picture is None:
            raise VideoUnreadable(f"{self.shown}: frame {index} decodes to no picture; re-encode it with ffmpeg")
        return picture

    def _promise_kept(self, decoded: int) -> bool:
        promised = self.frame_count_hint
        if promised is None or decoded >= promised - max(_TOLERATED_FRAMES, _TOLERATED_SHARE * promised):
            return True
        if self._counts_frames() or self.fps is None:
            return False
        # The promise was duration times rate, which a variable rate does not keep: ask whether the end came.
        # The last frame may stand for as long as any before it.
        promised_s = promised / self.fps
        tolerated_s = max(self._longest_step_s + _TOLERATED_FRAMES / self.fps, _TOLERATED_SHARE * promised_s)
        return self._last_s >= promised_s - tolerated_s

    def _counts_frames(self) -> bool:
        """Whether the container stores a frame count (MP4, MOV, AVI); others only a duration, if that."""
        with self.path.open("rb") as stream:
            head = stream.read(12)
        return head[:4] == b"RIFF" or head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
