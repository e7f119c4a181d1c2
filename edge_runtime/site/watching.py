"""One run's cameras as their site knows them: drift, p-values and budgets, and what of them outlives the run.

`seen` and `located` are called by the one thread that scores and tells; they take well under a millisecond. Files are
written by another one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import HeadHuntError, one_line
from edge_runtime.files import make_folder
from edge_runtime.records import SegmentRecord
from edge_runtime.site import state
from edge_runtime.site.budget import Budget
from edge_runtime.site.drift import DriftChange, DriftSpace, DriftWatch, farthest_video
from edge_runtime.site.pvalues import PValue, PValues
from edge_runtime.stream.segments import Segment

log = logging.getLogger(__name__)

# Segments of a camera between two writings of what is known of it: ten minutes. A kill costs that much.
_EVERY = 188
# Pictures that are wrong in a way that is told already say nothing about the place.
_WRONG = frozenset({"covered", "frozen", "corrupt"})


class Statistics(Protocol):
    """What is read of a bundle's calibration; D is the number of features, n that of segments of normal videos."""

    @property
    def mean(self) -> NDArray[np.float64]:
        """Of the features, (D,)."""

    @property
    def scale(self) -> NDArray[np.float64]:
        """Of each of them, (D,)."""

    @property
    def centre(self) -> NDArray[np.float64]:
        """Of the standardised features of normal samples, (D,)."""

    @property
    def covariance_diagonal(self) -> NDArray[np.float64]:
        """Part of their shrunk covariance, (D,)."""

    @property
    def covariance_factor(self) -> NDArray[np.float64]:
        """The rest of it, (q, D)."""

    @property
    def normal_scores(self) -> NDArray[np.float64]:
        """Scores by a scorer that did not see the video, (n,)."""

    @property
    def distances(self) -> NDArray[np.float64]:
        """Distances from a centre that did not see the video, (n,)."""

    @property
    def videos(self) -> NDArray[np.int64]:
        """Which video each segment belongs to, (n,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What a bundle brings along of its calibration.

    Attributes:
        space: In which distances are measured.
        farthest: As of `drift.farthest_video`.
        normal_scores: Scores of the calibration normals, (n,).
        overlap: How many segments cover a frame.
    """

    space: DriftSpace
    farthest: float | None
    normal_scores: NDArray[np.floating]
    overlap: int = 1

    @classmethod
    def of(cls, calibration: Statistics, overlap: int = 1) -> Known:
        """What a bundle's `calibration()` says."""
        space = DriftSpace.of(
            calibration.mean,
            calibration.scale,
            calibration.centre,
            calibration.covariance_diagonal,
            calibration.covariance_factor,
        )
        farthest = farthest_video(calibration.distances, calibration.videos)
        return cls(space, farthest, calibration.normal_scores, overlap)


class SiteCamera:
    """One camera.

    Args:
        known: Of its bundle.
        budget: Of its events, where it has one.

    Attributes:
        drift: Tells when its pictures change.
        pvalues: Of its scores.
        budget: As given.
    """

    def __init__(self, known: Known, budget: Budget | None = None) -> None:
        self.drift = DriftWatch(known.space, known.farthest, overlap=known.overlap)
        self.pvalues = PValues(known.normal_scores)
        self.budget = budget

    def seen(self, segment: Segment, features: NDArray[np.floating]) -> DriftChange | None:
        """Take a segment's features, (D,), when it was scored; returns what changed, if something did."""
        if not _WRONG.isdisjoint(segment.quality):
            return None
        return self.drift.push(features, segment.start_s, segment.end_s)

    def located(self, record: SegmentRecord) -> PValue | None:
        """Take a segment's record when it is final; returns the p-value of its score."""
        if self.budget is not None:
            self.budget.push(record.index, record.smoothed)
        return self.pvalues.push(record.score, record.anomalous)

    def parts(self) -> state.Parts:
        """What has to be kept over a restart."""
        parts = {"drift": self.drift.arrays(), "pvalues": self.pvalues.arrays()}
        return parts if self.budget is None else parts | {"budget": self.budget.events.arrays()}

    def restore(self, parts: state.Parts) -> None:
        """Go on from what `parts` gave.

        Raises:
            KeyError: An array is missing.
            ValueError: An array is not what it should be.
        """
        if "drift" in parts:
            self.drift.restore(parts["drift"])
        if "pvalues" in parts:
            self.pvalues.restore(parts["pvalues"])
        if self.budget is not None and "budget" in parts:
            self.budget.restore(parts["budget"])


