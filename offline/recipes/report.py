"""The `report` command: an existing bundle, judged and drawn on its validation and test videos.

The bundle runs as it would at the edge; no model is loaded, so what only a hunt can tell comes from the cache of the
build, or stays away and the page says so.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from edge_runtime.bundle.reader import Bundle
from edge_runtime.errors import DatasetError, UsageError
from offline.ablation.file import ablation_table
from offline.console import Console
from offline.data.cache import EntryStore
from offline.data.dataset import Dataset, Split, read_dataset
from offline.evaluation.run import Running, run_videos
from offline.hunting.evidence import Evidence, read_evidence
from offline.recipes.visual import tokens_of
from offline.report.compose import Material, compose
from offline.report.content import Report
from offline.report.notes import bundle_notes, title_of
from offline.report.render import write
from offline.report.videos import Scored, detected


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """Everything that decides what a report shows.

    Attributes:
        bundle: The bundle.
        manifest: The data.csv.
        output: The HTML file to write.
        split: What to judge by; the validation split is shown in any case.
        ablation: The JSON of `ablate`, to show its table.
        cache: Of the bundle's build; BUNDLE.cache where not given.
        provider: Of ONNX Runtime.
        locator: `full` or `low_latency`.
        skip_unreadable: Whether videos that cannot be read are left out.
        visual: Whether the visual tokens alone are measured.
    """

    bundle: Path
    manifest: Path
    output: Path
    split: Split = "test"
    ablation: Path | None = None
    cache: Path | None = None
    provider: str = "auto"
    locator: Literal["full", "low_latency"] = "full"
    skip_unreadable: bool = False
    visual: bool = True

    @property
    def running(self) -> Running:
        """How the bundle is run."""
        return Running(self.locator, self.provider, self.skip_unreadable)

    @property
    def cache_folder(self) -> Path:
        """Where the build kept what it found, unless the bundle was moved away from it."""
        bundle = self.bundle.absolute()
        return bundle.with_name(bundle.name + ".cache") if self.cache is None else self.cache


def report_bundle(options: ReportOptions, console: Console) -> Report:
    """Run a bundle on its validation videos and on `split`, and write the report.

    Returns:
        What it tells.

    Raises:
        HeadHuntError: What can be refused is refused before the first video; without a whole report nothing is
            written.
    """
    bundle = _check(options)
    ablation = None if options.ablation is None else ablation_table(options.ablation)
    dataset = read_dataset(options.manifest)
    shown = _shown(dataset, options)
    with _store(options.cache_folder) as (store, kept):
        evidence = read_evidence(store, bundle.manifest)
        scored = _scores(bundle, shown, options, console, store)
        material = Material(
            title=f"{title_of(options.manifest)}: what {bundle.manifest.source_model.name} sees",
            manifest=bundle.manifest,
            scored=scored,
            calibration=dataset.split("calibration"),
            evidence=evidence,
            locator=options.locator,
            ablation=ablation,
            notes=bundle_notes(bundle.manifest, judged_on_test=any(one.video.split == "test" for one in scored)),
            absent=_absent(options, evidence, kept, shown, scored),
            commands=(_command(options),),
        )
        if options.visual:
            with tokens_of(bundle, options.running, store) as tokens:
                report = compose(replace(material, tokens=tokens), store, console)
        else:
            report = compose(material, store, console)
    console.say("Writing the report")
    write(report, options.output)
    return report


def _check(options: ReportOptions) -> Bundle:
    """Everything that can be refused by the paths alone. Returns the bundle."""
    bundle = Bundle.open(options.bundle)
    if options.output.absolute().resolve().is_relative_to(bundle.path.resolve()):
        raise UsageError(f"{options.output}: a bundle holds exactly what its manifest lists; choose another --output")
    if options.output.is_dir():
        raise UsageError(f"{options.output}: is a folder; name the file, as in {options.output / 'report.html'}")
    if options.cache is not None and not options.cache.is_dir():
        raise UsageError(f"{options.cache}: no such folder; give the cache of the bundle's build, or leave it out")
    return bundle


def _shown(dataset: Dataset, options: ReportOptions) -> Dataset:
    """The videos to run on, `split` first. DatasetError or UsageError where there are none, or not all there."""
    if not len(dataset.split(options.split)):
        raise UsageError(f"{dataset.path}: split {options.split!r} is empty; choose another with --split")
    splits: list[Split] = [options.split, "validation"] if options.split != "validation" else ["validation"]
    shown = dataset.only(*splits)
    if not options.skip_unreadable:
        shown.require_files()
    return shown


def _scores(
    bundle: Bundle, videos: Dataset, options: ReportOptions, console: Console, store: EntryStore
) -> list[Scored]:
    runs = run_videos(bundle, videos, options.running, console, store)
    if not any(run.video.split == options.split for run in runs):
        raise DatasetError(f"{videos.path}: no video of split {options.split!r} could be scored")
    return [Scored(run.video, run.fps, run.raw, run.smoothed, detected(run.records)) for run in runs]


@contextmanager
def _store(folder: Path) -> Iterator[tuple[EntryStore, bool]]:
    """The build's cache, and whether there is one; nothing is kept where there is none."""
    if folder.is_dir():
        yield EntryStore(folder), True
        return
    with tempfile.TemporaryDirectory(prefix="hh-report-") as temporary:
        yield EntryStore(Path(temporary)), False


def _absent(
    options: ReportOptions, evidence: Evidence, kept: bool, shown: Dataset, scored: Sequence[Scored]
) -> tuple[str, ...]:
    """What the report lacks, each with the way to get it."""
    absent = []
    folder = options.cache_folder.name
    where = f"the cache {folder} has none of this bundle" if kept else f"there is no cache {folder} beside the bundle"
    if evidence.hunt is None:
        absent.append(
            "Heat maps of RSS and of each metric, stability over prompts, and t-SNE: "
            f"{where}. Give the cache of its build with --cache; or build the bundle again, which keeps them "
            "and finds again what it has extracted."
        )
    if not evidence.depth:
        reason = "the build was made without them" if evidence.hunt is not None else where
        absent.append(
            f"AUC against depth and against the share of labels: {reason}. A build with validation videos and not "
            "told --no-depth-curve keeps them; they belong to that build's scorer, not to a recalibrated one."
        )
    if not evidence.sampling:
        reason = "the build was made without it" if evidence.hunt is not None else where
        absent.append(
            f"AUC against how many frames of a segment the model sees: {reason}. A build with validation videos and "
            "--frames-curve keeps it."
        )
    if options.ablation is None:
        absent.append(
            "The ablation table: run hh-offline ablate with --json ablation.json, and give it with --ablation."
        )
    left_out = [video.name for video in shown if video.name not in {one.video.name for one in scored}]
    if left_out:
        names = ", ".join(left_out[:5]) + (f" and {len(left_out) - 5} more" if len(left_out) > 5 else "")
        absent.append(f"{len(left_out)} videos that could not be read: {names}.")
    if not any(one.video.split == "validation" for one in scored):
        absent.append("The validation split: the manifest has no videos of it that could be read.")
    return tuple(absent)


def _command(options: ReportOptions) -> str:
    words = ["hh-offline", "report", "--bundle", str(options.bundle), "--manifest", str(options.manifest)]
    words += ["--output", str(options.output), "--split", options.split, "--locator", options.locator]
    if options.ablation is not None:
        words += ["--ablation", str(options.ablation)]
    if options.cache is not None:
        words += ["--cache", str(options.cache)]
    if options.skip_unreadable:
        words.append("--skip-unreadable")
    if not options.visual:
        words.append("--no-visual")
    return shlex.join(words)
