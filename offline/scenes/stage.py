"""The ground plan of a layout: where people walk, vehicles drive and furniture stands.

Coordinates are fractions of the picture's HEIGHT: u to the right from 0 to the aspect ratio, v downwards from 0 to 1.
A thing stands on the ground at (u, v); the further down, the nearer and the larger it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offline.scenes.spec import FOOTAGE, SceneSpec

Spot = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Lane:
    """One driving lane, straight across the picture.

    Attributes:
        v: Where its wheels touch the ground.
        direction: +1 drives to the right, -1 to the left.
    """

    v: float
    direction: int


@dataclass(frozen=True, slots=True)
class Stage:
    """The ground plan of one scene. All lengths are fractions of the picture's height, bands are (from, to).

    Attributes:
        layout: See SceneSpec.
        aspect: Width of the picture over its height.
        ground: v where the ground begins.
        far: Height of a grown person at v = 0.5.
        near: Height of a grown person at v = 1.
        walks: Bands of v for people.
        road: Band of v of the carriageway; None without one.
        lanes: The lanes on it.
        crossing: Band of u of the pedestrian crossing; None without one.
        benches: Where benches stand, (u, v).
        bins: Where litter bins stand.
        lamps: Where street lamps stand.
        parked: The bays that are taken from the start.
        fence: v of the fence; None without one.
        sign: Where the neon sign hangs.
    """

    layout: str
    aspect: float
    ground: float
    far: float
    near: float
    walks: tuple[tuple[float, float], ...]
    road: tuple[float, float] | None
    lanes: tuple[Lane, ...]
    crossing: tuple[float, float] | None
    benches: tuple[Spot, ...]
    bins: tuple[Spot, ...]
    lamps: tuple[Spot, ...]
    parked: tuple[Spot, ...]
    fence: float | None
    sign: Spot

    def scale(self, v: float) -> float:
        """Compute the height of a grown person standing at v, as a fraction of the picture's height."""
        return self.far + (self.near - self.far) * (v - 0.5) / 0.5

    def place(self, u: float, v: float) -> str:
        """Give the word for the ground at (u, v): one of SceneObject's places."""
        if self.road is not None and self.road[0] <= v <= self.road[1]:
            if self.crossing is not None and self.crossing[0] <= u <= self.crossing[1]:
                return "crossing"
            return "parking" if self.layout == "car_park" else "road"
        if self.layout == "park":
            return "path" if self.walks[0][0] - 0.02 <= v else "grass"
        return {"plaza": "square", "car_park": "parking", FOOTAGE: "ground"}.get(self.layout, "pavement")

    @property
    def parked_v(self) -> float:
        """v of the bays of a car park; without a road, the middle of the ground."""
        return 0.75 if self.road is None else self.road[0] + 0.10

    @property
    def open_walk(self) -> tuple[float, float]:
        """The widest band for people: where things that need room happen."""
        return max(self.walks, key=lambda band: band[1] - band[0])


def _spots(rng: np.random.Generator, count: int, aspect: float, v: float) -> tuple[Spot, ...]:
    """`count` places in a row at depth v, evenly spread with some disorder."""
    step = aspect / max(count, 1)
    return tuple(((i + float(rng.uniform(0.3, 0.7))) * step, v) for i in range(count))


def build_stage(spec: SceneSpec) -> Stage:
    """Lay out the ground plan of a scene: that of its layout, moved and furnished by the seed."""
    rng = np.random.default_rng([spec.seed, 2])
    aspect = spec.aspect
    size = float(rng.uniform(0.92, 1.08))
    shift = float(rng.uniform(-0.025, 0.025))
    far, near = 0.31 * size, 0.47 * size
    sign = (float(rng.uniform(0.15, 0.85)) * aspect, float(rng.uniform(0.16, 0.26)))
    lamps = _spots(rng, int(rng.integers(1, 4)), aspect, 0.51 + shift)
    bins = _spots(rng, int(rng.integers(1, 3)), aspect, 0.53 + shift)
    benches = _spots(rng, int(rng.integers(1, 3)), aspect, 0.54 + shift)
    if spec.layout in ("street", "crossing"):
        flip = 1 if rng.random() < 0.5 else -1
        middle = float(rng.uniform(0.2, 0.6)) * aspect
        return Stage(
            layout=spec.layout,
            aspect=aspect,
            ground=0.46 + shift,
            far=far,
            near=near,
            walks=((0.53 + shift, 0.58 + shift), (0.87 + shift, 0.97)),
            road=(0.60 + shift, 0.83 + shift),
            lanes=(Lane(0.68 + shift, -flip), Lane(0.80 + shift, flip)),
            crossing=(middle, middle + 0.36) if spec.layout == "crossing" else None,
            benches=benches,
            bins=bins,
            lamps=lamps,
            parked=(),
            fence=None,
            sign=sign,
        )
    if spec.layout == "car_park":
        bays = int(rng.integers(2, 4))
        taken = sorted(rng.choice(3, size=bays - 1, replace=False))
        return Stage(
            layout=spec.layout,
            aspect=aspect,
            ground=0.42 + shift,
            far=far,
            near=near,
            walks=((0.86 + shift, 0.97),),
            road=(0.50 + shift, 0.83 + shift),
            lanes=(Lane(0.76 + shift, 1 if rng.random() < 0.5 else -1),),
            crossing=None,
            benches=(),
            bins=_spots(rng, 1, aspect, 0.88),
            lamps=lamps[:2],
            parked=tuple(((i + 0.5) * aspect / 3, 0.60 + shift) for i in taken),
            fence=0.50 + shift,
            sign=sign,
        )
    base = Stage(
        layout=spec.layout,
        aspect=aspect,
        ground=0.42 + shift,
        far=far,
        near=near,
        walks=((0.60 + shift, 0.96),),
        road=None,
        lanes=(),
        crossing=None,
        benches=benches,
        bins=bins,
        lamps=lamps,
        parked=(),
        fence=0.56 + shift if spec.layout == "park" or spec.kind == "climbing" or rng.random() < 0.3 else None,
        sign=sign,
    )
    if spec.layout != FOOTAGE:
        return base
    return Stage(
        layout=FOOTAGE,
        aspect=aspect,
        ground=0.4,
        far=0.24 * size,
        near=0.36 * size,
        walks=((0.55, 0.95),),
        road=None,
        lanes=(),
        crossing=None,
        benches=(),
        bins=(),
        lamps=(),
        parked=(),
        fence=None,
        sign=sign,
    )
