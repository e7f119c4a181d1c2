"""Vehicles, fire, smoke, flying splinters and fences: how they move and are drawn."""

from __future__ import annotations

import math

from offline.scenes import actors
from offline.scenes.canvas import Canvas, shade
from offline.scenes.people import Person
from offline.scenes.world import Actor, DrawnObject, Script, World

CRUISE = 1.25
"""Speed of traffic in heights of a person per second, well below life: a car would cross in half a second."""


class Vehicle(Actor):
    """A car or van in a lane. It brakes for whatever is in its way, unless a script moves it otherwise.

    Attributes:
        kind: car or van.
        color: A name in `actors.PAINT`.
        direction: +1 drives to the right, -1 to the left.
        cruise: Speed it aims at, in heights of a person per second.
        speed: Current speed, in the same unit.
        action: What it is doing, such as driving or parked.
        tilt: Radians, nose up.
        nose: How crumpled the front is, 0 to 1.
        tail: How crumpled the rear is, 0 to 1.
        turn: Radians that the wheels have turned.
        braking: The brake lights are on.
        hazard: The hazard lights blink.
    """

    def __init__(self, world: World, u: float, v: float, direction: int, kind: str | None = None) -> None:
        super().__init__(world, u, v)
        self.kind = kind or ("van" if world.chance(0.3) else "car")
        self.color = tuple(actors.PAINT)[world.index(len(actors.PAINT))]
        self.direction = direction
        self.cruise = CRUISE * world.uniform(0.8, 1.25)
        self.speed = 0.0
        self.action = "driving"
        self.tilt = self.nose = self.tail = self.turn = 0.0
        self.braking = self.hazard = False

    @property
    def height(self) -> float:
        """Height of a person standing here, in picture heights: the unit of the vehicle's own lengths."""
        return self.world.stage.scale(self.v)

    @property
    def half(self) -> float:
        """Half of its length, as a fraction of the picture's height."""
        return (1.0 if self.kind == "van" else 0.88) * self.height

    def room_ahead(self) -> float:
        """Measure the free way to the next vehicle or person in front, in heights of a person, at most 9."""
        room = 9.0
        for other in self.world.actors:
            if other is self or not isinstance(other, Vehicle | Person):
                continue
            # A sitting or crossing person counts only while actually in the lane.
            if abs(other.v - self.v) > 0.06:
                continue
            ahead = (other.u - self.u) * self.direction
            if ahead <= 0:
                continue
            length = other.half if isinstance(other, Vehicle) else 0.1
            room = min(room, (ahead - self.half - length) / self.height)
        return room

    def advance(self, wanted: float) -> None:
        """Drive one frame, aiming at the speed `wanted` but keeping distance."""
        dt = self.world.dt
        room = self.room_ahead()
        allowed = max(0.0, (room - 0.25) * 1.6)
        target = min(wanted, allowed)
        change = max(-4.0 * dt, min(1.4 * dt, target - self.speed))
        self.braking = change < -0.3 * dt or self.speed < 0.05
        self.speed = max(0.0, self.speed + change)
        self.move(self.speed)
        self.action = "driving" if self.speed > 0.05 else "stopped"

    def move(self, speed: float) -> None:
        """Roll one frame at `speed`, whatever is in the way."""
        way = speed * self.height * self.world.dt
        self.u += self.direction * way
        self.turn += way / (0.155 * self.height)

    def drive_to(self, u: float) -> Script:
        """Drive until the middle of the vehicle has passed u."""
        while (u - self.u) * self.direction > 0:
            self.advance(self.cruise)
            yield

    def drive_out(self) -> Script:
        """Drive on until out of sight."""
        yield from self.drive_to(self.exit_u())

    def exit_u(self) -> float:
        """Give the u where it is out of sight in front."""
        room = 1.1 * self.half
        return self.world.stage.aspect + room if self.direction > 0 else -room

    def entry_u(self) -> float:
        """Give the u where it is out of sight behind."""
        room = 1.1 * self.half
        return -room if self.direction > 0 else self.world.stage.aspect + room

    def stand(self, seconds: float, action: str = "stopped") -> Script:
        """Stand still for `seconds`."""
        for _ in range(self.world.frames(seconds)):
            self.speed = 0.0
            self.braking = action == "stopped"
            self.action = action
            yield

    def _state(self) -> actors.VehicleState:
        return actors.VehicleState(
            self.direction, self.tilt, self.nose, self.tail, self.turn, self.braking, self.hazard
        )

    def draw(self, canvas: Canvas) -> list[DrawnObject]:
        """Draw the vehicle."""
        foot = (self.u, self.v)
        box = actors.vehicle(canvas, foot, self.height, self.kind, actors.PAINT[self.color], self._state())
        return [DrawnObject(self.track, self.kind, box, self.action, self.color, foot)]

    def shine(self, canvas: Canvas) -> list[DrawnObject]:
        """Draw its lights, which are off when it is parked."""
        if self.action != "parked":
            head, tail = actors.lamps_of((self.u, self.v), self.height, self.kind, self.direction)
            actors.vehicle_lights(
                canvas,
                None if self._hidden(head) else head,
                None if self._hidden(tail) else tail,
                self.height,
                self._state(),
            )
        return []

    def _hidden(self, point: tuple[float, float]) -> bool:
        """Whether someone or something nearer to the camera covers a point of this vehicle."""
        for other in self.world.actors:
            if other.v <= self.v or not isinstance(other, Vehicle | Person):
                continue
            if isinstance(other, Vehicle):
                wide, tall = other.half, 0.66 * other.height
            else:
                wide, tall = 0.11 * other.height, other.height
            if abs(point[0] - other.u) < wide and other.v - tall < point[1] < other.v:
                return True
        return False


