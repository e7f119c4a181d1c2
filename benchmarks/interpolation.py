"""What the way of resizing changes: grey levels on real footage, features and accuracy of the built-in model.

    hh-offline scenes --output scenes --seed 5 --videos 80
    python benchmarks/interpolation.py scenes/data.csv street.avi

The built-in model was trained on frames resized by area, so the row `area` shows it what it knows, every other row
what it does not: how far a model falls that is shown frames otherwise than in training. Frame AUC on the test split,
not smoothed, of five hunted heads: `both` where hunt, scorer and test see the same way, `test only` where hunt and
scorer saw area.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import get_args

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_runtime.stream.pixels import Interpolation, PixelSpec, prepare
from models.loading import load
from models.prompts import PROMPTS
from offline.calibration.scorer import fit_scorer
from offline.hunting.hunt import Selection, hunt
from offline.reference_training.measure import Segments, by_kind, cut_videos, features_of

WAYS: tuple[Interpolation, ...] = get_args(Interpolation)
CAMERAS = ((320, 240), (768, 576), (1920, 1080))
SIZES = (448, 384)


def footage(path: Path, count: int = 24) -> list[NDArray[np.uint8]]:
    """Frames from all over a video."""
    capture = cv2.VideoCapture(str(path))
    whole = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    frames = []
    for number in range(count):
        capture.set(cv2.CAP_PROP_POS_FRAMES, number * whole // count)
        read, frame = capture.read()
        if read:
            frames.append(np.asarray(frame, dtype=np.uint8))
    return frames


def grey_levels(path: Path) -> None:
    """Print how far each way is from bicubic, and what a frame costs on one thread."""
    cv2.setNumThreads(1)
    frames = footage(path)
    print(f"Mean difference from bicubic in grey levels, and milliseconds a frame ({len(frames)} frames of footage)")
    print("camera       to   " + "".join(f"{way:>18}" for way in WAYS))
    for camera in CAMERAS:
        shot = [np.asarray(cv2.resize(frame, camera, interpolation=cv2.INTER_CUBIC), np.uint8) for frame in frames]
        for size in SIZES:
            wanted = [prepare(frame, PixelSpec(size=size, interpolation="bicubic")).astype(float) for frame in shot]
            cells = []
            for way in WAYS:
                spec = PixelSpec(size=size, interpolation=way)
                begun = time.perf_counter()
                found = [prepare(frame, spec) for frame in shot]
                cost = (time.perf_counter() - begun) / len(shot) * 1000
                apart = np.mean([np.abs(one - other).mean() for one, other in zip(found, wanted, strict=True)])
                cells.append(f"{apart:9.2f} {cost:5.1f} ms")
            print(f"{camera[0]:>4} x {camera[1]:<5}{size:<5}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


def accuracy(manifest: Path) -> None:
    """Print how far each way moves features, and what the hunted heads reach with it."""
    mllm = load("reference", device="cpu")
    names = [prompt.name for prompt in PROMPTS]
    plain = mllm.pixels
    seen: dict[str, tuple[Segments, NDArray[np.float32], Segments, NDArray[np.float32]]] = {}
    print("\nThe built-in model, trained on area; 320 x 240 to 96 x 96")
    print("way         cosine to area   AUC both   AUC test only")
    for way in WAYS:
        mllm.use_pixels(msgspec.structs.replace(plain, interpolation=way))
        calibration, test = (cut_videos(manifest, split, mllm) for split in ("calibration", "test"))
        seen[way] = (calibration, features_of(mllm, calibration), test, features_of(mllm, test))

        def auc(fitted_on: str, judged_on: str) -> float:
            calibration, known, _, _ = seen[fitted_on]
            _, _, test, unknown = seen[judged_on]
            found = hunt(known, calibration.labels, names, Selection(top_k=5))
            prompt = names.index(found.prompt)
            rows, columns = zip(*[(expert.layer, expert.head) for expert in found.experts], strict=True)
            given, judged = (
                one[:, prompt][:, list(rows), list(columns)].reshape(len(one), -1) for one in (known, unknown)
            )
            return by_kind(test, fit_scorer(given, calibration.labels).predict_proba(judged)[:, 1])["all"]

        one, other = (seen[name][3].reshape(-1, seen[name][3].shape[-1]).astype(float) for name in (way, "area"))
        cosine = np.mean((one * other).sum(1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)))
        print(f"{way:<12}{cosine:14.4f}{auc(way, way):11.3f}{auc('area', way):16.3f}", flush=True)


def main() -> None:
    """Print both tables."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    grey_levels(Path(sys.argv[2]))
    accuracy(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
