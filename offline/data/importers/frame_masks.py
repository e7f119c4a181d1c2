"""ShanghaiTech, CUHK Avenue and UCSD Ped2: datasets whose test annotation says for every frame what it is.

Each comes in forms that are in use: one `.npy` mask a video (ShanghaiTech), one `.mat` with a picture mask for
every frame (Avenue, `volLabel`), one `.mat` with the ranges of all videos (`gt`, Avenue and Ped2), the
authors' MATLAB listing (Ped2, `gt_frame`). Ranges there are MATLAB's: from 1, last frame included.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from edge_runtime.errors import DatasetError, first_line
from offline.data.dataset import Label
from offline.data.importers.annotation import (
    Annotated,
    Request,
    events_from,
    files_named,
    from_mask,
    merged,
    read_text,
    split_or,
)
from offline.data.spans import Span

# Training and test videos have the same names, 01.avi and up.
AVENUE_FOLDERS = ("testing_videos", "testing")

_LISTED = re.compile(r"gt_frame\s*=\s*\[([^\]]*)\]")
_RANGE = re.compile(r"([0-9]{1,9})(?:\s*:\s*([0-9]{1,9}))?")


def read_shanghaitech(request: Request) -> list[Annotated]:
    """Read a folder of `01_0014.npy` masks, 0 and 1. A mask of zeros is a normal video. Split test."""
    counts = request.frames()
    videos = []
    for path in files_named(request.annotations, "*.npy", "ShanghaiTech's frame masks (test_frame_mask)"):
        try:
            mask = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path}: not readable as a frame mask ({error}); download it again") from None
        file = f"{path.stem}.avi"
        frames = request.frames_of(counts, file, str(path))
        videos.append(from_mask(mask, file, str(path), split_or(request.split, "test"), frames))
    return videos


def read_avenue(request: Request) -> list[Annotated]:
    """Read a folder of `1_label.mat` picture masks, or `avenue.mat`. The videos are 01.avi and up. Split test."""
    if not request.annotations.is_dir():
        return _read_ranges(request, _ranges_in_mat(request.annotations), "{:02d}.avi")
    counts = request.frames()
    numbered = []
    for path in files_named(request.annotations, "*_label.mat", "Avenue's masks (testing_label_mask)"):
        number = path.name.removesuffix("_label.mat")
        if not number.isdecimal():
            raise DatasetError(f"{path}: its name has no video number; Avenue's masks are 1_label.mat and up")
        numbered.append((int(number), path))
    videos = []
    # By number: sorted as text, 10 would come before 2.
    for index, path in sorted(numbered):
        cells = _variable(path, "volLabel")
        mask = np.array([np.any(cell) for cell in cells.reshape(-1)], dtype=np.bool_)
        file = f"{index:02d}.avi"
        frames = request.frames_of(counts, file, str(path))
        videos.append(from_mask(mask, file, str(path), split_or(request.split, "test"), frames))
    return videos


def read_ped2(request: Request) -> list[Annotated]:
    """Read `UCSDped2.m` (videos Test001 and up) or `ped2.mat` (videos 01 and up). Split test."""
    if request.annotations.suffix == ".mat":
        return _read_ranges(request, _ranges_in_mat(request.annotations), "{:02d}.avi")
    listed: list[list[Span]] = []
    for line in read_text(request.annotations).splitlines():
        # A listing keeps its superseded lines as MATLAB comments.
        match = _LISTED.search(line.split("%")[0])
        if match is not None:
            listed.append(_parse_ranges(match[1], f"{request.annotations}: video {len(listed) + 1}"))
    if not listed:
        raise DatasetError(f"{request.annotations}: no gt_frame = […] in it; give UCSDped2.m or ped2.mat")
    return _read_ranges(request, listed, "Test{:03d}.avi")


def _read_ranges(request: Request, listed: list[list[Span]], pattern: str) -> list[Annotated]:
    counts = request.frames()
    videos = []
    for number, pairs in enumerate(listed, start=1):
        where = f"{request.annotations}: video {number}"
        file = pattern.format(number)
        frames = request.frames_of(counts, file, where)
        if any(start < 1 or last < start for start, last in pairs):
            raise DatasetError(f"{where}: ranges {pairs} are not MATLAB's, from 1 with the end after the start")
        # Objects that overlap in time are ranges that overlap; frames are what is asked for.
        ranges = merged((start - 1, last) for start, last in pairs)
        events = events_from(ranges, where, "half-open", frames)
        label: Label = "anomalous" if events else "normal"
        videos.append(Annotated(file, label, split_or(request.split, "test"), where, events, frames))
    return videos


def _parse_ranges(text: str, where: str) -> list[Span]:
    pairs = []
    for part in filter(None, re.split(r"\s*[,;]\s*", text.strip())):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise DatasetError(f"{where}: {part!r} is no frame range like 61:180; correct the line")
        pairs.append((int(match[1]), int(match[2] if match[2] is not None else match[1])))
    return pairs


def _ranges_in_mat(path: Path) -> list[list[Span]]:
    listed: list[list[Span]] = []
    for number, cell in enumerate(_variable(path, "gt").reshape(-1), start=1):
        ranges = np.asarray(cell)
        if ranges.size == 0:
            listed.append([])
            continue
        if ranges.dtype.kind not in "uif" or ranges.ndim != 2 or ranges.shape[0] != 2:
            raise DatasetError(
                f"{path}: video {number} has {ranges.dtype} of shape {ranges.shape}; a row of starts and one of "
                "ends is expected"
            )
        listed.append([(int(start), int(last)) for start, last in ranges.T])
    return listed


def _variable(path: Path, name: str) -> NDArray[Any]:
    try:
        content = loadmat(path, appendmat=False)
    except Exception as error:  # noqa: BLE001 - on a damaged file SciPy raises whatever it trips over
        reason = first_line(error)
        raise DatasetError(f"{path}: not readable as a MATLAB file ({reason}); download it again") from None
    if name not in content:
        raise DatasetError(f"{path}: no variable {name!r} in it; is this the dataset's own annotation?")
    return np.asarray(content[name])
