"""What overlapping segments bring and cost: frame AUC, F1 and ceiling by stride, each with locators of its own.

    hh-offline scenes --output scenes --seed 7 --videos 200
    python -m benchmarks.stride scenes/data.csv --output benchmarks/stride.txt

One bundle is built, and recalibrated for every stride: heads, graphs and scorer stay, the locators are fitted on the
validation split cut with that stride. Then the edge's own detector goes over the test split, and each stride is
compared with the first one on the same videos. `perfect segments` is what a scorer that knows of every segment
whether it overlaps an event would reach with that stride, not smoothed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from benchmarks.commanding import PATH, say
from edge_runtime.bundle.reader import Bundle
from edge_runtime.stream.locator import LOCATORS
from edge_runtime.stream.segments import SegmentSpec, sample_indices
from offline.console import Console
from offline.data.dataset import Dataset, read_dataset
from offline.evaluation.bootstrap import Interval, Resampling
from offline.evaluation.figures import SeriesFigures, evaluate_scores
from offline.evaluation.run import Running, VideoRun, run_videos
from offline.evaluation.yardsticks import PERFECT_SEGMENTS, PERFECT_SHARES, Series, perfect, yardsticks
from offline.recipes.build import BuildOptions, build
from offline.recipes.recalibrate import RecalibrateOptions, recalibrate

STRIDES = (48, 24, 16, 12)
_NO_DRAWS = Resampling(draws=0)
_CALIBRATED = "calibrated"


@dataclass(frozen=True, slots=True)
class Options:
    """What is measured.

    Attributes:
        model: A Hugging Face id, a folder, or the name of a built-in model.
        manifest: The data.csv, with all three splits.
        strides: In the order of the table; the others are compared with the first.
        locator: `full` or `low_latency`.
        work: Where bundles and features are kept, for the next time.
    """

    model: str
    manifest: Path
    strides: tuple[int, ...]
    locator: str
    work: Path


@dataclass(frozen=True, slots=True)
class Row:
    """One stride on the test split.

    Attributes:
        segment: How streams are cut with it.
        raw: Figures of the scores.
        smoothed: Figures after the locator.
        minus: AUC after the locator minus that of the first stride, None for the first itself.
        minus_interval: Over paired draws of videos.
        sigma: Of the locator, in strides.
        threshold: Of the locator.
        ceiling: Figures of perfect segments.
        shares_auc: AUC of perfect shares, which is above all scores with this stride.
        segments: Segments scored in a second of video.
        encoded: Frames encoded in a second of video.
        seconds: What a second of video took on this machine, decoding included.
    """

    segment: SegmentSpec
    raw: SeriesFigures
    smoothed: SeriesFigures
    minus: float | None
    minus_interval: Interval | None
    sigma: float
    threshold: float
    ceiling: SeriesFigures
    shares_auc: float | None
    segments: float
    encoded: float
    seconds: float


def encoded_frames(frames: int, segment: SegmentSpec) -> int:
    """How many different frames the model sees of a video: what several segments see is encoded once."""
    seen: set[int] = set()
    for start in range(0, frames, segment.step):
        shown = sample_indices(min(segment.frames, frames - start), segment.sampled)
        seen.update((start + shown).tolist())
    return len(seen)


def measured(options: Options, console: Console) -> list[Row]:
    """Build, recalibrate and judge, stride by stride.

    Raises:
        HeadHuntError: A split is missing, a video cannot be read, a stride does not divide a segment.
    """
    dataset = read_dataset(options.manifest)
    test = dataset.split("test")
    test.require_two_classes("test")
    bundle, cache = options.work / "bundle", options.work / "cache"
    build(
        BuildOptions(
            model=options.model,
            manifest=options.manifest,
            output=bundle,
            cache=cache,
            overwrite=True,
            depth_curve=False,
        ),
        console,
    )
    rows: list[Row] = []
    first: Series | None = None
    for stride in options.strides:
        fitted, _ = recalibrate(
            RecalibrateOptions(
                bundle=bundle,
                manifest=options.manifest,
                output=options.work / f"stride-{stride}",
                stride=stride,
                cache=cache,
                overwrite=True,
            ),
            console,
        )
        say(f"Stride {stride}: the test split")
        begun = time.perf_counter()
        runs = run_videos(fitted, test, Running(options.locator), console)
        rows.append(judged(fitted, options.locator, runs, time.perf_counter() - begun, first))
        first = {run.video.name: run.smoothed for run in runs} if first is None else first
    return rows


def judged(bundle: Bundle, locator: str, runs: Sequence[VideoRun], seconds: float, first: Series | None) -> Row:
    """Figures of one stride.

    Args:
        bundle: Recalibrated for it.
        locator: Of the bundle.
        runs: Of the bundle over the videos.
        seconds: What these took.
        first: Smoothed scores of the same videos with the first stride; None for that one itself.
    """
    segment, at = bundle.manifest.segment, bundle.manifest.locators.named(locator)
    videos = [run.video for run in runs]
    raw = {run.video.name: run.raw for run in runs}
    smoothed = {run.video.name: run.smoothed for run in runs}
    rates = {run.video.name: run.fps for run in runs}
    figures = evaluate_scores(videos, raw, smoothed, thresholds={_CALIBRATED: at.threshold}, fps=rates).series
    # Strides differ in their segments, but every frame has one score: they are compared frame by frame.
    beside = yardsticks(
        videos,
        {"raw": raw, "smoothed": smoothed},
        {} if first is None else {"smoothed": {"first": first}},
        overlap=segment.overlap,
    )
    against = beside.baselines["first"]["smoothed"] if first is not None else None
    ceiling = perfect(PERFECT_SEGMENTS, videos, raw, segment.overlap)
    of_video = sum(run.raw.frames / run.fps for run in runs)
    return Row(
        segment=segment,
        raw=figures["raw"],
        smoothed=figures["smoothed"],
        minus=None if against is None else against.minus["auc"],
        minus_interval=None if against is None else against.minus_intervals["auc"],
        sigma=at.sigma,
        threshold=at.threshold,
        ceiling=evaluate_scores(videos, ceiling, resampling=_NO_DRAWS).series["raw"],
        shares_auc=beside.ceilings[PERFECT_SHARES].auc,
        segments=sum(score is not None for run in runs for _, _, score in run.raw.segments) / of_video,
        encoded=sum(encoded_frames(run.raw.frames, segment) for run in runs) / of_video,
        seconds=seconds / of_video,
    )


def table(rows: Sequence[Row], test: Dataset) -> list[str]:
    """Everything as text, a line each: accuracy, then what it costs."""
    lines = [
        f"{len(test)} test videos ({sum(video.anomalous for video in test)} anomalous); brackets: 95 % over videos",
        "",
        f"{'stride':>6}{'AUC, raw':>10}{'AUC':>7}{'':22}{'minus the first':>17}{'':20}{'F1':>6}{'best F1':>9}"
        f"{'events':>8}{'delay, s':>10}{'alarms/h':>10}{'sigma':>7}{'tau':>6}",
    ]
    for row in rows:
        events = row.smoothed.events[_CALIBRATED]
        f1, best = row.smoothed.f1[_CALIBRATED], row.smoothed.best_f1
        minus = "" if row.minus is None else f"{row.minus:+.3f}"
        lines.append(
            f"{row.segment.step:>6}{_figure(row.raw.auc):>10}{_figure(row.smoothed.auc):>7}"
            f"{_within(row.smoothed.intervals.get('auc')):22}{minus:>17}{_within(row.minus_interval, '+'):20}"
            f"{_figure(None if f1 is None else f1.f1):>6}{_figure(None if best is None else best.f1):>9}"
            f"{f'{events.detected}/{events.events}':>8}{_figure(events.delay_s):>10}"
            f"{_figure(events.false_alarms_per_hour, 1):>10}{row.sigma:>7.2f}{row.threshold:>6.2f}"
        )
    lines += [
        "",
        f"{'stride':>6}{'perfect segments: AUC':>23}{'best F1':>9}{'perfect shares: AUC':>21}"
        f"{'segments/s':>12}{'frames encoded/s':>18}{'seconds/s':>11}",
    ]
    for row in rows:
        best = row.ceiling.best_f1
        lines.append(
            f"{row.segment.step:>6}{_figure(row.ceiling.auc):>23}{_figure(None if best is None else best.f1):>9}"
            f"{_figure(row.shares_auc):>21}{row.segments:>12.3f}{row.encoded:>18.2f}{row.seconds:>11.3f}"
        )
    return [*lines, "", "segments/s, frames encoded/s, seconds/s: for a second of video"]


def _figure(value: float | None, digits: int = 3) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"


def _within(interval: Interval | None, sign: str = "") -> str:
    return "" if interval is None else f" [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


@click.command()
@click.argument("manifest", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--model", default="reference", show_default=True, help="A Hugging Face id, a folder, or `reference`.")
@click.option(
    "--stride",
    "strides",
    type=click.IntRange(min=1),
    multiple=True,
    default=STRIDES,
    show_default=True,
    help="Several.",
)
@click.option("--locator", type=click.Choice(LOCATORS), default="full", show_default=True)
@click.option("--work", type=PATH, help="Keep bundles and features there, and use them again.")
@click.option("--output", type=PATH, help="Where the table goes; else it is printed.")
def stride(
    manifest: Path, model: str, strides: tuple[int, ...], locator: str, work: Path | None, output: Path | None
) -> None:
    """Measure what overlapping segments bring and cost, on the test split of MANIFEST.

    \b
    Example:
      python -m benchmarks.stride scenes/data.csv --stride 48 --stride 24
    """
    with tempfile.TemporaryDirectory() as temporary:
        options = Options(model, manifest, strides, locator, Path(temporary) if work is None else work)
        rows = measured(options, Console(quiet=False))
    chosen = "" if strides == STRIDES else "".join(f" --stride {one}" for one in strides)
    command = f"$ python -m benchmarks.stride {manifest} --model {model} --locator {locator}{chosen}"
    text = "\n".join([command, *table(rows, read_dataset(manifest).split("test"))]) + "\n"
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, "utf-8")


if __name__ == "__main__":
    stride()
