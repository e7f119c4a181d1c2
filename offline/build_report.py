"""From a build's results to its report. Knows both; computes only what nothing but the report needs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edge_runtime.detector import SegmentTimes, locate
from edge_runtime.locator import LocatorSpec
from edge_runtime.manifest import Manifest
from edge_runtime.records import EventRecord
from edge_runtime.videofile import VideoFile
from export.assemble import entries
from models.checkpoint import REFERENCE
from models.reference import is_trained
from offline.baselines import FewShot, baseline_scores, measure
from offline.console import Console
from offline.dataset import Dataset, Video
from offline.depth import DepthPoint, Units, depth_curve
from offline.evaluation import Evaluation, evaluate_scores
from offline.extract import Extracted, FeatureSet
from offline.fit import Fitted
from offline.hunt import Hunt
from offline.learning_curve import learning_curve
from offline.report import Embedding, Report, ReportVideo, thumbnail, write
from offline.scorer import fit_scorer
from offline.scores import VideoScores

if TYPE_CHECKING:
    from offline.build import BuildOptions
    from offline.recalibrate import RecalibrateOptions

# A thumbnail costs decoding a video up to its peak.
THUMBNAILS = 40


def write_build_report(
    path: Path,
    options: BuildOptions,
    document: dict[str, Any],
    found: Hunt,
    dataset: Dataset,
    features: FeatureSet,
    layers: int,
    validation: Sequence[Extracted] | None,
    fitted: Fitted,
    console: Console,
) -> None:
    """Write `report.html` into the folder where a bundle is being assembled.

    document: the manifest so far. validation: features of all heads, None where no depth curve is wanted.
    """
    depth: Sequence[DepthPoint] = ()
    learned = None
    if validation:

        def fit(samples: Any, labels: Any) -> Any:
            return fit_scorer(samples, labels, options.seed)

        units = _units(validation)
        with console.bar("AUC against depth", "depth") as progress:
            depth = depth_curve(
                found, (features.features, features.labels), units, fit=fit, decoder_layers=layers, progress=progress
            )
        learned = learning_curve(
            features, units, fit, options.top_k, options.penalty, options.max_layer, options.seed
        )
    judged = [one.video for one in fitted.validation_units]
    write(
        Report(
            title=f"{options.manifest.stem}: what {document['source_model']['name']} sees",
            manifest=_manifest(document, path.parent),
            hunt=found,
            videos=report_videos(fitted, console),
            depth=tuple(depth),
            embedding=_embedding(found, features),
            evaluation=_evaluation(judged, fitted),
            calibration_curve=learned,
            baselines=_baselines(list(dataset.split("calibration")), judged, console),
            notes=_notes(options, fitted),
            commands=(_command(options),),
        ),
        path,
    )


def report_videos(fitted: Fitted, console: Console) -> tuple[ReportVideo, ...]:
    """The validation videos with their scores, events and a picture of the highest score."""
    videos = []
    with console.bar("Pictures for the report", "video") as progress:
        for number, one in enumerate(fitted.validation_units):
            progress(number, len(fitted.validation_units), one.video.name)
            pictured = number < THUMBNAILS
            videos.append(_report_video(one, fitted.scored[one.video.name], fitted.locators.full, pictured))
        progress(len(videos), len(videos))
    return tuple(videos)


def _report_video(one: Extracted, raw: VideoScores, locator: LocatorSpec, pictured: bool) -> ReportVideo:
    smoothed = raw.smoothed(locator.sigma, locator.lookahead)
    segments = [SegmentTimes(i, start, end, 0.0, 0.0) for i, (start, end, _) in enumerate(raw.segments)]
    records = locate(segments, [score for _, _, score in raw.segments], locator)
    peak = max(smoothed.segments, key=lambda segment: -1.0 if segment[2] is None else segment[2])
    pictures: tuple[tuple[int, str, bytes], ...] = ()
    if pictured:
        middle = (peak[0] + peak[1]) // 2
        with VideoFile(one.video.path) as video:
            pictures = ((middle, f"highest score, {peak[2]:.2f}", thumbnail(video.read_frames([middle])[0])),)
    return ReportVideo(
        name=one.video.name,
        label=one.video.label,
        split=one.video.split,
        fps=30.0 if one.fps is None else one.fps,
        frames=one.frames,
        events=one.video.events,
        segments=tuple((start, end) for start, end, _ in raw.segments),
        scores=tuple(score for _, _, score in raw.segments),
        smoothed=tuple(score for _, _, score in smoothed.segments),
        detected=tuple(
            (record.start_frame, record.end_frame)
            for record in records
            if isinstance(record, EventRecord) and record.state == "end"
        ),
        thumbnails=pictures,
    )


def _units(validation: Sequence[Extracted]) -> Units:
    frames, anomalous = [], []
    for one in validation:
        labels = one.video.frame_labels(one.frames)
        frames += [int(end - start) for start, end in one.spans]
        anomalous += [int(labels[start:end].sum()) for start, end in one.spans]
    return Units(np.concatenate([one.features for one in validation]), np.array(frames), np.array(anomalous))


def _embedding(found: Hunt, features: FeatureSet) -> Embedding:
    prompt = found.prompts.index(found.prompt)
    layers, heads = [e.layer for e in found.experts], [e.head for e in found.experts]
    count = len(features.labels)
    return Embedding(
        expert=features.features[:, prompt, layers, heads].reshape(count, -1),
        last_layer=features.features[:, prompt, -1].reshape(count, -1),
        labels=features.labels,
        videos=features.videos,
    )


def _evaluation(judged: Sequence[Video], fitted: Fitted) -> Evaluation | None:
    if not judged:
        return None
    locator = fitted.locators.full
    smoothed = {name: one.smoothed(locator.sigma, locator.lookahead) for name, one in fitted.scored.items()}
    rates = {one.video.name: one.fps for one in fitted.validation_units if one.fps is not None}
    return evaluate_scores(
        judged,
        fitted.scored,
        smoothed,
        thresholds={"calibrated": locator.threshold},
        fps=rates if len(rates) == len(judged) else None,
    )


def _baselines(
    calibration: Sequence[Video], judged: Sequence[Video], console: Console
) -> dict[str, float | None] | None:
    """Frame AUC of what is too simple to be used, on the same validation videos."""
    if not judged:
        return None
    known = [video for video in calibration if video.timed and video.path.is_file()]
    motions = {}
    with console.bar("Trivial baselines", "video") as progress:
        for number, video in enumerate(videos := [*known, *judged]):
            progress(number, len(videos), video.name)
            motions[video.name] = measure(video.path, video.name)
        progress(len(videos), len(videos))
    few_shot = None
    if any(video.anomalous for video in known) and any(not video.anomalous for video in known):
        few_shot = FewShot.fit(known, motions)
    return {
        name: evaluate_scores(judged, scores, draws=0).series["raw"].auc
        for name, scores in baseline_scores(judged, motions, few_shot).items()
    }


def _notes(options: BuildOptions, fitted: Fitted) -> tuple[str, ...]:
    notes = []
    if options.model == REFERENCE:
        notes.append(
            "The model is the built-in reference model, which is small and was trained on generated scenes only: "
            "good for trying everything out, not for real cameras."
            if is_trained()
            else "The model is the built-in reference model without training: the figures prove the plumbing only."
        )
    return (*notes, *_locator_notes(fitted))


def _locator_notes(fitted: Fitted) -> tuple[str, ...]:
    if not fitted.locators.full.calibrated:
        return ("The locator is not calibrated: there are no validation videos with times of both kinds.",)
    return (
        "The locator was calibrated on the validation videos, so its figures on them are favourable; "
        "judge a bundle on the test split, with hh-offline evaluate.",
    )


def _manifest(document: dict[str, Any], work: Path) -> Manifest:
    return msgspec.convert(document | {"bundle_id": "", "files": entries(work)}, Manifest)


def _command(options: BuildOptions) -> str:
    words = ["hh-offline", "build", "--model", options.model, "--manifest", str(options.manifest)]
    words += ["--output", str(options.output), "--precision", options.precision, "--seed", str(options.seed)]
    words += ["--top-k", str(options.top_k), "--penalty", str(options.penalty), "--calibration-unit", options.unit]
    if options.max_layer is not None:
        words += ["--max-layer", str(options.max_layer)]
    if options.prompt is not None:
        words += ["--prompt", options.prompt]
    return shlex.join(words)


def write_recalibration_report(
    path: Path,
    options: RecalibrateOptions,
    document: dict[str, Any],
    dataset: Dataset,
    fitted: Fitted,
    console: Console,
) -> None:
    """Write `report.html` for a bundle with a new scorer and locator. The hunt stayed with the first bundle."""
    judged = [one.video for one in fitted.validation_units]
    words = ["hh-offline", "recalibrate", str(options.bundle), "--manifest", str(options.manifest)]
    words += ["--output", str(options.output), "--calibration-unit", options.unit, "--seed", str(options.seed)]
    write(
        Report(
            title=f"{options.manifest.stem}: recalibrated for one site",
            manifest=_manifest(document, path.parent),
            hunt=None,
            videos=report_videos(fitted, console),
            evaluation=_evaluation(judged, fitted),
            baselines=_baselines(list(dataset.split("calibration")), judged, console),
            notes=_locator_notes(fitted),
            commands=(shlex.join(words),),
        ),
        path,
    )
