"""The painted background of a scene, drawn once: sky, houses, trees, ground, road, benches, lamps; and its light.

Painted at twice the size and reduced, which smooths every edge.
"""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np

from offline.scenes.canvas import Canvas, Color, shade
from offline.scenes.spec import FOOTAGE, SceneSpec
from offline.scenes.stage import Stage
from offline.scenes.truth import BgrImage

_WALLS: Final[tuple[Color, ...]] = (
    (112, 132, 168),
    (150, 160, 172),
    (96, 108, 140),
    (168, 178, 188),
    (120, 150, 176),
    (134, 134, 138),
)
_PAVING: Final[tuple[Color, ...]] = ((158, 164, 168), (146, 156, 168), (138, 142, 144))
_ROAD: Final[tuple[Color, ...]] = ((86, 86, 88), (98, 96, 96), (76, 78, 82))
_GRASS: Final[tuple[Color, ...]] = ((62, 118, 92), (58, 104, 86), (70, 124, 104))
_SKY: Final[dict[str, tuple[Color, Color]]] = {
    "clear": ((214, 172, 122), (234, 216, 190)),
    "rain": ((158, 152, 146), (186, 182, 178)),
    "fog": ((200, 200, 200), (212, 212, 212)),
}
AMBIENT: Final[dict[str, tuple[float, float, float]]] = {
    "day": (1.0, 1.0, 1.0),
    "dusk": (0.66, 0.60, 0.70),
    "night": (0.47, 0.40, 0.38),
}
"""Light of the scene by channel (B, G, R), against a bright day."""

DARKNESS: Final[dict[str, float]] = {"day": 0.0, "dusk": 0.45, "night": 0.85}
"""How dark it is, from 0 to 1: what decides whether lights are on."""


def paint(spec: SceneSpec, stage: Stage) -> BgrImage:
    """Paint the background at the scene's size, under even light.

    Returns:
        BGR uint8 (height, width, 3).
    """
    rng = np.random.default_rng([spec.seed, 4])
    width, height = spec.size
    image = np.zeros((2 * height, 2 * width, 3), np.uint8)
    canvas = Canvas(image, rng, 0.0, DARKNESS[spec.time_of_day])
    _sky(canvas, stage, spec.weather)
    if stage.layout == "park":
        _trees(canvas, stage, count=5, size=0.36)
    else:
        _houses(canvas, stage)
    _ground(canvas, stage)
    if stage.layout != "car_park":
        _trees(canvas, stage, count=int(rng.integers(0, 3)), size=0.26)
    for u, v in stage.benches:
        _bench(canvas, u, v, stage.scale(v))
    for u, v in stage.lamps:
        _lamp(canvas, u, v, stage.scale(v))
    grain = rng.normal(0.0, 5.0, (height, width, 1)).astype(np.float32)
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    grain = grain + cv2.resize(grain[::4, ::4], (width, height), interpolation=cv2.INTER_CUBIC)[:, :, None]
    grain[: int(stage.ground * height)] *= 0.5
    grained: BgrImage = np.clip(small + grain, 0, 255).astype(np.uint8)
    return grained


def light_map(spec: SceneSpec, stage: Stage) -> BgrImage | None:
    """Compute what the scene is to be multiplied with: ambient light, and pools of light under lamps.

    Returns:
        uint8 (height, width, 3), 255 is unchanged; None where nothing changes, as on a dry day.
    """
    if spec.time_of_day == "day" and spec.weather != "rain":
        return None
    width, height = spec.size
    ambient = np.array(AMBIENT[spec.time_of_day], np.float32) * (0.9 if spec.weather == "rain" else 1.0)
    light = np.ones((height, width, 3), np.float32) * ambient
    if spec.time_of_day != "day" and stage.layout != FOOTAGE:
        y, x = np.mgrid[0:height, 0:width].astype(np.float32) / np.float32(height)
        for u, v in stage.lamps:
            pool = np.exp(-(((x - u) / 0.42) ** 2) - ((y - v - 0.10) / 0.30) ** 2)
            light += pool[:, :, None] * np.array((0.24, 0.42, 0.48), np.float32) * (1.0 - ambient) * 1.2
    return np.clip(light * 255.0, 0, 255).astype(np.uint8)


