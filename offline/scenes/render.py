"""From a spec to frames: plays the world, draws it, and reports what is to be seen.

Order of drawing: backdrop, actors from far to near, the scene's light, things that shine, weather and camera.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator

import cv2
import numpy as np

from edge_runtime.errors import UsageError
from offline.scenes.backdrop import DARKNESS, light_map, paint, window_glow
from offline.scenes.canvas import Canvas
from offline.scenes.directors import furnish, people_director, traffic_director
from offline.scenes.events import EVENTS, PARTICIPANTS
from offline.scenes.lens import Lens
from offline.scenes.spec import FOOTAGE, SceneSpec
from offline.scenes.truth import BgrImage, Conditions, RenderedFrame, SceneObject
from offline.scenes.world import DrawnObject, World

VISIBLE = 0.2
"""An object counts as seen when at least this part of its box is in the picture."""

BackgroundPictures = Callable[[int], BgrImage]
"""Gives the background picture for a frame number, at the scene's size."""


class Scene:
    """A scene that is played frame by frame; `render` is the usual way in, this class allows to skip pictures.

    Attributes:
        spec: What is played.
        world: Its actors and its clock.
    """

    def __init__(self, spec: SceneSpec, footage: BackgroundPictures | None = None) -> None:
        if (spec.layout == FOOTAGE) != (footage is not None):
            raise UsageError(f"the layout {FOOTAGE!r} and a background video belong together")
        self.spec = spec
        self.world = World(spec)
        self._footage = footage
        stage = self.world.stage
        self._darkness = DARKNESS[spec.time_of_day]
        self._backdrop = paint(spec, stage) if footage is None else None
        self._light = light_map(spec, stage)
        self._glows = window_glow(spec, stage)
        self._lens = Lens(spec, stage, self._darkness)
        self._conditions = Conditions(spec.layout, spec.time_of_day, spec.weather)
        furnish(self.world)
        people, pause = spec.people, range(0)
        if spec.kind is not None and spec.event is not None:
            EVENTS[spec.kind](self.world, *spec.event)
            people = max(0 if spec.kind == "panic" else 1, people - PARTICIPANTS.get(spec.kind, 0))
            if spec.kind == "panic":  # nobody strolls into a panic
                pause = range(*spec.event)
        self.world.directors.append(people_director(self.world, people, pause))
        if stage.lanes:
            self.world.directors.append(traffic_director(self.world))

    def advance(self) -> None:
        """Play the next frame without drawing it."""
        self.world.step()

    def draw(self) -> RenderedFrame:
        """Draw the frame that was played last. Its picture does not depend on which other frames were drawn."""
        spec, world = self.spec, self.world
        rng = np.random.default_rng([spec.seed, 6, world.frame])
        if self._backdrop is not None:
            image = self._backdrop.copy()
        else:
            assert self._footage is not None
            image = self._footage(world.frame).copy()
        canvas = Canvas(image, rng, world.seconds, self._darkness)
        actors = world.by_depth()
        drawn: list[DrawnObject] = []
        for actor in actors:
            drawn += actor.draw(canvas)
        if self._light is not None:
            cv2.multiply(image, self._light, dst=image, scale=1.0 / 255.0)
        for u, v, radius, color in self._glows:
            canvas.glow((u, v), radius, color)
        self._lens.lights(canvas)
        for actor in actors:
            drawn += actor.shine(canvas)
        image, shift = self._lens.finish(image, world.frame, rng)
        objects = tuple(seen for seen in (self._seen(thing, shift) for thing in drawn) if seen is not None)
        return RenderedFrame(world.frame, world.seconds, image, objects, self._conditions)

    def _seen(self, thing: DrawnObject, shift: tuple[float, float]) -> SceneObject | None:
        """The object in pixels, or None where too little of it is in the picture."""
        width, height = self.spec.size
        left, top, right, bottom = (side * height + shift[i % 2] for i, side in enumerate(thing.box))
        x0, y0, x1, y1 = max(0.0, left), max(0.0, top), min(float(width), right), min(float(height), bottom)
        whole = (right - left) * (bottom - top)
        if x1 <= x0 or y1 <= y0 or (x1 - x0) * (y1 - y0) < VISIBLE * whole:
            return None
        place = self.world.stage.place(*thing.foot)
        return SceneObject(thing.track, thing.kind, (x0, y0, x1, y1), thing.action, thing.color, place, thing.foot)


def render(
    spec: SceneSpec, *, footage: BackgroundPictures | None = None, wanted: Container[int] | None = None
) -> Iterator[RenderedFrame]:
    """Play a scene and yield its frames in order.

    Args:
        spec: The scene.
        footage: Background pictures, for the layout FOOTAGE only.
        wanted: Numbers of the frames to draw and yield; None draws all. The others are only played, which is about
            ten times faster, and the frames that are drawn are the same either way.

    Raises:
        UsageError: Layout and footage do not go together.
    """
    scene = Scene(spec, footage)
    for index in range(spec.frames):
        scene.advance()
        if wanted is None or index in wanted:
            yield scene.draw()
