"""MSAD: `anomaly_annotation.csv`, alone or in a folder with the dataset's training and test lists.

The table lists anomalous videos only, one event each: name, scenario, total frames, starting and ending frame of
anomaly. Normal videos are named by the lists (`…/MSAD_normal_testing_1_i3d.npy`, features there, videos here),
whose file names say which split they are. Frames count from 1 and the last one is abnormal: the authors' own labels
of an event 20 to 200 change at index 19 and at index 200.
"""

from __future__ import annotations

import csv
from pathlib import Path

from edge_runtime.errors import DatasetError, UsageError
from offline.data.dataset import Split
from offline.data.importers.annotation import (
    Annotated,
    Interval,
    Request,
    events_from,
    files_named,
    read_fields,
    read_text,
    split_or,
    stem,
    whole,
)

INTERVAL: Interval = "one-based"
COLUMNS = ("name", "total frames", "starting frame of anomaly", "ending frame of anomaly")


def read(request: Request) -> list[Annotated]:
    """Read the table's videos (split test); with lists beside it, the lists' videos, normal ones too."""
    if request.frame_counts is not None:
        raise UsageError("MSAD's own table gives the frame counts; leave --frame-counts out")
    if not request.annotations.is_dir():
        return list(_read_table(request.annotations, request).values())
    tables = files_named(request.annotations, "anomaly_annotation.csv", "MSAD's annotations")
    lists = files_named(request.annotations, "*.list", "MSAD's annotations")
    table = _read_table(tables[0], request)
    videos: dict[str, Annotated] = {}
    for path in lists:
        split = split_or(request.split, _split_of(path))
        for where, fields in read_fields(path):
            # Each video's features were once extracted under several crops: `_i3d`, `_i3d__0` …
            name = Path(fields[0].replace("\\", "/")).name.removesuffix(".npy").split("_i3d")[0]
            if "normal" in name.lower():
                video = Annotated(f"{name}.mp4", "normal", split, where)
            else:
                known = table.get(name.removeprefix("MSAD_"))
                if known is None:
                    raise DatasetError(
                        f"{where}: {name} is not in {tables[0]}; the table lists every anomalous video"
                    )
                video = Annotated(known.file, "anomalous", split, where, known.events, known.frames)
            if videos.setdefault(stem(video.file), video).split != split:
                raise DatasetError(f"{where}: {name} is in two splits; remove it from one list")
    return list(videos.values())


def _split_of(path: Path) -> Split:
    name = path.name.lower()
    if ("train" in name) == ("test" in name):
        raise DatasetError(f"{path}: its name says neither train nor test; rename it")
    return "calibration" if "train" in name else "test"


def _read_table(path: Path, request: Request) -> dict[str, Annotated]:
    rows = csv.DictReader(read_text(path).splitlines())
    header = [column.strip() for column in rows.fieldnames or ()]
    rows.fieldnames = header
    for column in COLUMNS:
        if column not in header:
            raise DatasetError(f"{path}:1: column {column!r} is missing; MSAD's table has {', '.join(COLUMNS)}")
    videos: dict[str, Annotated] = {}
    for row in rows:
        where = f"{path}:{rows.line_num}"
        if None in row or None in row.values():
            raise DatasetError(f"{where}: not as many cells as the header; correct the line")
        name = stem(row["name"].strip())
        total, start, end = (whole(row[column], where, column) for column in COLUMNS[1:])
        if name in videos:
            raise DatasetError(f"{where}: {name!r} was at {videos[name].where} already; remove one")
        events = events_from([(start, end)], where, request.interval or INTERVAL, total)
        videos[name] = Annotated(f"{name}.mp4", "anomalous", split_or(request.split, "test"), where, events, total)
    if not videos:
        raise DatasetError(f"{path}: a header, but no videos; download it again")
    return videos
