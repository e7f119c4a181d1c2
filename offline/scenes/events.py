"""Every kind of anomaly, and the function that stages it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from offline.scenes.events_people import abandoned_object, climbing, fall, fight, panic, snatch
from offline.scenes.events_things import crash, fire, pavement_driving, vandalism
from offline.scenes.spec import KINDS
from offline.scenes.world import World

EVENTS: Final[dict[str, Callable[[World, int, int], None]]] = {
    "fall": fall,
    "fight": fight,
    "panic": panic,
    "crash": crash,
    "fire": fire,
    "abandoned_object": abandoned_object,
    "snatch": snatch,
    "pavement_driving": pavement_driving,
    "vandalism": vandalism,
    "climbing": climbing,
}
assert tuple(EVENTS) == KINDS, "every kind of anomaly has its cast function"

PARTICIPANTS: Final = {
    "fall": 2,
    "fight": 2,
    "panic": 4,
    "abandoned_object": 1,
    "snatch": 2,
    "vandalism": 1,
    "climbing": 1,
}
"""About how many people an event brings along, so that a scene with one is not fuller than others."""
