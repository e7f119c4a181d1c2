"""Normal life: what people and traffic do when nothing is wrong.

Many of these acts resemble an anomaly on purpose (an embrace, a runner, a bag put down, someone kneeling), so that a
detector has to see what happens and not only that something moves. Each act lets its actors in and gives them
scripts; with `already` it is under way from the start.
"""

from __future__ import annotations

from collections.abc import Callable

from offline.scenes.people import MARGIN, RUN, STROLL, WALK, Bag, Ball, Cyclist, Person, follow
from offline.scenes.stage import Lane, Spot
from offline.scenes.things import Vehicle
from offline.scenes.world import Script, World

Act = Callable[[World, bool], None]
"""Lets actors in and gives them scripts. The flag says that the act is already under way (at frame 0)."""


def walk_v(world: World) -> float:
    """Draw a v to walk at, in one of the bands for people; wider bands are drawn more often."""
    walks = world.stage.walks
    widths = [high - low for low, high in walks]
    low, high = walks[int(world.rng.choice(len(walks), p=[w / sum(widths) for w in widths]))]
    return world.uniform(low, high)


def inside_u(world: World) -> float:
    """Draw a u well inside the picture."""
    return world.uniform(0.2, 0.8) * world.stage.aspect


def clear_spot(world: World, room: float = 0.3) -> Spot:
    """Draw a place to settle down at that hides no event.

    Args:
        world: Its `focus` is where the event is to be seen.
        room: A spot is clear farther than this to the side of the focus, in picture heights, or behind it.

    Returns:
        (u, v): the first of eight draws that is clear, or else the last.
    """
    for _ in range(8):
        spot = world.uniform(0.1, 0.9) * world.stage.aspect, walk_v(world)
        focus = world.focus
        if focus is None or abs(spot[0] - focus[0]) > room or spot[1] < focus[1] - 0.05:
            return spot
    return spot


def edge_u(world: World, side: int) -> float:
    """Give the u just outside the picture, on the left (-1) or right (1)."""
    return -MARGIN if side < 0 else world.stage.aspect + MARGIN


def _entering(world: World, already: bool, *, child: bool = False) -> tuple[Person, int]:
    """A person who comes in from a side, or is somewhere inside already; and that side."""
    side = world.side()
    u = inside_u(world) if already else edge_u(world, side)
    return Person(world, u, walk_v(world), child=child), side


def passer(world: World, already: bool) -> None:
    """Let someone walk through, perhaps with a bag or on the phone, perhaps changing course."""
    person, side = _entering(world, already)
    if world.chance(0.3):
        person.take(Bag(world, person.u, person.v))

    def script() -> Script:
        if world.chance(0.3):
            yield from person.go(*clear_spot(world))
            if world.chance(0.5):
                yield from person.stay(world.uniform(1.0, 3.0), "phoning")
        yield from person.leave(-side)

    person.script = script()


def pair(world: World, already: bool) -> None:
    """Let two people walk through together, grown-ups or one with a child."""
    first, side = _entering(world, already)
    second = Person(world, first.u, first.v, child=world.chance(0.4))
    first.pace = 0.9
    first.script = first.leave(-side, STROLL if world.chance(0.4) else None)
    second.script = follow(first, second, -0.3 * first.height * -side)


def jogger(world: World, already: bool) -> None:
    """Let one or two joggers run through."""
    first, side = _entering(world, already)
    first.umbrella = False
    first.script = first.leave(-side, RUN * world.uniform(0.8, 1.15), "running")
    if world.chance(0.35):
        second = Person(world, first.u, first.v)
        second.umbrella = False
        second.script = follow(first, second, 0.45 * first.height * side)


def cyclist(world: World, already: bool) -> None:
    """Let a cyclist ride through, on the road's edge where there is a road."""
    side = world.side()
    road = world.stage.road
    v = walk_v(world) if road is None else road[1 if world.chance(0.5) else 0] - (0.0 if world.chance(0.5) else 0.01)
    rider = Cyclist(world, inside_u(world) if already else edge_u(world, side) + 0.2 * side, v)
    far = edge_u(world, -side) - 0.2 * side
    rider.script = rider.go(far, v, world.uniform(1.0, 1.7), "cycling")


