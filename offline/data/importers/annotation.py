"""What every dataset's annotation comes down to: a file, a label, frame ranges. And how those are checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DatasetError
from offline.data.dataset import Label, Split
from offline.data.spans import Span, spans

#: How a format's frame numbers are meant: from 0 without the last one, from 0 with it, or from 1 with it.
Interval = Literal["half-open", "inclusive", "one-based"]

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".mpg", ".mpeg", ".m4v")


@dataclass(frozen=True, slots=True)
class Annotated:
    """One video as its dataset describes it.

    Attributes:
        file: Its file, as written there.
        label: `normal` or `anomalous`.
        split: What it is for.
        where: The file and line that say so.
        events: Half-open frame ranges, each beginning in the video; an end may lie behind its last frame.
        frames: How many frames it has, where that is known.
    """

    file: str
    label: Label
    split: Split
    where: str
    events: tuple[Span, ...] = ()
    frames: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What an importer is given.

    Attributes:
        annotations: The dataset's annotation file or folder.
        videos: The folder that is searched for every video, by name; without it, paths are as annotated.
        frame_counts: A file of lines `name first last`.
        interval: What frame numbers mean where the format leaves it open; None as the dataset means them.
        split: Instead of the dataset's own.
    """

    annotations: Path
    videos: Path | None = None
    frame_counts: Path | None = None
    interval: Interval | None = None
    split: Split | None = None

    def frames(self) -> Mapping[str, int]:
        """Read the frame count by stem; empty without a file."""
        return read_frame_counts(self.frame_counts) if self.frame_counts is not None else {}

    def frames_of(self, counts: Mapping[str, int], file: str, where: str) -> int | None:
        """Look up the video's frame count. DatasetError where counts are given, but not for this video."""
        if self.frame_counts is None:
            return None
        if stem(file) not in counts:
            raise DatasetError(
                f"{where}: {file} has no line in {self.frame_counts}; add its count, or import without counts"
            )
        return counts[stem(file)]


class Reader(Protocol):
    """Reads one dataset family's annotations.

    Raises:
        DatasetError: There is a fault in them; one line.
    """

    def __call__(self, request: Request) -> list[Annotated]:
        """The videos that the annotations describe, in their order."""


def stem(file: str) -> str:
    """Give the file name without folders and without a video suffix. Titles hold dots, so no other is cut."""
    name = file.replace("\\", "/").rsplit("/", 1)[-1]
    lower = name.lower()
    for suffix in VIDEO_SUFFIXES:
        if lower.endswith(suffix):
            return name[: -len(suffix)]
    return name


def read_text(path: Path) -> str:
    """Read an annotation file. DatasetError if it is missing, empty or not UTF-8."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path}: byte {error.start} is not UTF-8; this is no text annotation, or saved in another encoding"
        ) from None
    except OSError as error:
        raise DatasetError(
            f"{path}: {error.strerror or error}; give the dataset's own annotation as --annotations"
        ) from None
    if not text.strip():
        raise DatasetError(f"{path}: the file is empty; download it again")
    return text


def read_fields(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield `file:line` and the blank-separated fields of every line that is not blank."""
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            yield f"{path}:{number}", line.split()


def whole(text: str, where: str, what: str) -> int:
    """Parse a whole number, possibly negative; DatasetError otherwise."""
    if re.fullmatch(r"-?[0-9]{1,12}", text.strip(), re.ASCII) is None:
        raise DatasetError(f"{where}: {what} {text.strip()!r} is no whole number; correct the line")
    return int(text)


def read_frame_counts(path: Path) -> dict[str, int]:
    """Read frames by stem, from lines `name count` or `name first last …` (last inclusive, first is 0)."""
    counts: dict[str, int] = {}
    for where, fields in read_fields(path):
        if len(fields) < 2:
            raise DatasetError(f"{where}: {fields[0]!r} has no number; write: name count, or: name first last")
        numbers = [whole(field, where, "frame") for field in fields[1:3]]
        if len(numbers) == 2 and numbers[0] != 0:
            raise DatasetError(f"{where}: the first frame is {numbers[0]}; frames are counted from 0")
        count = numbers[0] if len(numbers) == 1 else numbers[1] + 1
        if count < 1:
            raise DatasetError(f"{where}: {count} is no frame count; correct the line")
        if counts.setdefault(stem(fields[0]), count) != count:
            raise DatasetError(f"{where}: {fields[0]} was {counts[stem(fields[0])]} frames above; remove one")
    return counts


