"""One report from whatever parts there are: the build's, the recalibration's and `hh-offline report`'s.

Knows which figures a report holds and computes those that nothing but a report needs; renders nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edge_runtime.bundle.manifest import Manifest
from edge_runtime.errors import SourceUnavailable
from offline.ablation.peers import motions
from offline.console import Console
from offline.data.cache import EntryStore
from offline.data.dataset import SPLITS, Split, Video
from offline.evaluation.baselines import FewShot, Motion, baseline_scores
from offline.evaluation.figures import Evaluation, evaluate_scores
from offline.evaluation.yardsticks import yardsticks
from offline.hunting.evidence import Evidence
from offline.report.content import AblationTable, Report
from offline.report.videos import Scored, report_videos


def compose(
    *,
    title: str,
    manifest: Manifest,
    scored: Sequence[Scored],
    calibration: Sequence[Video],
    evidence: Evidence,
    store: EntryStore,
    console: Console,
    locator: str = "full",
    ablation: AblationTable | None = None,
    notes: tuple[str, ...] = (),
    absent: tuple[str, ...] = (),
    commands: tuple[str, ...] = (),
    skip_unreadable: bool = False,
) -> Report:
    """A report of a bundle.

    scored: of all splits that are shown, as `locator` has it. calibration: what a few-shot baseline is fitted on;
    those that are not there are left out. store: keeps what the baselines measured. Raises HeadHuntError.
    """
    splits: dict[Split, list[Scored]] = {
        split: found for split in SPLITS if (found := [one for one in scored if one.video.split == split])
    }
    judged = [one.video for one in scored]
    measured: dict[str, Motion] = {}
    few_shot = None
    if judged:
        there = [video for video in calibration if video.timed and video.path.is_file()]
        measured = _measure([*there, *judged], manifest.segment.frames, store, console, skip_unreadable)
        few_shot = _few_shot([video for video in there if video.name in measured], measured)
    point = manifest.locators.named(locator).threshold
    return Report(
        title=title,
        manifest=manifest,
        hunt=evidence.hunt,
        locator=locator,
        videos=report_videos(scored, console),
        depth=evidence.depth,
        embedding=evidence.embedding,
        evaluations={split: _evaluation(found, point, measured, few_shot) for split, found in splits.items()},
        ablation=ablation,
        calibration_curve=evidence.learned,
        notes=notes,
        absent=absent,
        commands=commands,
    )


def _evaluation(
    scored: Sequence[Scored], threshold: float, measured: Mapping[str, Motion], few_shot: FewShot | None
) -> Evaluation:
    """One split's figures, with the trivial baselines and the ceilings beside them."""
    videos = [one.video for one in scored]
    raw = {one.video.name: one.raw for one in scored}
    rates = {one.video.name: one.fps for one in scored if one.fps is not None}
    result = evaluate_scores(
        videos,
        raw,
        {one.video.name: one.smoothed for one in scored},
        thresholds={"calibrated": threshold},
        fps=rates if len(rates) == len(scored) else None,
    )
    if missing := [video.name for video in videos if video.name not in measured]:
        remark = f"trivial baselines not computed: {missing[0]} could not be read a second time"
        return replace(result, beside=yardsticks(videos, {"raw": raw}, {}, (remark,)))
    peers = {"raw": baseline_scores(videos, measured, few_shot)}
    return replace(result, beside=yardsticks(videos, {"raw": raw}, peers))


def _measure(
    videos: Sequence[Video], segment_frames: int, store: EntryStore, console: Console, skip_unreadable: bool
) -> dict[str, Motion]:
    """What the baselines measure, by video; with `skip_unreadable` without those that cannot be read to the end."""
    measured: dict[str, Motion] = {}
    with console.bar("Trivial baselines", "video") as progress:
        for number, video in enumerate(videos):
            progress(number, len(videos), video.name)
            try:
                measured |= motions([video], segment_frames, store, _silent)
            except SourceUnavailable as error:
                if not skip_unreadable:
                    raise type(error)(f"{error}; or leave such videos out with --skip-unreadable") from error
                console.say(f"left out: {error}")
        progress(len(videos), len(videos))
    return measured


def _silent(_done: int, _total: int, _what: object = "") -> None:
    """One bar counts the videos; that of a single one would be noise."""


def _few_shot(calibration: Sequence[Video], measured: Mapping[str, Motion]) -> FewShot | None:
    """None without videos of both classes."""
    if len({video.label for video in calibration}) < 2:
        return None
    return FewShot.fit(calibration, measured)
