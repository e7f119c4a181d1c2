"""Contact sheets: many frames in one picture, to look scenes over."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from offline.scenes.truth import BgrImage, RenderedFrame


def contact_sheet(
    rows: Sequence[Sequence[RenderedFrame]], *, cell: tuple[int, int] | None = None, boxes: bool = False
) -> BgrImage:
    """Put frames side by side into one picture, a row for each scene.

    Args:
        rows: Frames of each scene; shorter rows are filled up with black.
        cell: (width, height) of every picture in pixels; None takes that of the first frame.
        boxes: Draw each object's box and action.

    Returns:
        BGR uint8 (rows * height, columns * width, 3).

    Raises:
        ValueError: There is no frame.
    """
    first = next((frame for row in rows for frame in row), None)
    if first is None:
        raise ValueError("no frames for a contact sheet")
    width, height = cell if cell is not None else (first.image.shape[1], first.image.shape[0])
    columns = max(len(row) for row in rows)
    sheet = np.zeros((len(rows) * height, columns * width, 3), np.uint8)
    for i, row in enumerate(rows):
        for j, frame in enumerate(row):
            picture = _with_boxes(frame) if boxes else frame.image
            small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
            sheet[i * height : (i + 1) * height, j * width : (j + 1) * width] = small
    return sheet


def _with_boxes(frame: RenderedFrame) -> BgrImage:
    picture = frame.image.copy()
    for thing in frame.objects:
        left, top, right, bottom = (round(side) for side in thing.box)
        cv2.rectangle(picture, (left, top), (right, bottom), (80, 255, 80), 1)
        text = f"{thing.kind} {thing.action}"
        cv2.putText(picture, text, (left, max(8, top - 2)), cv2.FONT_HERSHEY_SIMPLEX, 0.3, (80, 255, 255), 1)
    return picture
