"""What counts as one sample: a segment, or a whole video.

A video whose events have times gives one unit per segment, labelled by overlap with its events. One whose
times are unknown gives a single unit, F frames spread over the whole video, with the video's label. A normal
video is known to be normal throughout, so either way is right; `auto` treats it like most of the anomalous
videos, so that the scorer does not learn the difference between the two ways of sampling.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import UsageError
from offline.data.dataset import Video

Unit = Literal["video", "segment"]
UnitChoice = Literal["auto", "video", "segment"]


def choose_units(videos: Iterable[Video], choice: UnitChoice = "auto") -> dict[str, Unit]:
    """Choose the unit of each video, by its name.

    Raises:
        UsageError: Segments are asked for, but an anomalous video has no times.
    """
    videos = list(videos)
    anomalous = [video for video in videos if video.anomalous]
    if choice == "video":
        return {video.name: "video" for video in videos}
    if choice == "segment":
        for video in anomalous:
            if not video.timed:
                raise UsageError(
                    f"{video.name}: its events have no times, so its segments have no labels; "
                    "give its events, or use --calibration-unit auto"
                )
        return {video.name: "segment" for video in videos}
    timed = sum(video.timed for video in anomalous)
    normal: Unit = "segment" if 2 * timed >= len(anomalous) else "video"
    return {video.name: (("segment" if video.timed else "video") if video.anomalous else normal) for video in videos}


def unit_labels(video: Video, unit: Unit, spans: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Label each unit, (U,): whether it is anomalous. `spans` are half-open frame ranges, (U, 2)."""
    if unit == "video":
        return np.full(len(spans), video.anomalous)
    return np.array([video.overlaps(int(start), int(end)) for start, end in spans], dtype=np.bool_)
