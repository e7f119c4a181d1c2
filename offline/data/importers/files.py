"""Finds a dataset's videos in a folder, however they were unpacked.

Datasets are unpacked flat, in class folders, or as the zip parts they came in, and annotations name only the
file. So videos are found by name without suffix, anywhere below the folder.
"""

from __future__ import annotations

import filecmp
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from edge_runtime.errors import DatasetError
from offline.data.importers.annotation import VIDEO_SUFFIXES, Annotated, stem


def index_videos(folder: Path) -> dict[str, list[Path]]:
    """Find every video file below a folder, by stem. DatasetError if it is no folder or holds none."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: not a folder; give the folder of the videos as --videos")
    index: defaultdict[str, list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*")):
        # macOS archives carry a resource fork `._name` beside every file.
        if path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith("._") and path.is_file():
            index[stem(path.name)].append(path)
    if not index:
        raise DatasetError(f"{folder}: no video files in it ({', '.join(VIDEO_SUFFIXES)})")
    return dict(index)


def locate(videos: Sequence[Annotated], folder: Path, prefer: Sequence[str] = ()) -> list[Path]:
    """Find each video's file, in order. DatasetError, by name, for those that are missing or cannot be told apart.

    Of several files of one name, the one whose folders end as the annotation says wins, then one in a folder of
    `prefer`; files with the same content are the same video, and the first is taken.
    """
    index = index_videos(folder)
    missing = [video.file for video in videos if stem(video.file) not in index]
    if missing:
        shown = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
        raise DatasetError(
            f"{folder}: {len(missing)} of {len(videos)} annotated videos are not there: {shown}; "
            "add them, or give another --videos"
        )
    return [_choose(video, index[stem(video.file)], prefer) for video in videos]


def _choose(video: Annotated, candidates: list[Path], prefer: Iterable[str]) -> Path:
    wanted = Path(video.file.replace("\\", "/")).parts
    exact = [path for path in candidates if path.parts[-len(wanted) :] == wanted]
    if len(wanted) > 1 and len(exact) == 1:
        return exact[0]
    for name in prefer:
        inside = [path for path in candidates if name in path.parts]
        if len(inside) == 1:
            return inside[0]
    first, *others = candidates
    different = [other for other in others if not filecmp.cmp(first, other, shallow=False)]
    if different:
        raise DatasetError(
            f"{video.where}: {video.file} is {first} and, with other content, {different[0]}; "
            "remove one, or give a narrower --videos"
        )
    return first
