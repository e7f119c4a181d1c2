from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.errors import DatasetError, SourceUnavailable
from offline.data.dataset import Video
from offline.evaluation.baselines import (
    BRIGHTNESS_CHANGE,
    FEW_SHOT,
    FRAME_DIFFERENCE,
    FewShot,
    Motion,
    baseline_scores,
    measure,
    scores_of,
)
from offline.evaluation.bootstrap import Resampling
from offline.evaluation.figures import evaluate_scores

FOOTAGE = os.environ.get("HEADHUNT_FOOTAGE")


def write(path: Path, frames: list[np.ndarray]) -> Path:
    # FFV1 is lossless: what was drawn is what is measured.
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 25.0, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def flat(level: int, width: int = 64) -> np.ndarray:
    return np.full((48, width, 3), level, dtype=np.uint8)


def moving(index: int) -> np.ndarray:
    picture = flat(100)
    picture[:, (index * 8) % 64 : (index * 8) % 64 + 8] = 200
    return picture


def test_what_moves_and_what_flashes_are_told_apart(tmp_path: Path) -> None:
    frames = [flat(100)] * 48 + [moving(i) for i in range(48)] + [flat(100)] * 24 + [flat(150)] * 10
    motion = measure(write(tmp_path / "a.avi", frames), "a.avi")
    assert motion.segments == ((0, 48), (48, 96), (96, 130))
    assert (motion.frames, motion.fps) == (130, 25.0)
    still, moves, flashes = motion.values
    assert still.tolist() == [0.0, 0.0]
    assert moves[0] > 10 * flashes[0] > 0
    assert moves[1] == pytest.approx(0, abs=1e-3)
    assert flashes[1] == pytest.approx(50 / 255, abs=1e-2)
    assert [score for _, _, score in scores_of(motion, FRAME_DIFFERENCE).segments] == motion.values[:, 0].tolist()
    assert [score for _, _, score in scores_of(motion, BRIGHTNESS_CHANGE).segments] == motion.values[:, 1].tolist()


def test_the_frame_difference_is_the_mean_over_pixels_and_frames(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    grey = random.integers(0, 256, size=(20, 32, 48), dtype=np.uint8)
    motion = measure(write(tmp_path / "a.avi", [np.repeat(g[..., None], 3, axis=2) for g in grey]), "a", 8)
    steps = np.abs(np.diff(grey.astype(float), axis=0)).mean(axis=(1, 2)) / 255
    steps = np.concatenate(([0.0], steps))
    expected = [steps[0:8].mean(), steps[8:16].mean(), steps[16:20].mean()]
    # FFV1 stores YUV 4:2:0 here; grey comes back to within a level.
    assert motion.values[:, 0] == pytest.approx(expected, abs=2 / 255)


def made_up(name: str, busy: list[bool], seed: int) -> Motion:
    random = np.random.default_rng(seed)
    values = np.array([(0.02 + 0.05 * b, 0.1) for b in busy]) + random.uniform(0, 0.02, size=(len(busy), 2))
    cuts = tuple((48 * i, 48 * i + 48) for i in range(len(busy)))
    return Motion(name, 48 * len(busy), cuts, values, 25.0)


def rows(split: str, *, timed: bool) -> tuple[list[Video], dict[str, Motion]]:
    videos, motions = [], {}
    for index in range(6):
        name = f"{split}{index}.mp4"
        anomalous = index % 2 == 1
        events = ((96, 192),) if anomalous and timed else ()
        label = "anomalous" if anomalous else "normal"
        videos.append(Video(Path(name), name, label, split, events))  # type: ignore[arg-type]
        motions[name] = made_up(name, [anomalous and i in (2, 3) for i in range(6)], index)
    return videos, motions


@pytest.mark.parametrize("timed", [True, False])
def test_few_shot_learns_what_separates(timed: bool) -> None:
    calibration, motions = rows("calibration", timed=timed)
    test, test_motions = rows("test", timed=True)
    scores = baseline_scores(test, test_motions, FewShot.fit(calibration, motions))
    assert list(scores) == [FRAME_DIFFERENCE, BRIGHTNESS_CHANGE, FEW_SHOT]
    auc = {
        name: evaluate_scores(test, found, resampling=Resampling(draws=0)).series["raw"].auc
        for name, found in scores.items()
    }
    assert auc[FRAME_DIFFERENCE] == 1.0
    assert auc[FEW_SHOT] is not None
    assert auc[BRIGHTNESS_CHANGE] is not None
    assert auc[FEW_SHOT] > 0.95 > auc[BRIGHTNESS_CHANGE]
    assert FewShot.fit(calibration, motions).scores_of(motions["calibration0.mp4"]) == FewShot.fit(
        calibration, motions
    ).scores_of(motions["calibration0.mp4"])
    # Probabilities and shares of full scale: the locator can smooth them all.
    for found in scores.values():
        found["test1.mp4"].smoothed(1.0, 3)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    calibration, motions = rows("calibration", timed=True)
    with pytest.raises(DatasetError, match=r"calibration1\.mp4: not measured"):
        FewShot.fit(calibration, {"calibration0.mp4": motions["calibration0.mp4"]})
    with pytest.raises(DatasetError, match=r"calibration0\.mp4: not measured"):
        baseline_scores(calibration, {})
    with pytest.raises(DatasetError, match="needs both classes"):
        FewShot.fit(calibration[::2], motions)
    with pytest.raises(DatasetError, match="needs both classes"):
        FewShot.fit([], motions)
    with pytest.raises(SourceUnavailable, match=r"nowhere\.mp4"):
        measure(tmp_path / "nowhere.mp4", "nowhere.mp4")


@pytest.mark.skipif(FOOTAGE is None, reason="HEADHUNT_FOOTAGE names no video file")
def test_real_footage() -> None:
    motion = measure(Path(str(FOOTAGE)), "footage")
    assert motion.segments[-1][1] == motion.frames
    assert len(motion.segments) == -(-motion.frames // 48)
    assert np.isfinite(motion.values).all()
    assert (motion.values[:, 0] > 0).all()
    assert (motion.values < 1).all()
