"""The simulated place: a clock, a ground plan, and actors that each follow a script one frame at a time.

A script is a generator: what it does up to its next `yield` is this frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from offline.scenes.actors import Box
from offline.scenes.canvas import Canvas
from offline.scenes.spec import SceneSpec
from offline.scenes.stage import Lane, Stage, build_stage

Script = Iterator[None]


@dataclass(frozen=True, slots=True)
class DrawnObject:
    """An object of the ground truth as it was drawn, before clipping.

    Attributes:
        track: As in SceneObject.
        kind: As in SceneObject.
        box: (left, top, right, bottom) in fractions of the picture's height; may reach outside the picture.
        action: As in SceneObject.
        color: As in SceneObject.
        foot: As in SceneObject.
    """

    track: int
    kind: str
    box: Box
    action: str
    color: str
    foot: tuple[float, float]


class Actor:
    """Something at (u, v) that may follow a script; when the script ends, it is gone.

    Attributes:
        world: Where it is.
        u: To the right, see `stage`.
        v: Downwards.
        track: Its number in the ground truth.
        script: What it does; None stays as it is.
        gone: Leaves the world after this frame.
    """

    def __init__(self, world: World, u: float, v: float) -> None:
        self.world = world
        self.u, self.v = u, v
        self.track = world.add(self)
        self.script: Script | None = None
        self.gone = False

    def step(self) -> None:
        """Play one frame of the script."""
        if self.script is not None:
            try:
                next(self.script)
            except StopIteration:
                self.gone = True

    def draw(self, canvas: Canvas) -> list[DrawnObject]:
        """Draw what the scene's light falls on.

        Returns:
            What of it counts as an object.
        """
        del canvas
        return []

    def shine(self, canvas: Canvas) -> list[DrawnObject]:
        """Draw what gives light or hangs in the air, after the scene's own light was applied.

        Returns:
            What of it counts as an object.
        """
        del canvas
        return []


class World:
    """All actors of a scene, and its clock.

    Attributes:
        spec: The scene.
        stage: Its ground plan.
        rng: What actors draw from; depends on the scene's seed.
        frame: Number of the frame that was played last; -1 before the first.
        actors: All that is there.
        directors: Scripts that let actors in.
    """

    def __init__(self, spec: SceneSpec) -> None:
        self.spec = spec
        self.stage: Stage = build_stage(spec)
        self.rng = np.random.default_rng([spec.seed, 3])
        self.frame = -1
        self.actors: list[Actor] = []
        self.directors: list[Script] = []
        self.closed_lanes: set[Lane] = set()
        """Lanes that belong to an event: ordinary traffic keeps out of them."""
        self.focus: tuple[float, float] | None = None
        """Where an event is to be seen: nobody settles down right in front of it."""
        self._tracks = 0

    @property
    def dt(self) -> float:
        """Seconds between two frames."""
        return 1.0 / self.spec.fps

    @property
    def seconds(self) -> float:
        """Time of the current frame from the start of the scene."""
        return self.frame / self.spec.fps

    def add(self, actor: Actor) -> int:
        """Let an actor in.

        Returns:
            Its track number.
        """
        self.actors.append(actor)
        return self.new_track()

    def new_track(self) -> int:
        """Give one more object a track number of its own."""
        self._tracks += 1
        return self._tracks

    def frames(self, seconds: float) -> int:
        """Turn a duration in seconds into a number of frames, at least one."""
        return max(1, round(seconds * self.spec.fps))

    def step(self) -> None:
        """Play the next frame: directors first, since they may let actors in, then every actor."""
        self.frame += 1
        for director in tuple(self.directors):
            try:
                next(director)
            except StopIteration:
                self.directors.remove(director)
        for actor in tuple(self.actors):
            actor.step()
        self.actors = [actor for actor in self.actors if not actor.gone]

    def by_depth(self) -> list[Actor]:
        """Sort the actors from far to near, the order of drawing."""
        return sorted(self.actors, key=lambda actor: (actor.v, actor.track))

    # Draws by name keep scripts readable.
    def uniform(self, low: float, high: float) -> float:
        """Draw a number between low and high."""
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        """Draw true with this probability."""
        return bool(self.rng.random() < probability)

    def side(self) -> int:
        """Draw -1 or +1."""
        return 1 if self.rng.random() < 0.5 else -1

    def index(self, count: int) -> int:
        """Draw a number from 0 to count - 1."""
        return int(self.rng.integers(count))
