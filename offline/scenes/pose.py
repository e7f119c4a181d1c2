"""How a body is held: joint angles for every action, and the points they put the joints at.

A person is one unit tall, faces +x and stands on y = 0. Angles are in radians from hanging straight down, positive to
the front; `ROLL` tips the whole body over.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Angles = NDArray[np.float64]


class Joint(IntEnum):
    """Index of each angle in a pose; L is the far side, R the near one."""

    LEAN = 0
    HIP_L = 1
    KNEE_L = 2
    HIP_R = 3
    KNEE_R = 4
    ARM_L = 5
    ELBOW_L = 6
    ARM_R = 7
    ELBOW_R = 8
    ROLL = 9


HEAD_RADIUS = 0.085
_TORSO, _THIGH, _SHIN, _UPPER_ARM, _FOREARM, _NECK = 0.33, 0.25, 0.25, 0.17, 0.16, 0.10

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Joint positions in body heights, (x, y) with y upwards from the ground. Pairs are (far, near)."""

    head: Point
    neck: Point
    hip: Point
    knees: tuple[Point, Point]
    feet: tuple[Point, Point]
    elbows: tuple[Point, Point]
    hands: tuple[Point, Point]


def target_pose(  # noqa: PLR0911, PLR0912 - a table of poses that take arguments, one line each
    action: str, phase: float, seconds: float, variant: int
) -> Angles:
    """Give the angles that an action aims at; an action without a pose of its own is held like standing.

    Args:
        action: What is being done.
        phase: Of the step cycle, in radians; moves on with the distance walked.
        seconds: Time of the scene, for movements on the spot.
        variant: A small number that makes one person's movements differ from another's.

    Returns:
        float64 (10,), in the order of Joint.
    """
    swing, lift = math.sin(phase), math.cos(phase)
    beat = math.sin(seconds * 7.0 + variant)
    fast = math.sin(seconds * 17.0 + 2.1 * variant)
    match action:
        case "walking" | "strolling":
            return _gait(swing, lift, 0.45, 0.1, 0.6, 0.3, 0.04)
        case "running" | "chasing" | "playing":
            return _gait(swing, lift, 0.8, 0.35, 1.3, 1.5, 0.22)
        case "fleeing":
            pose = _gait(swing, lift, 0.85, 0.35, 1.4, 1.5, 0.32)
            if variant % 2 == 0:  # every second one throws the arms up
                pose[Joint.ARM_L], pose[Joint.ARM_R] = 2.6 + 0.4 * fast, 2.7 - 0.4 * fast
                pose[Joint.ELBOW_L] = pose[Joint.ELBOW_R] = 0.3
            return pose
        case "sitting":
            return _pose(-0.08, 1.45, 1.5, 1.4, 1.5, 0.55, 0.5, 0.6 + 0.05 * beat, 0.5)
        case "cycling":
            return _pose(
                0.55,
                0.9 + 0.45 * swing,
                1.15 - 0.3 * swing,
                0.9 - 0.45 * swing,
                1.15 + 0.3 * swing,
                1.2,
                0.1,
                1.2,
                0.1,
            )
        case "kneeling":
            return _pose(0.7, 1.5, 1.55, -0.2, 1.35, 0.7 + 0.1 * beat, 0.3, 0.6 - 0.1 * beat, 0.3)
        case "putting down" | "picking up":
            return _pose(1.25, 0.55, 0.9, 0.5, 0.85, 0.3, 0.1, 0.25, 0.1)
        case "hugging":
            return _pose(0.16, 0.05, 0.1, -0.05, 0.1, 1.35, 0.5, 1.2, 0.6 + 0.05 * beat)
        case "waving":
            return _pose(0.0, 0.05, 0.05, -0.05, 0.05, 0.1, 0.2, 2.7, 0.45 * beat)
        case "talking":
            return _pose(0.03 * beat, 0.06, 0.05, -0.06, 0.05, 0.1, 0.3, 0.5 + 0.3 * beat, 1.2 + 0.3 * beat)
        case "phoning":
            return _pose(0.05, 0.05, 0.05, -0.05, 0.05, 0.1, 0.2, 0.6, 2.3)
        case "sweeping":
            return _pose(0.4, 0.3, 0.15, -0.25, 0.15, 0.9 + 0.35 * beat, 0.3, 0.7 + 0.35 * beat, 0.4)
        case "getting up":
            return _pose(0.8, 1.3, 1.6, 0.3, 1.2, 0.5, 0.2, 0.4, 0.2)
        case "fighting":
            return _blow(fast, seconds, variant)
        case "falling":
            return _pose(0.15, 0.5, 0.5, -0.2, 0.6, 1.9, 0.3, 2.3, 0.3)
        case "lying":
            return _pose(0.0, 0.25, 0.45, -0.1, 0.15, 0.5 + 0.03 * beat, 0.4, 2.2, 0.5)
        case "climbing":
            return _pose(
                0.1, 0.7 + 0.6 * beat, 1.2 + 0.4 * beat, 0.7 - 0.6 * beat, 1.2 - 0.4 * beat, 2.6 + 0.3 * beat, 0.3,
                2.6 - 0.3 * beat, 0.3,
            )  # fmt: skip
        case "smashing":
            strike = math.sin(seconds * 8.5 + variant)
            return _pose(0.25 - 0.2 * strike, 0.35, 0.2, -0.3, 0.2, 1.8 + 1.0 * strike, 0.3, 1.9 + 1.0 * strike, 0.3)
        case "snatching":
            return _pose(0.25 + 0.15 * fast, 0.5, 0.4, -0.3, 0.3, 1.3, 0.2 + 0.3 * fast, 1.2, 0.2 - 0.3 * fast)
        case _:
            return _pose(0.01 * beat, 0.05, 0.05, -0.05, 0.05, 0.08, 0.2, -0.05 + 0.03 * beat, 0.25)


