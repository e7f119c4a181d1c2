"""Clips of the pool as training examples: pictures, facts, and which visual token shows what."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from offline.reference_training.pool import (
    ACTIONS,
    CLIPS_A_PAIR,
    COLORS,
    OBJECTS,
    PLACES,
    SAMPLED,
    Shard,
    open_shard,
    scene_pair,
)
from offline.scenes import Conditions, RenderedFrame, SceneFacts, SceneObject, describe

GRID: Final = 4
"""Visual tokens a side of a frame."""

CELL_NAMES: Final = (*OBJECTS, *ACTIONS, "to the left", "to the right", "farther", "nearer", "fast")
"""What a linear layer is to read off a visual token: objects, actions and motion in its cell."""

_SIGHT: Final = 0.004
"""Smallest motion between sampled frames (0.2 s), in picture heights, that counts as one."""

_FAST: Final = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class ClipPool:
    """The clips of some shards of a folder, numbered from 0; every shard has as many.

    Attributes:
        shards: The shards, in order.
        first: Number of the first of them in the folder.
    """

    shards: tuple[Shard, ...]
    first: int

    @classmethod
    def open(cls, folder: Path, first: int, count: int) -> ClipPool:
        """Open shards `first` to `first + count - 1` of a folder."""
        return cls(tuple(open_shard(folder, first + i) for i in range(count)), first)

    def __len__(self) -> int:
        return sum(len(shard.pictures) for shard in self.shards)

    def clip(self, number: int) -> PoolClip:
        """Give one clip by its number within this pool."""
        in_each = len(self.shards[0].pictures)
        shard = self.shards[number // in_each]
        inside = number % in_each
        low, high = np.searchsorted(shard.seen["clip"], [inside, inside + 1])
        pair = (self.first * in_each + number) // CLIPS_A_PAIR
        return PoolClip(shard.pictures[inside], shard.seen[low:high], pair)


@dataclass(frozen=True, eq=False)
class PoolClip:
    """One clip.

    Attributes:
        pictures: uint8 (16, S, S, 3) RGB.
        seen: Its SEEN records, in the order of the frames.
        pair: Number of the pair of scenes that it comes from.
    """

    pictures: NDArray[np.uint8]
    seen: NDArray[np.void]
    pair: int

    @cached_property
    def facts(self) -> SceneFacts:
        """What `offline.scenes.describe` says about the sampled frames."""
        spec, _ = scene_pair(self.pair)
        conditions = Conditions(spec.layout, spec.time_of_day, spec.weather)
        objects: list[list[SceneObject]] = [[] for _ in range(SAMPLED)]
        for row in self.seen.tolist():
            _, frame, track, kind, action, color, place, box, foot = row
            objects[frame].append(
                SceneObject(
                    track,
                    OBJECTS[kind],
                    tuple(box),
                    ACTIONS[action],
                    COLORS[color] if color >= 0 else "",
                    PLACES[place] if place >= 0 else "ground",
                    tuple(foot),
                )
            )
        nothing = np.empty((0, 0, 3), np.uint8)
        return describe(RenderedFrame(i, 0.2 * i, nothing, tuple(seen), conditions) for i, seen in enumerate(objects))

    def cells(self, *, flipped: bool) -> NDArray[np.bool_]:
        """Tell what each visual token shows.

        A cell shows an object that covers a fifth of it, or of which two fifths lie in it.

        Args:
            flipped: As in the mirror image.

        Returns:
            bool (16, GRID * GRID, len(CELL_NAMES)).
        """
        seen = self.seen
        target = np.zeros((SAMPLED, GRID, GRID, len(CELL_NAMES)), np.bool_)
        box = seen["box"].astype(np.float64)  # (n, 4)
        if flipped:
            box = np.stack([1 - box[:, 2], box[:, 1], 1 - box[:, 0], box[:, 3]], axis=1)
        edges = np.arange(GRID) / GRID
        across = np.clip(np.minimum(box[:, 2:3], edges + 1 / GRID) - np.maximum(box[:, 0:1], edges), 0, None)
        along = np.clip(np.minimum(box[:, 3:4], edges + 1 / GRID) - np.maximum(box[:, 1:2], edges), 0, None)
        shared = along[:, :, None] * across[:, None, :]  # (n, row, column)
        area = np.maximum((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]), 1e-9)
        shows = (shared > 0.2 / GRID**2) | (shared > 0.4 * area[:, None, None])
        labels = np.zeros((len(seen), len(CELL_NAMES)), np.bool_)
        rows = np.arange(len(seen))
        labels[rows, seen["kind"]] = True
        labels[rows, len(OBJECTS) + seen["action"]] = True
        labels[:, -5:] = self._motion(flipped)
        for row in rows:
            target[seen["frame"][row], shows[row]] |= labels[row]
        return target.reshape(SAMPLED, GRID * GRID, len(CELL_NAMES))

    def _motion(self, flipped: bool) -> NDArray[np.bool_]:
        """Motion of each record against the same object's previous one: left, right, farther, nearer, fast."""
        seen = self.seen
        moved = np.zeros((len(seen), 2))
        previous: dict[int, int] = {}
        for row, track in enumerate(seen["track"].tolist()):
            if (before := previous.get(track)) is not None:
                moved[row] = seen["foot"][row] - seen["foot"][before]
            previous[track] = row
        if flipped:
            moved[:, 0] *= -1
        across, along = moved[:, 0], moved[:, 1]
        fast = np.hypot(across, 1.5 * along) > _FAST
        return np.stack([across < -_SIGHT, across > _SIGHT, along < -_SIGHT, along > _SIGHT, fast], axis=1)
