"""UCF-Crime: the temporal annotation of its test videos, and the lists of its training or test videos.

A temporal line is `Abuse028_x264.mp4  Abuse  165  240  -1  -1`, where -1 stands for no (second) event; a list
line is `Abuse/Abuse001_x264.mp4`. Which of the two a file is shows in its lines. The class is in the file's
name, because the folders of normal videos are called differently in every copy of the dataset.
"""

from __future__ import annotations

import re

from edge_runtime.errors import DatasetError
from offline.data.dataset import Label
from offline.data.importers.annotation import (
    Annotated,
    Interval,
    Request,
    events_from,
    read_fields,
    split_or,
    stem,
    whole,
)

# What published figures count.
INTERVAL: Interval = "half-open"
CLASSES = (
    "Abuse",
    "Arrest",
    "Arson",
    "Assault",
    "Burglary",
    "Explosion",
    "Fighting",
    "RoadAccidents",
    "Robbery",
    "Shooting",
    "Shoplifting",
    "Stealing",
    "Vandalism",
)

# Fifty normal videos are in the dataset twice: in these folders, and once more for event recognition.
PREFERRED_FOLDERS = (
    "Training_Normal_Videos_Anomaly",
    "Testing_Normal_Videos_Anomaly",
    "Training-Normal-Videos-Part-1",
    "Training-Normal-Videos-Part-2",
)


def read(request: Request) -> list[Annotated]:
    """Read the videos of a temporal annotation (split test) or of a list (split calibration, timing unknown)."""
    counts = request.frames()
    videos: list[Annotated] = []
    timed: bool | None = None
    for where, fields in read_fields(request.annotations):
        if len(fields) not in (1, 6):
            raise DatasetError(
                f"{where}: {len(fields)} fields; a temporal annotation has 6 (video class start end start end), "
                "a list has 1 (class/video)"
            )
        if timed not in (None, len(fields) == 6):
            raise DatasetError(f"{where}: {len(fields)} fields, unlike the lines above; split the file in two")
        timed = len(fields) == 6
        file = fields[0]
        label = _label(file, where)
        frames = request.frames_of(counts, file, where)
        if not timed:
            videos.append(Annotated(file, label, split_or(request.split, "calibration"), where, frames=frames))
            continue
        if fields[1] not in CLASSES and fields[1] != "Normal":
            raise DatasetError(f"{where}: unknown class {fields[1]!r}; UCF-Crime has Normal, {', '.join(CLASSES)}")
        numbers = [whole(field, where, "frame") for field in fields[2:]]
        pairs = [(numbers[i], numbers[i + 1]) for i in (0, 2) if numbers[i : i + 2] != [-1, -1]]
        if (fields[1] != "Normal") != (label == "anomalous") or bool(pairs) != (label == "anomalous"):
            raise DatasetError(
                f"{where}: name, class {fields[1]!r} and {len(pairs)} events contradict each other; correct the line"
            )
        events = events_from(pairs, where, request.interval or INTERVAL, frames)
        videos.append(Annotated(file, label, split_or(request.split, "test"), where, events, frames))
    return videos


def _label(file: str, where: str) -> Label:
    name = stem(file)
    if name.startswith("Normal_Videos"):
        return "normal"
    kind = re.match(r"[A-Za-z]+", name)
    if kind is None or kind[0] not in CLASSES:
        raise DatasetError(
            f"{where}: {file!r} is of no UCF-Crime class; "
            f"names start with Normal_Videos or one of {', '.join(CLASSES)}"
        )
    return "anomalous"
