"""Pictures of events, out of the videos they were found in."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from edge_runtime.errors import DatasetError, UsageError
from edge_runtime.records import EventRecord
from edge_runtime.stream.pixels import UInt8Array
from edge_runtime.stream.segments import sample_indices
from edge_runtime.video.capture import DecodedFrame
from edge_runtime.video.file import VideoFile
from edge_runtime.video.sources import check_file, parse_source

log = logging.getLogger(__name__)

# Turns a decoded picture, BGR uint8 (h, w, 3), into what is kept of it.
Take = Callable[[UInt8Array], UInt8Array]

# How far an event's seconds may lie from its frames: segments cut by time begin between two frames.
_TOLERATED_S = 1.0
_ANY_RATE = 30.0


def footage_of(videos: Sequence[str], events: Sequence[EventRecord]) -> dict[str, Path]:
    """Find which file shows which camera, for every camera of the events.

    Args:
        videos: Each `[CAMERA=]PATH`; without a name it is the file's stem, which is how `hh-edge run` names a file.
        events: The events.

    Raises:
        SourceUnavailable: A file is not there.
        UsageError: A camera has no video, or two.
    """
    cameras = {event.camera for event in events}
    paths: dict[str, Path] = {}
    for text in videos:
        camera, path = _parse(text, cameras)
        if camera in paths:
            raise UsageError(f"camera {camera} has two videos, {paths[camera]} and {path}; name them apart")
        paths[camera] = path
    for event in events:
        if event.camera not in paths:
            raise UsageError(
                f"event {event.id}: the footage of camera {event.camera} is not known; "
                f"say where it lies with --video {event.camera}=PATH"
            )
    return paths


class Footage:
    """The videos of some cameras, each read forwards; a context manager.

    Events of a camera follow each other, so that one pass over a video serves all of them; an earlier event
    after a later one begins the video anew.
    """

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._paths = paths
        self._stack = contextlib.ExitStack()
        self._readers: dict[str, _Reader] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def sampled(self, event: EventRecord, count: int, take: Take) -> list[UInt8Array]:
        """Read pictures at the bin centres of the event's frames, as segments are sampled.

        Args:
            event: The event.
            count: How many pictures.
            take: Turns each into what is kept of it.

        Raises:
            VideoUnreadable: The video is damaged.
            DatasetError: It ends before the event does.
        """
        if event.camera not in self._readers:
            video = self._stack.enter_context(VideoFile(self._paths[event.camera]))
            self._readers[event.camera] = _Reader(video)
            _compare_times(event, video)
        reader = self._readers[event.camera]
        indices = (event.start_frame + sample_indices(event.end_frame - event.start_frame, count)).tolist()
        taken = reader.read(event.start_frame, event.end_frame, indices, take)
        if taken is None:
            reader.video.check_complete()
            raise DatasetError(
                f"event {event.id}: covers frames {event.start_frame} to {event.end_frame} of camera {event.camera}, "
                f"but {reader.video.shown} has {reader.video.count_frames()}; "
                f"give the footage of that very run with --video {event.camera}=PATH"
            )
        return [taken[index] for index in indices]


class _Reader:
    """Where one video has been read to."""

    def __init__(self, video: VideoFile) -> None:
        self.video = video
        self._next = 0
        self._begin()

    def read(self, start: int, end: int, indices: Sequence[int], take: Take) -> dict[int, UInt8Array] | None:
        """Read the pictures at `indices`, all of them in [start, end); None where the video ends before `end`."""
        if start < self._next:
            self._begin()
        wanted, taken = set(indices), {}
        while self._next < end:
            grabbed = next(self._frames, None)
            if grabbed is None:
                self._begin()
                return None
            self._next = grabbed.index + 1
            if grabbed.index in wanted:
                taken[grabbed.index] = take(grabbed.retrieve())
        return taken

    def _begin(self) -> None:
        # The rate plays no part: events are found by their frames.
        self._frames: Iterator[DecodedFrame] = self.video.frames(fallback_fps=_ANY_RATE)
        self._next = 0


def _parse(text: str, cameras: set[str]) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if equals and name in cameras and not Path(text).exists():
        # A file's stem may hold spaces, which the name of a camera on a command line may not.
        check_file(Path(path))
        return name, Path(path)
    source = parse_source(text)
    if source.kind != "file":
        raise UsageError(f"--video {source.shown}: is no file; give the footage of camera {source.name} as a file")
    check_file(Path(source.target))
    return source.name, Path(source.target)


def _compare_times(event: EventRecord, video: VideoFile) -> None:
    """Warn where the seconds of an event say that its frames were counted in another recording."""
    if video.fps is None:
        return
    seconds = event.start_frame / video.fps
    if abs(seconds - event.start_s) > _TOLERATED_S:
        log.warning(
            "camera %s: event %s begins at %.1f s, but frame %d of %s is at %.1f s; is it the footage of that run?",
            event.camera,
            event.id,
            event.start_s,
            event.start_frame,
            video.shown,
            seconds,
        )
