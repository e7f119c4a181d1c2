"""The trivial baselines of a manifest, as far as its videos allow.

Baselines are optional: a missing video skips them with a remark. A file that contradicts the manifest is an error
all the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from edge_runtime.errors import SourceUnavailable
from offline.console import Console, Progress
from offline.data.cache import EntryStore, content_key, open_store
from offline.data.contents import sought
from offline.data.dataset import Dataset, Video, check_frames
from offline.data.places import Remote
from offline.data.scores import VideoScores
from offline.data.tasks import HandOut
from offline.data.units import UnitChoice
from offline.evaluation.baselines import FEW_SHOT, FewShot, Motion, baseline_scores, measure


@dataclass(frozen=True, slots=True)
class Baselines:
    """What the trivial baselines give.

    Attributes:
        scores: By baseline and video.
        remarks: Why some baselines are not there, a sentence each.
    """

    scores: Mapping[str, Mapping[str, VideoScores]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def smoothed(self, sigma: float, lookahead: int) -> Mapping[str, Mapping[str, VideoScores]]:
        """Smooth the scores as a locator does."""
        return {
            name: {video: scores.smoothed(sigma, lookahead) for video, scores in of.items()}
            for name, of in self.scores.items()
        }

    def beside(self, others: Baselines) -> Baselines:
        """Give both together, these first."""
        return Baselines({**self.scores, **others.scores}, (*self.remarks, *others.remarks))


@dataclass(frozen=True, slots=True)
class Measuring:
    """How the baselines are measured.

    Attributes:
        segment_frames: How long a segment is.
        unit: What one sample of the few-shot baseline is.
        store: Keeps what was measured; None to measure every time.
        hand_out: Has others measure the videos, a `MotionTask` each; None to measure them here.
    """

    segment_frames: int = 48
    unit: UnitChoice = "auto"
    store: EntryStore | None = None
    hand_out: HandOut | None = None


@dataclass(frozen=True, slots=True, eq=False)
class MotionTask:
    """One video for whoever measures it.

    Attributes:
        video: The video, its path from wherever that is.
        segment_frames: As of Measuring.
        store: The store's folder.
    """

    video: Video
    segment_frames: int
    store: Path | None

    def do(self, loaded: object) -> tuple[int, Motion]:
        """Measure it; nothing that is loaded is needed. Returns its frames and its motion."""
        store = None if self.store is None else open_store(self.store)
        motion = _measured(self.video, Measuring(self.segment_frames, store=store))
        return motion.frames, motion


_MEASURING = Measuring()


def measure_baselines(
    judged: Sequence[Video], calibration: Dataset, console: Console, measuring: Measuring = _MEASURING
) -> Baselines:
    """Decode all videos once and score the judged ones.

    Args:
        judged: Where one of them cannot be read, there are no baselines.
        calibration: The split that the few-shot baseline is fitted on; without both classes in it, or where one of
            its videos cannot be read, there is no such baseline.
        console: Shows a bar.
        measuring: How they are measured.

    Raises:
        DatasetError: A video contradicts the manifest.
    """
    if missing := absent(judged):
        return Baselines(remarks=(f"trivial baselines not computed: {missing}",))
    fitted_on, reason = to_fit(calibration)
    motions: dict[str, Motion] = {}
    videos = {video.name: video for video in (*judged, *fitted_on)}
    names = {video.name for video in judged}
    with console.bar("Trivial baselines", "video") as progress:
        for video, motion in _each(list(videos.values()), measuring, progress):
            if not isinstance(motion, str):
                check_frames(video, motion.frames)
                motions[video.name] = motion
            elif video.name in names:
                return Baselines(remarks=(f"trivial baselines not computed: {motion}",))
            elif reason is None:
                reason = motion
    few_shot = FewShot.fit(fitted_on, motions, measuring.unit) if reason is None else None
    remarks = () if reason is None else (f"{FEW_SHOT} not computed: {reason}",)
    return Baselines(baseline_scores(judged, motions, few_shot), remarks)


def _each(videos: Sequence[Video], measuring: Measuring, progress: Progress) -> Iterator[tuple[Video, Motion | str]]:
    """Every video with its motion, or with why it has none."""
    if measuring.hand_out is not None:
        store = None if measuring.store is None else measuring.store.folder.absolute()
        tasks = {
            video.name: MotionTask(replace(video, path=video.path.absolute()), measuring.segment_frames, store)
            for video in videos
        }
        motions, unreadable = measuring.hand_out(tasks, progress)
        yield from ((video, motions.get(video.name) or unreadable[video.name]) for video in videos)
        return
    for done, video in enumerate(videos):
        progress(done, len(videos), video.name)
        try:
            yield video, _measured(video, measuring)
        except SourceUnavailable as error:
            yield video, str(error)
    progress(len(videos), len(videos))


def _measured(video: Video, measuring: Measuring) -> Motion:
    """One video's motion, from the store where it is there."""
    if measuring.store is None:
        with video.on_disk() as path:
            return measure(path, video.name, measuring.segment_frames)
    store = measuring.store

    def key(content: str) -> str:
        return content_key(format=1, motion=measuring.segment_frames, video=content)

    with sought(video, store, lambda content: store.get(key(content))) as asked:
        entry = asked.known
        if entry is None:
            motion = measure(asked.path, video.name, measuring.segment_frames)
            entry = {
                "segments": np.array(motion.segments),
                "values": motion.values,
                "fps": np.array(np.nan if motion.fps is None else motion.fps),
            }
            store.put(key(asked.content), entry)
    segments = tuple((int(start), int(end)) for start, end in entry["segments"])
    fps = float(entry["fps"])
    return Motion(video.name, segments[-1][1], segments, entry["values"], None if np.isnan(fps) else fps)


def absent(videos: Sequence[Video]) -> str | None:
    """Say which files of some videos are not there; None where all are."""
    gone = [video.name for video in videos if not isinstance(video.path, Remote) and not os.path.isfile(video.path)]
    if not gone:
        return None
    return f"{len(gone)} of {len(videos)} video files are not there, the first is {gone[0]}"


def to_fit(calibration: Dataset) -> tuple[tuple[Video, ...], str | None]:
    """Give the videos that a baseline can be fitted on, or none and the reason."""
    videos = calibration.videos
    missing = {"normal", "anomalous"} - {video.label for video in videos}
    if not videos:
        return (), "the manifest has no calibration split"
    if missing:
        return (), f"the calibration split has no {min(missing)} video"
    if gone := absent(videos):
        return (), f"of the calibration split, {gone}"
    return videos, None