def sitter(world: World, already: bool) -> None:
    """Let someone sit down on a bench, rest and get up again."""
    bench = world.stage.benches[world.index(len(world.stage.benches))]
    person, side = _entering(world, already)

    def script() -> Script:
        if already:
            person.u, person.v = bench[0], bench[1] + 0.012
        else:
            yield from person.go(bench[0] + world.uniform(-0.05, 0.05), bench[1] + 0.012)
        person.looks_to = 0.75 * side
        yield from person.stay(world.uniform(3.0, 8.0), "sitting")
        yield from person.leave()

    person.script = script()


def bag_rest(world: World, already: bool) -> None:
    """Let someone put a bag down, wait beside it, take it and walk on."""
    person, side = _entering(world, already)
    bag = Bag(world, person.u, person.v)
    person.take(bag)

    def script() -> Script:
        yield from person.go(*clear_spot(world))
        yield from person.put_down()
        yield from person.stay(world.uniform(1.5, 5.0), "phoning" if world.chance(0.5) else "standing")
        yield from person.stay(0.4, "picking up")
        person.take(bag)
        yield from person.leave(-side)

    person.script = script()


def greeting(world: World, already: bool) -> None:
    """Let two people meet, embrace or wave, talk and part."""
    del already
    u, v = clear_spot(world)
    left = Person(world, edge_u(world, -1), v)
    right = Person(world, edge_u(world, 1), v)
    left.umbrella = right.umbrella = False
    meet = world.frame + world.frames(world.uniform(2.5, 4.0))
    part = meet + world.frames(world.uniform(3.0, 6.0))
    hug = world.chance(0.6)

    def script(person: Person, side: int) -> Script:
        gap = (0.12 if hug else 0.25) * person.height
        yield from person.arrive(u + side * gap, v, meet, side)
        person.looks_to = float(-side)
        yield from person.stay(1.6, "hugging" if hug else "waving")
        yield from person.stay_until(part, "talking")
        yield from person.leave(-side if world.chance(0.5) else side)

    left.script, right.script = script(left, -1), script(right, 1)


def crowd(world: World, already: bool) -> None:
    """Let a few people stand together and talk; they part one after the other."""
    low, high = world.stage.open_walk
    u, v = clear_spot(world, room=0.55)
    v = min(high, max(low, v))
    for i in range(3 + world.index(2)):
        member_u = u + (i - 1.5) * 0.17 + world.uniform(-0.03, 0.03)
        side = -1 if member_u < u else 1
        start = (member_u if already else edge_u(world, side), min(high, max(low, v + world.uniform(-0.04, 0.04))))
        member = Person(world, *start)
        member.script = _stand_in_crowd(world, member, (member_u, start[1]), u)


def _stand_in_crowd(world: World, member: Person, spot: Spot, middle: float) -> Script:
    yield from member.go(*spot)
    member.face(middle)
    yield from member.stay(world.uniform(5.0, 14.0), "talking" if world.chance(0.6) else "standing")
    yield from member.leave()


def players(world: World, already: bool) -> None:
    """Let children kick a ball to and fro and run after it."""
    low, high = world.stage.open_walk
    v = world.uniform(low, high)
    middle = world.uniform(0.4, 0.6) * world.stage.aspect
    places = [(middle - 0.3, v), (middle + 0.3, max(low, v - 0.02))]
    children = [
        Person(world, *(p if already else (edge_u(world, s), v)), child=True)
        for p, s in zip(places, (-1, 1), strict=True)
    ]
    ball = Ball(world, middle, v)
    end = world.frame + world.frames(world.uniform(7.0, 12.0))

    def play(child: Person, place: Spot) -> Script:
        yield from child.go(*place, RUN * 0.8, "running")
        while world.frame < end:
            spot = place[0] + world.uniform(-0.12, 0.12), min(high, max(low, place[1] + world.uniform(-0.04, 0.04)))
            yield from child.go(*spot, RUN * 0.9, "playing")
            child.face(ball.u)
            yield from child.stay(world.uniform(0.2, 0.7), "playing")
        yield from child.leave(None, RUN * 0.8, "running")

    def roll() -> Script:
        while world.frame < end:
            for child in children:
                yield from ball.fly(child.u, child.v, 0.8)

    for child, place in zip(children, places, strict=True):
        child.umbrella = False
        child.script = play(child, place)
    ball.script = roll()