class SiteWatch:
    """All cameras that one detector scores.

    Args:
        known: Of its bundle.
        bundle_id: Of the bundle.
        folder: Where what is known of the cameras is kept; None keeps nothing.
        scores_of: What gives the scores: scorer and locator. What was kept of other scores is not taken over.
        budget_of: Makes a camera's budget, or None for one without.
        tell: Told of every change, in the thread that scores: camera, change.

    Raises:
        OutputFailed: The folder cannot be created.
    """

    def __init__(
        self,
        known: Known,
        bundle_id: str,
        folder: Path | None = None,
        *,
        scores_of: str = "",
        budget_of: Callable[[str], Budget | None] = lambda _: None,
        tell: Callable[[str, DriftChange], None] = lambda *_: None,
    ) -> None:
        self._known, self._bundle_id, self._folder = known, bundle_id, folder
        self._scores_of, self._budget_of, self._tell = scores_of, budget_of, tell
        self._cameras: dict[str, SiteCamera] = {}
        self._since: dict[str, int] = {}
        self._writing: dict[str, Future[None]] = {}
        self._failing = False
        self._pool: ThreadPoolExecutor | None = None
        if folder is not None:
            make_folder(folder)
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="site")

    def camera(self, name: str) -> SiteCamera:
        """What is known of a camera, read from its file where it comes for the first time."""
        if (camera := self._cameras.get(name)) is None:
            camera = self._cameras[name] = self._read(name)
        return camera

    def seen(self, camera: str, segment: Segment, features: NDArray[np.floating], probability: float) -> None:
        """Take a scored segment's features, as `Detector.seen` tells them."""
        del probability
        if (change := self.camera(camera).seen(segment, features)) is not None:
            self._tell(camera, change)

    def located(self, record: SegmentRecord) -> PValue | None:
        """Take a segment's record when it is final; returns the p-value of its score."""
        found = self.camera(record.camera).located(record)
        self._since[record.camera] = self._since.get(record.camera, 0) + 1
        if self._since[record.camera] >= _EVERY:
            self._keep(record.camera)
        return found

    def threshold(self, camera: str) -> float | None:
        """The threshold that a camera's budget sets; None where it has none, or it is not in force yet."""
        budget = self.camera(camera).budget
        return budget.threshold.value if budget is not None and budget.threshold.by_budget else None

    def close(self) -> None:
        """Write what is known of all cameras."""
        for name in self._cameras:
            if (before := self._writing.get(name)) is not None:
                wait([before])
            self._keep(name)
        if self._pool is not None:
            self._pool.shutdown()

    def _read(self, name: str) -> SiteCamera:
        camera = SiteCamera(self._known, self._budget_of(name))
        if self._folder is None:
            return camera
        path = state.state_path(self._folder, name)
        parts = state.read(path, self._bundle_id, name, self._scores_of)
        try:
            camera.restore(parts)
        except (KeyError, ValueError) as error:
            state.set_aside(path, name, one_line(error))
            camera = SiteCamera(self._known, self._budget_of(name))
        return camera

    def _keep(self, name: str) -> None:
        self._since[name] = 0
        before = self._writing.get(name)
        if self._folder is None or self._pool is None or (before is not None and not before.done()):
            return
        content = state.pack(self._bundle_id, name, self._scores_of, self._cameras[name].parts())
        self._writing[name] = self._pool.submit(self._write, state.state_path(self._folder, name), content)

    def _write(self, path: Path, content: bytes) -> None:
        try:
            state.write(path, content)
            self._failing = False
        except (HeadHuntError, OSError) as error:
            # Once, until it works again: the next attempt comes in minutes.
            if not self._failing:
                log.warning("%s; what is usual at the site is kept in memory meanwhile", one_line(error))
            self._failing = True
