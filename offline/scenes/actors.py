"""What things look like: a person in a pose, a car, a van, a bicycle, a bag, flames.

Each function draws on a canvas. `foot` is where the thing touches the ground, (u, v) in fractions of the picture's
height, and `height` that of a person standing there. Boxes that are returned are in the same fractions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from offline.scenes.canvas import Canvas, Color, Point, shade
from offline.scenes.pose import HEAD_RADIUS, Skeleton

Box = tuple[float, float, float, float]
"""left, top, right, bottom in fractions of the picture's height."""

CLOTHES: Final[dict[str, Color]] = {
    "red": (52, 48, 196),
    "blue": (176, 96, 40),
    "green": (70, 138, 62),
    "yellow": (64, 196, 224),
    "white": (228, 228, 230),
    "black": (40, 38, 40),
    "grey": (128, 126, 124),
    "orange": (44, 124, 232),
    "purple": (150, 66, 122),
}
TROUSERS: Final[tuple[Color, ...]] = ((90, 58, 40), (52, 50, 50), (78, 92, 112), (110, 104, 98), (40, 44, 66))
SKIN: Final[tuple[Color, ...]] = ((164, 190, 232), (132, 164, 214), (88, 124, 178), (58, 84, 128))
HAIR: Final[tuple[Color, ...]] = ((30, 34, 44), (40, 62, 96), (70, 124, 168), (150, 150, 152))
PAINT: Final[dict[str, Color]] = {
    "red": (44, 40, 178),
    "blue": (168, 92, 44),
    "white": (222, 222, 224),
    "black": (52, 48, 48),
    "grey": (142, 138, 134),
    "green": (84, 120, 60),
    "yellow": (58, 190, 226),
}


@dataclass(frozen=True, slots=True)
class Look:
    """What a person looks like.

    Attributes:
        shirt: Colour of shirt or coat, by which the person is named.
        trousers: Colour of the trousers.
        skin: Colour of the skin.
        hair: Colour of the hair.
        girth: Width of the limbs relative to normal.
        coat: Wears a coat down to the knees.
        backpack: Carries a backpack.
    """

    shirt: Color
    trousers: Color
    skin: Color
    hair: Color
    girth: float
    coat: bool
    backpack: bool


def bounds(points: Iterable[Point], margin: float = 0.0) -> Box:
    """Compute the box around points, widened by `margin` on all sides."""
    xs, ys = zip(*points, strict=True)
    return min(xs) - margin, min(ys) - margin, max(xs) + margin, max(ys) + margin


def shadow(canvas: Canvas, foot: Point, width: float) -> None:
    """Draw a soft contact shadow, weaker in the dark."""
    canvas.haze(foot, width, (24, 22, 24), 0.55 * (1.0 - 0.6 * canvas.darkness), flat=0.28)


