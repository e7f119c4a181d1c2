"""Scored videos as a report shows them: segments, events, and pictures at the peaks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edge_runtime.errors import HeadHuntError
from edge_runtime.records import EventRecord, Record
from edge_runtime.stream.locator import LocatorSpec
from edge_runtime.stream.track import SegmentTimes, locate
from edge_runtime.video.file import VideoFile
from offline.console import Console
from offline.data.dataset import Video
from offline.data.scores import VideoScores
from offline.data.spans import Span
from offline.report.content import ReportVideo
from offline.report.pictures import thumbnail
from offline.report.sections.videos import MAX_VIDEOS, drawn_order

#: The highest score, and the peaks of the strongest further events.
PICTURES = 3
# Where the container states no rate.
_FPS = 30.0


@dataclass(frozen=True, slots=True)
class Scored:
    """One video with its scores.

    Attributes:
        video: The video.
        fps: Its frame rate; None where the file states none.
        raw: Scores of its segments.
        smoothed: The same, smoothed by the locator.
        detected: Events that the locator found, as half-open frame ranges.
    """

    video: Video
    fps: float | None
    raw: VideoScores
    smoothed: VideoScores
    detected: tuple[Span, ...]

    @classmethod
    def of(cls, video: Video, fps: float | None, raw: VideoScores, locator: LocatorSpec) -> Scored:
        """Smooth and locate raw scores as the edge does it."""
        segments = [SegmentTimes(i, start, end, 0.0, 0.0) for i, (start, end, _) in enumerate(raw.segments)]
        records = locate(segments, [score for _, _, score in raw.segments], locator)
        return cls(video, fps, raw, raw.smoothed(locator.sigma, locator.lookahead), detected(records))


def detected(records: Iterable[Record]) -> tuple[Span, ...]:
    """Take the frame ranges of all finished events."""
    return tuple(
        (record.start_frame, record.end_frame)
        for record in records
        if isinstance(record, EventRecord) and record.state == "end"
    )


def report_videos(scored: Sequence[Scored], console: Console) -> tuple[ReportVideo, ...]:
    """Prepare all videos for a report; those that a page draws get pictures."""
    plain = [_report_video(one) for one in scored]
    pictured = {(video.split, video.name) for video in drawn_order(plain)[:MAX_VIDEOS]}
    videos = []
    with console.bar("Pictures for the report", "video") as progress:
        for number, (one, video) in enumerate(zip(scored, plain, strict=True)):
            progress(number, len(plain), video.name)
            videos.append(_report_video(one, _pictures(one)) if (video.split, video.name) in pictured else video)
        progress(len(plain), len(plain))
    return tuple(videos)


def _report_video(one: Scored, pictures: tuple[tuple[int, str, bytes], ...] = ()) -> ReportVideo:
    return ReportVideo(
        name=one.video.name,
        label=one.video.label,
        split=one.video.split,
        fps=_FPS if one.fps is None else one.fps,
        frames=one.raw.frames,
        events=one.video.events,
        segments=tuple((start, end) for start, end, _ in one.raw.segments),
        scores=tuple(score for _, _, score in one.raw.segments),
        smoothed=tuple(score for _, _, score in one.smoothed.segments),
        detected=one.detected,
        thumbnails=pictures,
    )


def _pictures(one: Scored) -> tuple[tuple[int, str, bytes], ...]:
    """The middle frames of the peaks, in the order of time. None where a frame cannot be read a second time."""
    peaks = _peaks(one)
    rate = _FPS if one.fps is None else one.fps
    wanted = [((start + end) // 2, score) for start, end, score in peaks]
    try:
        with VideoFile(one.video.path) as video:
            frames = video.read_frames([frame for frame, _ in wanted])
    except HeadHuntError:
        # It was scored; a picture that is missing is no reason to have no report.
        return ()
    return tuple(
        (frame, f"{frame / rate:.1f} s, score {score:.2f}", thumbnail(picture))
        for (frame, score), picture in zip(wanted, frames, strict=True)
    )


def _peaks(one: Scored) -> list[tuple[int, int, float]]:
    """Segments with the highest smoothed score: of the whole video, and of each further event, at most `PICTURES`."""
    known = [(start, end, score) for start, end, score in one.smoothed.segments if score is not None]
    if not known:
        return []

    def highest(among: list[tuple[int, int, float]]) -> tuple[int, int, float]:
        return max(among, key=lambda segment: segment[2])

    first = highest(known)
    events = [[s for s in known if a <= s[0] and s[1] <= b] for a, b in one.detected]
    further = [highest(inside) for inside in events if inside and first not in inside]
    further.sort(key=lambda segment: -segment[2])
    return sorted([first, *further[: PICTURES - 1]])
