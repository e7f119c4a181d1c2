"""Who is let in when: furniture at the start, then people and traffic that keep coming."""

from __future__ import annotations

from offline.scenes import life
from offline.scenes.life import Act, clear_spot, parked_car, parker, through_traffic
from offline.scenes.people import Person
from offline.scenes.things import Bin, Fence, Plume, Vehicle
from offline.scenes.world import Script, World


def furnish(world: World) -> None:
    """Put bins, the fence, parked cars and, if the scene has it, a steaming grate into the world."""
    for spot in world.stage.bins:
        Bin(world, *spot)
    if world.stage.fence is not None:
        Fence(world, 0.0, world.stage.fence)
    for spot in world.stage.parked:
        parked_car(world, spot)
    if "steam" in world.spec.disturbances:
        Plume(world, *clear_spot(world), "steam")


def _acts(world: World) -> list[Act]:
    """The acts that this ground plan allows; one listed twice is twice as likely."""
    acts: list[Act] = [
        life.passer,
        life.passer,
        life.pair,
        life.jogger,
        life.bag_rest,
        life.greeting,
        life.crowd,
        life.shoelace,
        life.sweeper,
        life.cyclist,
    ]
    if world.stage.benches:
        acts += [life.sitter, life.sitter]
    if world.stage.crossing is not None:
        acts += [life.crosser, life.crosser, life.crosser]
    if world.stage.road is None:
        acts += [life.players]
    favoured: Act | None = None if world.spec.mostly is None else getattr(life, world.spec.mostly)
    if favoured is not None and favoured in acts:
        acts += [favoured] * (2 * len(acts))
    # In their places others pass: scenes in which none of them would have happened stay the same to the pixel.
    return [life.passer if act.__name__ in world.spec.without else act for act in acts]


def people_director(world: World, most: int, pause: range = range(0)) -> Script:
    """Keep about `most` people in the scene.

    Args:
        world: Where they are let in.
        most: No act begins while as many people are there.
        pause: Frames in which nothing new begins.
    """
    acts = _acts(world)
    for _ in range(2 if most > 1 else most):
        acts[world.index(len(acts))](world, True)
    while True:
        yield
        present = sum(isinstance(actor, Person) for actor in world.actors)
        if present < most and world.frame not in pause and world.chance(0.7 * world.dt):
            acts[world.index(len(acts))](world, False)


def traffic_director(world: World) -> Script:
    """Send a vehicle through every lane now and then."""
    while True:
        for lane in world.stage.lanes:
            clear = not any(
                isinstance(a, Vehicle) and abs(a.v - lane.v) < 0.03 and not 0.3 < a.u < world.stage.aspect - 0.3
                for a in world.actors
            )
            if lane not in world.closed_lanes and clear and world.chance(0.28 * world.dt):
                park = world.stage.layout == "car_park" and world.chance(0.6)
                (parker if park else through_traffic)(world, lane)
        yield
