"""A bundle for one site: new scorer and locators from the site's own videos, on the same graphs.

Needs no model and no torch. What was hunted stays hunted.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_runtime.bundle.manifest import REPORT, FileEntry, Manifest
from edge_runtime.bundle.reader import Bundle, Golden
from edge_runtime.errors import UsageError
from edge_runtime.inference.engines import fitted_on, open_engine
from edge_runtime.inference.scorer import ScorerGraph
from edge_runtime.site.store import Store
from export.publish import EXPORTED, SCORER, SCORING, now, publish, write_golden
from export.staging import check_target, staging_folder
from offline.calibration.cost import of_the_graphs
from offline.calibration.fit import Fitted, fit, fitted_document
from offline.calibration.rules import RULE, ScorerRule, rule_of
from offline.calibration.samples import Samples
from offline.calibration.scorer import ScorerName
from offline.console import Console
from offline.data.cache import EntryStore
from offline.data.dataset import Dataset, read_dataset
from offline.data.segments import median_rate
from offline.data.units import UnitChoice, choose_units
from offline.extraction.extract import ExpertFeatures, Extraction
from offline.hunting.evidence import Evidence
from offline.recipes.fitted_report import TEST_SPLIT, scored_videos, unsealed_manifest
from offline.report.compose import Material, compose
from offline.report.notes import bundle_notes, title_of
from offline.report.render import write

_RECALIBRATED = (
    "The heads were hunted when the bundle was first built, and its graphs are unchanged; the scorer and the locator "
    "were fitted anew on this site's videos."
)
_FIRST_BUNDLE = (
    "The maps of the hunt: they are in the first bundle's report; hh-offline report --cache with the cache of its "
    "build shows them for this bundle too."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecalibrateOptions:
    """Everything that decides what a recalibration gives.

    Attributes:
        bundle: The bundle whose graphs are kept.
        manifest: The site's data.csv.
        output: The new bundle's folder.
        unit: What one calibration sample is.
        cache: Where features are kept; None for a folder beside the new bundle.
        provider: What runs the graphs; None for what the bundle was fitted on.
        scorer: The rule by which the scorer is fitted; None for the bundle's.
        seed: Of the fit.
        skip_unreadable: Whether videos that cannot be read are left out.
        overwrite: Whether a bundle that is there is replaced.
        feedback: The store of the site's marks, which the scorer is fitted on too; None for none.
    """

    bundle: Path
    manifest: Path
    output: Path
    stride: int | None = None
    unit: UnitChoice = "auto"
    cache: Path | None = None
    provider: str | None = None
    scorer: ScorerName | None = None
    seed: int = 0
    skip_unreadable: bool = False
    overwrite: bool = False
    feedback: Path | None = None

    @property
    def cache_folder(self) -> Path:
        """Where extracted features are kept, so that a killed recalibration goes on where it was."""
        return self.output.with_name(self.output.name + ".cache") if self.cache is None else self.cache

    @property
    def command(self) -> str:
        """The command line that gives the same bundle again."""
        words = ["hh-offline", "recalibrate", str(self.bundle), "--manifest", str(self.manifest)]
        words += ["--output", str(self.output), "--calibration-unit", self.unit, "--seed", str(self.seed)]
        words += [] if self.stride is None else ["--stride", str(self.stride)]
        words += [] if self.scorer is None else ["--scorer", self.scorer]
        words += [] if self.feedback is None else ["--feedback", str(self.feedback)]
        return shlex.join(words)


def recalibrate(options: RecalibrateOptions, console: Console) -> tuple[Bundle, Fitted]:
    """Fit scorer and locators on a site's videos, and write a new bundle.

    Raises:
        HeadHuntError: Of many kinds; nothing is at `options.output` then that was not there before.
    """
    old, dataset = _check(options)
    marked = _marked(options, old)
    rule = ScorerRule(old.manifest.geometry.head_dim, options.scorer or rule_of(old.manifest), options.seed)
    extraction = _extraction(options, old, dataset)
    units = choose_units(dataset.split("calibration"), options.unit)
    with staging_folder(options.output) as work:
        for entry in _files(old.manifest, EXPORTED):
            shutil.copyfile(old.path / entry.path, work / entry.path)
        stride = old.manifest.segment.step if options.stride is None else options.stride
        fitted = fit(dataset, units, extraction, work, console, rule, stride, marked)
        write_golden(work, _golden(old, ScorerGraph(work / SCORER)))
        document = msgspec.to_builtins(old.manifest) | fitted_document(fitted)
        document |= {"created": now(), "segment": msgspec.to_builtins(extraction.segment.striding(stride))}
        document["producer"] |= {"provider": extraction.extractor.identity["provider"], RULE: rule.name}
        document["parity"] = of_the_graphs(old.manifest.parity)
        document["parity"]["scorer_max_abs"] = fitted.scorer_difference
        del document["files"], document["bundle_id"]
        material = _material(options, dataset, fitted, document, work)
        write(compose(material, extraction.store, console), work / REPORT)
        return publish(work, options.output, document), fitted


def _check(options: RecalibrateOptions) -> tuple[Bundle, Dataset]:
    """Everything that can be refused before the long work begins. Returns the old bundle and the dataset."""
    if options.output.resolve() == options.bundle.resolve():
        raise UsageError(f"{options.output}: is the bundle itself; choose another --output")
    check_target(options.output, options.overwrite)
    old = Bundle.open(options.bundle)
    old.manifest.segment.striding(options.stride)
    dataset = read_dataset(options.manifest)
    dataset.require_both_classes("calibration")
    if not options.skip_unreadable:
        dataset.only("calibration", "validation").require_files()
    return old, dataset


def _marked(options: RecalibrateOptions, old: Bundle) -> Samples | None:
    """What operators marked at the site of the old bundle.

    Raises:
        UsageError: It is no such store, or nothing is marked in it.
    """
    if options.feedback is None:
        return None
    with Store(options.feedback, old.manifest.bundle_id, old.calibration(), create=False) as store:
        features, labels, _ = store.marked()
    if not len(features):
        raise UsageError(f"{options.feedback}: nothing is marked in it; leave --feedback out")
    return Samples.marked(features, labels)


def _extraction(options: RecalibrateOptions, old: Bundle, dataset: Dataset) -> Extraction:
    """By the old bundle's graphs, at the site's own frame rate."""
    manifest = old.manifest
    graphs = open_engine(old, options.provider or fitted_on(manifest))
    # A segment of the `time` clock lasts as long as one of the videos that the scorer was fitted on.
    fps = median_rate(dataset.split("calibration"), options.skip_unreadable)
    apart = manifest.segment.striding(manifest.segment.frames)
    segment = apart if fps is None else msgspec.structs.replace(apart, fps=fps)
    extractor = ExpertFeatures(graphs, [entry.sha256 for entry in _files(manifest, SCORING)])
    return Extraction(extractor, manifest.pixels, segment, EntryStore(options.cache_folder), options.skip_unreadable)


def _files(manifest: Manifest, names: Sequence[str]) -> list[FileEntry]:
    """Those of some names that the bundle has, by name."""
    return sorted((entry for entry in manifest.files if entry.path in names), key=lambda entry: entry.path)


def _golden(old: Bundle, scorer: ScorerGraph) -> Golden:
    """The old golden segments, with what the new scorer makes of them."""
    before = old.golden()
    probabilities = np.concatenate([scorer.probabilities(row[None]) for row in before.features])
    return Golden(before.frames, before.tokens, before.features, probabilities)


def _material(
    options: RecalibrateOptions, dataset: Dataset, fitted: Fitted, document: dict[str, Any], work: Path
) -> Material:
    """What the report of the new bundle is made of. The hunt stayed with the first bundle."""
    manifest = unsealed_manifest(document, work)
    return Material(
        title=f"{title_of(options.manifest)}: recalibrated for one site",
        manifest=manifest,
        scored=scored_videos(fitted),
        calibration=dataset.split("calibration"),
        evidence=Evidence(),
        notes=(_RECALIBRATED, *bundle_notes(manifest, judged_on_test=False)),
        absent=(_FIRST_BUNDLE, TEST_SPLIT),
        commands=(options.command,),
    )
