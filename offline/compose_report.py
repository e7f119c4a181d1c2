"""One report from whatever parts there are: the build's, the recalibration's and `hh-offline report`'s.

Knows which figures a report holds and computes those that nothing but a report needs; renders nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_runtime.errors import SourceUnavailable
from edge_runtime.manifest import Manifest
from offline.ablation_peers import motions
from offline.baselines import FewShot, Motion, baseline_scores
from offline.console import Console
from offline.dataset import SPLITS, Split, Video
from offline.evaluation import Evaluation, evaluate_scores
from offline.evidence import Evidence
from offline.report_content import AblationTable, Report
from offline.report_videos import Scored, report_videos
from offline.store import EntryStore


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
    baselines: dict[Split, Mapping[str, float | None]] = {}
    if judged:
        there = [video for video in calibration if video.timed and video.path.is_file()]
        measured = _measure([*there, *judged], manifest.segment.frames, store, console, skip_unreadable)
        few_shot = _few_shot([video for video in there if video.name in measured], measured)
        baselines = {
            split: _baselines([one.video for one in found if one.video.name in measured], measured, few_shot)
            for split, found in splits.items()
        }
    point = manifest.locators.named(locator).threshold
    return Report(
        title=title,
        manifest=manifest,
        hunt=evidence.hunt,
        locator=locator,
        videos=report_videos(scored, console),
        depth=evidence.depth,
        embedding=evidence.embedding,
        evaluations={split: _evaluation(found, point) for split, found in splits.items()},
        ablation=ablation,
        calibration_curve=evidence.learned,
        baselines=baselines,
        notes=notes,
        absent=absent,
        commands=commands,
    )


def _evaluation(scored: Sequence[Scored], threshold: float) -> Evaluation:
    rates = {one.video.name: one.fps for one in scored if one.fps is not None}
    return evaluate_scores(
        [one.video for one in scored],
        {one.video.name: one.raw for one in scored},
        {one.video.name: one.smoothed for one in scored},
        thresholds={"calibrated": threshold},
        fps=rates if len(rates) == len(scored) else None,
    )


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


def _baselines(
    videos: Sequence[Video], measured: Mapping[str, Motion], few_shot: FewShot | None
) -> dict[str, float | None]:
    """Frame AUC by name."""
    if not videos:
        return {}
    return {
        name: evaluate_scores(videos, scores, draws=0).series["raw"].auc
        for name, scores in baseline_scores(videos, measured, few_shot).items()
    }


def _few_shot(calibration: Sequence[Video], measured: Mapping[str, Motion]) -> FewShot | None:
    """None without videos of both classes."""
    if len({video.label for video in calibration}) < 2:
        return None
    return FewShot.fit(calibration, measured)
