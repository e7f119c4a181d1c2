"""What a report tells, as frozen values that refuse nonsense. Knows no page, no figure and no file.

What was not measured is None and is left out of the page; nothing stands in for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.manifest import Manifest
from edge_runtime.stream.locator import LocatorSpec
from offline.data.dataset import LABELS, SPLITS, Label, Span, Split
from offline.evaluation.figures import Evaluation
from offline.hunting.depth import DepthPoint
from offline.hunting.hunt import Hunt

BoolArray = NDArray[np.bool_]

Cell = str | int | float | None

#: A thumbnail of 160 pixels takes about 6 KB; more is a picture that nobody has made small.
MAX_THUMBNAIL_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class ReportVideo:
    """One video: what is true, what was scored, what was detected. All ranges are half-open, in frames.

    fps: frames per second; frames: how many there are. events: the annotated ones; an anomalous video without
    any has unknown timing. segments, scores, smoothed: of equal length; None is a gap. detected: at the operating
    point `full`. thumbnails: (frame, caption, JPEG) at the peaks, see `report.thumbnail`. Raises ValueError that
    names the video.
    """

    name: str
    label: Label
    split: Split
    fps: float
    frames: int
    events: tuple[Span, ...]
    segments: tuple[Span, ...]
    scores: tuple[float | None, ...]
    smoothed: tuple[float | None, ...]
    detected: tuple[Span, ...]
    thumbnails: tuple[tuple[int, str, bytes], ...] = ()

    def __post_init__(self) -> None:
        if self.label not in LABELS or self.split not in SPLITS:
            raise ValueError(f"{self.name}: unknown label {self.label!r} or split {self.split!r}")
        if self.frames < 1 or not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"{self.name}: {self.frames} frames at {self.fps} fps is no video")
        if not len(self.segments) == len(self.scores) == len(self.smoothed):
            raise ValueError(
                f"{self.name}: {len(self.segments)} segments, {len(self.scores)} scores and "
                f"{len(self.smoothed)} smoothed scores"
            )
        for spans in (self.events, self.segments, self.detected):
            reached = 0
            for start, end in spans:
                if not reached <= start < end <= self.frames:
                    raise ValueError(
                        f"{self.name}: range {start}-{end} is empty, out of order or beyond {self.frames} frames"
                    )
                reached = end
        for score in (*self.scores, *self.smoothed):
            if score is not None and not 0.0 <= score <= 1.0:
                raise ValueError(f"{self.name}: {score} is no probability; what was not scored is None")
        if self.events and self.label == "normal":
            raise ValueError(f"{self.name}: a normal video with {len(self.events)} events")
        for frame, _, jpeg in self.thumbnails:
            if not 0 <= frame < self.frames:
                raise ValueError(f"{self.name}: thumbnail of frame {frame}, but there are {self.frames}")
            if not jpeg.startswith(b"\xff\xd8") or len(jpeg) > MAX_THUMBNAIL_BYTES:
                raise ValueError(
                    f"{self.name}: the thumbnail of frame {frame} is no JPEG of at most {MAX_THUMBNAIL_BYTES} bytes"
                )

    @property
    def timed(self) -> bool:
        """Whether every frame's label is known."""
        return self.label == "normal" or bool(self.events)

    @property
    def peak(self) -> float | None:
        """The highest smoothed score; None where nothing could be scored."""
        return max((score for score in self.smoothed if score is not None), default=None)


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """Samples as the experts see them, and as all heads of the last layer do.

    expert: (n, K·d); last_layer: (n, H·d); labels: bool (n,); videos: n names, repeated where a video gives
    several samples.
    """

    expert: NDArray[np.floating]
    last_layer: NDArray[np.floating]
    labels: BoolArray
    videos: tuple[str, ...]

    def __post_init__(self) -> None:
        n = len(self.videos)
        for name, features in (("expert", self.expert), ("last-layer", self.last_layer)):
            if features.ndim != 2 or features.shape[0] != n or features.shape[1] == 0:
                raise ValueError(f"{name} features have shape {features.shape}; expected ({n}, width)")
            if not np.isfinite(features).all():
                raise ValueError(f"{name} features to embed are not all finite")
        if self.labels.shape != (n,) or self.labels.dtype != np.bool_:
            raise ValueError(f"labels are {self.labels.dtype} {self.labels.shape}; expected bool ({n},)")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings, cell by cell as they shall be shown: a float gets three digits, None is "not defined"."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"row {row} has {len(row)} cells under {len(self.columns)} columns")


@dataclass(frozen=True, slots=True)
class AblationTable:
    """An ablation as it is shown. judged_on: one sentence. revision: of the weights. notes: how to read it."""

    table: Table
    judged_on: str
    revision: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything a report tells; what is None or empty is left out.

    manifest: of the bundle; its `bundle_id` and its entry for the report itself are not looked at, since they
    can only be known after the report. hunt: None where only its experts are known, which the manifest names.
    locator: the operating point that everything here was scored and judged with. evaluations: by split, or their
    `to_dict()` forms, with trivial baselines and ceilings `beside` them where those were measured.
    calibration_curve: (fraction in 0..1, samples, validation AUC). notes: sentences that must be read first. absent:
    what a report could show and this one does not, with the way to get it. commands: how to repeat it.
    """

    title: str
    manifest: Manifest
    hunt: Hunt | None
    locator: str = "full"
    videos: tuple[ReportVideo, ...] = ()
    depth: tuple[DepthPoint, ...] = ()
    embedding: Embedding | None = None
    evaluations: Mapping[Split, Evaluation | Mapping[str, Any]] = field(default_factory=dict)
    ablation: AblationTable | None = None
    calibration_curve: Sequence[tuple[float, int, float | None]] | None = None
    notes: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()

    @property
    def operating_point(self) -> LocatorSpec:
        """The locator by its name."""
        return self.manifest.locators.named(self.locator)

    def __post_init__(self) -> None:
        experts = [(expert.layer, expert.head) for expert in self.manifest.experts]
        if self.hunt is not None and experts != [(expert.layer, expert.head) for expert in self.hunt.experts]:
            raise ValueError(f"the manifest's experts {experts} are not those of the hunt")
        if self.locator not in ("full", "low_latency"):
            raise ValueError(f"there is no locator {self.locator!r}; a bundle has full and low_latency")
        names = [(video.split, video.name) for video in self.videos]
        if len(set(names)) != len(names):
            raise ValueError("a video is in the report twice")
        for fraction, samples, _ in self.calibration_curve or ():
            if not 0 < fraction <= 1 or samples < 1:
                raise ValueError(f"{samples} samples are no {fraction} of the calibration data")
