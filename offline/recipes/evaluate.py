"""How good a bundle is on whole videos, run by the edge's own detector; or any system's stored scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.bundle.reader import Bundle
from edge_runtime.errors import DatasetError, UsageError
from edge_runtime.inference.engines import open_engine
from edge_runtime.inference.providers import AUTO
from offline.calibration.visual import measure_tokens
from offline.console import Console
from offline.data.cache import EntryStore, open_store
from offline.data.dataset import Dataset, Split, Video, read_dataset
from offline.data.scores import VideoScores, read_scores, write_scores
from offline.data.video_cache import VideoCache
from offline.evaluation.figures import Evaluation, evaluate_scores
from offline.evaluation.run import BundleRecipe, Running, RunTask, VideoRun, run_videos, tell_of_gaps
from offline.evaluation.trivial import Baselines, Measuring, measure_baselines
from offline.evaluation.yardsticks import yardsticks
from offline.extraction.executors import Execution, executor_of, hand_out, open_pool
from offline.recipes.visual import tokens_of

if TYPE_CHECKING:
    from offline.extraction.ray_pool import RayPool


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    """What is judged, and how. Either a bundle or stored scores.

    Attributes:
        manifest: The data.csv.
        bundle: The bundle to run on the videos.
        scores: A `scores.json` of any system.
        split: The videos to judge on.
        locator: Of the bundle, `full` or `low_latency`.
        provider: Of ONNX Runtime, for the bundle.
        threshold: Of stored scores: an operating point to report.
        save_scores: Write the bundle's raw scores there.
        baselines: Whether baselines are measured beside the result.
        visual: Whether the visual tokens alone are one of them, for a bundle.
        cache: Where what the bundle says of each video is kept, and what baselines are measured on, as in a build's
            cache; without it nothing is.
        skip_unreadable: Whether videos that cannot be read are left out.
        stride: Of the bundle's segments, instead of the one that it was calibrated with.
        execution: Who runs the bundle and measures the baselines; by workers the visual tokens too, given a cache.
        video_cache: Where remote videos are kept while they are read.
    """

    manifest: Path
    bundle: Path | None = None
    scores: Path | None = None
    split: Split = "test"
    locator: str = "full"
    provider: str = "auto"
    threshold: float | None = None
    save_scores: Path | None = None
    baselines: bool = True
    visual: bool = True
    cache: Path | None = None
    skip_unreadable: bool = False
    stride: int | None = None
    execution: Execution = field(default_factory=Execution)
    video_cache: VideoCache = field(default_factory=VideoCache)

    def __post_init__(self) -> None:
        if (self.bundle is None) == (self.scores is None):
            raise UsageError("give one of --bundle and --scores")
        if self.scores is not None and self.execution.executor != "local":
            raise UsageError(f"--executor {self.execution.executor} runs a bundle; stored scores need none")
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise UsageError(f"threshold {self.threshold} is no score; give a finite number")


def evaluate(options: EvaluateOptions, console: Console) -> Evaluation:
    """Judge a bundle, or stored scores, on one split.

    Raises:
        HeadHuntError: The split cannot be judged on, a video cannot be read, a bundle is refused.
    """
    dataset = read_dataset(options.manifest, options.video_cache)
    chosen = dataset.split(options.split)
    if not len(chosen):
        raise UsageError(f"{options.manifest}: split {options.split!r} is empty; choose another with --split")
    chosen.require_two_classes(options.split)
    if options.bundle is not None:
        return _evaluate_bundle(options, options.bundle, dataset, console)
    assert options.scores is not None
    return _evaluate_stored(options, options.scores, dataset, console)


def _evaluate_bundle(options: EvaluateOptions, path: Path, dataset: Dataset, console: Console) -> Evaluation:
    chosen = dataset.split(options.split)
    if not options.skip_unreadable:
        chosen.require_files()
    bundle = Bundle.open(path)
    segment = bundle.manifest.segment.striding(options.stride)
    with open_pool(options.execution, console) as pool:
        running = Running(options.locator, options.provider, options.skip_unreadable, options.stride)
        if pool is not None:
            running = replace(running, provider=_same_provider(bundle, running.provider, console))
        recipe = _recipe(options, path, bundle, running)
        if pool is None:
            runs = run_videos(bundle, chosen, running, console, _store(options))
        else:
            runs = _runs(pool, recipe, chosen, console)
        judged = [run.video for run in runs]
        if not judged:
            raise DatasetError(f"{dataset.path}: no video of this split could be scored")
        raw = {run.video.name: run.raw for run in runs}
        if options.save_scores is not None:
            write_scores(raw.values(), options.save_scores)
        _require_two_classes(dataset.path, judged, raw)
        measuring = Measuring(segment.step, store=_store(options), hand_out=hand_out(pool, recipe))
        measured = _baselines(options, judged, dataset, console, measuring)
        if options.baselines and options.visual:
            with tokens_of(bundle, running, _store(options), executor_of(pool, recipe)) as tokens:
                measured = measured.beside(measure_tokens(judged, dataset.split("calibration"), console, tokens))
    at = bundle.manifest.locators.named(options.locator)
    smoothed = {run.video.name: run.smoothed for run in runs}
    rates = {run.video.name: run.fps for run in runs}
    result = evaluate_scores(judged, raw, smoothed, thresholds={"calibrated": at.threshold}, fps=rates)
    # What smoothing alone gives is given to the baselines, too.
    peers = {"raw": measured.scores, "smoothed": measured.smoothed(at.sigma, at.lookahead)}
    series = {"raw": raw, "smoothed": smoothed}
    return replace(result, beside=yardsticks(judged, series, peers, measured.remarks, overlap=segment.overlap))


def _same_provider(bundle: Bundle, provider: str, console: Console) -> str:
    """What all workers run by: each machine's own choice would mix scores that round differently."""
    if provider != AUTO:
        return provider
    with closing(open_engine(bundle)) as engine:
        console.say(f"Workers run the bundle by {engine.provider}, the best here; choose another with --provider")
        return engine.provider


