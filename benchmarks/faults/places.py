"""Places that a camera may look at for a day, made picture by picture: light, lamps, weather, traffic and noise."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.stream.pixels import UInt8Array

WIDTH, HEIGHT = 256, 144
DAY_S = 86_400.0

Grey = NDArray[np.float32]


@dataclass(frozen=True)
class Place:
    """What there is to see.

    Attributes:
        name: In the results.
        lamps: Street lamps that are lit from dusk to dawn.
        infrared: Whether the camera switches to its own infrared light at night; the picture is black for a second.
        contrast: Of the scene by day, grey levels; 2 is a painted wall.
        cars_an_hour: How many pass with their headlights on; each is seen for 3 to 12 s.
        fog: The thickest that comes and goes within two hours, 0 to 1.
        rain: Streaks in a picture, in the hours in which it rains.
        noise: Grey levels by day; three times that at night.
        clock: Whether the camera writes its time into the picture.
    """

    name: str
    lamps: int = 0
    infrared: bool = False
    contrast: float = 60.0
    cars_an_hour: float = 0.0
    fog: float = 0.0
    rain: int = 0
    noise: float = 2.0
    clock: bool = False


PLACES = (
    Place("street with lamps, rain and traffic", lamps=7, cars_an_hour=40, rain=60, fog=0.6, clock=True),
    Place("unlit yard, a car now and then", cars_an_hour=6, fog=0.9),
    Place("entrance with infrared light, fog", infrared=True, cars_an_hour=2, fog=0.97, noise=1.0),
    Place("painted wall in a room without light at night", contrast=2.0, noise=1.5),
    Place("still hall with two lamps, little noise", lamps=2, noise=0.6),
)


class Scene:
    """Pictures of one place by the time of day.

    Args:
        place: What there is to see.
        seed: Of everything that is random.
    """

    def __init__(self, place: Place, seed: int) -> None:
        self.place = place
        self._rng = np.random.default_rng(seed)
        self._view = self._built()
        self._lamps = self._glow(place.lamps)
        self._noises = self._rng.normal(0, 1, (8, 2 * HEIGHT, 2 * WIDTH)).astype(np.float32)
        self._dark_s = -1e9
        self._night = False
        self._car: tuple[float, float, int] = (-1.0, -1.0, 0)
        self._before_s: float | None = None

    def picture(self, seconds: float) -> UInt8Array:
        """The picture at a time since midnight; times grow."""
        place = self.place
        sun = self._sun(seconds)
        light = sun
        if place.infrared:
            if (sun < 0.1) != self._night:
                self._night, self._dark_s = sun < 0.1, seconds
            light = max(sun, 0.35) if self._night else sun
        fog = place.fog * max(0.0, math.sin(2 * math.pi * seconds / 14_400)) ** 2
        seen = self._view * (light * (1 - fog)) + fog * 160 * light
        if sun < 0.1:
            seen = seen + self._lamps * (1 - 0.7 * fog)
        seen = self._pass(seen, seconds, 1 - 0.7 * fog, sun)
        if place.rain and seconds % 21_600 < 7_200:
            self._streak(seen, 40 * light + 8)
        if seconds - self._dark_s < 1.2:
            seen = np.zeros_like(seen)
        gain = place.noise * (1 + 2 * (1 - min(1.0, light * 2)))
        return self._sensed(seen, gain, seconds)

    def noisy(self, seen: Grey, seconds: float) -> UInt8Array:
        """What the camera makes of another view: noise as at that time of day, and its clock."""
        return self._sensed(seen, self.place.noise * (1 + 2 * (1 - min(1.0, self._sun(seconds) * 2))), seconds)

    def _sensed(self, seen: Grey, gain: float, seconds: float) -> UInt8Array:
        rng = self._rng
        row, column = rng.integers(HEIGHT), rng.integers(WIDTH)
        noise = self._noises[rng.integers(len(self._noises)), row : row + HEIGHT, column : column + WIDTH]
        grey = cv2.convertScaleAbs(np.maximum(seen + gain * noise, 0))
        picture = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
        if self.place.clock:
            text = f"{int(seconds // 3600) % 24:02d}:{int(seconds // 60) % 60:02d}:{int(seconds) % 60:02d}"
            cv2.putText(picture, text, (4, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.35, (255, 255, 255), 1)
        return np.asarray(picture, dtype=np.uint8)

    def _sun(self, seconds: float) -> float:
        """Light of the day, 0.01 to 1; dusk takes about an hour."""
        height = math.sin(2 * math.pi * (seconds / DAY_S - 0.25))
        return 0.01 + 0.99 / (1 + math.exp(-18 * height))

    def _built(self) -> Grey:
        """Walls and windows: rectangles of several sizes."""
        view = np.full((HEIGHT, WIDTH), 110, np.float32)
        for _ in range(60):
            top, left = int(self._rng.integers(HEIGHT)), int(self._rng.integers(WIDTH))
            high, wide = (int(side) for side in self._rng.integers(4, 50, 2))
            view[top : top + high, left : left + wide] += self._rng.normal(0, self.place.contrast)
        return np.asarray(cv2.GaussianBlur(np.clip(view, 5, 250), (3, 3), 0), dtype=np.float32)

    def _glow(self, lamps: int) -> Grey:
        rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
        glow = np.zeros((HEIGHT, WIDTH), np.float32)
        for _ in range(lamps):
            y, x = self._rng.uniform(0.2, 0.8) * HEIGHT, self._rng.uniform(0.05, 0.95) * WIDTH
            away = (rows - y) ** 2 + (columns - x) ** 2
            glow += 300 * np.exp(-away / 8) + 40 * np.exp(-away / 400)
        return glow

    def _pass(self, seen: Grey, seconds: float, clear: float, sun: float) -> Grey:
        """Let a car pass, if one does: two headlights by night, a dark body by day."""
        since_s, until_s, row = self._car
        step_s = 0.0 if self._before_s is None else seconds - self._before_s
        self._before_s = seconds
        if seconds >= until_s:
            if self._rng.random() >= self.place.cars_an_hour / 3600 * step_s:
                return seen
            since_s, until_s = seconds, seconds + self._rng.uniform(3, 12)
            row = int(self._rng.integers(HEIGHT // 3, HEIGHT - 20))
            self._car = since_s, until_s, row
        seen = seen.copy()
        x = int((seconds - since_s) / (until_s - since_s) * WIDTH)
        if sun > 0.3:
            cv2.rectangle(seen, (x - 30, row - 12), (x + 30, row + 8), 40.0, -1)
        else:
            for light in (x, x + 9):
                cv2.circle(seen, (light, row), 3, 400.0 * clear, -1)
            cv2.ellipse(seen, (x + 30, row + 6), (28, 6), 0, 0, 360, 90.0 * clear, -1)
        return seen

    def _streak(self, seen: Grey, level: float) -> None:
        for _ in range(self.place.rain):
            x, y = int(self._rng.integers(WIDTH)), int(self._rng.integers(HEIGHT))
            cv2.line(seen, (x, y), (x + 1, y + 7), float(seen[y, x]) + level, 1)


def covers(rng: np.random.Generator) -> Iterator[tuple[str, Grey]]:
    """Views of a covered lens, each with its name."""
    yield "black", np.zeros((HEIGHT, WIDTH), np.float32)
    yield "white", np.full((HEIGHT, WIDTH), 300, np.float32)
    yield "grey", np.full((HEIGHT, WIDTH), 128, np.float32)
    hand = cv2.GaussianBlur(rng.uniform(0, 255, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 30)
    slope = np.linspace(0, 60, WIDTH, dtype=np.float32)[None]
    yield "hand, light from one side", np.asarray(40 + (hand - hand.mean()) + slope, dtype=np.float32)