def window_glow(spec: SceneSpec, stage: Stage) -> list[tuple[float, float, float, Color]]:
    """List the lamps that are on.

    Returns:
        (u, v, radius, colour) of every glow; none by day.
    """
    if spec.time_of_day == "day" or stage.layout == FOOTAGE:
        return []
    return [(u, v - 1.12 * stage.scale(v), 0.10, (120, 200, 235)) for u, v in stage.lamps]


def _sky(canvas: Canvas, stage: Stage, weather: str) -> None:
    top, bottom = (np.array(color, np.float32) for color in _SKY[weather])
    part = np.linspace(0.0, 1.0, canvas.height, dtype=np.float32)[:, None, None]
    canvas.image[:] = (top + (bottom - top) * np.minimum(1.0, part / stage.ground)).astype(np.uint8)


def _houses(canvas: Canvas, stage: Stage) -> None:
    """A row of houses with windows, doors and shop fronts."""
    rng = canvas.rng
    u = -float(rng.uniform(0.0, 0.2))
    while u < stage.aspect:
        width = float(rng.uniform(0.28, 0.55))
        top = float(rng.uniform(0.0, 0.14)) if rng.random() < 0.8 else float(rng.uniform(0.14, 0.22))
        wall = shade(_WALLS[int(rng.integers(len(_WALLS)))], float(rng.uniform(0.7, 1.0)))
        right = u + width
        canvas.polygon([(u, top), (right, top), (right, stage.ground), (u, stage.ground)], wall)
        canvas.line((u, top), (right, top), shade(wall, 0.7), 0.012)
        canvas.line((right, top), (right, stage.ground), shade(wall, 0.75), 0.005)
        columns = max(2, int(width / 0.11))
        floor = top + 0.05
        while floor < stage.ground - 0.17:
            for column in range(columns):
                x = u + (column + 0.5) * width / columns
                lit = canvas.darkness > 0.3 and rng.random() < 0.35
                # Lit windows are drawn brighter than white paint: the light map will darken them again.
                pane = (150, 236, 255) if lit else (104, 92, 80)
                canvas.polygon(
                    [(x - 0.025, floor), (x + 0.025, floor), (x + 0.025, floor + 0.065), (x - 0.025, floor + 0.065)],
                    pane,
                )
            floor += 0.11
        _shop(canvas, u, right, stage.ground, wall)
        u = right


def _shop(canvas: Canvas, left: float, right: float, ground: float, wall: Color) -> None:
    """Ground floor: a door and a window under an awning, or only a door."""
    rng = canvas.rng
    door = left + float(rng.uniform(0.15, 0.3)) * (right - left)
    canvas.polygon(
        [(door - 0.03, ground - 0.13), (door + 0.03, ground - 0.13), (door + 0.03, ground), (door - 0.03, ground)],
        shade(wall, 0.45),
    )
    if rng.random() < 0.6:
        a, b = left + 0.45 * (right - left), right - 0.03
        canvas.polygon(
            [(a, ground - 0.11), (b, ground - 0.11), (b, ground - 0.02), (a, ground - 0.02)], (128, 116, 98)
        )
        color: Color = ((60, 70, 160), (70, 120, 70), (150, 90, 60))[int(rng.integers(3))]
        canvas.polygon(
            [
                (a - 0.01, ground - 0.13),
                (b + 0.01, ground - 0.13),
                (b + 0.02, ground - 0.095),
                (a - 0.02, ground - 0.095),
            ],
            color,
        )