def events_from(pairs: Sequence[Span], where: str, interval: Interval, frames: int | None) -> tuple[Span, ...]:
    """Turn frame ranges as annotated into half-open events; what ends after the video is left as it is.

    `half-open` takes the last number as the first normal frame, `inclusive` as the last abnormal one; `one-based`
    is inclusive and calls the first frame 1 (an event from 0 begins with it, too).

    Args:
        pairs: First and last number of each event.
        where: The file and line, for errors.
        interval: What the numbers mean.
        frames: How many frames the video has; None where that is unknown.

    Raises:
        DatasetError: A range is empty, unsorted, overlaps the one before, or begins after the last frame.
    """
    events: list[Span] = []
    for first, last in pairs:
        start = max(first - 1, 0) if interval == "one-based" else first
        end = last + 1 if interval == "inclusive" else last
        if first < 0 or start >= end:
            raise DatasetError(f"{where}: event {first}-{last} holds no frame; correct the line")
        if frames is not None and start >= frames:
            raise DatasetError(
                f"{where}: event {first}-{last} is after the last frame of {frames}; check the frame counts"
            )
        if events and start < events[-1][1]:
            raise DatasetError(
                f"{where}: event {first}-{last} overlaps or precedes the one before it; sort and merge them"
            )
        events.append((start, end))
    return tuple(events)


def clipped(video: Annotated) -> Annotated:
    """Cut the last event where the video ends, if its length is known. Events before it begin within the video."""
    if video.frames is None or overrun(video) == 0:
        return video
    *before, (start, _) = video.events
    return replace(video, events=(*before, (start, video.frames)))


def overrun(video: Annotated) -> int:
    """How many frames its last event ends after the video; 0 where it does not, or the length is unknown."""
    if video.frames is None or not video.events:
        return 0
    return max(0, video.events[-1][1] - video.frames)


def merged(ranges: Iterable[Span]) -> list[Span]:
    """Unite ranges, sorted: for formats that annotate objects, which may be abnormal at one time."""
    union: list[Span] = []
    for start, end in sorted(ranges):
        if union and start <= union[-1][1]:
            union[-1] = (union[-1][0], max(end, union[-1][1]))
        else:
            union.append((start, end))
    return union


def from_mask(mask: NDArray[np.generic], file: str, where: str, split: Split, frames: int | None) -> Annotated:
    """Make a video from one label per frame, 0 or 1. A mask of zeros is a normal video."""
    flat = mask.reshape(-1)
    if mask.size == 0 or mask.size != max(mask.shape) or mask.dtype.kind not in "buif":
        raise DatasetError(f"{where}: shape {mask.shape} of {mask.dtype} is not one label per frame")
    if not np.isin(flat, (0, 1)).all():
        raise DatasetError(f"{where}: holds {flat[~np.isin(flat, (0, 1))][0]}, but labels are 0 and 1")
    if frames is not None and frames != mask.size:
        raise DatasetError(f"{where}: {mask.size} labels, but the frame counts say {frames}; one is wrong")
    events = tuple(spans(flat.astype(np.bool_)))
    return Annotated(file, "anomalous" if events else "normal", split, where, events, int(mask.size))


def files_named(folder: Path, pattern: str, what: str) -> list[Path]:
    """Find the files of a pattern anywhere below a folder, sorted. DatasetError if it is no folder or has none."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: not a folder; give the folder of {what} as --annotations")
    found = sorted(folder.rglob(pattern))
    if not found:
        raise DatasetError(f"{folder}: no {pattern} in it; give the folder of {what} as --annotations")
    return found


def split_or(split: Split | None, default: str) -> Split:
    """Choose the split that was asked for, or the dataset's own."""
    return split if split is not None else cast(Split, default)