def _pose(
    lean: float,
    hip_l: float,
    knee_l: float,
    hip_r: float,
    knee_r: float,
    arm_l: float,
    elbow_l: float,
    arm_r: float,
    elbow_r: float,
) -> Angles:
    return np.array((lean, hip_l, knee_l, hip_r, knee_r, arm_l, elbow_l, arm_r, elbow_r, 0.0))


def _gait(
    swing: float, lift: float, stride: float, knee: float, knee_lift: float, elbow: float, lean: float
) -> Angles:
    """One moment of the step cycle: a leg bends its knee while it travels forward, arms swing against legs."""
    return _pose(
        lean,
        stride * swing + 0.5 * lean,
        knee + knee_lift * max(0.0, lift),
        -stride * swing + 0.5 * lean,
        knee + knee_lift * max(0.0, -lift),
        -0.8 * stride * swing,
        elbow,
        0.8 * stride * swing,
        elbow,
    )


def _blow(fast: float, seconds: float, variant: int) -> Angles:
    """Punches in turn, now and then a kick; the two of a pair strike out of step."""
    kick = math.sin(seconds * 3.1 + 1.7 * variant) > 0.8
    return _pose(
        0.25 + 0.25 * fast,
        1.5 if kick else 0.4,
        0.2 if kick else 0.4,
        -0.35,
        0.3,
        1.4 + 0.5 * fast,
        0.9 - 0.9 * fast,
        1.4 - 0.5 * fast,
        0.9 + 0.9 * fast,
    )


def skeleton(angles: Angles, *, grounded: bool = True) -> Skeleton:
    """Put the joints where the angles say.

    Args:
        angles: float64 (10,), in the order of Joint.
        grounded: Let the lowest point touch y = 0; else the hip is at 0.5, as on a saddle.
    """
    a = [float(x) for x in angles]
    roll, lean = a[Joint.ROLL], a[Joint.LEAN]
    cos, sin = math.cos(roll), math.sin(roll)

    def limb(start: Point, angle: float, length: float) -> Point:
        x, y = length * math.sin(angle), -length * math.cos(angle)
        return start[0] + x * cos + y * sin, start[1] - x * sin + y * cos

    hip = (0.0, 0.0)
    up = math.pi - lean  # straight up is the opposite of hanging down
    neck = limb(hip, up, _TORSO)
    head = limb(neck, up + 0.3 * lean, _NECK)
    knees, feet, elbows, hands = [], [], [], []
    for hip_at, knee_at, arm_at, elbow_at in (
        (Joint.HIP_L, Joint.KNEE_L, Joint.ARM_L, Joint.ELBOW_L),
        (Joint.HIP_R, Joint.KNEE_R, Joint.ARM_R, Joint.ELBOW_R),
    ):
        knee = limb(hip, a[hip_at], _THIGH)
        knees.append(knee)
        feet.append(limb(knee, a[hip_at] - a[knee_at], _SHIN))
        elbow = limb(neck, a[arm_at] + 0.4 * lean, _UPPER_ARM)
        elbows.append(elbow)
        hands.append(limb(elbow, a[arm_at] + a[elbow_at] + 0.4 * lean, _FOREARM))
    lift = 0.5
    if grounded:
        lowest = min(p[1] for p in (*feet, *knees, hip, neck, (head[0], head[1] - HEAD_RADIUS)))
        lift = -lowest + 0.02

    def raised(point: Point) -> Point:
        return point[0], point[1] + lift

    return Skeleton(
        head=raised(head),
        neck=raised(neck),
        hip=raised(hip),
        knees=(raised(knees[0]), raised(knees[1])),
        feet=(raised(feet[0]), raised(feet[1])),
        elbows=(raised(elbows[0]), raised(elbows[1])),
        hands=(raised(hands[0]), raised(hands[1])),
    )
