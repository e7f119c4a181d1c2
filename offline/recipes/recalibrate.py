"""A bundle for one site: new scorer and locators from the site's own videos, on the same graphs.

Knows bundles and datasets; needs no model and no torch. What was hunted stays hunted.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from edge_runtime.bundle.manifest import REPORT
from edge_runtime.bundle.reader import Bundle, Golden
from edge_runtime.errors import UsageError
from edge_runtime.inference.onnx_engine import OnnxEngine
from edge_runtime.inference.scorer import ScorerGraph
from export.publish import SCORER, now, publish, write_golden
from export.staging import check_target, staging_folder
from offline.calibration.fit import Fitted, fit, fitted_document
from offline.console import Console
from offline.data.cache import EntryStore
from offline.data.dataset import Dataset, read_dataset
from offline.data.units import UnitChoice, choose_units
from offline.extraction.extract import ExpertFeatures, median_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class RecalibrateOptions:
    """Everything that decides what a recalibration gives."""

    bundle: Path
    manifest: Path
    output: Path
    unit: UnitChoice = "auto"
    cache: Path | None = None
    provider: str = "cpu"
    seed: int = 0
    skip_unreadable: bool = False
    overwrite: bool = False


def recalibrate(options: RecalibrateOptions, console: Console) -> tuple[Bundle, Fitted]:
    """Fit scorer and locators on a site's videos and write a new bundle. Raises HeadHuntError."""
    if options.output.resolve() == options.bundle.resolve():
        raise UsageError(f"{options.output}: is the bundle itself; choose another --output")
    check_target(options.output, options.overwrite)
    old = Bundle.open(options.bundle)
    dataset = read_dataset(options.manifest)
    dataset.require_both_classes("calibration")
    used = Dataset(dataset.path, (*dataset.split("calibration"), *dataset.split("validation")))
    if not options.skip_unreadable:
        used.require_files()
    manifest = old.manifest
    graphs = OnnxEngine(
        old.file(manifest.graphs.vision.file),
        old.file(manifest.graphs.language.file),
        options.provider,
        group=manifest.graphs.frames_per_group,
    )
    # A segment of the `time` clock lasts as long as one of the videos that the scorer was fitted on.
    fps = median_rate(dataset.split("calibration"), options.skip_unreadable)
    segment = manifest.segment if fps is None else msgspec.structs.replace(manifest.segment, fps=fps)
    kept = [entry for entry in manifest.files if entry.path.startswith(("vision.", "language."))]
    extractor = ExpertFeatures(graphs, [entry.sha256 for entry in sorted(kept, key=lambda entry: entry.path)])
    cache = options.output.with_name(options.output.name + ".cache") if options.cache is None else options.cache
    store = EntryStore(cache)
    with staging_folder(options.output) as work:
        for entry in kept:
            shutil.copyfile(old.path / entry.path, work / entry.path)
        fitted = fit(
            dataset,
            choose_units(dataset.split("calibration"), options.unit),
            extractor,
            manifest.pixels,
            segment,
            store,
            work,
            console,
            seed=options.seed,
            skip_unreadable=options.skip_unreadable,
        )
        before = old.golden()
        scorer = ScorerGraph(work / SCORER)
        probabilities = np.concatenate([scorer.probabilities(row[None]) for row in before.features])
        write_golden(work, Golden(before.frames, before.tokens, before.features, probabilities))
        document = msgspec.to_builtins(manifest)
        document |= fitted_document(fitted) | {"created": now(), "segment": msgspec.to_builtins(segment)}
        document["parity"]["scorer_max_abs"] = fitted.scorer_difference
        del document["files"], document["bundle_id"]
        from offline.recipes.build_report import write_recalibration_report

        write_recalibration_report(work / REPORT, options, document, dataset, fitted, store, console)
        return publish(work, options.output, document), fitted