def person(
    canvas: Canvas, foot: Point, height: float, facing: float, body: Skeleton, look: Look, held: str | None
) -> tuple[Box, Point]:
    """Draw a person.

    Args:
        canvas: What is drawn on.
        foot: Where the feet are.
        height: Body height.
        facing: From -1 (to the left) to 1 (to the right); around 0 the body is seen narrower, from front or back.
        body: The pose.
        look: Clothes and colours.
        held: umbrella, bat, broom, phone or None.

    Returns:
        The box, and where the near hand is.
    """
    sign = 1.0 if facing >= 0 else -1.0
    breadth = sign * max(0.45, abs(facing)) * height

    def at(joint: Point) -> Point:
        return foot[0] + joint[0] * breadth, foot[1] - joint[1] * height

    head, neck, hip = at(body.head), at(body.neck), at(body.hip)
    girth = look.girth * height
    # Seen from front or back the shoulders and hips are as wide apart as they are, from the side they overlap.
    apart = 0.055 * height * (1.0 - min(1.0, abs(facing)))

    def leg(side: int, color: Color) -> None:
        offset = (2 * side - 1) * apart
        top, knee, sole = (hip[0] + offset, hip[1]), at(body.knees[side]), at(body.feet[side])
        knee, sole = (knee[0] + offset, knee[1]), (sole[0] + offset, sole[1])
        canvas.line(top, knee, color, 0.095 * girth)
        canvas.line(knee, sole, color, 0.075 * girth)
        canvas.line(sole, (sole[0] + 0.35 * breadth * 0.16, sole[1]), shade(color, 0.5), 0.055 * girth)

    def arm(side: int, color: Color) -> Point:
        offset = (2 * side - 1) * 1.9 * apart
        top, elbow, hand = (neck[0] + offset, neck[1] + 0.02 * height), at(body.elbows[side]), at(body.hands[side])
        elbow, hand = (elbow[0] + offset, elbow[1]), (hand[0] + offset, hand[1])
        canvas.line(top, elbow, color, 0.075 * girth)
        canvas.line(elbow, hand, color, 0.06 * girth)
        canvas.disc(hand, 0.034 * girth, look.skin)
        return hand

    arm(0, shade(look.shirt, 0.68))
    leg(0, shade(look.trousers, 0.72))
    leg(1, look.trousers)
    if look.backpack:
        middle = ((neck[0] + hip[0]) / 2 - 0.1 * breadth, neck[1] * 0.62 + hip[1] * 0.38)
        canvas.line((middle[0], neck[1] + 0.04 * height), middle, shade(look.trousers, 1.5), 0.14 * girth)
    chest = (neck[0], neck[1] + 0.05 * height if neck[1] < hip[1] - 0.1 * height else neck[1])
    canvas.line(chest, hip, look.shirt, 0.17 * girth)
    if look.coat:
        knee_x = (at(body.knees[0])[0] + at(body.knees[1])[0]) / 2
        knee_y = (at(body.knees[0])[1] + at(body.knees[1])[1]) / 2
        hem = (hip[0] * 0.4 + knee_x * 0.6, hip[1] * 0.4 + knee_y * 0.6)
        canvas.line(hip, hem, look.shirt, 0.18 * girth)
    canvas.line(neck, head, look.skin, 0.06 * girth)
    canvas.disc(head, HEAD_RADIUS * height, look.hair)
    canvas.disc((head[0] + 0.028 * height * facing, head[1] + 0.018 * height), 0.82 * HEAD_RADIUS * height, look.skin)
    hand = arm(1, shade(look.shirt, 0.88))
    outline = [
        head,
        neck,
        hip,
        *map(at, body.knees),
        *map(at, body.feet),
        *map(at, body.elbows),
        *map(at, body.hands),
    ]
    if held is not None:
        _held(canvas, held, hand, at(body.elbows[1]), head, height, breadth)
    box = bounds(outline, 0.045 * height)
    top = min(box[1], head[1] - HEAD_RADIUS * height)
    return (box[0], top, box[2], box[3]), hand


def _held(canvas: Canvas, held: str, hand: Point, elbow: Point, head: Point, height: float, breadth: float) -> None:
    """What is in the near hand."""
    if held == "umbrella":
        top = (head[0], head[1] - 0.26 * height)
        canvas.line(hand, top, (60, 60, 64), 0.015 * height)
        rim = [
            (top[0] + 0.30 * height * math.cos(t), top[1] + 0.13 * height - 0.17 * height * math.sin(t))
            for t in (0.0, 0.5, 1.0, 1.57, 2.14, 2.64, 3.1416)
        ]
        canvas.polygon(rim, (96, 56, 48))
    elif held in ("bat", "broom"):
        reach = 0.34 if held == "bat" else 0.62
        dx, dy = hand[0] - elbow[0], hand[1] - elbow[1]
        if held == "broom":
            dx, dy = 0.35 * breadth, 0.8 * height
        norm = max(1e-6, math.hypot(dx, dy))
        end = (hand[0] + dx / norm * reach * height, hand[1] + dy / norm * reach * height)
        canvas.line(hand, end, (46, 78, 122), 0.04 * height if held == "bat" else 0.025 * height)
        if held == "broom":
            canvas.disc(end, 0.05 * height, (70, 150, 190))
    elif held == "phone":
        canvas.disc(hand, 0.03 * height, (40, 40, 40))


_CAR_BODY = ((-0.86, 0.14), (-0.88, 0.36), (-0.80, 0.44), (0.55, 0.44), (0.84, 0.36), (0.88, 0.14))
_CAR_CABIN = ((-0.70, 0.42), (-0.50, 0.68), (0.16, 0.68), (0.48, 0.42))
_CAR_PANES = (
    ((-0.60, 0.44), (-0.45, 0.64), (-0.20, 0.64), (-0.20, 0.44)),
    ((-0.14, 0.44), (-0.14, 0.64), (0.13, 0.64), (0.38, 0.44)),
)
_VAN_BODY = ((-1.0, 0.16), (-1.0, 0.92), (-0.95, 0.97), (0.50, 0.97), (0.78, 0.60), (0.97, 0.50), (1.0, 0.16))
_VAN_PANES = (((0.18, 0.60), (0.18, 0.88), (0.46, 0.88), (0.70, 0.60)),)