class Plume(Actor):
    """Smoke or steam that rises from a point; where each puff is follows from the time alone.

    Attributes:
        kind: smoke or steam.
        source: v that it rises from.
        strength: 0 to 1. Scripts may change it; what has risen already fades at once, too.
    """

    def __init__(self, world: World, u: float, v: float, kind: str, *, height: float = 0.0) -> None:
        super().__init__(world, u, v)
        self.kind = kind
        self.source = v - height
        self.strength = 1.0
        self.seed = world.uniform(0.0, 6.28)
        self.drift = world.uniform(-0.05, 0.05)

    def shine(self, canvas: Canvas) -> list[DrawnObject]:
        """Draw the puffs, oldest first."""
        if self.strength <= 0.0:
            return []
        scale = self.world.stage.scale(self.v)
        steam = self.kind == "steam"
        life, rate = (1.6, 5.0) if steam else (2.2, 4.5)
        color = shade((214, 212, 210) if steam else (70, 72, 76), 1.0 - 0.45 * canvas.darkness)
        t = canvas.seconds
        points = []
        for k in range(math.ceil((t - life) * rate), math.floor(t * rate) + 1):
            age = t - k / rate
            sway = math.sin(k * 12.9898 + self.seed) * 0.08
            center = (
                self.u + (self.drift + sway) * age * 2.0 * scale / 0.4,
                self.source - (0.32 if steam else 0.42) * age * scale,
            )
            radius = (0.12 + (0.14 if steam else 0.22) * age) * scale * (0.5 + 0.5 * self.strength)
            strength = (0.5 if steam else 0.75) * self.strength * (1.0 - age / life)
            canvas.haze(center, radius, color, strength)
            points.append((center[0], center[1]))
        box = actors.bounds(points, 0.12 * scale)
        return [DrawnObject(self.track, self.kind, box, "rising", "white" if steam else "grey", (self.u, self.v))]


class Fire(Actor):
    """Flames on something.

    Attributes:
        base: How far above the ground they burn, in heights of a person.
        size: In heights of a person; 0 shows nothing.
    """

    def __init__(self, world: World, u: float, v: float, *, height: float) -> None:
        super().__init__(world, u, v)
        self.base = height
        self.size = 0.0

    def shine(self, canvas: Canvas) -> list[DrawnObject]:
        """Draw the flames over everything, as they are brighter than what they burn."""
        if self.size <= 0.0:
            return []
        scale = self.world.stage.scale(self.v)
        foot = (self.u, self.v - self.base * scale)
        box = actors.flames(canvas, foot, self.size * scale)
        return [DrawnObject(self.track, "fire", box, "burning", "orange", (self.u, self.v))]


class Splinters(Actor):
    """Pieces that fly off where something breaks and stay on the ground; no object of the ground truth.

    Attributes:
        born: Time of the scene when they began to fly, in seconds.
        base: Height above the ground that they fly from, in heights of a person.
        pieces: Speed to the side, speed upwards, depth and size of each.
    """

    def __init__(self, world: World, u: float, v: float, *, height: float, count: int = 12) -> None:
        super().__init__(world, u, v)
        self.born = world.seconds
        self.base = height
        self.pieces = [
            (
                world.uniform(-1.0, 1.0),
                world.uniform(0.2, 1.4),
                world.uniform(-0.03, 0.05),
                world.uniform(0.012, 0.03),
            )
            for _ in range(count)
        ]

    def draw(self, canvas: Canvas) -> list[DrawnObject]:
        """Draw each piece on its ballistic flight until it lands."""
        scale = self.world.stage.scale(self.v)
        age = canvas.seconds - self.born
        for across, up, depth, size in self.pieces:
            landing = (up + math.sqrt(up * up + 4.0 * self.base)) / 2.0
            t = min(age, landing)
            y = max(0.0, self.base + up * t - t * t)
            center = (self.u + across * 0.6 * t * scale, self.v + depth - y * scale)
            canvas.disc(center, size * scale, (190, 196, 200) if size > 0.02 else (60, 62, 70))
        return []


class Bin(Actor):
    """A litter bin; an actor, because people pass in front of it and behind."""

    def draw(self, canvas: Canvas) -> list[DrawnObject]:
        """Draw a green bin with a lid."""
        s = self.world.stage.scale(self.v)
        u, v = self.u, self.v
        canvas.polygon(
            [(u - 0.11 * s, v - 0.42 * s), (u + 0.11 * s, v - 0.42 * s), (u + 0.09 * s, v), (u - 0.09 * s, v)],
            (62, 84, 60),
        )
        canvas.line((u - 0.13 * s, v - 0.43 * s), (u + 0.13 * s, v - 0.43 * s), (44, 58, 42), 0.05 * s)
        return []


class Fence(Actor):
    """A fence of bars across the whole picture; whoever is behind it is seen through it."""

    HEIGHT = 0.72

    def draw(self, canvas: Canvas) -> list[DrawnObject]:
        """Draw two rails and upright bars."""
        s = self.world.stage.scale(self.v)
        aspect = self.world.stage.aspect
        bottom, top = self.v, self.v - self.HEIGHT * s
        steel = (74, 78, 82)
        for i in range(int(aspect / 0.055) + 2):
            u = i * 0.055
            canvas.line((u, top), (u, bottom), steel, 0.007 if i % 5 else 0.018)
        for y in (top + 0.03 * s, bottom - 0.08 * s):
            canvas.line((-0.1, y), (aspect + 0.1, y), steel, 0.012)
        return []
