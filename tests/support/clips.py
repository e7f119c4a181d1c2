"""Small videos, data.csv folders, and where tests keep what is expensive to make."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "tests"


def write_clip(
    path: Path,
    frames: int,
    event: tuple[int, int] | None = None,
    fps: float = 15.0,
    size: tuple[int, int] = (160, 120),
    seed: int = 0,
) -> Path:
    """A small MP4: a disc that drifts over noise, and turns red within the event."""
    rng = np.random.default_rng(seed)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, size)
    assert writer.isOpened()
    ground = rng.integers(60, 110, (size[1], size[0], 3), dtype=np.uint8)
    start = int(rng.integers(0, size[0]))
    for i in range(frames):
        frame = ground.copy()
        red = event is not None and event[0] <= i < event[1]
        cv2.circle(frame, ((start + i) % size[0], size[1] // 2), 14, (0, 0, 255) if red else (0, 255, 0), -1)
        writer.write(frame)
    writer.release()
    return path


def write_dataset_folder(folder: Path, splits: dict[str, int], seed: int = 0) -> Path:
    """Clips and their data.csv; every second video of a split is anomalous. Returns the path of the CSV."""
    rng = np.random.default_rng(seed)
    rows: list[Sequence[object]] = []
    for split, count in splits.items():
        for number in range(count):
            frames = int(rng.integers(100, 170))
            event = (30, 90) if number % 2 else None
            name = f"{split}{number}.mp4"
            write_clip(folder / name, frames, event, seed=int(rng.integers(2**31)))
            rows.append([name, "anomalous" if event else "normal", split, "30-90" if event else "", frames])
    with (folder / "data.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "split", "events", "frames"], *rows])
    return folder / "data.csv"


def code_digest(*packages: str) -> str:
    """A name for the state of some packages' code."""
    digest = hashlib.sha256()
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]
