"""People, their bags and bicycles: how they move, hold themselves and are drawn.

The motions of a Person (walk there, wait, fall) are scripts that longer scripts are made of.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from offline.scenes import actors
from offline.scenes.canvas import Canvas
from offline.scenes.pose import Joint, skeleton, target_pose
from offline.scenes.world import Actor, DrawnObject, Script, World

MARGIN = 0.32
"""How far outside the picture's edge, in heights, a person is certainly out of sight."""

WALK, STROLL, RUN = 0.62, 0.42, 1.5
"""Speeds in body heights per second, a little below life so that clips show more of everyone."""

SLANT = 0.5
"""Ground seen at a slant: a step towards the camera moves this much less across the picture."""


def _pick(world: World, names: tuple[str, ...]) -> str:
    return names[world.index(len(names))]


class Bag(Actor):
    """A suitcase, sports bag or handbag, carried by someone or on the ground.

    Attributes:
        shape: suitcase, sports bag or handbag.
        color: A name in `actors.CLOTHES`.
        carrier: Who has it; None while it is on the ground.
        action: standing, carried or abandoned.
    """

    def __init__(self, world: World, u: float, v: float, shape: str | None = None) -> None:
        super().__init__(world, u, v)
        self.shape = shape or _pick(world, ("suitcase", "sports bag", "handbag"))
        self.color = _pick(world, ("black", "blue", "red", "green", "grey"))
        self.carrier: Person | None = None
        self.action = "standing"

    def draw(self, canvas: Canvas) -> list[DrawnObject]:
        """Draw it on the ground; a carried bag is drawn by its carrier."""
        if self.carrier is not None:
            return []
        actors.shadow(canvas, (self.u, self.v), 0.2 * self.world.stage.scale(self.v))
        return [self.draw_at(canvas, (self.u, self.v), self.world.stage.scale(self.v))]

    def draw_at(self, canvas: Canvas, foot: tuple[float, float], height: float) -> DrawnObject:
        """Draw it with its lower edge at `foot`, beside a person `height` tall."""
        box = actors.bag(canvas, foot, height, self.shape, actors.CLOTHES[self.color])
        return DrawnObject(self.track, "bag", box, self.action, self.color, foot)


