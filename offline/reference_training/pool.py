"""The training pool: windows of generated scenes as small pictures, with what is to be seen in every frame.

Each event scene has a twin without the event: same seed, same place, light and weather, seen at the same times. The
kinds in `UNSEEN` are never played.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.files import make_folder, write_atomic
from edge_runtime.stream.pixels import PixelSpec, prepare
from edge_runtime.stream.segments import sample_indices
from offline.scenes import KIND_ACTIONS, KINDS, RenderedFrame, Scene, SceneSpec, draw_spec

UNSEEN: Final = ("climbing", "pavement_driving")
"""The kinds that training never sees, so that a hunt for them says something about new events."""

TRAINED: Final = tuple(kind for kind in KINDS if kind not in UNSEEN)

FIRST_SEED: Final = 2**62
"""`offline.scenes.plan` draws its scenes' seeds below this number: no data set shares a scene with the pool."""

WINDOW, SAMPLED, SIZE = 48, 16, 96
"""Frames of a window, frames sampled from it (bin centres, as in a segment), pixels a side."""

PERSON_ACTIONS: Final = (
    "walking", "running", "standing", "talking", "sitting", "kneeling", "lying", "falling", "getting up",
    "fighting", "fleeing", "chasing", "snatching", "struggling", "smashing", "hugging", "playing", "sweeping",
    "phoning", "waving", "cycling", "picking up", "putting down",
)  # fmt: skip
VEHICLE_ACTIONS: Final = ("driving", "parked", "stopped", "parking", "crashing", "crashed")
OTHER_ACTIONS: Final = ("carried", "abandoned", "rolling", "rising", "burning")
ACTIONS: Final = (*PERSON_ACTIONS, *VEHICLE_ACTIONS, *OTHER_ACTIONS)
OBJECTS: Final = ("person", "car", "van", "bicycle", "bag", "ball", "fire", "smoke", "steam")
PLACES: Final = ("road", "crossing", "pavement", "square", "grass", "parking", "path", "ground")
COLORS: Final = (
    "red", "blue", "green", "yellow", "white", "black", "grey", "orange", "brown", "purple", "pink", "silver",
)  # fmt: skip

SIZES: Final = ((320, 240), (288, 216), (256, 192), (320, 180))
PAIRS: Final = 64
"""Pairs of scenes in a shard, unless told otherwise."""

WINDOWS_A_SCENE: Final = 2
CLIPS_A_PAIR: Final = 2 * WINDOWS_A_SCENE

SEEN = np.dtype(
    [
        ("clip", np.int32), ("frame", np.int8), ("track", np.int16), ("kind", np.int8), ("action", np.int8),
        ("color", np.int8), ("place", np.int8), ("box", np.float32, 4), ("foot", np.float32, 2),
    ]
)  # fmt: skip
"""One object in one frame: codes into the tuples above (-1: none of them), box in fractions of the picture
(left, top, right, bottom), foot in fractions of the height."""


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """Some clips, CLIPS_A_PAIR of each pair of scenes.

    Attributes:
        pictures: uint8 (C, 16, S, S, 3) RGB.
        seen: SEEN records, sorted by clip and frame.
    """

    pictures: NDArray[np.uint8]
    seen: NDArray[np.void]


def scene_pair(number: int) -> tuple[SceneSpec, SceneSpec]:
    """Draw the event scene of a pair, and its twin without the event."""
    seed = FIRST_SEED + number
    look = {"size": SIZES[number % len(SIZES)], "seconds": (7.0, 12.0)}
    event = draw_spec(seed, TRAINED[number % len(TRAINED)], **look)  # type: ignore[arg-type]
    twin = draw_spec(
        seed,
        None,
        layout=event.layout,
        time_of_day=event.time_of_day,
        weather=event.weather,
        disturbances=event.disturbances,
        people=event.people,
        size=event.size,
        seconds=event.frames / event.fps,
    )
    return event, twin


def windows(event: SceneSpec, rng: np.random.Generator) -> list[int]:
    """Draw the windows of a scene to look at: the first overlaps the event, each further one does so half the time.

    Args:
        event: The event scene of a pair; the twin is seen at the same times.
        rng: What they are drawn from.

    Returns:
        First frames of WINDOWS_A_SCENE windows of WINDOW frames.
    """
    assert event.event is not None
    last = max(0, event.frames - WINDOW)
    low = min(last, max(0, event.event[0] - WINDOW + 12))
    high = min(last, max(low, event.event[1] - 12))
    starts = [int(rng.integers(low, high + 1))]
    for _ in range(WINDOWS_A_SCENE - 1):
        again = bool(rng.random() < 0.5)
        starts.append(int(rng.integers(low, high + 1)) if again else int(rng.integers(0, last + 1)))
    return starts


