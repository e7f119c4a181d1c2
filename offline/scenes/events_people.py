"""What happens to people or is done by them: falls, fights, panic, a bag left or snatched, a climb over a fence.

Each function lets its actors in at frame 0 and gives them scripts, for an event in the half-open
frame range `start` to `end`. Before the first frame of an event and after its last, everyone who takes part behaves
like normal life.
"""

from __future__ import annotations

import math

from offline.scenes.life import edge_u, inside_u
from offline.scenes.people import RUN, WALK, Bag, Cyclist, Person
from offline.scenes.world import Script, World


def open_place(world: World) -> tuple[float, float]:
    """Choose where an event happens, well inside the picture and in the open, and make it the world's focus.

    Returns:
        (u, v), see `stage`.
    """
    low, high = world.stage.open_walk
    world.focus = world.uniform(0.3, 0.7) * world.stage.aspect, world.uniform(low, high)
    return world.focus


def fall(world: World, start: int, end: int) -> None:
    """Let someone walking or standing fall and stay on the ground; perhaps someone else comes to help."""
    u, v = open_place(world)
    side = world.side()
    person = Person(world, edge_u(world, side), v)
    person.umbrella = False
    before = world.frames(1.5) if world.chance(0.4) and start > world.frames(2.0) else 0

    def script() -> Script:
        yield from person.arrive(u, v, start - before, side)
        yield from person.stay_until(start, "standing")
        yield from person.fall(world.uniform(0.5, 0.8))
        yield from person.stay_until(end, "lying")
        yield from person.rise(0.8)
        yield from person.leave(-side)

    person.script = script()
    if world.chance(0.4):
        passer = Person(world, edge_u(world, -side), v)
        passer.umbrella = False

        def helper() -> Script:
            yield from passer.arrive(u - side * 0.7 * passer.height, v, start + world.frames(2.0), -side)
            yield from passer.stay_until(end, "kneeling")
            yield from passer.leave()

        passer.script = helper()


def fight(world: World, start: int, end: int) -> None:
    """Let two people who stood talking strike at each other, then part."""
    u, v = open_place(world)
    meet = max(1, start - world.frames(world.uniform(0.5, 2.5)))

    def script(person: Person, side: int) -> Script:
        gap = 0.23 * person.height
        yield from person.arrive(u + side * gap, v, meet, side)
        person.looks_to = float(-side)
        yield from person.stay_until(start, "talking")
        while world.frame < end:
            t = world.seconds
            sway = 0.05 * math.sin(3.3 * t) + side * 0.035 * math.sin(9.0 * t)
            person.u = u + side * gap + sway
            person.looks_to = float(-side)
            person.action = "fighting"
            yield
        yield from person.leave(side, RUN if side > 0 else WALK, "running" if side > 0 else "walking")

    for side in (-1, 1):
        person = Person(world, edge_u(world, side), v)
        person.umbrella = False
        person.script = script(person, side)


def panic(world: World, start: int, end: int) -> None:
    """Let people who stand or pass burst apart and run about, and with them everyone else who is there."""
    low, high = world.stage.open_walk
    middle, v = open_place(world)
    for i in range(3 + world.index(2)):
        spot = middle + (i - 1.5) * 0.2, min(high, max(low, v + world.uniform(-0.06, 0.06)))
        member = Person(world, *spot)
        member.face(middle)
        member.script = member.stay_until(start + 1, "talking" if world.chance(0.5) else "standing")

    def flee(person: Person) -> Script:
        away = 1 if person.u >= middle else -1
        reach = person.u + away * world.uniform(0.4, 0.8)
        target = min(world.stage.aspect, max(0.0, reach)), world.uniform(low, high)
        speed = RUN * world.uniform(1.0, 1.45)
        while world.frame < end:
            person.action, person.umbrella = "fleeing", False
            if person.step_towards(*target, speed):
                target = world.uniform(0.05, 0.95) * world.stage.aspect, world.uniform(low, high)
            yield
        yield from person.leave()

    def burst() -> Script:
        while world.frame < start:
            yield
        for actor in world.actors:
            if isinstance(actor, Person) and not isinstance(actor, Cyclist):
                actor.script = flee(actor)

    world.directors.append(burst())


