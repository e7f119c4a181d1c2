"""From marks to a proposal: the scorer that they would give, and which recent alarms would be gone or new with it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.bundle.calibration import FloatArray
from edge_runtime.errors import UsageError
from edge_runtime.site.learned import Learned, Sign, Verify, next_number, now, read_learned, write_learned
from edge_runtime.site.place import Site
from edge_runtime.site.scorer import BoolArray, Refit, SiteScorer, log_loss, refit
from edge_runtime.site.store import Store
from edge_runtime.stream.locator import LocatorSpec, smooth

# Neighbours farther apart than so many steps are not smoothed together.
_APART = 6.0


@dataclass(frozen=True, slots=True)
class Alarm:
    """Consecutive segments above the threshold. Times are seconds since 1970, UTC."""

    camera: str
    start: float
    end: float
    peak: float


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """What a refit to all marks would change.

    Attributes:
        bundle_id: The bundle's.
        marks: How many marks teach.
        false_alarms: How many of them are false alarms.
        fit: The new weights, and what becomes of the marked segments.
        loss_before: Mean log loss of the marked segments by the bundle's scorer; None without marks.
        loss_now: The same by the scorer that is in use.
        loss_left_out: The same by new scorers that did not see their mark: what to expect of the next one.
        wrong_before: Marked segments on the wrong side of the threshold, by the bundle's scorer.
        wrong_left_out: The same by scorers that did not see their mark.
        days: How far back the remembered segments go.
        kept: Alarms of these days that stay, as they would be.
        gone: Alarms that would not have been.
        new: Alarms that would have been in addition.
        replaces: The number of the scorer in use; 0 is the bundle's.
    """

    bundle_id: str
    marks: int
    false_alarms: int
    fit: Refit
    loss_before: float | None
    loss_now: float | None
    loss_left_out: float | None
    wrong_before: int
    wrong_left_out: int
    days: float
    kept: tuple[Alarm, ...]
    gone: tuple[Alarm, ...]
    new: tuple[Alarm, ...]
    replaces: int


def propose(
    site: Site,
    store: Store,
    locator: str = "full",
    threshold: float | None = None,
    days: float = 7.0,
    verify: Verify | None = None,
) -> Proposal:
    """Refit the bundle's scorer to all marks of a store, and compare with what is in use. Changes nothing.

    Args:
        site: Of the bundle.
        store: Its marks and recent features.
        locator: Whose smoothing and threshold decide what an alarm is.
        threshold: Instead of the locator's.
        days: How far back alarms are compared.
        verify: As of `read_learned`.

    Raises:
        UsageError: There are no marks.
        FeatureError: Marked features cannot be used.
    """
    features, labels, groups = store.marked()
    if not len(features):
        raise UsageError("nothing is marked yet; hh-edge feedback EVENT false_alarm marks an event")
    fit = refit(site.calibration, features, labels, groups)
    current = read_learned(site, verify)
    calibration = site.calibration
    used = calibration.prior_mean if current is None else np.array(current.weights)
    before = SiteScorer(used, calibration.mean, calibration.scale)
    after = SiteScorer(fit.weights, calibration.mean, calibration.scale)
    spec = site.manifest.locators.named(locator)
    limit = spec.threshold if threshold is None else threshold
    old: list[Alarm] = []
    new: list[Alarm] = []
    since = time.time() - days * 86_400
    reach: list[float] = []
    for camera in store.cameras():
        starts, ends, (was, would) = store.score(camera, (before, after), since)
        old += alarms(camera, starts, ends, was, spec, limit)
        new += alarms(camera, starts, ends, would, spec, limit)
        reach += [*starts[:1], *ends[-1:]]
    verdicts = {mark.id: mark.verdict for mark in store.marks()}
    return Proposal(
        bundle_id=site.bundle_id,
        marks=len(set(groups)),
        false_alarms=sum(verdicts.get(mark) == "false_alarm" for mark in set(groups)),
        fit=fit,
        loss_before=log_loss(fit.before, labels),
        loss_now=log_loss(before.probabilities(features).astype(np.float64), labels),
        loss_left_out=log_loss(fit.left_out, labels),
        wrong_before=_wrong(fit.before, labels, limit),
        wrong_left_out=_wrong(fit.left_out, labels, limit),
        days=(max(reach) - min(reach)) / 86_400 if reach else 0.0,
        kept=tuple(one for one in new if _meets(one, old)),
        gone=tuple(one for one in old if not _meets(one, new)),
        new=tuple(one for one in new if not _meets(one, old)),
        replaces=0 if current is None else current.number,
    )


def accept(site: Site, proposal: Proposal, sign: Sign | None = None) -> Learned:
    """Make a proposal's scorer the site's. A run that is going on takes it within seconds.

    Raises:
        UsageError: It is of another bundle.
        OutputFailed: It cannot be written; the scorer in use stays.
    """
    if proposal.bundle_id != site.bundle_id:
        raise UsageError(f"the proposal is of the bundle {proposal.bundle_id[:8]}, not of {site.bundle_id[:8]}")
    learned = Learned(
        bundle_id=site.bundle_id,
        number=next_number(site),
        before=proposal.replaces,
        accepted=now(),
        marks=proposal.marks,
        segments=len(proposal.fit.before),
        weights=proposal.fit.weights.tolist(),
        loss_before=proposal.loss_before or 0.0,
        loss_left_out=proposal.loss_left_out or 0.0,
    )
    write_learned(site, learned, sign)
    return learned


def alarms(
    camera: str, starts: FloatArray, ends: FloatArray, scores: FloatArray, locator: LocatorSpec, threshold: float
) -> list[Alarm]:
    """What would have been told of one camera's segments, smoothed as the locator does; (n,) each, in order."""
    found: list[Alarm] = []
    for first, end in _runs(starts, ends):
        smoothed = np.array(smooth(scores[first:end].tolist(), locator.sigma, locator.lookahead), dtype=np.float64)
        above = np.concatenate([[False], smoothed > threshold, [False]])
        edges = np.flatnonzero(above[1:] != above[:-1])
        for begin, behind in edges.reshape(-1, 2).tolist():
            peak = float(smoothed[begin:behind].max())
            found.append(Alarm(camera, float(starts[first + begin]), float(ends[first + behind - 1]), peak))
    return found


def _runs(starts: FloatArray, ends: FloatArray) -> list[tuple[int, int]]:
    """Where segments follow each other without a pause, as (first, end)."""
    if not len(starts):
        return []
    lengths = ends - starts
    edges = (np.flatnonzero(starts[1:] - ends[:-1] > _APART * lengths[:-1]) + 1).tolist()
    return list(zip([0, *edges], [*edges, len(starts)], strict=True))


def _meets(alarm: Alarm, others: Sequence[Alarm]) -> bool:
    return any(
        other.camera == alarm.camera and other.start < alarm.end and alarm.start < other.end for other in others
    )


def _wrong(probabilities: FloatArray, labels: BoolArray, threshold: float) -> int:
    return int(((probabilities > threshold) != labels).sum())
