"""Scores of whole videos, and `scores.json`, in which any system's scores can be handed over."""

from __future__ import annotations

import itertools
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from edge_runtime.errors import DatasetError
from edge_runtime.files import write_atomic
from edge_runtime.stream.locator import smooth
from edge_runtime.strict_json import parse_json
from offline.arrays import BoolArray, Float64Array, Floating
from offline.data.dataset import Video

ScoredSegment = tuple[int, int, float | None]


@dataclass(frozen=True, slots=True)
class VideoScores:
    """Scores of one video, segment by segment.

    Attributes:
        name: The video's name, as in its manifest.
        frames: How many frames it has.
        segments: (start, end, score) each, half-open and in order, every frame in exactly one. A segment that
            could not be scored has the score None: a gap, never a number.
        by_frame: Whether the scores were given frame by frame; then the segments are runs of equal scores, and no
            unit of the system.

    Raises:
        DatasetError: The segments are something else than that; the message names the video.
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
    def of_segments(
        cls, name: str, frames: int, spans: Iterable[Sequence[int]], scores: Iterable[float | None]
    ) -> VideoScores:
        """Take the scores of some segments; what none of them covers is a gap.

        Args:
            name: The video's name.
            frames: How many frames it has.
            spans: (start, end) of each segment, half-open and in order.
            scores: One for each segment, None where it could not be scored.

        Raises:
            DatasetError: Segments overlap, or a score is not finite.
        """
        segments: list[ScoredSegment] = []
        reached = 0
        for (start, end), score in zip(spans, scores, strict=True):
            if start > reached:
                segments.append((reached, int(start), None))
            segments.append((int(start), int(end), None if score is None else float(score)))
            reached = int(end)
        if reached < frames:
            segments.append((reached, frames, None))
        return cls(name, frames, tuple(segments))

    @classmethod
    def per_frame(cls, name: str, scores: Sequence[float | None] | Floating) -> VideoScores:
        """Take one score a frame, None where there is none; equal neighbours become one segment.

        Raises:
            DatasetError: There are no frames, or a score is not finite.
        """
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
    def scored(self) -> BoolArray:
        """Whether each frame has a score, (frames,)."""
        return ~np.isnan(self.expand())

    def expand(self) -> Float64Array:
        """Give each frame the score of its segment, (frames,); NaN in a gap (only here, to be masked out)."""
        scores = np.empty(self.frames)
        for start, end, score in self.segments:
            scores[start:end] = np.nan if score is None else score
        return scores

    def smoothed(self, sigma: float, lookahead: int) -> VideoScores:
        """Smooth the scores as the locator does; a gap stays a gap.

        Args:
            sigma: The kernel's width, in segments.
            lookahead: How many later segments it sees.

        Raises:
            DatasetError: A score lies outside 0 to 1: the locator smooths probabilities.
        """
        outside = [score for _, _, score in self.segments if score is not None and not 0 <= score <= 1]
        if outside:
            raise DatasetError(
                f"{self.name}: score {outside[0]} is no probability; scale scores to 0..1 to smooth them"
            )
        return self.with_scores(smooth([score for _, _, score in self.segments], sigma, lookahead))

    def with_scores(self, scores: Iterable[float | None]) -> VideoScores:
        """Give the same segments other scores, one for each."""
        segments = tuple((start, end, score) for (start, end, _), score in zip(self.segments, scores, strict=True))
        return replace(self, segments=segments)


def read_scores(path: Path | str, videos: Iterable[Video] | None = None) -> dict[str, VideoScores]:
    """Read `scores.json`: per video `{"frames": n, "segments": [[start, end, score], …]}` or `{"scores": […]}`.

    A score of null is a gap. A video is named by its path as in the manifest, or by its name without folder and
    suffix where only one video of the manifest is called so.

    Args:
        path: The file.
        videos: Those of the manifest, all splits; then a video that is not among them, or whose length contradicts
            the manifest, is an error too.

    Returns:
        The scores by video name; as in the manifest, where that is given.

    Raises:
        DatasetError: The file is something else, or a name stands for several videos; one line that names the video.
    """
    path = Path(path)
    try:
        content = parse_json(path.read_bytes())
    except ValueError as error:
        raise DatasetError(f"{path}: not readable as JSON ({error}); write an object with a key per video") from None
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}; give the path of a scores.json") from None
    if not isinstance(content, dict) or not content:
        raise DatasetError(f"{path}: holds no scores; write an object with a key per video")
    known = None if videos is None else {video.name: video for video in videos}
    stems: defaultdict[str, list[str]] = defaultdict(list)
    for name in known or ():
        stems[Path(name).stem].append(name)
    scores: dict[str, VideoScores] = {}
    for key, entry in content.items():
        name = Path(key).as_posix() if known is None else _known_as(key, known, stems, path)
        if name in scores:
            raise DatasetError(f"{path}: {name}: is there twice; remove one")
        try:
            scores[name] = _parse(name, entry)
            if known is not None:
                _check_length(known[name], scores[name].frames)
        except DatasetError as error:
            raise DatasetError(f"{path}: {error}") from None
    return scores


def write_scores(scores: Iterable[VideoScores], path: Path | str) -> None:
    """Write `scores.json`, segments as they are.

    Raises:
        OutputFailed: The file cannot be written.
    """
    content = {
        video.name: {"frames": video.frames, "segments": [list(segment) for segment in video.segments]}
        for video in scores
    }
    write_atomic(Path(path), (json.dumps(content, allow_nan=False, indent=1) + "\n").encode())


def _known_as(key: str, known: Mapping[str, Video], stems: Mapping[str, Sequence[str]], file: Path) -> str:
    """The video's name in the manifest. A path as written there wins over a name without folder and suffix."""
    path = Path(key).as_posix()
    if path in known:
        return path
    found = stems.get(key, ())
    if len(found) == 1:
        return found[0]
    if found:
        shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
        raise DatasetError(f"{file}: {key}: may be any of {shown}; write the path as in the manifest")
    raise DatasetError(
        f"{file}: {path}: is not in the manifest; keys are paths as written there, or names without folder and suffix"
    )


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
