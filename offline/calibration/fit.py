"""Scorer and locators, fitted on the graphs that will run.

A build fits a new bundle with this, a recalibration an old one: the graphs are given, everything behind them
is learned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from edge_runtime.bundle.manifest import Locators, Scorer, Validation
from edge_runtime.inference.scorer import ScorerGraph
from edge_runtime.stream.locator import LocatorSpec
from edge_runtime.stream.overlap import covering_means
from export.publish import SCORER, write_calibration
from export.scorer import export_scorer
from offline.arrays import BoolArray
from offline.calibration.locator import ScoredVideo, calibrate
from offline.calibration.rules import ScorerRule
from offline.calibration.samples import Samples
from offline.calibration.statistics import statistics
from offline.console import Console
from offline.data.dataset import Dataset, Video
from offline.data.scores import VideoScores
from offline.data.units import Unit
from offline.evaluation.metrics import average_precision, f1_at, frame_auc
from offline.extraction.extract import Extracted, Extraction, extract


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What was learned behind the graphs, and the features it was learned on.

    Attributes:
        scorer: What the manifest says of the scorer.
        locators: The calibrated operating points.
        validation: Figures on the validation split.
        scorer_difference: How far the scorer's graph is from the fit, in probability.
        calibration_units: Expert features of the calibration videos.
        validation_units: Expert features of the validation videos with known times.
        scored: Raw segment scores of every validation video with known times, by name.
    """

    scorer: Scorer
    locators: Locators
    validation: Validation
    scorer_difference: float
    calibration_units: tuple[Extracted, ...]
    validation_units: tuple[Extracted, ...]
    scored: dict[str, VideoScores]


def timed(videos: Dataset) -> list[Video]:
    """Take the videos whose frames all have a known label."""
    return [video for video in videos if video.timed]


def fit(
    dataset: Dataset,
    units: Mapping[str, Unit],
    extraction: Extraction,
    work: Path,
    console: Console,
    rule: ScorerRule,
    stride: int | None = None,
    marked: Samples | None = None,
) -> Fitted:
    """Extract with the exported graphs, fit the scorer, write it and its statistics into `work`, calibrate locators.

    Without a validation split with temporal annotations and both kinds of frames, the locators are the
    defaults, marked as not calibrated, and the console says so.

    Args:
        dataset: The calibration and the validation split.
        units: What one calibration sample is, by the video's name.
        extraction: By the exported graphs.
        work: The folder where the bundle is assembled.
        console: Shows bars.
        rule: By which the scorer is fitted.
        stride: Frames from one segment to the next in the validation videos: what the locators are calibrated with.
            Calibration samples do not overlap.
        marked: What operators marked at the site: calibration samples too.

    Raises:
        FeatureError: The features cannot be fitted on.
        SourceUnavailable: A video cannot be read, and unreadable ones are not to be skipped.
        DatasetError: A video contradicts the manifest.
    """
    with console.bar("Expert features of the calibration videos", "video") as progress:
        calibration = extract(dataset.split("calibration"), units, extraction, progress)
    training = Samples.of(calibration, marked)
    scorer = rule.fit(training)
    difference = export_scorer(scorer, training.features, work / SCORER)

    validation = _validation(dataset, striding(extraction, stride), console)
    graph = ScorerGraph(work / SCORER)
    scored = {one.video.name: score(one, graph) for one in validation}
    locators = _locators(validation, scored, console)
    write_calibration(work, statistics(scorer, calibration, validation, scored, locators, rule, marked))
    return Fitted(
        scorer=_scorer(calibration, training.labels),
        locators=locators,
        validation=_figures(validation, scored, locators.full),
        scorer_difference=difference,
        calibration_units=tuple(calibration),
        validation_units=tuple(validation),
        scored=scored,
    )


def striding(extraction: Extraction, stride: int | None) -> Extraction:
    """The same with segments that overlap; None leaves it as it is."""
    return replace(extraction, segment=extraction.segment.striding(stride))


def _validation(dataset: Dataset, extraction: Extraction, console: Console) -> list[Extracted]:
    """Expert features of the validation videos with known times, segment by segment."""
    judged = timed(dataset.split("validation"))
    if not judged:
        return []
    with console.bar("Expert features of the validation videos", "video") as progress:
        return extract(judged, {video.name: "segment" for video in judged}, extraction, progress)


def _locators(validation: Sequence[Extracted], scored: Mapping[str, VideoScores], console: Console) -> Locators:
    with console.bar("Calibrating the locator") as progress:
        locators = calibrate([ScoredVideo.of(one.video, scored[one.video.name]) for one in validation], progress)
    if not locators.full.calibrated:
        console.say(
            "No validation videos with temporal annotations of both kinds of frames: the locator uses "
            f'sigma {locators.full.sigma}, threshold {locators.full.threshold} ("calibrated": false).'
        )
    return locators


def _scorer(calibration: Sequence[Extracted], labels: BoolArray) -> Scorer:
    kinds = {one.unit for one in calibration}
    unit: Literal["video", "segment", "mixed"] = next(iter(kinds)) if len(kinds) == 1 else "mixed"
    return Scorer(file=SCORER, standardised=True, unit=unit, samples=len(labels), anomalous=int(labels.sum()))


def fitted_document(fitted: Fitted) -> dict[str, Any]:
    """Give the part of the manifest that a recalibration replaces."""
    return {
        "scorer": msgspec.to_builtins(fitted.scorer),
        "locators": msgspec.to_builtins(fitted.locators),
        "validation": msgspec.to_builtins(fitted.validation),
    }


def score(one: Extracted, graph: ScorerGraph) -> VideoScores:
    """Score the segments of one video with the scorer's graph."""
    # One at a time, as the edge runs it.
    values = [float(graph.probabilities(row[None])[0]) for row in one.features]
    means = covering_means(values, one.overlap)
    return VideoScores.of_segments(one.video.name, one.frames, one.spans, means)


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
