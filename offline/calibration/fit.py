"""Scorer and locators, fitted on the graphs that will run. Knows datasets and features; exports no model.

A build fits a new bundle with this, a recalibration an old one: the graphs are given, everything behind them
is learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from edge_runtime.bundle.manifest import Locators, Scorer, Validation
from edge_runtime.inference.scorer import ScorerGraph
from edge_runtime.stream.locator import LocatorSpec
from edge_runtime.stream.pixels import PixelSpec
from edge_runtime.stream.segments import SegmentSpec
from export.publish import SCORER
from export.scorer import export_scorer
from offline.calibration.locator import ScoredVideo, calibrate
from offline.calibration.scorer import fit_scorer
from offline.console import Console
from offline.data.cache import EntryStore
from offline.data.dataset import Dataset, Video
from offline.data.scores import VideoScores
from offline.data.units import Unit
from offline.evaluation.metrics import average_precision, f1_at, frame_auc
from offline.extraction.extract import ExpertFeatures, Extracted, extract


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What was learned behind the graphs, and the features it was learned on.

    scored: raw segment scores of every validation video with known times, by name.
    """

    scorer: Scorer
    locators: Locators
    validation: Validation
    scorer_difference: float
    calibration_units: tuple[Extracted, ...]
    validation_units: tuple[Extracted, ...]
    scored: dict[str, VideoScores]


def timed(videos: Dataset) -> list[Video]:
    """The videos whose frames all have a known label."""
    return [video for video in videos if video.timed]


def fit(
    dataset: Dataset,
    units: dict[str, Unit],
    extractor: ExpertFeatures,
    pixels: PixelSpec,
    segment: SegmentSpec,
    store: EntryStore,
    work: Path,
    console: Console,
    seed: int = 0,
    skip_unreadable: bool = False,
) -> Fitted:
    """Extract with the exported graphs, fit the scorer, write it into `work`, calibrate both locators.

    Without a validation split with temporal annotations and both kinds of frames, the locators are the
    defaults, marked as not calibrated, and the console says so.
    """
    with console.bar("Expert features of the calibration videos", "video") as progress:
        calibration = extract(
            dataset.split("calibration"), units, extractor, pixels, segment, store, skip_unreadable, progress
        )
    features = np.concatenate([one.features for one in calibration])
    labels = np.concatenate([one.labels for one in calibration])
    scorer = fit_scorer(features, labels, seed)
    difference = export_scorer(scorer, features, work / SCORER)
    graph = ScorerGraph(work / SCORER)

    judged = timed(dataset.split("validation"))
    by_segment: dict[str, Unit] = {video.name: "segment" for video in judged}
    validation: list[Extracted] = []
    if judged:
        with console.bar("Expert features of the validation videos", "video") as progress:
            validation = extract(judged, by_segment, extractor, pixels, segment, store, skip_unreadable, progress)
    scored = {one.video.name: score(one, graph) for one in validation}
    with console.bar("Calibrating the locator") as progress:
        locators = calibrate([ScoredVideo.of(one.video, scored[one.video.name]) for one in validation], progress)
    if not locators.full.calibrated:
        console.say(
            "No validation videos with temporal annotations of both kinds of frames: the locator uses "
            f'sigma {locators.full.sigma}, threshold {locators.full.threshold} ("calibrated": false).'
        )
    kinds = {one.unit for one in calibration}
    unit: Literal["video", "segment", "mixed"] = next(iter(kinds)) if len(kinds) == 1 else "mixed"
    return Fitted(
        scorer=Scorer(file=SCORER, standardised=True, unit=unit, samples=len(labels), anomalous=int(labels.sum())),
        locators=locators,
        validation=_figures(validation, scored, locators.full),
        scorer_difference=difference,
        calibration_units=tuple(calibration),
        validation_units=tuple(validation),
        scored=scored,
    )


def fitted_document(fitted: Fitted) -> dict[str, Any]:
    """The part of the manifest that a recalibration replaces."""
    return {
        "scorer": msgspec.to_builtins(fitted.scorer),
        "locators": msgspec.to_builtins(fitted.locators),
        "validation": msgspec.to_builtins(fitted.validation),
    }


def score(one: Extracted, graph: ScorerGraph) -> VideoScores:
    """Raw segment scores of one video, by the scorer graph."""
    # One at a time, as the edge runs it.
    values = [float(graph.probabilities(row[None])[0]) for row in one.features]
    return VideoScores(
        name=one.video.name,
        frames=one.frames,
        segments=tuple((int(start), int(end), value) for (start, end), value in zip(one.spans, values, strict=True)),
    )


def _figures(validation: Sequence[Extracted], scored: dict[str, VideoScores], locator: LocatorSpec) -> Validation:
    """Frame-level figures of the smoothed scores at the locator's threshold."""
    if not validation:
        return Validation(auc=None, ap=None, f1=None, videos=0, frames=0)
    labels = np.concatenate([one.video.frame_labels(one.frames) for one in validation])
    values = np.concatenate(
        [scored[one.video.name].smoothed(locator.sigma, locator.lookahead).expand() for one in validation]
    )
    known = ~np.isnan(values)
    point = f1_at(labels[known], values[known], locator.threshold)
    return Validation(
        auc=frame_auc(labels[known], values[known]),
        ap=average_precision(labels[known], values[known]),
        f1=None if point is None else point.f1,
        videos=len(validation),
        frames=len(labels),
    )
