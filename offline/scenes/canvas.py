"""The picture being drawn: ground coordinates to pixels, antialiased primitives, light and haze.

Everything is drawn in place on one BGR uint8 array.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from offline.scenes.truth import BgrImage

Color = tuple[int, int, int]
Point = tuple[float, float]

_SHIFT = 4  # cv2 takes fixed-point coordinates: without the fraction, slow motion would jump pixel by pixel
_ONE = 1 << _SHIFT


def shade(color: Color, factor: float) -> Color:
    """Make a colour darker (factor < 1) or lighter."""
    return (
        min(255, int(color[0] * factor)),
        min(255, int(color[1] * factor)),
        min(255, int(color[2] * factor)),
    )


@lru_cache(maxsize=64)
def _bell(radius_x: int, radius_y: int) -> NDArray[np.float32]:
    """A bell from 1 in the middle to 0 at the rim, (2 ry + 1, 2 rx + 1, 1)."""
    x = np.linspace(-1.0, 1.0, 2 * radius_x + 1, dtype=np.float32)
    y = np.linspace(-1.0, 1.0, 2 * radius_y + 1, dtype=np.float32)
    distance = np.minimum(1.0, x[None, :] ** 2 + y[:, None] ** 2)
    bell: NDArray[np.float32] = np.square(np.float32(1.0) - distance)[:, :, None]
    return bell


@lru_cache(maxsize=256)
def _glow(radius: int, color: Color) -> BgrImage:
    """A coloured patch of light, ready to be added."""
    return (_bell(radius, radius) * np.array(color, np.float32)).astype(np.uint8)


class Canvas:
    """An image with the drawing operations that actors need.

    Points are (u, v) in fractions of the image's height; radii and thicknesses are in the same unit.

    Attributes:
        image: BGR uint8 (height, width, 3), drawn on in place.
        rng: Noise for what flickers, fresh for every frame: no frame depends on which others were drawn.
        seconds: Time of the scene.
        darkness: 0 (day) to 1; decides whether lights are on.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
    """

    def __init__(self, image: BgrImage, rng: np.random.Generator, seconds: float, darkness: float) -> None:
        self.image = image
        self.rng = rng
        self.seconds = seconds
        self.darkness = darkness
        self.height, self.width = image.shape[:2]

    def _fixed(self, point: Point) -> tuple[int, int]:
        return round(point[0] * self.height * _ONE), round(point[1] * self.height * _ONE)

    def line(self, start: Point, end: Point, color: Color, thickness: float) -> None:
        """Draw a line with round ends, at least one pixel thick."""
        pixels = max(1, round(thickness * self.height))
        cv2.line(self.image, self._fixed(start), self._fixed(end), color, pixels, cv2.LINE_AA, _SHIFT)

    def disc(self, center: Point, radius: float, color: Color) -> None:
        """Draw a filled circle."""
        pixels = max(_ONE, round(radius * self.height * _ONE))
        cv2.circle(self.image, self._fixed(center), pixels, color, -1, cv2.LINE_AA, _SHIFT)

    def ring(self, center: Point, radius: float, color: Color, thickness: float) -> None:
        """Draw the outline of a circle."""
        pixels = max(_ONE, round(radius * self.height * _ONE))
        width = max(1, round(thickness * self.height))
        cv2.circle(self.image, self._fixed(center), pixels, color, width, cv2.LINE_AA, _SHIFT)

    def polygon(self, points: Sequence[Point], color: Color) -> None:
        """Draw a filled polygon."""
        corners = np.array([self._fixed(point) for point in points], np.int32)
        cv2.fillPoly(self.image, [corners], color, cv2.LINE_AA, _SHIFT)

    def glow(self, center: Point, radius: float, color: Color) -> None:
        """Add a round patch of light that fades outwards."""
        r = max(1, round(radius * self.height))
        window = self._window(center, r, r)
        if window is not None:
            target, (top, bottom, left, right) = window
            cv2.add(target, _glow(r, color)[top:bottom, left:right], dst=target)

    def haze(self, center: Point, radius: float, color: Color, strength: float, *, flat: float = 1.0) -> None:
        """Blend a round puff of colour over the picture.

        Args:
            center: Its middle.
            radius: Where it has faded to nothing.
            color: Its colour.
            strength: 0 to 1, how much it covers in the middle.
            flat: Height over width; below 1 for shadows.
        """
        r = max(1, round(radius * self.height))
        ry = max(1, round(r * flat))
        window = self._window(center, r, ry)
        if window is None:
            return
        target, (top, bottom, left, right) = window
        alpha = _bell(r, ry)[top:bottom, left:right] * np.float32(strength)
        target[:] = (target + (np.array(color, np.float32) - target) * alpha).astype(np.uint8)

    def _window(
        self, center: Point, radius_x: int, radius_y: int
    ) -> tuple[BgrImage, tuple[int, int, int, int]] | None:
        """The part of the image under a patch around `center`, and the part of the patch that lies in it."""
        x, y = round(center[0] * self.height), round(center[1] * self.height)
        left, top = x - radius_x, y - radius_y
        right, bottom = x + radius_x + 1, y + radius_y + 1
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, self.width), min(bottom, self.height)
        if x0 >= x1 or y0 >= y1:
            return None
        return self.image[y0:y1, x0:x1], (y0 - top, y1 - top, x0 - left, x1 - left)
