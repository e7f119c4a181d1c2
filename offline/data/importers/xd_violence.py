"""XD-Violence: the temporal annotation of its anomalous test videos, or a list of training videos.

A line is `name start end start end …`; a name alone is a video without timing. The class is in the name
(`…_label_B2-0-0`; `_label_A` is normal). Normal test videos are not in the annotation: they come from the frame
counts, or else from the videos' folder.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

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
from offline.data.importers.files import index_videos

# What published figures count.
INTERVAL: Interval = "half-open"

_CLASS = re.compile(r"_label_(A|(?:B1|B2|B4|B5|B6|G)(?:-(?:0|B1|B2|B4|B5|B6|G)){2})")

_log = logging.getLogger(__name__)


def read(request: Request) -> list[Annotated]:
    """Read the annotated videos, and the normal ones beside them (split test); or a list's (split calibration)."""
    counts = request.frames()
    videos: dict[str, Annotated] = {}
    timed: bool | None = None
    for where, fields in read_fields(request.annotations):
        # Some lines carry the suffix and others don't.
        name = stem(fields[0])
        label = _label(name, where)
        if timed not in (None, len(fields) > 1):
            raise DatasetError(f"{where}: a line with and one without events; split the file in two")
        timed = len(fields) > 1
        if timed and label == "normal":
            raise DatasetError(f"{where}: {name} is normal by its name, but has events; correct the line")
        if len(fields) % 2 == 0:
            raise DatasetError(f"{where}: {len(fields) - 1} frame numbers; every event has a start and an end")
        if name in videos:
            raise DatasetError(f"{where}: {name} was at {videos[name].where} already; remove one")
        numbers = [whole(field, where, "frame") for field in fields[1:]]
        frames = request.frames_of(counts, name, where)
        events = events_from(
            list(zip(numbers[::2], numbers[1::2], strict=True)), where, request.interval or INTERVAL, frames
        )
        split = split_or(request.split, "test" if timed else "calibration")
        videos[name] = Annotated(f"{name}.mp4", label, split, where, events, frames)
    if timed:
        for normal in _normal(request, counts, videos):
            videos[stem(normal.file)] = normal
    return list(videos.values())


def _normal(request: Request, counts: Mapping[str, int], listed: Mapping[str, Annotated]) -> list[Annotated]:
    if request.frame_counts is not None:
        names, source = list(counts), request.frame_counts
    elif request.videos is not None:
        names, source = list(index_videos(request.videos)), request.videos
    else:
        _log.warning(
            "%s: only its %d anomalous videos; the test set's normal ones are not in it, and no frame figure can be "
            "compared without them. Give --frame-counts or --videos",
            request.annotations,
            len(listed),
        )
        return []
    found = []
    for name in names:
        if _label(name, str(source)) == "normal":
            split = split_or(request.split, "test")
            found.append(Annotated(f"{name}.mp4", "normal", split, str(source), (), counts.get(name)))
        elif name not in listed:
            # Then this is not the test set alone, and its normal videos are not those of the test.
            raise DatasetError(
                f"{source}: {name} is anomalous, but not in {request.annotations}; give the test videos alone"
            )
    return found


def _label(name: str, where: str) -> Label:
    match = _CLASS.search(name)
    if match is None or match.end() != len(name):
        raise DatasetError(
            f"{where}: {name!r} does not end in a class like _label_A or _label_B2-0-0; is this XD-Violence?"
        )
    return "normal" if match[1] == "A" else "anomalous"
