"""How much calibration data is enough: the hunt and the fit repeated on parts of it. Knows features and labels."""

from __future__ import annotations

import numpy as np

from offline.extraction.extract import FeatureSet
from offline.hunting.depth import Fit, Units, unit_figures
from offline.hunting.hunt import hunt

FRACTIONS = (0.25, 0.5, 0.75, 1.0)


def learning_curve(
    calibration: FeatureSet, validation: Units, fit: Fit, top_k: int, penalty: float, max_layer: int | None, seed: int
) -> list[tuple[float, int, float | None]]:
    """(fraction, samples, validation AUC) for growing parts of the calibration videos.

    Videos are drawn per class, at least one of each, and every part holds the smaller ones. A part with fewer
    than two samples of a class cannot be hunted in and is left out.
    """
    rng = np.random.default_rng(seed)
    names = np.array(calibration.videos)
    ranked: list[list[str]] = []
    for anomalous in (False, True):
        # A video is anomalous if any of its samples is.
        videos = sorted({v for v in calibration.videos if bool(calibration.labels[names == v].any()) == anomalous})
        ranked.append([videos[i] for i in rng.permutation(len(videos))])
    points: list[tuple[float, int, float | None]] = []
    for fraction in FRACTIONS:
        chosen = [video for videos in ranked for video in videos[: max(1, round(fraction * len(videos)))]]
        rows = np.isin(names, chosen)
        labels = calibration.labels[rows]
        if min(int(labels.sum()), int((~labels).sum())) < 2:
            continue
        found = hunt(
            calibration.features[rows], labels, calibration.prompts, top_k=top_k, penalty=penalty, max_layer=max_layer
        )
        prompt = found.prompts.index(found.prompt)
        layers, heads = [e.layer for e in found.experts], [e.head for e in found.experts]
        part = calibration.features[rows][:, prompt, layers, heads].reshape(len(labels), -1)
        unseen = validation.features[:, prompt, layers, heads].reshape(len(validation.features), -1)
        scores = np.asarray(fit(part, labels).predict_proba(unseen))[:, 1]
        auc, _ = unit_figures(scores, validation.frames, validation.anomalous_frames)
        points.append((fraction, len(labels), auc))
    return points