def _recipe(options: EvaluateOptions, path: Path, bundle: Bundle, running: Running) -> BundleRecipe:
    store = None if options.cache is None else options.cache.absolute()
    return BundleRecipe(path.absolute(), bundle.manifest.bundle_id, running, store)


def _runs(pool: RayPool, recipe: BundleRecipe, chosen: Dataset, console: Console) -> list[VideoRun]:
    """The bundle run on every video by workers."""
    tasks = {video.name: RunTask(replace(video, path=video.path.absolute())) for video in chosen}
    with console.bar("Scoring", "video") as progress:
        results = pool.run(recipe, tasks, progress)
    results.require_all(recipe.running.skip_unreadable, console.say)
    runs = [replace(results.values[video.name], video=video) for video in chosen if video.name in results.values]
    for run in runs:
        tell_of_gaps(run.video.name, run.records, console)
    return runs


def _evaluate_stored(options: EvaluateOptions, path: Path, dataset: Dataset, console: Console) -> Evaluation:
    videos = dataset.split(options.split).videos
    raw = read_scores(path, dataset)
    points = None if options.threshold is None else {"given": options.threshold}
    result = evaluate_scores(videos, raw, thresholds=points)
    _require_two_classes(dataset.path, videos, raw)
    measured = _baselines(options, videos, dataset, console, Measuring(store=_store(options)))
    beside = yardsticks(videos, {"raw": raw}, {"raw": measured.scores}, measured.remarks)
    return replace(result, beside=beside)


def _baselines(
    options: EvaluateOptions, judged: Sequence[Video], dataset: Dataset, console: Console, measuring: Measuring
) -> Baselines:
    if not options.baselines:
        return Baselines()
    return measure_baselines(judged, dataset.split("calibration"), console, measuring)


def _store(options: EvaluateOptions) -> EntryStore | None:
    return None if options.cache is None else open_store(options.cache)


def _require_two_classes(manifest: Path, judged: Sequence[Video], scores: Mapping[str, VideoScores]) -> None:
    """By what was judged in the end: frames as decoded, without videos that could not be read."""
    frames = {video.name: scores[video.name].frames for video in judged}
    Dataset(manifest, tuple(judged)).require_two_classes(judged[0].split, frames)
