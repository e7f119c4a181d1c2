"""One report from whatever parts there are: the build's, the recalibration's and `hh-offline report`'s."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edge_runtime.bundle.manifest import Manifest
from offline.calibration.visual import TokensAlone, measure_tokens
from offline.console import Console
from offline.data.cache import EntryStore
from offline.data.dataset import SPLITS, Dataset, Split
from offline.evaluation.figures import Evaluation, evaluate_scores
from offline.evaluation.trivial import Baselines, Measuring, measure_baselines
from offline.evaluation.yardsticks import yardsticks
from offline.hunting.evidence import Evidence
from offline.report.content import AblationTable, Report
from offline.report.videos import Scored, report_videos


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What a report is made of.

    Attributes:
        title: Of the page.
        manifest: Of the bundle.
        scored: Videos of all splits that are shown, as `locator` has them.
        calibration: The split that the few-shot baseline is fitted on.
        evidence: What is known of the hunt.
        locator: `full` or `low_latency`.
        ablation: The ablation table, where there is one.
        notes: Sentences that must be read first.
        absent: What the report lacks, with the way to get it.
        commands: How to repeat it.
        tokens: How the visual tokens alone are measured; None where they are not.
    """

    title: str
    manifest: Manifest
    scored: Sequence[Scored]
    calibration: Dataset
    evidence: Evidence
    locator: str = "full"
    ablation: AblationTable | None = None
    notes: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    tokens: Callable[[], TokensAlone] | None = None


def compose(material: Material, store: EntryStore, console: Console) -> Report:
    """Judge the videos, take pictures of them, and put a report together.

    Args:
        material: What it is made of.
        store: Keeps what the trivial baselines measured.
        console: Shows bars.

    Raises:
        DatasetError: A video contradicts the manifest.
    """
    evidence = material.evidence
    splits: dict[Split, list[Scored]] = {
        split: found for split in SPLITS if (found := [one for one in material.scored if one.video.split == split])
    }
    return Report(
        title=material.title,
        manifest=material.manifest,
        hunt=evidence.hunt,
        locator=material.locator,
        videos=report_videos(material.scored, console),
        depth=evidence.depth,
        sampling=evidence.sampling,
        embedding=evidence.embedding,
        survival=evidence.survival,
        evaluations={split: _evaluation(material, found, store, console) for split, found in splits.items()},
        ablation=material.ablation,
        calibration_curve=evidence.learned,
        notes=material.notes,
        absent=material.absent,
        commands=material.commands,
        chance=evidence.chance,
    )


def _evaluation(material: Material, scored: Sequence[Scored], store: EntryStore, console: Console) -> Evaluation:
    """One split's figures, with the baselines and the ceilings beside them."""
    videos = [one.video for one in scored]
    raw = {one.video.name: one.raw for one in scored}
    smoothed = {one.video.name: one.smoothed for one in scored}
    at = material.manifest.locators.named(material.locator)
    rates = {one.video.name: one.fps for one in scored if one.fps is not None}
    result = evaluate_scores(
        videos,
        raw,
        smoothed,
        thresholds={"calibrated": at.threshold},
        fps=rates if len(rates) == len(scored) else None,
    )
    segment = material.manifest.segment
    measuring = Measuring(segment.step, store=store)
    found = measure_baselines(videos, material.calibration, console, measuring)
    alone = Baselines()
    if material.tokens is not None:
        alone = measure_tokens(videos, material.calibration, console, material.tokens)
    found = found.beside(alone)
    # Trivial baselines are shown as they are; the verdict is on what an operator gets, on both sides.
    peers = {"raw": found.scores, "smoothed": alone.smoothed(at.sigma, at.lookahead)}
    beside = yardsticks(videos, {"raw": raw, "smoothed": smoothed}, peers, found.remarks, overlap=segment.overlap)
    return replace(result, beside=beside)