def _trees(canvas: Canvas, stage: Stage, *, count: int, size: float) -> None:
    rng = canvas.rng
    for i in range(count):
        u = (i + float(rng.uniform(0.1, 0.9))) * stage.aspect / max(1, count)
        foot = stage.ground + float(rng.uniform(0.0, 0.03))
        canvas.line((u, foot), (u, foot - size), (58, 74, 92), 0.03)
        leaf: Color = (52, int(rng.integers(90, 120)), int(rng.integers(56, 84)))
        for _ in range(14):
            angle, reach = float(rng.uniform(0, 6.28)), float(rng.uniform(0.0, 0.42)) * size
            center = (u + math.cos(angle) * reach, foot - 1.02 * size + math.sin(angle) * reach * 0.8)
            canvas.disc(center, float(rng.uniform(0.14, 0.26)) * size, shade(leaf, float(rng.uniform(0.75, 1.2))))


def _ground(canvas: Canvas, stage: Stage) -> None:
    """Pavement with its joints, the carriageway with its marks, grass and path."""
    rng = canvas.rng
    paving = _PAVING[int(rng.integers(len(_PAVING)))]
    aspect, top = stage.aspect, stage.ground
    base = _GRASS[int(rng.integers(len(_GRASS)))] if stage.layout == "park" else paving
    canvas.polygon([(-0.1, top), (aspect + 0.1, top), (aspect + 0.1, 1.1), (-0.1, 1.1)], base)
    if stage.layout == "park":
        low = stage.walks[0][0] + 0.02
        canvas.polygon([(-0.1, low), (aspect + 0.1, low), (aspect + 0.1, 0.97), (-0.1, 0.97)], (142, 168, 186))
        canvas.line((-0.1, low), (aspect + 0.1, low), (112, 136, 150), 0.008)
    else:
        joint = shade(paving, 0.88)
        v, step = top + 0.02, 0.03
        while v < 1.0:  # joints further apart towards the viewer
            canvas.line((-0.1, v), (aspect + 0.1, v), joint, 0.0)
            v, step = v + step, step * 1.25
        for i in range(-6, 15):
            x = i * 0.16
            canvas.line((x, top), (aspect / 2 + (x - aspect / 2) * 1.7, 1.0), joint, 0.0)
    if stage.road is None:
        return
    low, high = stage.road
    tar = _ROAD[int(rng.integers(len(_ROAD)))]
    canvas.polygon([(-0.1, low), (aspect + 0.1, low), (aspect + 0.1, high), (-0.1, high)], tar)
    for edge in (low, high):
        canvas.line((-0.1, edge), (aspect + 0.1, edge), (178, 182, 184), 0.012)
    white = (206, 208, 210)
    if stage.layout == "car_park":
        for i in range(4):
            x = i * aspect / 3
            canvas.line((x, low + 0.02), (x + (x - aspect / 2) * 0.12, low + 0.15), white, 0.012)
        return
    middle = (low + high) / 2
    for i in range(-1, 10):
        canvas.line((i * 0.2, middle), (i * 0.2 + 0.1, middle), white, 0.008)
    if stage.crossing is not None:
        left, right = stage.crossing
        bars = 5
        for i in range(bars):
            a = left + (right - left) * i / bars
            b = a + 0.55 * (right - left) / bars
            canvas.polygon(
                [(a, low + 0.01), (b, low + 0.01), (b + 0.02, high - 0.01), (a + 0.02, high - 0.01)], white
            )


def _bench(canvas: Canvas, u: float, v: float, s: float) -> None:
    wood = (62, 98, 142)
    for x in (-0.34, 0.34):
        canvas.line((u + x * s, v), (u + x * s, v - 0.5 * s), (52, 52, 54), 0.03 * s)
    for y in (0.26, 0.38, 0.48):
        canvas.line((u - 0.42 * s, v - y * s), (u + 0.42 * s, v - y * s), wood, 0.06 * s)


def _lamp(canvas: Canvas, u: float, v: float, s: float) -> None:
    canvas.line((u, v), (u, v - 1.15 * s), (58, 58, 60), 0.03 * s)
    canvas.disc((u, v - 1.15 * s), 0.06 * s, (190, 228, 240))
