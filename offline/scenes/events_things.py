"""What happens to vehicles and things: a crash, a fire, a car on the pavement, something smashed.

Each function lets its actors in at frame 0 and gives them scripts, as in `events_people`.
"""

from __future__ import annotations

import math

from offline.scenes.events_people import open_place
from offline.scenes.life import edge_u, inside_u, parked_car
from offline.scenes.people import RUN, Person
from offline.scenes.stage import Lane
from offline.scenes.things import CRUISE, Bin, Fire, Plume, Splinters, Vehicle
from offline.scenes.world import Script, World


def breakable(world: World) -> tuple[float, float, float, float]:
    """Choose a thing to damage: a bin or a parked car, put there where the scene has none that can be seen well.

    Returns:
        (u, v) where it stands, how far it reaches to the side and how high it is, both in heights of a person.
    """
    stage = world.stage
    if stage.layout == "car_park":
        if not stage.parked:
            parked_car(world, (inside_u(world), stage.parked_v))
        world.closed_lanes.update(stage.lanes)  # passing cars would hide it
    cars = [actor for actor in world.actors if isinstance(actor, Vehicle) and actor.action == "parked"]
    bins = [actor for actor in world.actors if isinstance(actor, Bin)]
    # What stands beyond a busy road is hidden too often.
    targets = [(a.u, a.v + 0.004, 0.22, 0.38) for a in bins if not stage.lanes or a.v > stage.lanes[-1].v]
    targets += [(car.u, car.v + 0.004, 0.75, 0.35) for car in cars]
    if not targets:
        u, v = open_place(world)
        Bin(world, u, v)
        targets = [(u, v + 0.004, 0.22, 0.38)]
    return targets[world.index(len(targets))]


def crash(world: World, start: int, end: int) -> None:
    """Let a vehicle run into another that has stopped, from behind, or head-on out of the other lane."""
    lanes = world.stage.lanes
    lane = lanes[world.index(len(lanes))]
    head_on = len(lanes) > 1 and world.chance(0.4)
    # Traffic in a nearer lane would hide it.
    world.closed_lanes.update(lanes if head_on else (other for other in lanes if other.v >= lane.v))
    contact = world.uniform(0.4, 0.6) * world.stage.aspect
    world.focus = contact, lane.v
    hit = Vehicle(world, 0.0, lane.v, lane.direction)
    striking = Vehicle(world, 0.0, lane.v, -lane.direction if head_on else lane.direction)
    speed = world.uniform(1.5, 2.0)
    # The point of contact is the bumper that is met; the middles stand off by half a length each.
    hit_u = contact + (-1 if head_on else 1) * lane.direction * hit.half
    strike_u = hit_u + (1 if head_on else -1) * lane.direction * (hit.half + striking.half) * 0.97
    other = next((other for other in lanes if other != lane), lane)

    hold = world.uniform(0.5, 2.5)

    def victim() -> Script:
        while world.frame < start:
            back = (start - world.frame) * world.dt - hold
            # Constant speed, then braking evenly through the last second: stands `hold` seconds before the hit.
            left = 0.0 if back <= 0 else 0.5 * back * back if back < 1.0 else back - 0.5
            hit.u = hit_u - lane.direction * left * CRUISE * hit.height
            hit.turn += CRUISE * min(1.0, max(0.0, back)) * world.dt / 0.155
            hit.action = "driving" if back > 0 else "stopped"
            hit.braking = back < 1.0
            yield
        yield from _wreck(world, hit, push=0.0 if head_on else 0.7, end=end, nose=head_on)

    def striker() -> Script:
        while world.frame < start:
            back = (start - world.frame) * world.dt
            striking.u = strike_u - striking.direction * back * speed * striking.height
            if head_on:  # swerves out of its own lane in the last moment
                part = min(1.0, max(0.0, 1.0 - back / 0.7))
                striking.v = other.v + (lane.v - other.v) * part * part
            striking.action = "driving"
            striking.turn += speed * world.dt / 0.155
            yield
        striking.u, striking.v = strike_u, lane.v
        Splinters(world, contact, lane.v + 0.01, height=0.3)
        yield from _wreck(world, striking, push=0.5 if head_on else 1.0, end=end, nose=True)

    hit.script, striking.script = victim(), striker()


def _wreck(world: World, vehicle: Vehicle, *, push: float, end: int, nose: bool) -> Script:
    """What an impact does to a vehicle: a jolt, crumpled metal, smoke; after `end` it is driven off."""
    smoke: Plume | None = None
    if nose:
        front = vehicle.u + vehicle.direction * 0.8 * vehicle.half
        smoke = Plume(world, front, vehicle.v, "smoke", height=0.4 * vehicle.height)
        smoke.strength = 0.0
    begin = world.frame
    jolt = world.frames(0.8)
    while world.frame < end:
        age = (world.frame - begin) * world.dt
        fade = math.exp(-age / 0.22)
        vehicle.u += vehicle.direction * push * fade * vehicle.height * world.dt * 1.6
        vehicle.tilt = (-0.10 if nose else 0.08) * math.sin(min(age / 0.12, 1.0) * 1.57) * (0.45 + 0.55 * fade)
        crumple = min(1.0, (age + world.dt) / 0.1)
        vehicle.nose, vehicle.tail = (crumple, vehicle.tail) if nose else (vehicle.nose, crumple)
        vehicle.speed = 0.0
        vehicle.hazard = not nose and age > 1.0
        vehicle.action = "crashing" if world.frame < begin + jolt else "crashed"
        if smoke is not None:
            smoke.strength = min(1.0, age / 1.2)
        yield
    if smoke is not None:
        smoke.gone = True
    vehicle.tilt, vehicle.hazard = 0.0, False
    direction = vehicle.direction
    # The struck car drives on; the one behind backs off first, so that both are seen to part.
    edge = vehicle.exit_u() if not nose else vehicle.entry_u()
    way = 1 if edge > vehicle.u else -1
    while (edge - vehicle.u) * way > 0:
        vehicle.speed = min(1.0, vehicle.speed + 0.8 * world.dt)
        vehicle.u += way * vehicle.speed * vehicle.height * world.dt
        vehicle.turn += way * direction * vehicle.speed * world.dt / 0.155
        vehicle.action = "driving"
        yield


