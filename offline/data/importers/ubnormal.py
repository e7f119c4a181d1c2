"""UBnormal: the tracks of abnormal objects, and the published lists of video names.

Every abnormal video has a `<video>_tracks.txt` with a line `object,first,last` for each abnormal object, frames
from 0, last included. Which videos there are, and in which split, is in the authors' lists
(`normal_test_video_names.txt` and so on) where those lie in the folder too, or else in the folder of videos.
"""

from __future__ import annotations

from pathlib import Path

from edge_runtime.errors import DatasetError, UsageError
from offline.data.dataset import Label, Split
from offline.data.importers.annotation import (
    Annotated,
    Request,
    events_from,
    files_named,
    merged,
    read_fields,
    read_text,
    split_or,
    stem,
)
from offline.data.importers.files import index_videos
from offline.data.spans import Span

_SPLITS: dict[str, Split] = {"training": "calibration", "validation": "validation", "test": "test"}


def read(request: Request) -> list[Annotated]:
    """Read the videos of the lists, each in its split; without lists, those in --videos (split test)."""
    counts = request.frames()
    tracks: dict[str, Path] = {}
    for path in files_named(request.annotations, "*_tracks.txt", "UBnormal's annotations"):
        tracks[path.name.removesuffix("_tracks.txt")] = path
    videos = []
    for name, split, where in _names(request):
        file = f"{name}.mp4"
        frames = request.frames_of(counts, file, where)
        label = _label(name, where)
        events: tuple[Span, ...] = ()
        if label == "anomalous":
            if name not in tracks:
                raise DatasetError(f"{where}: {name} has no {name}_tracks.txt below {request.annotations}; add it")
            path = tracks[name]
            events = events_from(merged(_read_tracks(path)), str(path), "half-open", frames)
        videos.append(Annotated(file, label, split, where, events, frames))
    return videos


def _names(request: Request) -> list[tuple[str, Split, str]]:
    names: dict[str, tuple[str, Split, str]] = {}
    lists = sorted(request.annotations.rglob("*_video_names.txt"))
    for path in lists:
        kind = path.name.removesuffix("_video_names.txt").split("_")[-1]
        if kind not in _SPLITS:
            raise DatasetError(
                f"{path}: its name has no split; the lists are called like normal_test_video_names.txt"
            )
        for where, fields in read_fields(path):
            name = stem(fields[0])
            if name in names:
                raise DatasetError(f"{where}: {name} was at {names[name][2]} already; remove one")
            names[name] = (name, split_or(request.split, _SPLITS[kind]), where)
    if not lists:
        if request.videos is None:
            raise UsageError(
                f"{request.annotations}: no *_video_names.txt in it, so normal videos are unknown; "
                "add the published lists, or give --videos"
            )
        for name in sorted(index_videos(request.videos)):
            names[name] = (name, split_or(request.split, "test"), str(request.videos))
    return list(names.values())


def _label(name: str, where: str) -> Label:
    if name.startswith("abnormal_"):
        return "anomalous"
    if name.startswith("normal_"):
        return "normal"
    raise DatasetError(f"{where}: {name!r} starts with neither normal_ nor abnormal_; is this UBnormal?")


def _read_tracks(path: Path) -> list[Span]:
    tracks = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            _, first, last, *_ = (float(cell) for cell in line.split(","))
        except ValueError:
            raise DatasetError(f"{path}:{number}: {line.strip()!r} is no track like 1,120,240; correct it") from None
        if not (first.is_integer() and last.is_integer() and 0 <= first <= last):
            raise DatasetError(f"{path}:{number}: frames {first:g} to {last:g} are no range; correct the line")
        tracks.append((int(first), int(last) + 1))
    return tracks
