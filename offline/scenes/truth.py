"""What is to be seen in a rendered frame, as data: objects, boxes, actions; and facts over a stretch of frames.

Knows no drawing and no label: whether an action is abnormal is the business of `spec.KIND_ACTIONS` alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BgrImage = NDArray[np.uint8]

STILL_HEIGHTS = 0.06
"""A net way below this fraction of the picture's height counts as staying where one is."""


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object in one frame.

    track: the same number for the same object in every frame. kind: person, car, van, bicycle, bag, ball, fire,
    smoke or steam. box: (left, top, right, bottom) in pixels, clipped to the picture. action: a verb, such as
    walking. color: of clothes or paint. place: road, crossing, pavement, square, grass, parking or ground.
    foot: ground contact point in fractions of the picture's height, before clipping and camera shake.
    """

    track: int
    kind: str
    box: tuple[float, float, float, float]
    action: str
    color: str
    place: str
    foot: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Conditions:
    """The circumstances of a scene, the same for all of its frames."""

    layout: str
    time_of_day: str
    weather: str


@dataclass(frozen=True, slots=True)
class RenderedFrame:
    """One frame: BGR uint8 image (height, width, 3), the objects in it, and its time from the start."""

    index: int
    seconds: float
    image: BgrImage
    objects: tuple[SceneObject, ...]
    conditions: Conditions


@dataclass(frozen=True, slots=True)
class TrackFacts:
    """One object over a stretch: its actions in the order of their first frame, and where it went.

    direction: left, right, towards, away or still. frames: in how many frames of the stretch it is seen.
    """

    track: int
    kind: str
    color: str
    actions: tuple[str, ...]
    main_action: str
    direction: str
    places: tuple[str, ...]
    frames: int


@dataclass(frozen=True, slots=True)
class SceneFacts:
    """Structured facts over a stretch of frames; sentences are made elsewhere.

    counts: most objects of a kind seen at once. actions: how many different objects of a kind did it, by
    (kind, action). tracks: every object seen, most frames first.
    """

    conditions: Conditions
    counts: dict[str, int]
    actions: dict[tuple[str, str], int]
    tracks: tuple[TrackFacts, ...]


def describe(frames: Iterable[RenderedFrame]) -> SceneFacts:
    """Sum up what is to be seen in a stretch of frames of one scene. Raises ValueError for no frames."""
    seen: dict[int, list[SceneObject]] = {}
    counts: Counter[str] = Counter()
    conditions: Conditions | None = None
    for frame in frames:
        conditions = frame.conditions
        counts |= Counter(thing.kind for thing in frame.objects)
        for thing in frame.objects:
            seen.setdefault(thing.track, []).append(thing)
    if conditions is None:
        raise ValueError("no frames to describe")
    tracks = tuple(
        sorted((_track_facts(things) for things in seen.values()), key=lambda fact: (-fact.frames, fact.track))
    )
    actions = Counter((fact.kind, action) for fact in tracks for action in fact.actions)
    return SceneFacts(conditions, dict(counts), dict(actions), tracks)


def _track_facts(things: list[SceneObject]) -> TrackFacts:
    first, last = things[0], things[-1]
    actions = Counter(thing.action for thing in things)
    across = last.foot[0] - first.foot[0]
    # The ground is seen at a slant: the way towards the camera looks shorter than the way across.
    along = 1.5 * (last.foot[1] - first.foot[1])
    if max(abs(across), abs(along)) < STILL_HEIGHTS:
        direction = "still"
    elif abs(across) >= abs(along):
        direction = "right" if across > 0 else "left"
    else:
        direction = "towards" if along > 0 else "away"
    return TrackFacts(
        track=first.track,
        kind=first.kind,
        color=first.color,
        actions=tuple(actions),
        main_action=actions.most_common(1)[0][0],
        direction=direction,
        places=tuple(dict.fromkeys(thing.place for thing in things)),
        frames=len(things),
    )


def event_ranges(actions: Iterable[Collection[str]], abnormal: Collection[str]) -> list[tuple[int, int]]:
    """Half-open frame ranges in which some object does something abnormal.

    actions: per frame, from frame 0 on, the actions to be seen in it.
    """
    ranges: list[tuple[int, int]] = []
    for index, present in enumerate(actions):
        if not any(action in abnormal for action in present):
            continue
        if ranges and ranges[-1][1] == index:
            ranges[-1] = (ranges[-1][0], index + 1)
        else:
            ranges.append((index, index + 1))
    return ranges
