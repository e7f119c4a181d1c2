"""What a report tells, as frozen values that refuse nonsense.

What was not measured is None and is left out of the page; nothing stands in for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_runtime.bundle.manifest import Manifest
from edge_runtime.stream.locator import LocatorSpec
from offline.data.dataset import LABELS, SPLITS, Label, Split
from offline.data.spans import Span
from offline.evaluation.figures import Evaluation
from offline.hunting.chance import Chance
from offline.hunting.deployment_noise import Survival
from offline.hunting.depth import DepthPoint
from offline.hunting.evidence import Embedding
from offline.hunting.hunt import Hunt
from offline.hunting.sampling import SamplingPoint

Cell = str | int | float | None

#: A thumbnail of 160 pixels takes about 6 KB; more is a picture that nobody has made small.
MAX_THUMBNAIL_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class ReportVideo:
    """One video: what is true, what was scored, what was detected. All ranges are half-open, in frames.

    Attributes:
        name: As in the manifest.
        label: `normal` or `anomalous`.
        split: What the video is for.
        fps: Frames per second.
        frames: How many there are.
        events: The annotated ones; an anomalous video without any has unknown timing.
        segments: What was scored.
        scores: One a segment; None is a gap.
        smoothed: The same, smoothed by the locator.
        detected: Events that the locator found.
        thumbnails: (frame, caption, JPEG) at the peaks, see `report.pictures.thumbnail`.

    Raises:
        ValueError: They contradict each other; the message names the video.
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


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings, cell by cell: a float is shown with three digits, None as "not defined"."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"row {row} has {len(row)} cells under {len(self.columns)} columns")


@dataclass(frozen=True, slots=True)
class AblationTable:
    """An ablation as it is shown.

    Attributes:
        table: A row for each variant.
        judged_on: What it was judged on, one sentence.
        revision: Of the model's weights.
        notes: How to read it.
    """

    table: Table
    judged_on: str
    revision: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything a report tells; what is None or empty is left out.

    Attributes:
        title: Of the page.
        manifest: Of the bundle; its `bundle_id` and its entry for the report itself are not looked at, since they
            can only be known after the report.
        hunt: None where only its experts are known, which the manifest names.
        locator: The operating point that everything here was scored and judged with.
        videos: Scored videos, of all splits that are shown.
        depth: Accuracy against depth.
        sampling: Accuracy against sampled frames.
        embedding: Samples as the experts see them.
        survival: What the precision does to each head, where the hunt counted it.
        evaluations: By split, or their `to_dict()` forms, with trivial baselines and ceilings `beside` them where
            those were measured.
        ablation: The ablation table.
        calibration_curve: (fraction in 0..1, samples, validation AUC).
        notes: Sentences that must be read first.
        absent: What a report could show and this one does not, with the way to get it.
        commands: How to repeat it.
        chance: What the hunt owes to chance; not shown without the hunt.
    """

    title: str
    manifest: Manifest
    hunt: Hunt | None
    locator: str = "full"
    videos: tuple[ReportVideo, ...] = ()
    depth: tuple[DepthPoint, ...] = ()
    sampling: tuple[SamplingPoint, ...] = ()
    embedding: Embedding | None = None
    survival: Survival | None = None
    evaluations: Mapping[Split, Evaluation | Mapping[str, Any]] = field(default_factory=dict)
    ablation: AblationTable | None = None
    calibration_curve: Sequence[tuple[float, int, float | None]] | None = None
    notes: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    chance: Chance | None = None

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
