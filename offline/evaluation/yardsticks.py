"""What a result is read against: trivial baselines below it, and above it what its segments allow at best.

Every yardstick goes over the frames that the judged system scored, and over the same bootstrap draws as the system,
so that the two can be compared in pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np

from edge_runtime.errors import DatasetError
from edge_runtime.stream.overlap import covering_means
from offline.arrays import BoolArray, Floating
from offline.data.dataset import Video, check_frames
from offline.data.scores import VideoScores
from offline.data.spans import Span
from offline.evaluation.bootstrap import Interval, Resampling, bootstrap_differences, bootstrap_intervals
from offline.evaluation.metrics import average_precision, frame_auc, pr_auc_trapezoid
from offline.evaluation.verdict import TOKENS_ALONE, Rival, language_verdict

PERFECT_SEGMENTS = "perfect segments"
PERFECT_SHARES = "perfect shares"

#: What a ceiling is, in a sentence.
CEILINGS = {
    PERFECT_SEGMENTS: "knows of every segment whether it overlaps an event, and gives it 1 or 0",
    PERFECT_SHARES: "gives every segment its share of abnormal frames: no scores of these segments have a higher AUC",
}
#: The same where segments overlap.
_CEILINGS_OF_STRIDES = {
    PERFECT_SEGMENTS: f"{CEILINGS[PERFECT_SEGMENTS]}; a stride has the mean of the segments that cover it",
    PERFECT_SHARES: "gives every stride its share of abnormal frames: no scores of these strides have a higher AUC",
}

#: Scores by video name.
Series = Mapping[str, VideoScores]
_Frames = list[tuple[BoolArray, Floating]]

_KEYS = ("auc", "average_precision", "pr_auc_trapezoid")
_RESAMPLING = Resampling()


@dataclass(frozen=True, slots=True)
class Yardstick:
    """Frame figures of something to compare with. None where undefined.

    Attributes:
        auc: Area under the ROC curve.
        average_precision: Average precision, step-wise.
        pr_auc_trapezoid: Area under the precision-recall curve, by trapezoids.
        intervals: By figure, over videos.
        minus: The judged system's figure minus this one; empty for a ceiling.
        minus_intervals: Of `minus`, paired.
    """

    auc: float | None
    average_precision: float | None
    pr_auc_trapezoid: float | None
    intervals: Mapping[str, Interval | None]
    minus: Mapping[str, float | None] = field(default_factory=dict)
    minus_intervals: Mapping[str, Interval | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Yardsticks:
    """Everything that a result is read against.

    Attributes:
        ceilings: By name; none for scores given frame by frame.
        baselines: By name, then by the system's series.
        remarks: Why something is not there, a sentence each.
        verdict: What the language model adds to the visual tokens, in a sentence; None where they were not measured.
        overlap: How many segments cover a frame of the system: 1 where they do not overlap.
    """

    ceilings: Mapping[str, Yardstick] = field(default_factory=dict)
    baselines: Mapping[str, Mapping[str, Yardstick]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    verdict: str | None = None
    overlap: int = 1

    @property
    def meanings(self) -> Mapping[str, str]:
        """What the ceilings are, in a sentence each."""
        said = CEILINGS if self.overlap == 1 else _CEILINGS_OF_STRIDES
        return {name: said[name] for name in self.ceilings}

    def to_dict(self) -> dict[str, Any]:
        """Give everything as JSON takes it: `ceilings`, `baselines`, `remarks` and `verdict`."""
        content = asdict(self)
        del content["overlap"]
        content["remarks"] = list(self.remarks)
        return content


def yardsticks(
    videos: Sequence[Video],
    system: Mapping[str, Series],
    baselines: Mapping[str, Mapping[str, Series]],
    remarks: Sequence[str] = (),
    resampling: Resampling = _RESAMPLING,
    overlap: int = 1,
) -> Yardsticks:
    """Measure ceilings and baselines on the frames that the system scored.

    Args:
        videos: Those judged; without known timing they are left out.
        system: The system's series of scores by name, `raw` among them.
        baselines: Scores by the name of the series that they are compared with, and by baseline.
        remarks: Why some baselines are not there, a sentence each.
        resampling: How intervals over videos are found.
        overlap: How many segments cover a frame; above 1 the system's scores are those of strides.

    Raises:
        DatasetError: A baseline has another number of frames than the system; the message names the video.
    """
    timed = [video for video in videos if video.timed]

    def measured(series: Series, mask: Series, against: Series | None) -> Yardstick:
        return _yardstick(timed, series, mask, against, resampling)

    found: dict[str, dict[str, Yardstick]] = {}
    for name, peers in baselines.items():
        for peer, series in peers.items():
            found.setdefault(peer, {})[name] = measured(series, system[name], system[name])
    raw = system["raw"]
    ceilings = {}
    if not any(raw[video.name].by_frame for video in timed):
        ceilings = {name: measured(perfect(name, timed, raw, overlap), raw, None) for name in CEILINGS}
    return Yardsticks(ceilings, found, tuple(remarks), _verdict(timed, system, found), overlap)


def _verdict(
    videos: Sequence[Video], system: Mapping[str, Series], found: Mapping[str, Mapping[str, Yardstick]]
) -> str | None:
    """By the last series that both have: smoothed, which is what an operator gets, or raw where there is no other."""
    for name in reversed(list(system)):
        rivals = {
            peer: Rival(of[name].auc, of[name].minus_intervals.get("auc")) for peer, of in found.items() if name in of
        }
        if any(peer in TOKENS_ALONE for peer in rivals):
            own = _figures(_frames(videos, system[name], system[name]))["auc"]
            return language_verdict(own, rivals)
    return None


def perfect(name: str, videos: Sequence[Video], scored: Series, overlap: int = 1) -> dict[str, VideoScores]:
    """Give a ceiling's scores on the segments of `scored`, or on its strides where segments overlap.

    Perfect segments know of whole segments, also where these overlap: what they say of a stride is the mean over
    the segments that cover it, as the edge has it. Perfect shares know of every stride.

    Gaps stay gaps, and a video whose timing is unknown is one: nobody knows what would be perfect there. No segment
    reaches over a gap.

    Args:
        name: A key of `CEILINGS`.
        videos: The videos.
        scored: Scores of the judged system.
        overlap: How many segments cover a frame: one begins with each stride, and is so many strides long.

    Returns:
        Scores by video name.
    """
    rule = {PERFECT_SEGMENTS: _overlaps, PERFECT_SHARES: _shares}[name]
    return {video.name: _rescored(video, scored[video.name], rule, overlap) for video in videos}


#: The scores of neighbouring strides of one video, of which so many are a segment.
_Rule = Callable[[Video, Sequence[Span], int], Sequence[float | None]]


def _rescored(video: Video, scores: VideoScores, rule: _Rule, overlap: int) -> VideoScores:
    check_frames(video, scores.frames)
    found: list[float | None] = []
    for known, group in groupby(scores.segments, lambda segment: segment[2] is not None and video.timed):
        strides = [(start, end) for start, end, _ in group]
        found += rule(video, strides, overlap) if known else [None] * len(strides)
    return scores.with_scores(found)


def _overlaps(video: Video, strides: Sequence[Span], overlap: int) -> Sequence[float | None]:
    ends = [end for _, end in strides]
    reached = [*ends[overlap - 1 :], *ends[-1:] * (overlap - 1)][: len(ends)]
    segments = [(start, end) for (start, _), end in zip(strides, reached, strict=True)]
    return covering_means([float(video.overlaps(start, end)) for start, end in segments], overlap)


def _shares(video: Video, strides: Sequence[Span], overlap: int) -> Sequence[float | None]:
    return [_share(video, start, end) for start, end in strides]


def _share(video: Video, start: int, end: int) -> float:
    inside = sum(max(0, min(end, last) - max(start, first)) for first, last in video.events)
    return inside / (end - start)


def _yardstick(
    videos: Sequence[Video], series: Series, mask: Series, against: Series | None, resampling: Resampling
) -> Yardstick:
    pairs = _frames(videos, series, mask)
    figures = _figures(pairs)
    own = bootstrap_intervals(pairs, **asdict(resampling)) if resampling.draws else {}
    found = Yardstick(
        auc=figures["auc"],
        average_precision=figures["average_precision"],
        pr_auc_trapezoid=figures["pr_auc_trapezoid"],
        intervals={key: own.get(key) for key in _KEYS},
    )
    if against is None:
        return found
    judged = _frames(videos, against, mask)
    system = _figures(judged)
    both = bootstrap_differences(judged, pairs, **asdict(resampling)) if resampling.draws else {}
    return replace(
        found,
        minus={key: _minus(system[key], figures[key]) for key in _KEYS},
        minus_intervals={key: both.get(key) for key in _KEYS},
    )


def _frames(videos: Sequence[Video], series: Series, mask: Series) -> _Frames:
    """Labels and scores of the frames that `mask` scored, video by video; videos without any are left out."""
    pairs: _Frames = []
    for video in videos:
        scores, scored = series[video.name], mask[video.name].scored
        if scores.frames != len(scored):
            raise DatasetError(
                f"{video.name}: scores for {len(scored)} frames, but its file has {scores.frames}; "
                "score the whole file, or leave the baselines out with --no-baselines"
            )
        if scored.any():
            pairs.append((video.frame_labels(scores.frames)[scored], scores.expand()[scored]))
    return pairs


def _figures(pairs: _Frames) -> dict[str, float | None]:
    if not pairs:
        return dict.fromkeys(_KEYS)
    labels = np.concatenate([label for label, _ in pairs])
    scores = np.concatenate([score for _, score in pairs])
    return {
        "auc": frame_auc(labels, scores),
        "average_precision": average_precision(labels, scores),
        "pr_auc_trapezoid": pr_auc_trapezoid(labels, scores),
    }


def _minus(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other