def abandoned_object(world: World, start: int, end: int) -> None:
    """Let someone put a bag down and walk out without it; perhaps that person comes back for it at the end."""
    u, v = open_place(world)
    side = world.side()
    owner = Person(world, edge_u(world, side), v)
    owner.umbrella = False
    bag = Bag(world, owner.u, v, "suitcase" if world.chance(0.6) else "sports bag")
    owner.take(bag)
    arrival = max(1, start - world.frames(1.0 + world.uniform(0.2, 1.5)))

    def script() -> Script:
        yield from owner.arrive(u, v, arrival, side)
        yield from owner.put_down()
        yield from owner.stay_until(start, "standing")
        bag.action = "abandoned"
        away = world.side()
        yield from owner.leave(away)
        if end >= world.spec.frames:
            return
        bend = world.frames(0.35)
        yield from owner.arrive(bag.u + away * 0.2 * owner.height, v, end - bend, away)
        yield from owner.stay_until(end, "picking up")
        owner.take(bag)
        yield from owner.leave(away)

    owner.script = script()


def snatch(world: World, start: int, end: int) -> None:
    """Let a passer-by tear someone's bag away and flee with it; the robbed person runs after."""
    u, v = open_place(world)
    low, high = world.stage.open_walk
    side = world.side()
    victim, thief = Person(world, edge_u(world, side), v), Person(world, edge_u(world, -side), v)
    victim.umbrella = thief.umbrella = False
    bag = Bag(world, victim.u, v, "handbag" if world.chance(0.6) else "sports bag")
    victim.take(bag)
    tug = world.frames(world.uniform(0.8, 1.3))
    corner = (0.12 if side < 0 else 0.88) * world.stage.aspect, world.uniform(low, high)

    def robbed() -> Script:
        yield from victim.arrive(u, v, max(1, start - world.frames(world.uniform(0.2, 1.5))), side)
        yield from victim.stay_until(start, "standing")
        victim.looks_to = float(-side)
        yield from victim.stay_until(start + tug, "struggling")
        yield from victim.stay(0.3, "standing")
        while not thief.gone and world.frame < end:
            victim.action = "chasing"
            victim.step_towards(thief.u, thief.v, 1.0 * RUN)
            yield
        yield from victim.leave(None, WALK)

    def robber() -> Script:
        yield from thief.arrive(u - side * 0.3 * victim.height, v, start, -side)
        thief.looks_to = float(side)
        yield from thief.stay_until(start + tug, "snatching")
        thief.take(bag)
        yield from thief.go(*corner, 1.2 * RUN, "fleeing")
        yield from thief.go(edge_u(world, -side), world.uniform(low, high), 1.2 * RUN, "fleeing")

    victim.script, thief.script = robbed(), robber()


def climbing(world: World, start: int, end: int) -> None:
    """Let someone walk up to the fence, climb over it and walk on behind it."""
    fence = world.stage.fence
    if fence is None:
        raise ValueError(f"the layout {world.stage.layout!r} has no fence to climb over")
    u, side = inside_u(world), world.side()
    v = fence + 0.008
    world.focus = u, v
    person = Person(world, edge_u(world, side), v)
    person.umbrella = False
    top = 0.62

    def script() -> Script:
        yield from person.arrive(u, v, max(1, start - world.frames(0.5)), side)
        person.looks_to = 0.35
        yield from person.stay_until(start, "standing")
        count = max(1, end - start)
        while world.frame < end:
            part = (world.frame - start + 1) / count
            person.action = "climbing"
            person.v = v if part < 0.55 else fence - 0.008
            up = min(1.0, part / 0.5) if part < 0.55 else min(1.0, (1.0 - part) / 0.3)
            person.lift = top * up * _fence_share(world, fence, person)
            yield
        person.lift = 0.0
        yield from person.leave(side)

    person.script = script()


def _fence_share(world: World, fence: float, person: Person) -> float:
    """Lift is measured in body heights of the climber, the fence in those of a grown person."""
    return world.stage.scale(fence) / person.height
