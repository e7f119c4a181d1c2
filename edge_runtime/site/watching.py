"""Cameras as their site knows them: drift, p-values, counts for budgets, and what of them outlives the run.

`seen` and `located` are called by the one thread that scores and tells; they take well under a millisecond. Files are
written by another one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from edge_runtime.bundle.calibration import Calibration
from edge_runtime.errors import one_line
from edge_runtime.files import printable
from edge_runtime.records import EventRecord, Record, SegmentRecord
from edge_runtime.site import state
from edge_runtime.site.alarms import Alarms
from edge_runtime.site.drift import DriftChange, DriftSpace, DriftWatch, farthest_video
from edge_runtime.site.pvalues import PValue, PValues
from edge_runtime.stream.alarm import Alarm
from edge_runtime.stream.segments import Segment

log = logging.getLogger(__name__)

# Segments of a camera between two writings of what is known of it: ten minutes. A kill costs that much.
_EVERY = 188
# Pictures that are wrong in a way that is told already say nothing about the place.
_WRONG = frozenset({"covered", "frozen", "corrupt"})

# tell(drifted, detail, when it was told, since when): in the thread that scores.
TellDrift = Callable[[bool, str, float, float | None], None]


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
    def of(cls, calibration: Calibration, overlap: int = 1) -> Known:
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
    """One camera, as long as the run lasts.

    Args:
        known: Of its bundle; None where that says nothing of its calibration: drift is not told then.
        own_scorer: Whether the bundle's scorer scores it. Scores of another one cannot be compared with those of the
            calibration normals.

    Attributes:
        drift: Tells when its pictures change.
        pvalues: Of its scores.
        changed: What drift told last.
    """

    def __init__(self, known: Known | None, own_scorer: bool = True) -> None:
        self._known = known
        self.drift = None if known is None else DriftWatch(known.space, known.farthest, overlap=known.overlap)
        self.changed: DriftChange | None = None
        self.score_anew(own_scorer)

    def score_anew(self, own_scorer: bool) -> None:
        """Scores mean something else from now on; as of the class."""
        normal = self._known.normal_scores if self._known is not None and own_scorer else np.empty(0)
        self.pvalues = PValues(normal)

    def seen(self, segment: Segment, features: NDArray[np.floating]) -> DriftChange | None:
        """Take a segment's features, (D,), when it was scored; returns what changed, if something did."""
        if self.drift is None or not _WRONG.isdisjoint(segment.quality):
            return None
        change = self.drift.push(features, segment.start_s, segment.end_s)
        self.changed = change or self.changed
        return change

    def located(self, record: SegmentRecord) -> PValue | None:
        """Take a segment's record when it is final; returns the p-value of its score."""
        return self.pvalues.push(record.score, record.anomalous)

    def parts(self) -> state.Parts:
        """What has to be kept over a restart, for the thread that calls `seen` and `located`."""
        parts = {"pvalues": self.pvalues.arrays()}
        return parts if self.drift is None else parts | {"drift": self.drift.arrays()}

    def restore(self, parts: state.Parts) -> None:
        """Go on from what `parts` gave.

        Raises:
            KeyError: An array is missing.
            ValueError: An array is not what it should be.
        """
        if self.drift is not None and "drift" in parts:
            self.drift.restore(parts["drift"])
        if "pvalues" in parts:
            self.pvalues.restore(parts["pvalues"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What the scores of a camera's stream come from.

    Attributes:
        locator: How they are smoothed, and every how many frames, as a text that tells it from every other way.
        threshold: The locator's.
        step_s: From one segment to the next.
    """

    locator: str
    threshold: float
    step_s: float


class SiteStream:
    """One camera from `SiteWatch.begin` to its end. For the one thread that scores and tells."""

    def __init__(self, watch: SiteWatch, camera: str, scored: Scored, tell: TellDrift) -> None:
        self.camera = camera
        self.scored = scored
        self._watch = watch
        self._tell = tell
        self._told_drifted = False
        # The index that would go on with the anomalous segments of now, and when they began; the lowest p-value of
        # those, and of the ones before, whose event may end after the next has begun.
        self._run: tuple[int, float] | None = None
        self._rarest: dict[float, float] = {}

    def seen(self, site: SiteCamera, segment: Segment, features: NDArray[np.floating]) -> None:
        """Take a scored segment's features; tells what changed."""
        change = site.seen(segment, features)
        if site.drift is None or site.drift.drifted == self._told_drifted:
            return
        # Also what an earlier stream of this camera was told, which went away meanwhile.
        change = change or site.changed
        self._told_drifted = site.drift.drifted
        if change is not None:
            self._tell(self._told_drifted, change.detail, segment.end_s, change.since_s)

    def located(self, records: list[Record]) -> list[Record]:
        """Take records that are final; returns them, with the p-values of segments and events."""
        return [self._with_p(one) for one in records]

    def _with_p(self, record: Record) -> Record:
        if isinstance(record, SegmentRecord):
            record = self._watch.located(self, record)
            self._note(record)
        elif isinstance(record, EventRecord) and (rarest := self._rarest.get(record.start_s)) is not None:
            record = msgspec.structs.replace(record, p=rarest)
        return record

    def _note(self, segment: SegmentRecord) -> None:
        """An event is made of anomalous segments that follow each other, and starts with the first."""
        if not segment.anomalous:
            self._run = None
            return
        goes_on = self._run is not None and self._run[0] == segment.index
        start_s = self._run[1] if self._run is not None and goes_on else segment.start_s
        self._run = segment.index + 1, start_s
        if segment.p is UNSET:
            return
        if not goes_on:
            self._rarest = dict(list(self._rarest.items())[-1:])
        self._rarest[start_s] = min(segment.p, self._rarest.get(start_s, 1.0))

    def end(self) -> None:
        """The stream has ended: what is known of its camera is kept."""
        self._watch.end(self)


class SiteWatch:
    """All cameras that one detector scores.

    Args:
        known: Of its bundle; None where that says nothing of its calibration.
        bundle_id: Of the bundle.
        alarms: What holds for the cameras; it counts what budgets need.
        folder: Where what is known of the cameras is kept; None keeps nothing.
        keeper: Writes it.
        scorer: Names what scores now: anything that changes with it; empty for the bundle's own scorer.
        learns: Whether p-values are told and anything is kept; without it alarms alone are looked after.
    """

    def __init__(
        self,
        known: Known | None,
        bundle_id: str,
        alarms: Alarms,
        folder: Path | None = None,
        keeper: state.Keeper | None = None,
        scorer: Callable[[], str] = lambda: "",
        *,
        learns: bool = True,
    ) -> None:
        self._known, self._bundle_id, self._alarms, self._learns = known, bundle_id, alarms, learns
        self._folder, self._keeper, self._scorer = folder, keeper, scorer
        self._cameras: dict[str, SiteCamera] = {}
        self._streams: dict[str, SiteStream] = {}
        # Of each camera: what its scores come from, and how many came since it was kept.
        self._scores_of: dict[str, tuple[str, str]] = {}
        self._since: dict[str, int] = {}
        self._ahead: dict[str, state.Parts] = {}

    def prepare(self, camera: str, locator: str) -> None:
        """Read what is known of a camera, so that `begin` need not: a disk may take long.

        Args:
            camera: Its name.
            locator: As of `Scored`.
        """
        if self._folder is not None and camera not in self._cameras:
            self._ahead[camera] = self._kept(camera, (self._scorer(), locator))

    def begin(self, camera: str, scored: Scored, apply: Callable[[Alarm], None], tell: TellDrift) -> SiteStream:
        """A stream of a camera begins; what is known of it is read where it comes for the first time.

        Args:
            camera: Its name.
            scored: What its scores come from.
            apply: As of `Alarms.begin`.
            tell: Told of drift.
        """
        self._alarms.begin(camera, apply, scored.threshold, scored.step_s, self._bundle_id)
        of = (self._scorer(), scored.locator)
        if camera not in self._cameras:
            self._scores_of[camera] = of
            self._cameras[camera] = self._read(camera)
        elif self._scores_of[camera] != of:
            self._score_anew(camera, of)
        stream = self._streams[camera] = SiteStream(self, camera, scored, tell)
        return stream

    def camera(self, name: str) -> SiteCamera:
        """What is known of a camera that has begun."""
        return self._cameras[name]

    def seen(self, camera: str, segment: Segment, features: NDArray[np.floating], probability: float) -> None:
        """Take a scored segment's features, as `Detector.seen` tells them."""
        del probability
        if (stream := self._streams.get(camera)) is not None:
            stream.seen(self._cameras[camera], segment, features)

    def located(self, stream: SiteStream, record: SegmentRecord) -> SegmentRecord:
        """Take a segment's record when it is final; returns it with the p-value of its score."""
        name = stream.camera
        if self._scores_of[name][0] != (scorer := self._scorer()):
            self._score_anew(name, (scorer, stream.scored.locator))
        self._alarms.located(name, record.index, record.smoothed)
        if not self._learns:
            return record
        found = self._cameras[name].located(record)
        self._since[name] = self._since.get(name, 0) + 1
        if self._since[name] >= _EVERY:
            self._keep(name)
        return record if found is None else msgspec.structs.replace(record, p=found.p)

    def keep_soon(self, camera: str) -> None:
        """Have what is known of a camera written with its next segment. Any thread may call it."""
        self._since[camera] = _EVERY

    def end(self, stream: SiteStream) -> None:
        """See SiteStream."""
        self._alarms.end(stream.camera)
        self._streams.pop(stream.camera, None)
        self._keep(stream.camera)

    def forget(self, camera: str) -> None:
        """Another detector scores this camera from now on: nothing of it is kept any more."""
        self._streams.pop(camera, None)
        self._cameras.pop(camera, None)
        self._ahead.pop(camera, None)

    def close(self) -> None:
        """Have what is known of all cameras written."""
        for name in self._cameras:
            if self._since.get(name):
                self._keep(name)

    def _score_anew(self, camera: str, of: tuple[str, str]) -> None:
        if of[0] != self._scores_of[camera][0]:
            log.info("camera %s: another scorer: p-values and budget begin anew", printable(camera))
            self._cameras[camera].score_anew(own_scorer=not of[0])
        self._scores_of[camera] = of
        self._alarms.restart(camera)

    def _read(self, name: str) -> SiteCamera:
        own_scorer = not self._scores_of[name][0]
        camera = SiteCamera(self._known, own_scorer)
        if self._folder is None:
            return camera
        parts = self._ahead.pop(name, None)
        if parts is None:
            parts = self._kept(name, self._scores_of[name])
        try:
            camera.restore(parts)
            if "budget" in parts:
                self._alarms.restore(name, parts["budget"])
        except (KeyError, ValueError) as error:
            state.set_aside(state.state_path(self._folder, name), name, one_line(error))
            camera = SiteCamera(self._known, own_scorer)
        return camera

    def _kept(self, name: str, of: tuple[str, str]) -> state.Parts:
        assert self._folder is not None
        return state.read(state.state_path(self._folder, name), self._bundle_id, name, _said(of))

    def _keep(self, name: str) -> None:
        self._since[name] = 0
        if self._folder is None or self._keeper is None or not self._learns or name not in self._cameras:
            return
        parts = _copied(self._cameras[name].parts()) | {"budget": self._alarms.arrays(name)}
        content = partial(state.pack, self._bundle_id, name, _said(self._scores_of[name]), parts)
        self._keeper.put(state.state_path(self._folder, name), content)


def _said(of: tuple[str, str]) -> str:
    """What scores come from, as it stands in the file."""
    return f"{of[0] or 'bundle'}, {of[1]}"


def _copied(parts: Mapping[str, Mapping[str, NDArray[Any]]]) -> state.Parts:
    """The same in arrays of their own: those that were given go on changing while they are written."""
    return {part: {name: array.copy() for name, array in arrays.items()} for part, arrays in parts.items()}