class Person(Actor):
    """A person: moves by scripts, takes the pose of what is being done, and may carry things.

    Attributes:
        size: Height relative to a grown person.
        pace: Walking speed relative to WALK.
        variant: A number that makes one person's movements differ from another's.
        color: Of the shirt, a name in `actors.CLOTHES`.
        look: Clothes and colours.
        umbrella: Walks under an umbrella.
        action: What the person does; sets the pose.
        held: What is in the near hand, see `actors.person`.
        bag: The bag in the hand.
        facing: From -1 (left) to 1 (right), turning towards `looks_to`.
        looks_to: The direction that the person turns to.
        roll: Radians that the whole body is tipped over.
        lift: Height above the ground, in body heights.
        phase: Of the step cycle, in radians.
    """

    def __init__(self, world: World, u: float, v: float, *, child: bool = False) -> None:
        super().__init__(world, u, v)
        rng = world.rng
        self.size = world.uniform(0.62, 0.7) if child else world.uniform(0.92, 1.08)
        self.pace = world.uniform(0.85, 1.2)
        self.variant = world.index(1000)
        self.color = _pick(world, tuple(actors.CLOTHES))
        self.look = actors.Look(
            shirt=actors.CLOTHES[self.color],
            trousers=actors.TROUSERS[world.index(len(actors.TROUSERS))],
            skin=actors.SKIN[world.index(len(actors.SKIN))],
            hair=actors.HAIR[world.index(len(actors.HAIR))],
            girth=float(rng.uniform(0.95, 1.2)),
            coat=bool(rng.random() < 0.3),
            backpack=bool(rng.random() < 0.2),
        )
        self.umbrella = world.spec.weather == "rain" and world.chance(0.5)
        self.action = "walking"
        self.held: str | None = None
        self.bag: Bag | None = None
        self.facing = float(world.side())
        self.looks_to = self.facing
        self.roll = 0.0
        self.lift = 0.0
        self.quiver = 0.0
        self.phase = world.uniform(0.0, 6.28)
        self._pose = target_pose("walking", self.phase, 0.0, self.variant)
        self._last = (u, v)

    @property
    def height(self) -> float:
        """Body height as a fraction of the picture's height, at the current place."""
        return self.size * self.world.stage.scale(self.v)

    # --- motions: each is a script that can be part of another ---
    def step_towards(self, u: float, v: float, speed: float) -> bool:
        """Move one frame at `speed` body heights per second; true when there."""
        du, dv = u - self.u, (v - self.v) / SLANT
        distance = math.hypot(du, dv)
        reach = speed * self.height * self.world.dt
        if distance > 1e-9:
            self.looks_to = float(np.clip(du / distance * 1.2, -1.0, 1.0))
            part = min(1.0, reach / distance)
            self.u += du * part
            self.v += dv * SLANT * part
        return distance <= reach

    def go(self, u: float, v: float, speed: float | None = None, action: str = "walking") -> Script:
        """Walk (or run) to a point.

        Args:
            u: Where to.
            v: Where to.
            speed: Body heights per second; None is the person's own walking speed.
            action: What it is called meanwhile.
        """
        speed = WALK * self.pace if speed is None else speed
        arrived = False
        while not arrived:
            self.action = action
            arrived = self.step_towards(u, v, speed)
            yield

    def stay(self, seconds: float, action: str) -> Script:
        """Do something on the spot for a while."""
        yield from self.stay_until(self.world.frame + self.world.frames(seconds), action)

    def stay_until(self, frame: int, action: str) -> Script:
        """Do something on the spot in every frame before `frame`."""
        while self.world.frame < frame:
            self.action = action
            yield

    def arrive(
        self, u: float, v: float, frame: int, side: int, speed: float | None = None, action: str = "walking"
    ) -> Script:
        """Come in so as to reach (u, v) exactly at a frame; until it is time to start, stay out of sight.

        Args:
            u: Where to.
            v: Where to; also the v of the whole way.
            frame: When to be there. The script ends on it, without having played it.
            side: -1 comes from the left, 1 from the right.
            speed: See `go`.
            action: See `go`.
        """
        speed = WALK * self.pace if speed is None else speed
        self.v = v
        edge = -MARGIN if side < 0 else self.world.stage.aspect + MARGIN
        self.facing = self.looks_to = float(-side)
        while self.world.frame < frame:
            back = (frame - self.world.frame) * speed * self.height * self.world.dt
            self.u = max(u - back, edge) if side < 0 else min(u + back, edge)
            self.action = action
            yield
        self.u = u

    def leave(self, side: int | None = None, speed: float | None = None, action: str = "walking") -> Script:
        """Go out of the picture, by default on the nearer side.

        Args:
            side: -1 to the left, 1 to the right.
            speed: See `go`.
            action: See `go`.
        """
        if side is None:
            side = -1 if self.u < self.world.stage.aspect / 2 else 1
        edge = -MARGIN if side < 0 else self.world.stage.aspect + MARGIN
        yield from self.go(edge, self.v, speed, action)

    def fall(self, seconds: float, action: str = "falling") -> Script:
        """Tip over forwards within `seconds`, faster and faster as bodies do."""
        count = self.world.frames(seconds)
        for i in range(count):
            self.action = action
            self.roll = 1.5 * ((i + 1) / count) ** 1.7
            yield

    def rise(self, seconds: float) -> Script:
        """Get up from lying within `seconds`."""
        count = self.world.frames(seconds)
        for i in range(count):
            self.action = "getting up"
            self.roll = 1.5 * (1.0 - (i + 1) / count)
            yield
        self.roll = 0.0

    def put_down(self) -> Script:
        """Put the bag on the ground in front, where it stays."""
        yield from self.stay(0.5, "putting down")
        bag = self.bag
        if bag is not None:
            bag.u = self.u + math.copysign(0.26 * self.height, self.facing)
            bag.v = self.v + 0.004
            bag.carrier, bag.action = None, "standing"
            self.bag = None
        yield from self.stay(0.4, "putting down")

    def take(self, bag: Bag) -> None:
        """Take the bag into the hand; whoever carried it lets go of it."""
        if bag.carrier is not None:
            bag.carrier.bag = None
        bag.carrier, bag.action = self, "carried"
        self.bag = bag

    def face(self, u: float) -> None:
        """Turn towards u."""
        self.looks_to = 1.0 if u >= self.u else -1.0

    # --- appearance ---
    def step(self) -> None:
        """Play the script, then let the body follow: steps by the distance moved, the pose with inertia."""
        super().step()
        way = math.hypot(self.u - self._last[0], (self.v - self._last[1]) / SLANT)
        self._last = (self.u, self.v)
        stride = 1.7 if self.action in ("running", "fleeing", "chasing", "playing") else 0.85
        self.phase += 2 * math.pi * min(way / (stride * self.height), 0.45)
        target = target_pose(self.action, self.phase, self.world.seconds, self.variant)
        follow = 1.0 - math.exp(-self.world.dt / 0.07)
        self._pose += (target - self._pose) * follow
        self._pose[Joint.ROLL] = self.roll
        if self.umbrella and self.action in ("walking", "standing", "strolling"):
            self._pose[Joint.ARM_R], self._pose[Joint.ELBOW_R] = 0.7, 1.7
        elif self.bag is not None and self.action in ("walking", "running", "standing", "strolling"):
            self._pose[Joint.ARM_R], self._pose[Joint.ELBOW_R] = 0.05, 0.1
        self.facing += (self.looks_to - self.facing) * (1.0 - math.exp(-self.world.dt / 0.1))
        if self.bag is not None:
            self.bag.u, self.bag.v = self.u, self.v
            self.bag.gone = self.gone

    def draw(self, canvas: Canvas) -> list[DrawnObject]:
        """Draw the person and what is carried.

        Returns:
            The person, and behind it a bag where one is carried.
        """
        height = self.height
        # Falling turns about the feet, not about the hip.
        toppled = 0.45 * math.sin(self.roll) * height * (1.0 if self.facing >= 0 else -1.0)
        foot = (self.u + toppled, self.v - self.lift * height)
        if -1.0 < self.u < self.world.stage.aspect + 1.0:
            wide = 0.22 + 0.25 * abs(math.sin(self.roll))
            actors.shadow(canvas, (foot[0], self.v), wide * height)
        held = self.held
        if held is None and self.umbrella and self.action in ("walking", "standing", "strolling"):
            held = "umbrella"
        elif held is None and self.action == "phoning":
            held = "phone"
        body = skeleton(self._pose, grounded=self.action != "cycling")
        box, hand = actors.person(canvas, foot, height, self.facing, body, self.look, held)
        drawn = [DrawnObject(self.track, "person", box, self.action, self.color, (self.u, self.v))]
        if self.bag is not None:
            low = {"suitcase": 0.42, "sports bag": 0.28, "handbag": 0.25}[self.bag.shape] * height
            drawn.append(self.bag.draw_at(canvas, (hand[0], min(hand[1] + low, self.v)), height))
        return drawn