def render_pair(number: int) -> Iterator[tuple[NDArray[np.uint8], list[RenderedFrame]]]:
    """Render the clips of one pair, those of the event scene first.

    Yields:
        Pictures uint8 (16, S, S, 3) RGB, and the frames that they were made of.
    """
    rng = np.random.default_rng([FIRST_SEED + number, 11])
    event, twin = scene_pair(number)
    starts = windows(event, rng)
    spec = PixelSpec(size=SIZE)
    for scene_spec in (event, twin):
        wanted = [start + np.asarray(sample_indices(WINDOW, SAMPLED)) for start in starts]
        frames: dict[int, RenderedFrame] = {}
        scene = Scene(scene_spec)
        needed = {int(index) for indices in wanted for index in indices}
        for index in range(max(needed) + 1):
            scene.advance()
            if index in needed:
                frames[index] = scene.draw()
        for indices in wanted:
            # Half of the clips went through a lossy codec at their own resolution, as videos have.
            quality = int(rng.integers(20, 90)) if rng.random() < 0.5 else None
            chosen = [frames[int(index)] for index in indices]
            yield np.stack([prepare(_compressed(frame.image, quality), spec) for frame in chosen]), chosen


def render_shard(number: int, pairs: int = PAIRS) -> Shard:
    """Render the clips of a shard; the same numbers give the same shard.

    Args:
        number: Of the shard, from 0.
        pairs: Pairs of scenes in a shard.
    """
    pictures: list[NDArray[np.uint8]] = []
    seen: list[tuple[object, ...]] = []
    for pair in range(number * pairs, (number + 1) * pairs):
        for clip, frames in render_pair(pair):
            for index, frame in enumerate(frames):
                seen += _records(len(pictures), index, frame)
            pictures.append(clip)
    return Shard(np.stack(pictures), np.array(seen, dtype=SEEN))


def write_pool(folder: Path, shards: int, *, pairs: int = PAIRS, processes: int = 1) -> None:
    """Render the shards that the folder does not hold yet; one that is there is complete.

    Args:
        folder: Where to, made where it is missing.
        shards: How many there are to be.
        pairs: Pairs of scenes in a shard.
        processes: How many render at the same time.

    Raises:
        OutputFailed: A file or the folder cannot be written.
    """
    make_folder(folder)
    missing = [number for number in range(shards) if not _seen_path(folder, number).is_file()]
    jobs = [(folder, number, pairs) for number in missing]
    if processes == 1:
        for job in jobs:
            _write_shard(job)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as workers:
        for _ in workers.imap_unordered(_write_shard, jobs):
            pass


def open_shard(folder: Path, number: int) -> Shard:
    """Open a shard, its pictures as a memory map, so that a pool may be larger than memory."""
    pictures = np.load(_pictures_path(folder, number), mmap_mode="r")
    return Shard(pictures, np.load(_seen_path(folder, number)))


def _write_shard(job: tuple[Path, int, int]) -> None:
    cv2.setNumThreads(1)
    folder, number, pairs = job
    shard = render_shard(number, pairs)
    # The records come last: they vouch for the pictures.
    write_atomic(_pictures_path(folder, number), lambda file: np.save(file, shard.pictures))
    write_atomic(_seen_path(folder, number), lambda file: np.save(file, shard.seen))


def _pictures_path(folder: Path, number: int) -> Path:
    return folder / f"pictures_{number:04d}.npy"


def _seen_path(folder: Path, number: int) -> Path:
    return folder / f"seen_{number:04d}.npy"


def _compressed(image: NDArray[np.uint8], quality: int | None) -> NDArray[np.uint8]:
    if quality is None:
        return image
    _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), dtype=np.uint8)


def _records(clip: int, index: int, frame: RenderedFrame) -> Iterator[tuple[object, ...]]:
    height, width = frame.image.shape[:2]
    for thing in frame.objects:
        left, top, right, bottom = thing.box
        yield (
            clip, index, thing.track, _code(OBJECTS, thing.kind), _code(ACTIONS, thing.action),
            _code(COLORS, thing.color), _code(PLACES, thing.place),
            (left / width, top / height, right / width, bottom / height), thing.foot,
        )  # fmt: skip


def _code(names: tuple[str, ...], name: str) -> int:
    return names.index(name) if name in names else -1


assert not any(action in ACTIONS for kind in UNSEEN for action in KIND_ACTIONS[kind]), "their words are unknown too"
