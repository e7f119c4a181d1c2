"""Scores of whole videos, and `scores.json`, in which any system's scores can be handed over.

Knows segments, frames and gaps; nothing of labels, or of who gave the scores.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DatasetError
from edge_runtime.files import write_atomic
from edge_runtime.stream.locator import smooth
from offline.data.dataset import Video

ScoredSegment = tuple[int, int, float | None]


@dataclass(frozen=True, slots=True)
class VideoScores:
    """Scores of one video, (start, end, score) each: half-open, in order, every frame in exactly one.

    A segment that could not be scored has the score None: a gap, never a number. `by_frame`: the scores were given
    frame by frame, so the segments are runs of equal ones and no unit of the system. Raises DatasetError, naming
    the video, for anything else than that.
    """

    name: str
    frames: int
    segments: tuple[ScoredSegment, ...]
    by_frame: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise DatasetError(f"{self.name}: {self.frames} frames; a video has at least one")
        reached = 0
        for start, end, score in self.segments:
            if start != reached:
                kind = "overlaps the one before" if start < reached else f"leaves out frames {reached} to {start - 1}"
                raise DatasetError(
                    f"{self.name}: segment {start}-{end} {kind}; every frame belongs to one segment, "
                    "and one that was not scored has the score null"
                )
            if end <= start:
                raise DatasetError(f"{self.name}: segment {start}-{end} holds no frame; the end is exclusive")
            if score is not None and not math.isfinite(score):
                raise DatasetError(
                    f"{self.name}: segment {start}-{end} has the score {score}; if it was not scored, write null"
                )
            reached = end
        if reached != self.frames:
            raise DatasetError(
                f"{self.name}: segments end at frame {reached}, but the video has {self.frames} frames; score all"
            )

    @classmethod
    def per_frame(cls, name: str, scores: Sequence[float | None] | NDArray[np.floating]) -> VideoScores:
        """From one score a frame, None where there is none; equal neighbours become one segment."""
        values = np.array([np.nan if score is None else score for score in scores], dtype=np.float64)
        unscored = np.array([score is None for score in scores], dtype=np.bool_)
        if not np.isfinite(values[~unscored]).all():
            frame = int(np.flatnonzero(~np.isfinite(values) & ~unscored)[0])
            raise DatasetError(f"{name}: frame {frame} has the score {values[frame]}; if not scored, write null")
        if len(values) == 0:
            raise DatasetError(f"{name}: no scores; a video has at least one frame")
        changes = (values[1:] != values[:-1]) & ~(unscored[1:] & unscored[:-1])
        edges = [0, *(np.flatnonzero(changes) + 1).tolist(), len(values)]
        return cls(
            name,
            len(values),
            tuple(
                (start, end, None if unscored[start] else float(values[start]))
                for start, end in itertools.pairwise(edges)
            ),
            by_frame=True,
        )

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Bool (frames,): False in a gap."""
        return ~np.isnan(self.expand())

    def expand(self) -> NDArray[np.float64]:
        """Float (frames,): each frame the score of its segment, NaN in a gap (only here, to be masked out)."""
        scores = np.empty(self.frames)
        for start, end, score in self.segments:
            scores[start:end] = np.nan if score is None else score
        return scores

    def smoothed(self, sigma: float, lookahead: int) -> VideoScores:
        """The same segments with the locator's smoothed scores; sigma in segments. A gap stays a gap.

        DatasetError for scores outside 0 to 1: the locator smooths probabilities.
        """
        outside = [score for _, _, score in self.segments if score is not None and not 0 <= score <= 1]
        if outside:
            raise DatasetError(
                f"{self.name}: score {outside[0]} is no probability; scale scores to 0..1 to smooth them"
            )
        scores = smooth([score for _, _, score in self.segments], sigma, lookahead)
        segments = tuple((start, end, score) for (start, end, _), score in zip(self.segments, scores, strict=True))
        return replace(self, segments=segments)


def read_scores(path: Path | str, videos: Iterable[Video] | None = None) -> dict[str, VideoScores]:
    """Read `scores.json`: per video `{"frames": n, "segments": [[start, end, score], …]}` or `{"scores": […]}`.

    A score of null is a gap. videos: those of the manifest, all splits; then a video that is not among them, or
    whose length contradicts the manifest, is an error too. Every fault is a DatasetError of one line that names
    the video.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_refuse_repeats)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DatasetError(f"{path}: not readable as JSON ({error}); write an object with a key per video") from None
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}; give the path of a scores.json") from None
    if not isinstance(content, dict) or not content:
        raise DatasetError(f"{path}: holds no scores; write an object with a key per video")
    known = None if videos is None else {video.name: video for video in videos}
    scores: dict[str, VideoScores] = {}
    for key, entry in content.items():
        name = Path(key).as_posix()
        if name in scores:
            raise DatasetError(f"{path}: {name}: is there twice; remove one")
        if known is not None and name not in known:
            raise DatasetError(f"{path}: {name}: is not in the manifest; keys are paths as written there")
        try:
            scores[name] = _parse(name, entry)
            if known is not None:
                _check_length(known[name], scores[name].frames)
        except DatasetError as error:
            raise DatasetError(f"{path}: {error}") from None
    return scores


def write_scores(scores: Iterable[VideoScores], path: Path | str) -> None:
    """Write `scores.json`, segments as they are. Raises OutputFailed."""
    content = {
        video.name: {"frames": video.frames, "segments": [list(segment) for segment in video.segments]}
        for video in scores
    }
    write_atomic(Path(path), (json.dumps(content, allow_nan=False, indent=1) + "\n").encode())


def _parse(name: str, entry: object) -> VideoScores:
    if isinstance(entry, dict) and set(entry) == {"scores"} and isinstance(entry["scores"], list):
        return VideoScores.per_frame(name, [_score(name, score) for score in entry["scores"]])
    if isinstance(entry, dict) and set(entry) == {"frames", "segments"} and isinstance(entry["segments"], list):
        segments = []
        for segment in entry["segments"]:
            if not isinstance(segment, list) or len(segment) != 3:
                raise DatasetError(f"{name}: {json.dumps(segment)[:60]} is no segment; write [start, end, score]")
            segments.append((_frame(name, segment[0]), _frame(name, segment[1]), _score(name, segment[2])))
        return VideoScores(name, _frame(name, entry["frames"]), tuple(segments))
    raise DatasetError(
        f'{name}: holds neither {{"frames": n, "segments": […]}} nor {{"scores": […]}} alone; write one'
    )


def _check_length(video: Video, frames: int) -> None:
    """DatasetError if the scores are of another number of frames than the manifest says, or end before an event."""
    where = f"{video.name} (line {video.line} of its manifest)" if video.line else video.name
    if video.frames is not None and video.frames != frames:
        raise DatasetError(
            f"{where}: scores for {frames} frames, but the manifest says {video.frames}; score every frame, "
            "or correct the manifest"
        )
    if video.events and video.events[-1][1] > frames:
        start, end = video.events[-1]
        raise DatasetError(
            f"{where}: scores for {frames} frames, but its event {start}-{end} ends after them; score every frame, "
            "or correct the event"
        )


def _frame(name: str, value: object) -> int:
    # JSON's true is a Python int.
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise DatasetError(f"{name}: {json.dumps(value)[:60]} is no frame number; write a whole number from 0")
    return value


def _score(name: str, value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DatasetError(f"{name}: {json.dumps(value)[:60]} is no score; write a number, or null for a gap")
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _refuse_repeats(pairs: Sequence[tuple[str, Any]]) -> Mapping[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise DatasetError(f"{twice}: is there twice; remove one")
    return content
