"""How many clips of each split a generated dataset of a given size has. Knows proportions; draws nothing."""

from __future__ import annotations

from offline.scenes import SceneSet, SplitSize

# Calibration is few-shot by nature; the rest is for figures that mean something.
_SHARES = {"calibration": 0.4, "validation": 0.3}


def scene_set(videos: int) -> SceneSet:
    """Half of each split normal, half anomalous: 40 % calibration, 30 % validation, the rest test."""
    calibration = max(2, round(videos * _SHARES["calibration"] / 2) * 2)
    validation = max(2, round(videos * _SHARES["validation"] / 2) * 2)
    test = max(2, videos - calibration - validation)
    return SceneSet(calibration=_half(calibration), validation=_half(validation), test=_half(test))


def _half(videos: int) -> SplitSize:
    return SplitSize(videos - videos // 2, videos // 2)
