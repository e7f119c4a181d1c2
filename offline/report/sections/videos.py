"""Video by video: scores over time, pictures, and how each came out."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence

from edge_runtime.stream.locator import LocatorSpec
from offline.report import charts
from offline.report.content import Report, ReportVideo
from offline.report.sections.parts import SPLIT_ORDER, Card, Fold, Group, Section, not_none

#: So many score curves of a split are open; the others are one click away.
OPEN_VIDEOS = 8
#: More score curves than this make the file too large to be sent around.
MAX_VIDEOS = 400


def drawn_order(videos: Sequence[ReportVideo]) -> list[ReportVideo]:
    """Sort test before validation, anomalous before normal. Of very many, only the first `MAX_VIDEOS` are drawn."""
    return sorted(videos, key=lambda video: (SPLIT_ORDER[video.split], video.label == "normal"))


def videos(report: Report) -> Iterator[Section]:
    """Show every video with its scores, and how it came out."""
    if not report.videos:
        return
    ordered = drawn_order(report.videos)
    shown, groups = ordered[:MAX_VIDEOS], []
    numbered = {(video.split, video.name): number for number, video in enumerate(shown)}
    for split in SPLIT_ORDER:
        of_split = [video for video in shown if video.split == split]
        if not of_split:
            continue
        first = _first(of_split)

        def cards(some: Sequence[ReportVideo]) -> tuple[Card, ...]:
            point = report.operating_point
            return tuple(_card(one, f"video-{numbered[one.split, one.name]}", point) for one in some)

        rest = [video for video in of_split if video not in first]
        folds = [
            Fold(f"{len(folded)} more {label} video{'s' if len(folded) > 1 else ''}", cards(folded))
            for label in ("anomalous", "normal")
            if (folded := [video for video in rest if video.label == label])
        ]
        title = f"{split.capitalize()}: {len(of_split)} video{'s' if len(of_split) > 1 else ''}"
        groups.append(Group(title, _tally(of_split), cards(first), tuple(folds)))
    left_out = len(ordered) - len(shown)
    yield Section(
        "videos",
        "Video by video",
        "Good is a curve that rises over the dashed threshold in the shaded stretches and nowhere else. "
        "The pictures are taken where the score is highest.",
        remarks=(f"{left_out} further videos are not drawn, to keep this file small.",) if left_out else (),
        groups=tuple(groups),
    )


def _first(videos: Sequence[ReportVideo]) -> list[ReportVideo]:
    """Those that are open from the start: mostly anomalous ones, and some normal ones beside them."""
    anomalous = [video for video in videos if video.label == "anomalous"]
    normal = [video for video in videos if video.label == "normal"]
    quiet = min(len(normal), max(OPEN_VIDEOS // 4, OPEN_VIDEOS - len(anomalous)))
    return [*anomalous[: OPEN_VIDEOS - quiet], *normal[:quiet]]


def _tally(videos: Sequence[ReportVideo]) -> str:
    """How a split came out, in a sentence."""
    timed = [video for video in videos if video.timed]
    events = sum(len(video.events) for video in timed)
    counts = [_found_and_false(video) for video in timed]
    found, false = sum(found for found, _ in counts), sum(false for _, false in counts)
    normal = [video for video in videos if video.label == "normal"]
    quiet = sum(not video.detected for video in normal)
    parts = [f"{found} of {events} events found"] if events else []
    parts += [f"{false} false alarm{'' if false == 1 else 's'}"] if timed else []
    parts += [f"{quiet} of {len(normal)} normal videos quiet"] if normal else []
    return ", ".join(parts) + "." if parts else ""


def _card(video: ReportVideo, name: str, locator: LocatorSpec) -> Card:
    def seconds(spans: tuple[tuple[int, int], ...]) -> list[tuple[float, float]]:
        return [(start / video.fps, end / video.fps) for start, end in spans]

    outcome, good = _outcome(video)
    gaps = sum(score is None for score in video.scores)
    facts = [f"{video.frames / video.fps:.1f} s", f"{not_none(video.frames)} frames"]
    if video.peak is not None:
        facts.append(f"peak {video.peak:.2f}")
    if video.detected:
        alarmed = sum(end - start for start, end in video.detected) / video.frames
        facts.append(f"alarm during {100 * alarmed:.0f} %")
    if gaps:
        facts.append(f"{gaps} segment{'s' if gaps > 1 else ''} not scored")
    return Card(
        name=video.name,
        outcome=outcome,
        good=good,
        facts=", ".join(facts),
        svg=charts.score_curve(
            name,
            f"Score over time: {outcome}",
            charts.ScoreCurve(
                seconds=video.frames / video.fps,
                segments=seconds(video.segments),
                scores=video.scores,
                smoothed=video.smoothed,
                threshold=locator.threshold,
                events=seconds(video.events),
                detected=seconds(video.detected),
            ),
        ),
        thumbnails=tuple(
            (f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}", caption)
            for _, caption, jpeg in video.thumbnails
        ),
    )


def _outcome(video: ReportVideo) -> tuple[str, bool | None]:
    """What happened in a video, and whether it should have."""
    if not video.timed:
        found = len(video.detected)
        return (f"{found} detected, real times unknown" if found else "nothing detected"), bool(found)
    found, false = _found_and_false(video)
    alarms = f"{false} false alarm{'s' if false > 1 else ''}" if false else ""
    if video.label == "normal":
        return alarms or "quiet, as it should be", not false
    text = f"{found} of {len(video.events)} event{'s' if len(video.events) > 1 else ''} found"
    return ", ".join(filter(None, (text, alarms))), found == len(video.events) and not false


def _found_and_false(video: ReportVideo) -> tuple[int, int]:
    """Events that a detection touches, and detections that touch no event."""
    found = sum(any(a < end and start < b for a, b in video.detected) for start, end in video.events)
    return found, sum(all(b <= start or end <= a for start, end in video.events) for a, b in video.detected)