@dataclass(frozen=True, slots=True)
class VehicleState:
    """How a vehicle stands there.

    Attributes:
        direction: +1 faces right, -1 left.
        tilt: Radians, nose up.
        nose: How crumpled the front is, 0 to 1.
        tail: How crumpled the rear is, 0 to 1.
        roll: Radians that the wheels have turned.
        braking: The brake lights are on.
        hazard: The hazard lights blink.
    """

    direction: int
    tilt: float
    nose: float
    tail: float
    roll: float
    braking: bool
    hazard: bool


def vehicle(canvas: Canvas, foot: Point, height: float, kind: str, paint: Color, state: VehicleState) -> Box:
    """Draw a car or van from the side.

    Args:
        canvas: What is drawn on.
        foot: Middle of the vehicle, on the ground.
        height: Of a person standing there.
        kind: car or van.
        paint: Its colour.
        state: How it stands.
    """
    cos, sin = math.cos(state.tilt), math.sin(state.tilt)

    def at(point: Point) -> Point:
        x, y = point
        # A crumpled end is shorter and pushed up; the metal in front of the wheel gives, the cabin stays.
        if x > 0.55:
            x, y = 0.55 + (x - 0.55) * (1.0 - 0.65 * state.nose), y + 0.18 * state.nose * (x - 0.55) / 0.4
        elif x < -0.55:
            x, y = -0.55 + (x + 0.55) * (1.0 - 0.65 * state.tail), y + 0.18 * state.tail * (-x - 0.55) / 0.4
        px, py = x * cos - y * sin, x * sin + y * cos
        return foot[0] + state.direction * px * height, foot[1] - py * height

    def corners(points: Sequence[Point]) -> list[Point]:
        return [at(point) for point in points]

    van = kind == "van"
    canvas.haze((foot[0], foot[1] - 0.03 * height), 1.05 * height, (20, 20, 22), 0.75, flat=0.14)
    glass = (96, 84, 70) if canvas.darkness < 0.5 else (54, 48, 42)
    if not van:
        canvas.polygon(corners(_CAR_CABIN), shade(paint, 0.85))
    body = corners(_VAN_BODY if van else _CAR_BODY)
    canvas.polygon(body, paint)
    for pane in _VAN_PANES if van else _CAR_PANES:
        canvas.polygon(corners(pane), glass)
    end = 0.96 if van else 0.84
    canvas.line(at((-end, 0.20)), at((end, 0.20)), shade(paint, 0.6), 0.03 * height)
    if state.nose > 0.3:  # a crumpled bonnet stands up in a fold
        canvas.polygon(corners(((0.50, 0.42), (0.62, 0.62), (0.72, 0.40))), shade(paint, 0.55))
    for x in (-0.56, 0.56):
        hub = at((x, 0.155))
        canvas.disc(hub, 0.155 * height, (28, 27, 27))
        canvas.disc(hub, 0.075 * height, (128, 128, 130))
        spoke = (0.07 * height * math.cos(state.roll), 0.07 * height * math.sin(state.roll))
        canvas.line(
            (hub[0] - spoke[0], hub[1] - spoke[1]),
            (hub[0] + spoke[0], hub[1] + spoke[1]),
            (60, 60, 60),
            0.02 * height,
        )
    canvas.disc(at((end, 0.34)), 0.045 * height, (170, 220, 235))
    canvas.disc(at((-end, 0.36)), 0.045 * height, (40, 40, 250) if state.braking else (36, 36, 130))
    return bounds([*body, *corners(_CAR_CABIN if not van else ()), (foot[0], foot[1])])


def lamps_of(foot: Point, height: float, kind: str, direction: int) -> tuple[Point, Point]:
    """Find where the head lamp and the tail lamp of a vehicle are, in this order."""
    end = 0.96 if kind == "van" else 0.84
    return (
        (foot[0] + direction * end * height, foot[1] - 0.34 * height),
        (foot[0] - direction * end * height, foot[1] - 0.36 * height),
    )


def vehicle_lights(
    canvas: Canvas, head: Point | None, tail: Point | None, height: float, state: VehicleState
) -> None:
    """Add headlights with their beam, brake lights and hazard lights to the picture.

    Args:
        canvas: What is drawn on.
        head: Where the head lamp is; None where something in front hides it.
        tail: Where the tail lamp is; None where something in front hides it.
        height: Of a person standing there.
        state: Which lights are on.
    """
    if head is not None and canvas.darkness > 0.2 and state.nose < 0.5:
        canvas.glow(head, 0.26 * height, (150, 190, 210))
        for step, reach in ((0.35, 0.30), (0.8, 0.42), (1.35, 0.5)):
            beam = (head[0] + state.direction * step * height, head[1] + 0.16 * height * min(1.0, step))
            canvas.glow(beam, reach * height, (44, 56, 62))
    if tail is not None and (canvas.darkness > 0.2 or state.braking):
        canvas.glow(tail, (0.3 if state.braking else 0.16) * height, (20, 24, 190 if state.braking else 90))
    if state.hazard and canvas.seconds % 0.9 < 0.45:
        for lamp in (head, tail):
            if lamp is not None:
                canvas.glow(lamp, 0.28 * height, (10, 130, 240))


