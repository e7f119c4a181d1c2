"""Public datasets to rows of `data.csv`: one registry, one function. One module here for each dataset family."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from edge_runtime.errors import DatasetError, UsageError
from offline.data.dataset import Video
from offline.data.importers import frame_masks, msad, ubnormal, ucf_crime, xd_violence
from offline.data.importers.annotation import Annotated, Interval, Reader, Request, clipped, overrun
from offline.data.importers.draw import draw_calibration
from offline.data.importers.files import locate

__all__ = ["IMPORTERS", "Importer", "Interval", "Request", "draw_calibration", "import_dataset", "summary"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Importer:
    """One dataset family.

    Attributes:
        title: Its name.
        annotations: What `--annotations` is for it.
        read: Who reads that.
        interval: What its frame numbers mean unless one says otherwise; None where the format itself says it.
        prefer: Folders that win where one file name is there twice.
    """

    title: str
    annotations: str
    read: Reader
    interval: Interval | None = None
    prefer: tuple[str, ...] = ()


IMPORTERS: Mapping[str, Importer] = MappingProxyType(
    {
        "ucf-crime": Importer(
            "UCF-Crime",
            "the temporal annotation of the test videos, or the list of training videos",
            ucf_crime.read,
            interval=ucf_crime.INTERVAL,
            prefer=ucf_crime.PREFERRED_FOLDERS,
        ),
        "xd-violence": Importer(
            "XD-Violence",
            "the temporal annotation of the test videos, or a list of training videos",
            xd_violence.read,
            interval=xd_violence.INTERVAL,
        ),
        "msad": Importer(
            "MSAD",
            "anomaly_annotation.csv, or the folder that holds it and the *.list files",
            msad.read,
            interval=msad.INTERVAL,
        ),
        "shanghaitech": Importer(
            "ShanghaiTech", "the folder test_frame_mask", frame_masks.read_shanghaitech, prefer=("testing", "test")
        ),
        "ubnormal": Importer(
            "UBnormal", "the folder with *_tracks.txt and the *_video_names.txt lists", ubnormal.read
        ),
        "avenue": Importer(
            "CUHK Avenue",
            "the folder testing_label_mask, or avenue.mat",
            frame_masks.read_avenue,
            prefer=frame_masks.AVENUE_FOLDERS,
        ),
        "ped2": Importer("UCSD Ped2", "UCSDped2.m or ped2.mat", frame_masks.read_ped2, prefer=("Test", "testing")),
    }
)


def import_dataset(
    name: str,
    request: Request,
    *,
    calibration_fraction: float | None = None,
    seed: int = 0,
    relative_to: Path | None = None,
) -> list[Video]:
    """Turn the annotations of a public dataset into the rows of `data.csv`.

    Args:
        name: A key of `IMPORTERS`.
        request: The annotations, which are what `IMPORTERS[name].annotations` says, and how they are to be read.
        calibration_fraction: Only a stratified draw, at least one of each class, as the calibration split.
        seed: Of the draw.
        relative_to: The manifest's folder; videos below it get relative paths.

    Raises:
        UsageError: The dataset is unknown, or options do not go together.
        DatasetError: Annotations contradict themselves, the frame counts or the videos; names the line or the video.
    """
    if name not in IMPORTERS:
        raise UsageError(f"unknown dataset {name!r}; there are {', '.join(IMPORTERS)}")
    importer = IMPORTERS[name]
    if request.interval is not None and importer.interval is None:
        raise UsageError(f"{importer.title}'s format says which frames it means; leave --interval out")
    if calibration_fraction is not None and request.split not in (None, "calibration"):
        raise UsageError(
            f"a calibration draw is the calibration split, not {request.split!r}; leave one of the two out"
        )
    annotated = _cut(importer.read(request))
    paths = _paths(annotated, request.videos, importer.prefer, relative_to)
    rows = [_row(video, path, relative_to) for video, path in zip(annotated, paths, strict=True)]
    _refuse_repeats(annotated, rows)
    if unchecked := sum(bool(row.events) and row.frames is None for row in rows):
        _log.warning(
            "no frame counts: the events of %d videos are as annotated, compared with no video's length; what ends "
            "after the last frame will be refused when the video is read. --frame-counts cuts it",
            unchecked,
        )
    return rows if calibration_fraction is None else draw_calibration(rows, calibration_fraction, seed)


def summary(rows: Sequence[Video]) -> str:
    """Say how many videos and frames there are, and how many of them are abnormal."""
    anomalous = sum(row.anomalous for row in rows)
    counts = [row.frames for row in rows if row.frames is not None]
    frames = f"{sum(counts):,} frames" if counts else "frame counts unknown"
    unknown = f" (in {len(counts)} videos, the others' counts are unknown)" if 0 < len(counts) < len(rows) else ""
    abnormal = sum(end - start for row in rows for start, end in row.events)
    untimed = sum(not row.timed for row in rows)
    return (
        f"{len(rows)} videos ({anomalous} anomalous, {len(rows) - anomalous} normal), "
        f"{frames}{unknown}, {abnormal:,} frames abnormal"
        + (f"; when is unknown of {untimed} anomalous videos" if untimed else "")
    )


def _cut(annotated: Sequence[Annotated]) -> list[Annotated]:
    """Cut events where their videos end, and say so once for all where that is not a matter of counting."""
    # One frame is the difference between two ways to count, and the end of the video is meant.
    if over := [video for video in annotated if overrun(video) > 1]:
        longest = max(over, key=overrun)
        _log.warning(
            "%d of %d videos with events have one that ends after their last frame, by up to %d frames (%s); it is "
            "cut there. If these are many, check the frame counts and --interval",
            len(over),
            sum(bool(video.events) for video in annotated),
            overrun(longest),
            longest.where,
        )
    return [clipped(video) for video in annotated]


def _row(video: Annotated, path: Path, relative_to: Path | None) -> Video:
    try:
        return Video(
            path=path if relative_to is None else relative_to / path,
            name=path.as_posix(),
            label=video.label,
            split=video.split,
            events=video.events,
            frames=video.frames,
        )
    except ValueError as error:
        raise DatasetError(f"{video.where}: {error}") from None


def _paths(
    annotated: Sequence[Annotated], videos: Path | None, prefer: Sequence[str], relative_to: Path | None
) -> list[Path]:
    if videos is None:
        return [Path(video.file.replace("\\", "/")) for video in annotated]
    base = relative_to.resolve() if relative_to is not None else None
    found = [path.resolve() for path in locate(annotated, videos, prefer)]
    return [path.relative_to(base) if base is not None and path.is_relative_to(base) else path for path in found]


def _refuse_repeats(annotated: Sequence[Annotated], rows: Sequence[Video]) -> None:
    seen: dict[str, str] = {}
    for video, row in zip(annotated, rows, strict=True):
        if row.name in seen:
            raise DatasetError(f"{video.where}: {row.name} was at {seen[row.name]} already; remove one")
        seen[row.name] = video.where