def fire(world: World, start: int, end: int) -> None:
    """Let a bin, a parked car or the ground catch fire: flames grow, smoke rises, and it is put out."""
    if world.chance(0.25):
        u, v, height = *open_place(world), 0.0
    else:
        u, v, _, height = breakable(world)
    world.focus = u, v
    flames = Fire(world, u, v, height=height)
    smoke = Plume(world, u, v - 0.001, "smoke", height=(height + 0.25) * world.stage.scale(v))
    smoke.strength = 0.0
    largest = world.uniform(0.6, 0.95)

    def script() -> Script:
        while world.frame < start:
            yield
        for actor in world.actors:
            if isinstance(actor, Person) and abs(actor.u - u) < 0.3 and abs(actor.v - v) < 0.12:
                actor.script = actor.leave()  # nobody stays beside a fire
        while world.frame < end:
            age = (world.frame - start) * world.dt
            left = (end - world.frame) * world.dt if end < world.spec.frames else 9.0
            growth = min(1.0, 0.3 + age / 2.5) * min(1.0, 0.25 + left / 0.8)
            flames.size = largest * growth
            smoke.strength = min(1.0, age / 2.0)
            yield
        flames.size = 0.0
        while smoke.strength > 0.0:
            smoke.strength = max(0.0, smoke.strength - 0.6 * world.dt)
            yield

    flames.script = script()


def pavement_driving(world: World, start: int, end: int) -> None:
    """Let a vehicle leave the road and drive where people walk, who run out of its way."""
    stage = world.stage
    low, high = stage.open_walk
    lanes = [lane for lane in stage.lanes if abs(lane.v - low) < 0.2]
    lane: Lane | None = lanes[-1] if lanes else None
    direction = lane.direction if lane is not None else world.side()
    if lane is not None:
        world.closed_lanes.add(lane)
    target_v = world.uniform((low + high) / 2, high)
    vehicle = Vehicle(world, 0.0, lane.v if lane is not None else target_v, direction)
    entry = vehicle.entry_u()
    begin_u = entry + direction * (0.9 * stage.aspect * 0.35 if lane is not None else 0.05)
    seconds = max(1.5, (end - start) * world.dt)
    speed = max(0.45, abs(vehicle.exit_u() - begin_u) / seconds / vehicle.height)

    def script() -> Script:
        while world.frame < start:
            back = (start - world.frame) * world.dt
            vehicle.u = begin_u - direction * back * speed * vehicle.height
            vehicle.turn += speed * world.dt / 0.155
            vehicle.action = "driving"
            yield
        vehicle.u = begin_u
        while (vehicle.exit_u() - vehicle.u) * direction > 0:
            climb = min(0.16 * world.dt, target_v - vehicle.v)
            vehicle.v += climb
            vehicle.tilt = 0.07 if climb > 1e-6 else 0.015 * math.sin(9.0 * world.seconds)
            vehicle.move(speed * (1.0 + 0.35 * math.sin(2.0 * world.seconds)))
            vehicle.action = "driving on the pavement"
            _scatter(world, vehicle)
            yield

    vehicle.script = script()


def _scatter(world: World, vehicle: Vehicle) -> None:
    """Let everyone in front of a vehicle run out of its way."""
    low = world.stage.walks[-1][0]
    for actor in world.actors:
        if not isinstance(actor, Person) or actor.action == "running" or abs(actor.v - vehicle.v) > 0.1:
            continue
        if -0.2 < (actor.u - vehicle.u) * vehicle.direction - vehicle.half < 0.3:
            aside = low if actor.v <= vehicle.v else 0.99
            actor.script = _dodge(actor, vehicle.direction, aside)


def _dodge(person: Person, direction: int, aside: float) -> Script:
    yield from person.go(person.u + 0.12 * direction, aside, RUN, "running")
    yield from person.leave()


def vandalism(world: World, start: int, end: int) -> None:
    """Let someone walk up to a bin or a car and smash it with a bat."""
    u, v, reach, _ = breakable(world)
    world.focus = u, v
    side = 1 if u < world.stage.aspect / 2 else -1
    person = Person(world, edge_u(world, side), v)
    person.umbrella = False
    height = person.height

    def script() -> Script:
        yield from person.arrive(u + side * (reach + 0.12) * height, v, max(1, start - world.frames(0.6)), side)
        yield from person.stay_until(start, "standing")
        person.held = "bat"
        hits = [start + world.frames(s) for s in (0.4, 1.9, 3.4)]
        while world.frame < end:
            person.action, person.looks_to = "smashing", float(-side)
            if world.frame in hits:
                Splinters(world, u + side * reach * height * 0.8, v, height=0.4, count=7)
            yield
        person.held = None
        yield from person.leave(side)

    person.script = script()
