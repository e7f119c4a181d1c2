"""What is to be seen in a rendered frame, as data: objects, boxes, actions; and facts over a stretch of frames.

Nothing here is a label: only `spec.KIND_ACTIONS` says which actions are abnormal.
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

    Attributes:
        track: The same number for the same object in every frame.
        kind: person, car, van, bicycle, bag, ball, fire, smoke or steam.
        box: (left, top, right, bottom) in pixels, clipped to the picture.
        action: What it does, such as walking.
        color: Of clothes or paint.
        place: road, crossing, pavement, square, grass, path, parking or ground.
        foot: Ground contact point (u, v) in fractions of the picture's height, before clipping and camera shake.
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
    """The circumstances of a scene, the same for all of its frames.

    Attributes:
        layout: See SceneSpec.
        time_of_day: See SceneSpec.
        weather: See SceneSpec.
    """

    layout: str
    time_of_day: str
    weather: str


@dataclass(frozen=True, slots=True)
class RenderedFrame:
    """One frame of a scene, and what is to be seen in it.

    Attributes:
        index: Number of the frame, from 0.
        seconds: Time from the start of the scene.
        image: BGR uint8 (height, width, 3).
        objects: The objects of which enough is in the picture.
        conditions: Those of the scene.
    """

    index: int
    seconds: float
    image: BgrImage
    objects: tuple[SceneObject, ...]
    conditions: Conditions


@dataclass(frozen=True, slots=True)
class TrackFacts:
    """What one object did over a stretch of frames, and where it went.

    Attributes:
        track: Number of the object, as in SceneObject.
        kind: As in SceneObject.
        color: As in SceneObject.
        actions: All it did, in the order of their first frames.
        main_action: What it did in most frames.
        direction: left, right, towards (the camera), away or still.
        places: Where it was, in the order of their first frames.
        frames: In how many frames of the stretch it is seen.
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
    """What is to be seen over a stretch of frames, as figures and names.

    Attributes:
        conditions: Those of the scene.
        counts: By kind of object, the most that are seen at once.
        actions: By (kind, action), how many different objects of the kind did it.
        tracks: Every object seen, most frames first.
    """

    conditions: Conditions
    counts: dict[str, int]
    actions: dict[tuple[str, str], int]
    tracks: tuple[TrackFacts, ...]


def describe(frames: Iterable[RenderedFrame]) -> SceneFacts:
    """Sum up what is to be seen in a stretch of frames.

    Args:
        frames: Frames of one scene, in order.

    Raises:
        ValueError: There are no frames.
    """
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
    """Find the frames in which some object does something abnormal.

    Args:
        actions: For each frame from 0 on, the actions to be seen in it.
        abnormal: The actions that count.

    Returns:
        Half-open ranges of frames, in order.
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