class Cyclist(Person):
    """A person on a bicycle: drawn together, two objects in the ground truth."""

    def __init__(self, world: World, u: float, v: float) -> None:
        super().__init__(world, u, v)
        self.bicycle_track = world.new_track()
        self.umbrella = False
        self.action = "cycling"

    def draw(self, canvas: Canvas) -> list[DrawnObject]:
        """Draw bicycle and rider."""
        direction = 1 if self.looks_to >= 0 else -1
        self.facing = float(direction)
        foot = (self.u, self.v)
        box = actors.bicycle(canvas, foot, self.height, direction, -self.phase * 1.4 * direction)
        rider = super().draw(canvas)
        return [*rider, DrawnObject(self.bicycle_track, "bicycle", box, "rolling", "red", foot)]


class Ball(Actor):
    """A ball that players kick between them."""

    def __init__(self, world: World, u: float, v: float) -> None:
        super().__init__(world, u, v)
        self.rise = 0.0
        self.action = "rolling"

    def fly(self, u: float, v: float, seconds: float) -> Script:
        """Fly to a point in an arc within `seconds`."""
        count = self.world.frames(seconds)
        u0, v0 = self.u, self.v
        for i in range(count):
            part = (i + 1) / count
            self.u, self.v = u0 + (u - u0) * part, v0 + (v - v0) * part
            self.rise = 0.12 * math.sin(math.pi * part)
            yield

    def draw(self, canvas: Canvas) -> list[DrawnObject]:
        """Draw a white ball with its shadow."""
        radius = 0.06 * self.world.stage.scale(self.v)
        actors.shadow(canvas, (self.u, self.v), 1.6 * radius)
        center = (self.u, self.v - radius - self.rise)
        canvas.disc(center, radius, (226, 226, 232))
        box = (center[0] - radius, center[1] - radius, center[0] + radius, center[1] + radius)
        return [DrawnObject(self.track, "ball", box, self.action, "white", (self.u, self.v))]


def follow(first: Person, second: Person, apart: float) -> Iterator[None]:
    """Let `second` walk beside `first`, `apart` to the right, for as long as `first` is there."""
    while not first.gone:
        second.u, second.v = first.u + apart, min(0.98, first.v + 0.012)
        second.action, second.looks_to = first.action, first.looks_to
        yield