def bicycle(canvas: Canvas, foot: Point, height: float, direction: int, roll: float) -> Box:
    """Draw a bicycle from the side; `roll` is how far its wheels have turned, in radians."""

    def at(x: float, y: float) -> Point:
        return foot[0] + direction * x * height, foot[1] - y * height

    dark = (48, 46, 44)
    shadow(canvas, foot, 0.45 * height)
    for x in (-0.32, 0.32):
        hub = at(x, 0.19)
        canvas.ring(hub, 0.185 * height, dark, 0.025 * height)
        for turn in (0.0, 1.0472, 2.0944):
            dx, dy = 0.17 * height * math.cos(roll + turn), 0.17 * height * math.sin(roll + turn)
            canvas.line((hub[0] - dx, hub[1] - dy), (hub[0] + dx, hub[1] + dy), (120, 120, 122), 0.0)
    frame = (60, 70, 180)
    seat, crank, bars = at(-0.14, 0.46), at(-0.02, 0.2), at(0.24, 0.5)
    for start, end in (
        (at(-0.32, 0.19), crank),
        (crank, seat),
        (crank, bars),
        (seat, bars),
        (bars, at(0.32, 0.19)),
        (seat, at(-0.32, 0.19)),
    ):
        canvas.line(start, end, frame, 0.025 * height)
    return bounds([at(-0.51, 0.0), at(0.51, 0.55)])


def bag(canvas: Canvas, foot: Point, height: float, shape: str, color: Color) -> Box:
    """Draw a suitcase, sports bag or handbag with its lower edge at `foot`."""
    width, tall = {"suitcase": (0.24, 0.36), "sports bag": (0.36, 0.22), "handbag": (0.22, 0.19)}[shape]
    left, right = foot[0] - width / 2 * height, foot[0] + width / 2 * height
    top = foot[1] - tall * height
    canvas.polygon(
        [(left, foot[1]), (left + 0.02 * height, top), (right - 0.02 * height, top), (right, foot[1])], color
    )
    canvas.line((left, (top + foot[1]) / 2), (right, (top + foot[1]) / 2), shade(color, 0.6), 0.025 * height)
    grip = 0.07 * height
    canvas.line((foot[0] - grip, top), (foot[0] - grip * 0.7, top - grip), shade(color, 0.5), 0.02 * height)
    canvas.line(
        (foot[0] - grip * 0.7, top - grip), (foot[0] + grip * 0.7, top - grip), shade(color, 0.5), 0.02 * height
    )
    canvas.line((foot[0] + grip * 0.7, top - grip), (foot[0] + grip, top), shade(color, 0.5), 0.02 * height)
    return left, top - grip, right, foot[1]


def flames(canvas: Canvas, foot: Point, size: float) -> Box:
    """Draw a fire that flickers anew in every frame, about `size` high (fraction of the picture's height)."""
    rng = canvas.rng
    tops = [foot]
    for layer, (color, part) in enumerate((((18, 72, 226), 1.0), ((28, 142, 250), 0.72), ((120, 226, 255), 0.42))):
        for tongue in range(5 - layer):
            x = foot[0] + (tongue - (4 - layer) / 2) * 0.22 * size * part
            tall = size * part * float(rng.uniform(0.55, 1.05)) * (1.0 - 0.12 * abs(tongue - (4 - layer) / 2))
            wide = 0.20 * size * part
            tip = (x + float(rng.uniform(-0.12, 0.12)) * size, foot[1] - tall)
            mid = foot[1] - 0.45 * tall
            canvas.polygon(
                [(x - wide * 0.7, foot[1]), (x - wide, foot[1] - 0.2 * tall), (x - wide * 0.5, mid), tip,
                 (x + wide * 0.6, mid), (x + wide, foot[1] - 0.2 * tall), (x + wide * 0.7, foot[1])],
                color,
            )  # fmt: skip
            tops.append(tip)
    pulse = float(rng.uniform(0.75, 1.0))
    canvas.glow((foot[0], foot[1] - 0.4 * size), 1.5 * size, shade((24, 70, 120), pulse))
    left, top, right, bottom = bounds(tops)
    return min(left, foot[0] - 0.6 * size), top, max(right, foot[0] + 0.6 * size), bottom
