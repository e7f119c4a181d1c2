"""Video files to the pixels of their segments, cut by the edge's own segmenter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

import numpy as np

from edge_runtime.errors import DatasetError, SourceUnavailable, SourceUnreachable
from edge_runtime.files import sha256
from edge_runtime.records import GapReason
from edge_runtime.stream.by_count import FrameSegmenter
from edge_runtime.stream.pixels import PixelSpec, UInt8Array, prepare
from edge_runtime.stream.segments import Gap, ReadAgain, Segment, SegmentSpec, sample_indices
from edge_runtime.video.file import VideoFile
from edge_runtime.watch.files import run_through
from offline.data.dataset import Dataset, Video

Output = TypeVar("Output")


class _SegmentsAlone:
    """A segmenter as a stage of `run_through`: nothing is scored."""

    def __init__(self, segmenter: FrameSegmenter) -> None:
        self.push_lazy = segmenter.push
        self.flush = segmenter.flush

    def gap(
        self, start_s: float, end_s: float, reason: GapReason, read_again: ReadAgain | None
    ) -> list[Segment | Gap]:
        """Give nothing in place of what a damaged file lacks: the file is refused."""
        return []


def read_segments(path: Path, pixels: PixelSpec, segment: SegmentSpec) -> Iterator[Segment]:
    """Read every segment of a video, the shorter last one included.

    Raises:
        SourceUnavailable: The file cannot be opened.
        VideoUnreadable: It is damaged; raised after its last segment.
    """
    with VideoFile(path) as video:
        stage = _SegmentsAlone(FrameSegmenter(segment, video.frame_count_hint))
        for item in run_through(video, stage, pixels, segment.fps):
            # A file that breaks off leaves a gap at its end, and is refused then.
            if isinstance(item, Segment):
                yield item


def read_whole(path: Path, pixels: PixelSpec, sampled: int) -> tuple[UInt8Array, int]:
    """Read `sampled` frames spread over a whole video.

    Returns:
        uint8 (F, S, S, 3), and the video's number of frames.

    Raises:
        SourceUnavailable: The file cannot be opened.
        VideoUnreadable: It is damaged.
    """
    with VideoFile(path) as video:
        frames = video.count_frames()
        video.check_complete()
        pictures = video.read_frames(sample_indices(frames, sampled).tolist())
        return np.stack([prepare(picture, pixels) for picture in pictures]), frames


def digest(path: Path) -> str:
    """Compute the sha256 of a video file's content, in lower-case hexadecimal.

    Raises:
        SourceUnavailable: There is no such file, or it cannot be read.
    """
    if not path.is_file():
        raise SourceUnavailable(f"{path}: no such video")
    try:
        return sha256(path)
    except OSError as error:
        raise SourceUnavailable(f"{path}: cannot be read ({error.strerror or error})") from error


def frame_rate(path: Path) -> float | None:
    """Read the frames per second that the file states; None where it states none that can be used."""
    with VideoFile(path) as video:
        return video.fps


def leave_out(error: SourceUnavailable, skip_unreadable: bool) -> None:
    """Refuse to go on without a video, unless it cannot be read and such videos are to be left out.

    Raises:
        SourceUnavailable: The error, where it may be, with how to go on without the video.
    """
    if isinstance(error, SourceUnreachable):
        # A network that is away for a minute would leave out all good videos of that minute.
        raise error
    if not skip_unreadable:
        raise type(error)(f"{error}; or leave such videos out with --skip-unreadable") from error


def median_size(videos: Iterable[Video], skip_unreadable: bool = False) -> tuple[int, int]:
    """Find the median height and width of the videos' pictures, in pixels.

    Raises:
        SourceUnavailable: A video cannot be opened, and `skip_unreadable` is not set; or none can.
    """
    sizes = []
    for video in videos:
        try:
            with video.on_disk() as path, VideoFile(path) as file:
                sizes.append(file.size)
        except SourceUnavailable as error:
            leave_out(error, skip_unreadable)
    if not sizes:
        raise SourceUnavailable("no calibration video can be opened")
    width, height = np.median(sizes, axis=0)
    return int(height), int(width)


def median_rate(videos: Iterable[Video], skip_unreadable: bool = False) -> float | None:
    """Find the median frame rate of the videos that state one, None where none does.

    Raises:
        SourceUnavailable: A video cannot be opened, and `skip_unreadable` is not set.
    """
    rates = []
    for video in videos:
        try:
            with video.on_disk() as path:
                stated = frame_rate(path)
        except SourceUnavailable as error:
            leave_out(error, skip_unreadable)
            continue
        if stated is not None:
            rates.append(stated)
    return float(np.median(rates)) if rates else None


def sample_segments(
    videos: Dataset, pixels: PixelSpec, segment: SegmentSpec, count: int, skip_unreadable: bool = False
) -> UInt8Array:
    """Take `count` real segments, of normal and anomalous videos in turn.

    They are of as many videos as possible, and only then several of one. The first is of a normal video and the
    second of an anomalous one, where there are both.

    Returns:
        uint8 (count, F, S, S, 3); fewer where the videos hold fewer.

    Raises:
        DatasetError: The videos hold no segment.
        SourceUnavailable: A video cannot be read, and `skip_unreadable` is not set.
    """
    kinds = ([v for v in videos if not v.anomalous], [v for v in videos if v.anomalous])
    order = [video for pair in zip_longest(*kinds) for video in pair if video is not None]
    # Nothing is opened before its turn.
    waiting = [read_segments(video.path, pixels, segment) for video in order]
    chosen: list[UInt8Array] = []
    while waiting and len(chosen) < count:
        running = []
        for segments in waiting:
            try:
                found = next(segments, None) if len(chosen) < count else None
            except SourceUnavailable as error:
                leave_out(error, skip_unreadable)
                continue
            if found is not None:
                chosen.append(found.pixels)
                running.append(segments)
        waiting = running
    if not chosen:
        raise DatasetError(f"{videos.path}: no video holds a segment to compare the export on")
    return np.stack(chosen)
