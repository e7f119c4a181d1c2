"""What one generated scene is: layout, light, weather, disturbances, and the one event it may hold.

A spec is a value: the same spec gives the same pictures, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np

from edge_runtime.errors import UsageError

TIMES: Final = ("day", "dusk", "night")
WEATHERS: Final = ("clear", "rain", "fog")
LAYOUTS: Final = ("street", "crossing", "plaza", "car_park", "park")
FOOTAGE: Final = "footage"
"""The layout whose backdrop is a real video instead of a painted one."""

DISTURBANCES: Final = ("shake", "flicker", "clouds", "lightning", "glare", "neon", "steam", "exposure")

_ROADS: Final = ("street", "crossing", "car_park")
KIND_LAYOUTS: Final[dict[str, tuple[str, ...]]] = {
    "fall": (*LAYOUTS, FOOTAGE),
    "fight": (*LAYOUTS, FOOTAGE),
    "panic": (*LAYOUTS, FOOTAGE),
    "crash": _ROADS,
    "fire": (*LAYOUTS, FOOTAGE),
    "abandoned_object": (*LAYOUTS, FOOTAGE),
    "snatch": (*LAYOUTS, FOOTAGE),
    "pavement_driving": ("street", "crossing", "plaza", "park"),
    "vandalism": (*LAYOUTS, FOOTAGE),
    "climbing": ("plaza", "car_park", "park"),
}
"""Every kind of anomaly, and the layouts in which it can happen."""

KINDS: Final = tuple(KIND_LAYOUTS)

KIND_ACTIONS: Final[dict[str, frozenset[str]]] = {
    "fall": frozenset({"falling", "lying"}),
    "fight": frozenset({"fighting"}),
    "panic": frozenset({"fleeing"}),
    "crash": frozenset({"crashing", "crashed"}),
    "fire": frozenset({"burning"}),
    "abandoned_object": frozenset({"abandoned"}),
    "snatch": frozenset({"snatching", "fleeing", "chasing"}),
    "pavement_driving": frozenset({"driving on the pavement"}),
    "vandalism": frozenset({"smashing"}),
    "climbing": frozenset({"climbing"}),
}
"""The actions in the ground truth that make a frame part of an event of that kind; normal life has none."""

ACTS: Final = (
    "pair",
    "jogger",
    "cyclist",
    "sitter",
    "bag_rest",
    "greeting",
    "crowd",
    "players",
    "crosser",
    "sweeper",
    "shoelace",
)
"""Kinds of normal life that a scene can be without, or mostly hold; people who just pass are always there."""

ABNORMAL_ACTIONS: Final = frozenset[str]().union(*KIND_ACTIONS.values())


def check_kinds(kinds: Sequence[str], *, layout: str | None = None) -> None:
    """Refuse a kind of anomaly that does not exist or cannot happen in a layout.

    Args:
        kinds: Names of kinds.
        layout: The layout that all of them must fit; None asks only whether they exist.

    Raises:
        UsageError: It names the kind, and those that would do.
    """
    for kind in kinds:
        if kind not in KIND_LAYOUTS:
            raise UsageError(f"unknown kind of anomaly {kind!r}; there are {', '.join(KINDS)}")
        if layout is not None and layout not in KIND_LAYOUTS[kind]:
            fitting = ", ".join(k for k in KINDS if layout in KIND_LAYOUTS[k])
            raise UsageError(f"{kind!r} cannot happen in the layout {layout!r}; there {fitting} can")


def check_acts(acts: Sequence[str]) -> None:
    """Refuse a kind of normal life that does not exist.

    Raises:
        UsageError: It names the kind, and those that there are.
    """
    for act in acts:
        if act not in ACTS:
            raise UsageError(f"unknown kind of normal life {act!r}; there are {', '.join(ACTS)}")


_OPTIONAL: Final = frozenset({"without", "mostly"})


@dataclass(frozen=True, slots=True)
class SceneSpec:
    """Everything one scene is made from.

    `event` says when the abnormal behaviour is meant to start and end. The annotation says what the rendered ground
    truth shows (`truth.event_ranges`), which may be less: a thief may have left the picture before the planned end.

    Attributes:
        seed: 0 or more; decides all that the other values leave open.
        kind: The kind of anomaly, one of KINDS; None is a normal scene.
        layout: One of LAYOUTS, or FOOTAGE.
        time_of_day: One of TIMES.
        weather: One of WEATHERS.
        disturbances: Some of DISTURBANCES.
        people: About how many people normal life holds at a time.
        size: (width, height) in pixels.
        fps: Frames per second.
        frames: Length of the scene.
        event: Planned half-open range of frames, present exactly when `kind` is.
        without: Some of ACTS, which never happen.
        mostly: One of ACTS, which happens twice as often as all others together where the place allows it; None
            favours none.

    Raises:
        UsageError: A value is unknown or out of its range, or kind, layout and event do not go together.
    """

    seed: int
    kind: str | None
    layout: str
    time_of_day: str
    weather: str
    disturbances: tuple[str, ...]
    people: int
    size: tuple[int, int]
    fps: float
    frames: int
    event: tuple[int, int] | None
    without: tuple[str, ...] = ()
    mostly: str | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"the seed must be 0 or more, got {self.seed}")
        if self.layout not in (*LAYOUTS, FOOTAGE):
            raise UsageError(f"unknown layout {self.layout!r}; there are {', '.join((*LAYOUTS, FOOTAGE))}")
        if self.time_of_day not in TIMES:
            raise UsageError(f"unknown time of day {self.time_of_day!r}; there are {', '.join(TIMES)}")
        if self.weather not in WEATHERS:
            raise UsageError(f"unknown weather {self.weather!r}; there are {', '.join(WEATHERS)}")
        if unknown := set(self.disturbances) - set(DISTURBANCES):
            raise UsageError(f"unknown disturbance {min(unknown)!r}; there are {', '.join(DISTURBANCES)}")
        check_acts([*self.without, *([] if self.mostly is None else [self.mostly])])
        if min(self.size) < 32:
            raise UsageError(f"a scene needs at least 32x32 pixels, got {self.size[0]}x{self.size[1]}")
        if not (0 < self.fps <= 240 and self.frames > 0 and self.people >= 0):
            raise UsageError(f"a scene needs frames, people and a rate, got {self.frames} at {self.fps} fps")
        if (self.kind is None) != (self.event is None):
            raise UsageError("an anomalous scene needs an event, a normal one must not have one")
        if self.kind is not None and self.event is not None:
            check_kinds([self.kind], layout=self.layout)
            if not 0 < self.event[0] < self.event[1] <= self.frames:
                raise UsageError(f"event {self.event} is not within frames 1 to {self.frames}")

    @property
    def aspect(self) -> float:
        """Width over height."""
        return self.size[0] / self.size[1]

    def digest(self) -> str:
        """Compute the sha256 of this spec's canonical JSON, in lower-case hexadecimal."""
        # What leaves the pictures as they are leaves the digest, too: clips need not be made again for it.
        values = {name: value for name, value in asdict(self).items() if name not in _OPTIONAL or value}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def draw_spec(
    seed: int,
    kind: str | None = None,
    *,
    layout: str | None = None,
    time_of_day: str | None = None,
    weather: str | None = None,
    disturbances: Sequence[str] | None = None,
    people: int | None = None,
    size: tuple[int, int] = (320, 240),
    fps: float = 15.0,
    seconds: float | tuple[float, float] = (8.0, 20.0),
    event_seconds: tuple[float, float] = (3.0, 6.0),
    without: Sequence[str] = (),
    mostly: str | None = None,
) -> SceneSpec:
    """Draw a scene from a seed: what is given is kept, the rest is drawn.

    The same arguments give the same spec. The event starts anywhere from 15 % of the video on; three in ten
    events last until the end of the video.

    Args:
        seed: 0 or more.
        kind: The kind of anomaly; None draws a normal scene.
        layout: See SceneSpec. A layout of FOOTAGE is never drawn, only given.
        time_of_day: See SceneSpec.
        weather: See SceneSpec.
        disturbances: See SceneSpec.
        people: See SceneSpec.
        size: (width, height) in pixels.
        fps: Frames per second.
        seconds: Length of the video, or the range it is drawn from.
        event_seconds: Range that the length of the event is drawn from.
        without: See SceneSpec.
        mostly: See SceneSpec.

    Raises:
        UsageError: A value is unknown or out of its range, or the kind cannot happen in the layout.
    """
    if seed < 0:
        raise UsageError(f"the seed must be 0 or more, got {seed}")
    if kind is not None:
        check_kinds([kind], layout=layout)
    low, high = (seconds, seconds) if isinstance(seconds, int | float) else seconds
    if not 0 < low <= high:
        raise UsageError(f"the length of a scene must be positive, got {low} to {high} s")
    rng = np.random.default_rng([seed, 1])
    # Every draw is made whether it is used or not, so that fixing one property leaves the others alone.
    drawn_layout = str(rng.choice(KIND_LAYOUTS[kind] if kind else LAYOUTS))
    if drawn_layout == FOOTAGE:
        drawn_layout = str(rng.choice(LAYOUTS))
    drawn_time = str(rng.choice(TIMES, p=(0.5, 0.2, 0.3)))
    drawn_weather = str(rng.choice(WEATHERS, p=(0.7, 0.2, 0.1)))
    drawn_people = int(rng.integers(2, 6))
    drawn_disturbances = tuple(d for d in DISTURBANCES if rng.random() < 0.3)
    if layout == FOOTAGE:  # a real picture brings its own light, and no wall to hang a sign on
        drawn_time = "day" if drawn_time == "night" else drawn_time
        drawn_disturbances = tuple(d for d in drawn_disturbances if d != "neon")
    frames = max(2, round(float(rng.uniform(low, high)) * fps))
    length = max(1, round(float(rng.uniform(*event_seconds)) * fps))
    earliest = max(1, round(0.15 * frames))
    to_the_end = bool(rng.random() < 0.3)
    latest = max(earliest, frames - length - round(0.1 * frames))
    start = max(earliest, frames - length) if to_the_end else int(rng.integers(earliest, latest + 1))
    start = min(start, frames - 1)
    return SceneSpec(
        seed=seed,
        kind=kind,
        layout=drawn_layout if layout is None else layout,
        time_of_day=drawn_time if time_of_day is None else time_of_day,
        weather=drawn_weather if weather is None else weather,
        disturbances=drawn_disturbances if disturbances is None else tuple(disturbances),
        people=drawn_people if people is None else people,
        size=size,
        fps=fps,
        frames=frames,
        event=None if kind is None else (start, min(frames, start + length)),
        without=tuple(without),
        mostly=mostly,
    )
