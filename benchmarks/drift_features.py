"""Expert features of generated cameras, for benchmarks/drift.py: as they are, turned, blurred, and at night.

    python benchmarks/drift_features.py BUNDLE features.npz        # about 15 minutes on one core

Calibration videos are normal scenes of any place. A site is one place that goes on for half an hour, seen through the
middle of a wider picture: turning its camera shows another part of that picture, in which the same life goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime import Bundle, Detector
from edge_runtime.stream.pixels import prepare
from offline.scenes.render import render
from offline.scenes.spec import SceneSpec, draw_spec

WIDE, HEIGHT, SEEN = 480, 240, 320
CALIBRATION_VIDEOS, SITES = 80, 5
SITE_SEGMENTS, TURNED_SEGMENTS, NIGHT_SITES = 600, 80, 3

Picture = NDArray[np.uint8]


def _crop(shift: int) -> Callable[[Picture], Picture]:
    left = (WIDE - SEEN) // 2 + shift
    return lambda picture: picture[:, left : left + SEEN]


def _rolled(picture: Picture) -> Picture:
    turn = cv2.getRotationMatrix2D((WIDE / 2, HEIGHT / 2), 12.0, 1.2)
    return _crop(0)(np.asarray(cv2.warpAffine(picture, turn, (WIDE, HEIGHT)), dtype=np.uint8))


def _blurred(picture: Picture) -> Picture:
    return _crop(0)(np.asarray(cv2.GaussianBlur(picture, (0, 0), 3.0), dtype=np.uint8))


VIEWS: dict[str, Callable[[Picture], Picture]] = {
    "still": _crop(0),
    "turned_25": _crop(80),
    "turned_8": _crop(24),
    "rolled_12": _rolled,
    "blurred": _blurred,
}


def features_of(detector: Detector, spec: SceneSpec, views: dict[str, int]) -> dict[str, NDArray[np.float32]]:
    """Features of a scene's segments under several views.

    Args:
        detector: What computes them.
        spec: The scene.
        views: How many segments of each, by name.

    Returns:
        float32 (n, K·d) by name.
    """
    manifest = detector.bundle.manifest
    assert detector.engine is not None
    found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in views}
    for number, frames in enumerate(_segments(spec, manifest.segment.frames, manifest.segment.sampled)):
        for name, most in views.items():
            if number < most:
                pixels = np.stack([prepare(VIEWS[name](frame), manifest.pixels) for frame in frames])
                found[name].append(detector.engine.features(pixels[None])[0])
    return {name: np.array(rows, dtype=np.float32) for name, rows in found.items()}


def _segments(spec: SceneSpec, frames: int, sampled: int) -> Iterator[list[Picture]]:
    chosen = {int((i + 0.5) * frames / sampled) for i in range(sampled)}
    waiting: list[Picture] = []
    for number, frame in enumerate(render(spec)):
        if number % frames in chosen:
            waiting.append(np.asarray(frame.image, dtype=np.uint8))
        if number % frames == frames - 1:
            yield waiting
            waiting = []


def main(bundle: Path, output: Path) -> None:
    """Render, compute and write."""
    kept: dict[str, NDArray[np.float32] | NDArray[np.int64]] = {}
    with Detector(Bundle.open(bundle), provider="cpu", threads=1) as detector:
        cut = detector.bundle.manifest.segment
        rows, video = [], []
        for number in range(CALIBRATION_VIDEOS):
            spec = draw_spec(900_000 + number, size=(WIDE, HEIGHT), fps=15.0, seconds=(8.0, 20.0))
            rows.append(features_of(detector, spec, {"still": 99})["still"])
            video += [number] * len(rows[-1])
        kept["calibration"], kept["video"] = np.concatenate(rows), np.array(video)
        kept["calibration_scores"] = detector.probabilities(kept["calibration"])
        for site in range(SITES):
            seconds = SITE_SEGMENTS * cut.frames / 15.0
            spec = draw_spec(910_000 + site, size=(WIDE, HEIGHT), fps=15.0, seconds=seconds, time_of_day="day")
            views = {name: SITE_SEGMENTS if name == "still" else TURNED_SEGMENTS for name in VIEWS}
            found = features_of(detector, spec, views)
            if site < NIGHT_SITES:
                for light in ("dusk", "night"):
                    spec = draw_spec(
                        910_000 + site,
                        size=(WIDE, HEIGHT),
                        fps=15.0,
                        seconds=TURNED_SEGMENTS * cut.frames / 15.0,
                        time_of_day=light,
                    )
                    found[light] = features_of(detector, spec, {"still": TURNED_SEGMENTS})["still"]
            for name, rows_of in found.items():
                kept[f"site{site}_{name}"] = rows_of
                kept[f"site{site}_{name}_scores"] = detector.probabilities(rows_of)
            np.savez(output, **kept)  # type: ignore[arg-type]
            print(f"site {site + 1} of {SITES}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
