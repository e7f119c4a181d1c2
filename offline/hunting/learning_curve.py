"""How much calibration data is enough: the hunt and the fit repeated on parts of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from offline.hunting.depth import Trial, judge_experts
from offline.hunting.hunt import Selection, hunt

FRACTIONS = (0.25, 0.5, 0.75, 1.0)


def learning_curve(trial: Trial, selection: Selection, seed: int) -> list[tuple[float, int, float | None]]:
    """Hunt, fit and judge on growing parts of the calibration videos.

    Videos are drawn per class, at least one of each, and every part holds the smaller ones. A part with fewer
    than two samples of a class cannot be hunted in and is left out.

    Args:
        trial: What is hunted in, fitted on and judged on.
        selection: How the experts are chosen; the prompt is chosen anew in every part.
        seed: Of the draw.

    Returns:
        (fraction, samples, validation AUC) each.
    """
    calibration = trial.calibration
    rng = np.random.default_rng(seed)
    names = np.array(calibration.videos)
    ranked: list[list[str]] = []
    for videos in calibration.videos_by_class():
        ranked.append([videos[i] for i in rng.permutation(len(videos))])
    points: list[tuple[float, int, float | None]] = []
    for fraction in FRACTIONS:
        chosen = [video for videos in ranked for video in videos[: max(1, round(fraction * len(videos)))]]
        rows = np.isin(names, chosen)
        labels = calibration.labels[rows]
        if min(int(labels.sum()), int((~labels).sum())) < 2:
            continue
        part = calibration.rows(rows)
        found = hunt(part.features, labels, part.prompts, replace(selection, prompt=None))
        auc, _ = judge_experts(found, replace(trial, calibration=part))
        points.append((fraction, len(labels), auc))
    return points
