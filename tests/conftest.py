"""Fixtures that are expensive or shared. Built artefacts are kept in .cache/tests, by the content of the code."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from rtsp import mjpeg_server, rtsp_server

from edge_runtime.bundle.reader import Bundle

__all__ = ["mjpeg_server", "rtsp_server"]

ROOT = Path(__file__).parent.parent
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


@pytest.fixture(scope="session")
def dataset_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data.csv of small clips in all three splits."""
    return write_dataset_folder(tmp_path_factory.mktemp("dataset"), {"calibration": 6, "validation": 4, "test": 2})


@pytest.fixture(scope="session")
def bundle_dir(dataset_csv: Path) -> Path:
    """A real bundle: untrained reference model, exported graphs, everything that a build does. Do not change it."""
    from models.reference import write_untrained
    from offline.console import Console
    from offline.recipes.build import BuildOptions, build

    digest = code_digest("edge_runtime", "models", "export", "offline")
    target = CACHE / f"bundle-{digest}"
    if not target.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        lock = (CACHE / "bundle.lock").open("w")
        # Of several workers one builds, the others wait for it.
        fcntl.flock(lock, fcntl.LOCK_EX)
    if not target.is_dir():
        work = Path(tempfile.mkdtemp(dir=CACHE))
        try:
            (work / "model").mkdir()
            write_untrained(work / "model")
            options = BuildOptions(
                model=str(work / "model"), manifest=dataset_csv, output=work / "bundle", depth_curve=False
            )
            build(options, Console(quiet=True))
            try:
                os.replace(work / "bundle", target)
            except OSError:
                assert target.is_dir()  # another worker was faster
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return target


@pytest.fixture(scope="session")
def bundle(bundle_dir: Path) -> Bundle:
    """The same, opened."""
    return Bundle.open(bundle_dir)


@pytest.fixture(scope="session")
def clip_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small MP4 of 130 frames at 15 frames a second: two whole segments and a tail of 34."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 130, (50, 100), seed=5)
