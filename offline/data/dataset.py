"""`data.csv`: which videos there are, what happens in them and when, and what each is for.

No video is decoded here; a frame count comes from outside, to be checked against what is written here.
"""

from __future__ import annotations

import csv
import io
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DatasetError, SourceUnavailable, UsageError
from edge_runtime.files import write_atomic
from offline.data.places import Remote, place, read_bytes
from offline.data.spans import Span
from offline.data.video_cache import VideoCache

Label = Literal["normal", "anomalous"]
Split = Literal["calibration", "validation", "test"]

LABELS: tuple[Label, ...] = get_args(Label)
SPLITS: tuple[Split, ...] = get_args(Split)
COLUMNS = ("path", "label", "split", "events", "frames")

# Twelve digits are a thousand years of video; longer ones are a damaged file, and slow to convert.
_COUNT = re.compile(r"[0-9]{1,12}", re.ASCII)
_RANGE = re.compile(r"([0-9]{1,12})\s*-\s*([0-9]{1,12})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Video:
    """One video and what is known about it.

    Attributes:
        path: Where it is.
        name: The path as written in the manifest, with forward slashes: unique there, and the key under which
            features and scores are stored.
        label: `normal` or `anomalous`.
        split: What it is for.
        events: Half-open frame ranges, sorted and disjoint.
        frames: How many there are, if the manifest says so.
        line: Where it stands in its file (0: in none).
        cache: Where it is kept while it is read, if it is remote.

    Raises:
        ValueError: They contradict each other; with the value and the way out.
    """

    path: Path
    name: str
    label: Label
    split: Split
    events: tuple[Span, ...] = ()
    frames: int | None = None
    line: int = field(default=0, compare=False)
    cache: VideoCache = field(default_factory=VideoCache, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.name or self.name != place(self.name.strip()).as_posix() or self.name == ".":
            raise ValueError(f"path {self.name!r} names no video; write a file path, without blanks around it")
        # A newline would break every one-line message and record in which the name appears.
        if any(unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"} for letter in self.name):
            raise ValueError(f"path {self.name!r} holds a control or undecodable character; rename the file")
        if self.label not in LABELS:
            raise ValueError(f"unknown label {self.label!r}; write {' or '.join(LABELS)}")
        if self.split not in SPLITS:
            raise ValueError(f"unknown split {self.split!r}; write {', '.join(SPLITS[:-1])} or {SPLITS[-1]}")
        if self.frames is not None and self.frames < 1:
            raise ValueError(f"frames {self.frames} is no frame count; write 1 or more, or leave it empty")
        if self.events and self.label == "normal":
            raise ValueError(
                f"a normal video with events {_text(self.events)}; label it anomalous or remove the events"
            )
        _check_events(self.events, self.frames)

    @contextmanager
    def on_disk(self) -> Iterator[Path]:
        """Give the file on this machine's disk, as long as the context lasts; a remote one is fetched.

        Raises:
            SourceUnavailable: It cannot be fetched.
            CacheFailed: What was fetched cannot be kept on this machine.
        """
        if isinstance(self.path, Remote):
            with self.cache.held(self.path) as path:
                yield path
        else:
            yield self.path

    @property
    def anomalous(self) -> bool:
        """Whether something abnormal happens anywhere in the video."""
        return self.label == "anomalous"

    @property
    def timed(self) -> bool:
        """Whether every frame's label is known: not so for an anomalous video without events."""
        return not self.anomalous or bool(self.events)

    def overlaps(self, start: int, end: int) -> bool:
        """Tell whether the frames from `start` up to and without `end` touch an event. DatasetError if untimed."""
        self._require_timing()
        return any(start < event_end and event_start < end for event_start, event_end in self.events)

    def frame_labels(self, n: int) -> NDArray[np.bool_]:
        """Label every frame, bool (n,): True inside an event.

        Raises:
            DatasetError: The times of events are unknown, or one ends after n.
        """
        self._require_timing()
        check_frames(self, n)
        labels = np.zeros(n, dtype=np.bool_)
        for start, end in self.events:
            labels[start:end] = True
        return labels

    def _require_timing(self) -> None:
        if not self.timed:
            raise DatasetError(
                f"{self.name}: anomalous, but when is unknown; give its events, or leave it out of frame figures"
            )


@dataclass(frozen=True, slots=True)
class Dataset:
    """The videos of one manifest, in its order. Iterates over `Video`."""

    path: Path
    videos: tuple[Video, ...]

    def __iter__(self) -> Iterator[Video]:
        return iter(self.videos)

    def __len__(self) -> int:
        return len(self.videos)

    def split(self, name: Split) -> Dataset:
        """Give the videos of one split, which may be none. ValueError for a split that does not exist."""
        if name not in SPLITS:
            raise ValueError(f"unknown split {name!r}; there are {', '.join(SPLITS)}")
        return Dataset(self.path, tuple(video for video in self.videos if video.split == name))

    def only(self, *names: Split) -> Dataset:
        """Give the videos of some splits, split after split."""
        return Dataset(self.path, tuple(video for name in names for video in self.split(name)))

    def require_files(self) -> None:
        """Refuse videos that are not there.

        Raises:
            DatasetError: Some are missing; lists the first few.
        """
        # os.path: a name that is too long for the system is missing, too, not an OSError.
        # Remote ones are asked for one by one, when their turn comes.
        local = [video for video in self.videos if not isinstance(video.path, Remote)]
        missing = [video for video in local if not os.path.isfile(video.path)]
        if missing:
            first = ", ".join(f"{video.name} (line {video.line})" for video in missing[:3])
            rest = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise DatasetError(
                f"{self.path}: {len(missing)} of {len(self.videos)} videos are not there: {first}{rest}; "
                "paths are absolute or relative to the manifest's folder"
            )

    def require_both_classes(self, split: Split) -> None:
        """Refuse a split without a normal or without an anomalous video.

        Raises:
            DatasetError: One of the two is missing.
        """
        labels = {video.label for video in self.split(split)}
        for label in LABELS:
            if label not in labels:
                raise DatasetError(
                    f"{self.path}: split {split!r} has no {label} video; "
                    "add one, or move one there from another split"
                )

    def require_two_classes(self, split: Split, frames: Mapping[str, int] | None = None) -> None:
        """Refuse a split that cannot be judged, neither by its frames nor by whole videos.

        It needs normal and abnormal frames, in whichever videos; anomalous videos of unknown timing count as videos
        only, beside normal ones.

        Args:
            split: Its name.
            frames: Decoded counts by name, instead of what the manifest says; where neither knows, an anomalous video
                is believed to have normal frames as well.

        Raises:
            DatasetError: One of the two is missing.
        """
        videos = self.split(split)
        out = "add one, move one there from another split, or choose another split"
        if not any(video.anomalous for video in videos):
            raise DatasetError(
                f"{self.path}: split {split!r} has normal videos only, on which no AUC, AP or F1 is defined; "
                f"it needs an anomalous one: {out}"
            )
        counts = {video.name: (frames or {}).get(video.name, video.frames) for video in videos}
        if all(
            video.anomalous and (not video.timed or sum(e - s for s, e in video.events) == counts[video.name])
            for video in videos
        ):
            raise DatasetError(
                f"{self.path}: split {split!r} has no frame known to be normal, so no AUC, AP or F1 is defined; "
                f"it needs a normal video: {out}"
            )


def read_dataset(path: str | os.PathLike[str], cache: VideoCache | None = None) -> Dataset:
    """Read a manifest.

    UTF-8 with or without a byte order mark, LF or CRLF; columns in any order; blank lines are skipped. Video
    files are not touched: see `Dataset.require_files`.

    Args:
        path: Where it is; for those who give a cache also remote.
        cache: Where remote videos are kept while they are read; None where only local ones can be.

    Raises:
        DatasetError: There is a fault in it; one line with file and line number.
    """
    path = path if isinstance(path, Path) else place(str(path))
    try:
        # The codec's name hides the position of a bad byte behind its buffer, so decoding comes first.
        text = _content(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DatasetError(
            f"{path}:{line}: byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from None
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else (error.strerror or str(error))
        raise DatasetError(f"{path}: {reason}; give the path of a data.csv") from None
    videos = tuple(_read_rows(path, text))
    _refuse_duplicates(videos, path)
    if cache is not None:
        videos = tuple(replace(video, cache=cache) for video in videos)
    elif remote := [video for video in videos if isinstance(video.path, Remote)]:
        raise DatasetError(
            f"{path}:{remote[0].line}: {remote[0].path} is not on this machine; `extract`, `evaluate` and `ablate` "
            "read such videos, for this command copy them"
        )
    return Dataset(path, videos)


def _content(path: Path) -> bytes:
    if not isinstance(path, Remote):
        return path.read_bytes()
    try:
        content = read_bytes(path)
    except SourceUnavailable as error:
        raise DatasetError(str(error)) from error
    if content is None:
        raise FileNotFoundError
    return content


def write_dataset(rows: Iterable[Video], path: str | os.PathLike[str]) -> None:
    """Write videos as a manifest, by name. Whole or not at all: a crash leaves the old file.

    Raises:
        DatasetError: There are no videos, or the same one twice.
        OutputFailed: The file cannot be written.
    """
    path = Path(path)
    videos = tuple(rows)
    if not videos:
        raise DatasetError(f"{path}: no videos to write; a manifest holds at least one")
    _refuse_duplicates(videos, path)
    text = io.StringIO()
    _write_rows(videos, text)
    write_atomic(path, text.getvalue().encode())


def check_frames(video: Video, actual: int) -> None:
    """Refuse a decoded video, of `actual` frames, that disagrees with what the manifest says of it.

    Raises:
        DatasetError: The number of frames is another one, or an event ends after the last.
    """
    where = f"{video.name} (line {video.line} of its manifest)" if video.line else video.name
    if video.frames is not None and video.frames != actual:
        raise DatasetError(
            f"{where}: the manifest says {video.frames} frames, the video has {actual}; "
            "correct the number or leave it empty"
        )
    if video.events and video.events[-1][1] > actual:
        raise DatasetError(
            f"{where}: event {_text(video.events[-1:])} ends after the last frame, the video has {actual}; "
            "correct the event or the file"
        )


def parse_events(text: str) -> tuple[Span, ...]:
    """Parse `165-240;900-1000` to ((165, 240), (900, 1000)), half-open.

    Raises:
        ValueError: The text has another form.
    """
    if not text.strip():
        return ()
    events = []
    for part in text.split(";"):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"events {text!r}: {part.strip()!r} is no frame range; write them like 165-240;900-1000")
        events.append((int(match[1]), int(match[2])))
    return tuple(events)


def _check_events(events: Sequence[Span], frames: int | None) -> None:
    previous_end = 0
    for index, (start, end) in enumerate(events):
        if start < 0:
            raise ValueError(f"event {start}-{end} starts before frame 0; frames are counted from 0")
        if start >= end:
            raise ValueError(f"event {start}-{end} holds no frame; the end is exclusive and comes after the start")
        if index and start < previous_end:
            raise ValueError(
                f"events {_text(events[index - 1 : index + 1])} overlap or are not sorted; "
                "sort them by start and merge what overlaps"
            )
        if frames is not None and end > frames:
            raise ValueError(f"event {start}-{end} ends after the last frame of {frames}; correct one of the two")
        previous_end = end


def _text(events: Sequence[Span]) -> str:
    return ";".join(f"{start}-{end}" for start, end in events)


def _read_rows(path: Path, text: str) -> Iterator[Video]:
    # Strict: a quote that never closes would otherwise swallow the rest of the file as one path.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    empty = True
    try:
        for row in reader:
            where = f"{path}:{reader.line_num}"
            cells = [cell.strip() for cell in row]
            if not any(cells):
                continue
            if header is None:
                header = cells
                _check_header(where, header)
                continue
            if len(cells) != len(header):
                raise DatasetError(
                    f"{where}: {len(cells)} cells where the header has {len(header)}; "
                    "leave a cell empty, but keep its comma, and quote a path that holds a comma"
                )
            empty = False
            try:
                yield _read_video(path.parent, dict(zip(header, cells, strict=True)), reader.line_num)
            except (ValueError, UsageError) as error:
                raise DatasetError(f"{where}: {error}") from None
    except csv.Error as error:
        raise DatasetError(f"{path}:{reader.line_num}: not readable as CSV ({error}); check its quotes") from None
    if header is None:
        raise DatasetError(f"{path}: the file is empty; its first line is {','.join(COLUMNS)}")
    if empty:
        raise DatasetError(f"{path}: a header, but no videos; add a line for each video")


def _check_header(where: str, header: Sequence[str]) -> None:
    for column in COLUMNS:
        if header.count(column) != 1:
            fault = "missing" if column not in header else "there twice"
            raise DatasetError(f"{where}: column {column!r} is {fault}; the header is {','.join(COLUMNS)}")
    for column in header:
        if column not in COLUMNS:
            raise DatasetError(f"{where}: unknown column {column!r}; the header is {','.join(COLUMNS)}")


def _read_video(folder: Path, cells: dict[str, str], line: int) -> Video:
    if not cells["path"]:
        raise ValueError("the path is empty; write where the video is")
    if cells["frames"] and _COUNT.fullmatch(cells["frames"]) is None:
        raise ValueError(f"frames {cells['frames']!r} is no frame count; write a whole number or leave it empty")
    return Video(
        path=_beside(folder, cells["path"]),
        name=place(cells["path"]).as_posix(),
        label=cast(Label, cells["label"]),  # Video refuses any other
        split=cast(Split, cells["split"]),
        events=parse_events(cells["events"]),
        frames=int(cells["frames"]) if cells["frames"] else None,
        line=line,
    )


def _beside(folder: Path, text: str) -> Path:
    path = place(text)
    # An absolute path is one of this machine, also in a remote manifest.
    return path if isinstance(path, Remote) or path.is_absolute() else folder / path


def _write_rows(videos: Iterable[Video], stream: IO[str]) -> None:
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for video in videos:
        frames = "" if video.frames is None else video.frames
        writer.writerow([video.name, video.label, video.split, _text(video.events), frames])


def _refuse_duplicates(videos: Iterable[Video], manifest: Path) -> None:
    seen: dict[str, Video] = {}
    for video in videos:
        # The real path: `a/../b.mp4` and a link to b.mp4 are b.mp4, and would count twice in every figure.
        path = _beside(manifest.parent, video.name)
        real = str(path) if isinstance(path, Remote) else os.path.realpath(path)
        if real in seen:
            first = seen[real]
            same = "" if first.name == video.name else f", written there as {first.name!r}"
            raise DatasetError(
                f"{manifest}:{video.line}: {video.name!r} is the same video as on line {first.line}{same}; remove one"
            )
        seen[real] = video