def shoelace(world: World, already: bool) -> None:
    """Let someone kneel down, tie a shoe and walk on."""
    person, side = _entering(world, already)
    person.umbrella = False

    def script() -> Script:
        yield from person.go(*clear_spot(world))
        yield from person.stay(world.uniform(1.5, 3.5), "kneeling")
        yield from person.leave(-side)

    person.script = script()


def sweeper(world: World, already: bool) -> None:
    """Let a worker sweep the ground with a broom, moving on in small steps."""
    person, side = _entering(world, already)
    person.umbrella, person.held = False, "broom"

    def script() -> Script:
        yield from person.go(*clear_spot(world))
        for _ in range(2 + world.index(3)):
            yield from person.stay(world.uniform(1.5, 2.5), "sweeping")
            yield from person.go(person.u - side * 0.12, person.v, STROLL)
        yield from person.leave(-side)

    person.script = script()


def crosser(world: World, already: bool) -> None:
    """Let someone wait at the kerb until the crossing is free, cross, and walk on."""
    stage = world.stage
    if stage.crossing is None or stage.road is None:
        return passer(world, already)
    u = world.uniform(stage.crossing[0] + 0.08, stage.crossing[1] - 0.08)
    near_first = world.chance(0.5)
    here, there = (0.9, stage.road[0] - 0.03) if near_first else (stage.road[0] - 0.03, 0.9)
    side = world.side()
    person = Person(world, edge_u(world, side), here)

    def free() -> bool:
        cars = (actor for actor in world.actors if isinstance(actor, Vehicle))
        return not any(abs(car.u - u) < car.half + 0.25 or 0 < (u - car.u) * car.direction < 0.8 for car in cars)

    def script() -> Script:
        yield from person.go(u, here)
        person.looks_to = 0.2
        waited = 0
        while not free() and waited < world.frames(4.0):
            waited += 1
            yield from person.stay(0.1, "standing")
        yield from person.go(u, there, WALK * 1.1)
        yield from person.leave()

    person.script = script()
    return None


def through_traffic(world: World, lane: Lane) -> None:
    """Let a vehicle drive through; some stop on the way, blink, and drive on."""
    vehicle = Vehicle(world, 0.0, lane.v, lane.direction)
    vehicle.u = vehicle.entry_u()
    vehicle.speed = vehicle.cruise

    def script() -> Script:
        if world.chance(0.35):
            stop = world.uniform(0.3, 0.7) * world.stage.aspect
            yield from vehicle.drive_to(stop)
            while vehicle.speed > 0.05:  # brakes for no reason in the picture
                vehicle.advance(0.0)
                yield
            vehicle.hazard = world.chance(0.5)
            yield from vehicle.stand(world.uniform(1.0, 4.0))
            vehicle.hazard = False
        yield from vehicle.drive_out()

    vehicle.script = script()


def parker(world: World, lane: Lane) -> None:
    """Let a car drive in, turn into a free bay and stay there."""
    bays = [(i + 0.5) * world.stage.aspect / 3 for i in range(3)]
    free = [u for u in bays if not any(isinstance(a, Vehicle) and abs(a.u - u) < 0.2 for a in world.actors)]
    if not free:
        return through_traffic(world, lane)
    bay = free[world.index(len(free))]
    car = Vehicle(world, 0.0, lane.v, lane.direction, "car")
    car.u = car.entry_u()
    car.speed = car.cruise

    def script() -> Script:
        yield from car.drive_to(bay - 0.3 * lane.direction)
        while car.v > world.stage.parked_v:
            car.v = max(world.stage.parked_v, car.v - 0.09 * world.dt)
            if (bay - car.u) * lane.direction > 0:
                car.move(0.6)
            car.action = "parking"
            yield
        while True:
            car.action, car.braking = "parked", False
            yield

    car.script = script()
    return None


def parked_car(world: World, spot: Spot) -> Vehicle:
    """Put a car into its bay, where it stands for the whole scene."""
    car = Vehicle(world, *spot, world.side(), "car")
    car.action = "parked"
    return car
