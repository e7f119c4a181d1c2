"""From a build's results to its report. Knows both; what a report holds is `offline.report.compose`'s business."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edge_runtime.bundle.manifest import Manifest
from export.publish import entries
from offline.calibration.fit import Fitted
from offline.calibration.scorer import fit_scorer
from offline.console import Console
from offline.data.cache import EntryStore
from offline.data.dataset import Dataset
from offline.extraction.extract import Extracted, FeatureSet
from offline.hunting.depth import Units, depth_curve
from offline.hunting.evidence import Evidence, keep
from offline.hunting.hunt import Hunt
from offline.hunting.learning_curve import learning_curve
from offline.report.compose import compose
from offline.report.notes import bundle_notes, title_of
from offline.report.render import Embedding, write
from offline.report.videos import Scored

if TYPE_CHECKING:
    from offline.recipes.build import BuildOptions
    from offline.recipes.recalibrate import RecalibrateOptions


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

    document: the manifest so far. validation: features of all heads, None where no depth curve is wanted. What
    the hunt found is kept in the cache, for later reports of this bundle.
    """
    manifest, store = _manifest(document, path.parent), EntryStore(options.cache_folder)
    evidence = _evidence(options, found, features, layers, validation, console)
    keep(store, manifest, evidence)
    report = compose(
        title=f"{title_of(options.manifest)}: what {manifest.source_model.name} sees",
        manifest=manifest,
        scored=_scored(fitted),
        calibration=list(dataset.split("calibration")),
        evidence=evidence,
        store=store,
        console=console,
        notes=bundle_notes(manifest, judged_on_test=False),
        absent=(_TEST_SPLIT,) if evidence.depth else (_TEST_SPLIT, _NO_CURVES),
        commands=(_command(options),),
        skip_unreadable=options.skip_unreadable,
    )
    write(report, path)


_TEST_SPLIT = (
    "The test split and the ablation: a build never looks at them. hh-offline report --bundle BUNDLE --manifest "
    "data.csv --output report.html judges the finished bundle on it; --ablation adds the table of hh-offline ablate."
)
_NO_CURVES = (
    "AUC against depth and against the share of labels: they need validation videos with known event times, and a "
    "build without --no-depth-curve."
)


def _evidence(
    options: BuildOptions,
    found: Hunt,
    features: FeatureSet,
    layers: int,
    validation: Sequence[Extracted] | None,
    console: Console,
) -> Evidence:
    if not validation:
        return Evidence(found, _embedding(found, features))

    def fit(samples: Any, labels: Any) -> Any:
        return fit_scorer(samples, labels, options.seed)

    units = _units(validation)
    with console.bar("AUC against depth", "depth") as progress:
        depth = depth_curve(
            found, (features.features, features.labels), units, fit=fit, decoder_layers=layers, progress=progress
        )
    learned = learning_curve(features, units, fit, options.top_k, options.penalty, options.max_layer, options.seed)
    return Evidence(found, _embedding(found, features), tuple(depth), learned)


def _scored(fitted: Fitted) -> list[Scored]:
    locator = fitted.locators.full
    return [Scored.of(one.video, one.fps, fitted.scored[one.video.name], locator) for one in fitted.validation_units]


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
    store: EntryStore,
    console: Console,
) -> None:
    """Write `report.html` for a bundle with a new scorer and locator. The hunt stayed with the first bundle."""
    words = ["hh-offline", "recalibrate", str(options.bundle), "--manifest", str(options.manifest)]
    words += ["--output", str(options.output), "--calibration-unit", options.unit, "--seed", str(options.seed)]
    manifest = _manifest(document, path.parent)
    report = compose(
        title=f"{title_of(options.manifest)}: recalibrated for one site",
        manifest=manifest,
        scored=_scored(fitted),
        calibration=list(dataset.split("calibration")),
        evidence=Evidence(),
        store=store,
        console=console,
        notes=(_RECALIBRATED, *bundle_notes(manifest, judged_on_test=False)),
        absent=(_FIRST_BUNDLE, _TEST_SPLIT),
        commands=(shlex.join(words),),
        skip_unreadable=options.skip_unreadable,
    )
    write(report, path)


_RECALIBRATED = (
    "The heads were hunted when the bundle was first built, and its graphs are unchanged; the scorer and the locator "
    "were fitted anew on this site's videos."
)
_FIRST_BUNDLE = (
    "The maps of the hunt: they are in the first bundle's report; hh-offline report --cache with the cache of its "
    "build shows them for this bundle too."
)
