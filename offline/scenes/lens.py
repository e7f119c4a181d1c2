"""What weather and camera do to a picture: rain, fog, clouds, lightning, glare, flicker, exposure, shake, noise.

All of it is normal life. Every effect is a function of the scene's seed and the frame's number.
"""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np

from offline.scenes.canvas import Canvas, Color
from offline.scenes.spec import SceneSpec
from offline.scenes.stage import Stage
from offline.scenes.truth import BgrImage

_SIGNS: Final[tuple[Color, ...]] = ((30, 90, 250), (40, 40, 240), (220, 90, 200), (240, 190, 40))
_VARIANTS = 6


class Lens:
    """The weather in front of the camera and the camera itself, for one scene.

    Args:
        spec: The scene, with its weather and disturbances.
        stage: Its ground plan.
        darkness: 0 (day) to 1.
    """

    def __init__(self, spec: SceneSpec, stage: Stage, darkness: float) -> None:
        rng = np.random.default_rng([spec.seed, 5])
        self._spec = spec
        self._on = frozenset(spec.disturbances)
        width, height = spec.size
        seconds = spec.frames / spec.fps
        self._sign_color = _SIGNS[int(rng.integers(len(_SIGNS)))]
        self._sign = stage.sign
        self._sign_period = float(rng.uniform(0.4, 1.6))
        self._phase = float(rng.uniform(0.0, 6.28))
        self._shake = float(rng.uniform(0.006, 0.016)) * height
        self._clouds = [float(t) for t in rng.uniform(0.0, seconds, max(1, round(seconds / 5)))]
        self._bolts = [float(t) for t in rng.uniform(0.0, seconds, max(1, round(seconds / 4)))]
        self._glares = [
            (float(t), float(u))
            for t, u in zip(rng.uniform(0, seconds, 3), rng.uniform(0, spec.aspect, 3), strict=True)
        ]
        self._gains = [
            (float(t), float(g))
            for t, g in zip(sorted(rng.uniform(0, seconds, 3)), rng.uniform(0.72, 1.3, 3), strict=True)
        ]
        level = float(rng.uniform(0.8, 3.0)) * (1.0 + 1.2 * darkness)
        noise = rng.normal(0.0, level, (_VARIANTS, height, width, 1 if rng.random() < 0.5 else 3))
        noise = np.broadcast_to(noise, (_VARIANTS, height, width, 3))
        self._brighter = np.clip(np.rint(noise), 0, 255).astype(np.uint8)
        self._darker = np.clip(np.rint(-noise), 0, 255).astype(np.uint8)
        self._rain = _rain_layers(rng, width, height) if spec.weather == "rain" else []
        self._fog = float(rng.uniform(0.22, 0.4)) * (1.0 - 0.4 * darkness) if spec.weather == "fog" else 0.0
        self._darkness = darkness

    def lights(self, canvas: Canvas) -> None:
        """Draw the lights that belong to no actor: a blinking neon sign, glare of headlights from outside."""
        t = canvas.seconds
        if "neon" in self._on and (t + self._phase) % self._sign_period < 0.6 * self._sign_period:
            u, v = self._sign
            canvas.line((u - 0.07, v), (u + 0.07, v), self._sign_color, 0.05)
            canvas.glow((u, v), 0.16, self._sign_color)
        if "glare" in self._on:
            for when, u in self._glares:
                strength = math.exp(-(((t - when) / 0.45) ** 2))
                if strength > 0.05:
                    level = int(130 * strength)
                    canvas.glow((u + 0.5 * (t - when), 0.62), 0.42, (level, level, level))

    def finish(self, image: BgrImage, index: int, rng: np.random.Generator) -> tuple[BgrImage, tuple[float, float]]:
        """Apply weather, exposure, shake and noise.

        Args:
            image: BGR uint8 (height, width, 3); may be changed in place.
            index: Number of the frame.
            rng: Fresh for every frame.

        Returns:
            The picture, and by how many pixels (right, down) the shake moved it.
        """
        seconds = index / self._spec.fps
        if self._rain:
            layer = self._rain[int(rng.integers(len(self._rain)))]
            cv2.add(image, np.roll(layer, int(rng.integers(layer.shape[0])), axis=0), dst=image)
        if self._fog:
            grey = 205 * (1.0 - 0.55 * self._darkness) * self._fog
            cv2.convertScaleAbs(image, dst=image, alpha=1.0 - self._fog, beta=grey)
        gain = self._gain(seconds, rng)
        if abs(gain - 1.0) > 1e-3:
            cv2.convertScaleAbs(image, dst=image, alpha=gain, beta=0.0)
        shift = (0.0, 0.0)
        if "shake" in self._on:
            shift = self._shift(seconds)
            matrix = np.array([[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1]]])
            size = (image.shape[1], image.shape[0])
            image = cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REFLECT).astype(np.uint8, copy=False)
        which = int(rng.integers(_VARIANTS))
        cv2.add(image, self._brighter[which], dst=image)
        cv2.subtract(image, self._darker[(which + int(rng.integers(1, _VARIANTS))) % _VARIANTS], dst=image)
        return image, shift

    def _shift(self, t: float) -> tuple[float, float]:
        """A camera on a pole in the wind: slow swing, now and then a tremble."""
        gust = max(0.0, math.sin(0.9 * t + self._phase))
        x = math.sin(1.7 * t + self._phase) + gust * math.sin(23.0 * t)
        y = 0.6 * math.sin(2.3 * t) + gust * math.sin(19.0 * t + 1.0)
        return self._shake * x, self._shake * y

    def _gain(self, t: float, rng: np.random.Generator) -> float:
        gain = 1.0
        if "clouds" in self._on:
            for when in self._clouds:
                gain -= 0.35 * math.exp(-(((t - when) / 0.9) ** 2))
        if "flicker" in self._on:
            gain *= 1.0 + 0.07 * math.sin(11.0 * t + self._phase) + float(rng.uniform(-0.04, 0.04))
        if "lightning" in self._on:
            for when in self._bolts:
                if 0.0 <= t - when < 0.5:
                    gain += (1.0 if self._darkness > 0.3 else 0.4) * math.exp(-(t - when) / 0.12)
        if "exposure" in self._on:
            for when, level in self._gains:
                if t >= when:  # automatic exposure jumps, then settles
                    gain *= 1.0 + (level - 1.0) * math.exp(-(t - when) / 1.2)
        return max(0.3, gain)


def _rain_layers(rng: np.random.Generator, width: int, height: int) -> list[BgrImage]:
    """Pictures of slanted streaks, to be added in turn at changing heights."""
    layers = []
    slant = float(rng.uniform(-0.25, 0.25))
    for _ in range(4):
        layer = np.zeros((height, width, 3), np.uint8)
        for _ in range(max(12, width // 5)):
            x, y = float(rng.uniform(0, width)), float(rng.uniform(0, height))
            length = float(rng.uniform(0.05, 0.11)) * height
            level = int(rng.integers(28, 70))
            end = (round(x + slant * length), round(y + length))
            cv2.line(layer, (round(x), round(y)), end, (level, level, level), 1, cv2.LINE_AA)
        layers.append(layer)
    return layers
