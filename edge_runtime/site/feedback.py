"""From marks to a proposal: the scorer that they would give, and which recent alarms would be gone or new with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.bundle.calibration import FloatArray
from edge_runtime.errors import Conflict, UsageError
from edge_runtime.site.learned import Learned, next_number, now, read_learned, write_learned
from edge_runtime.site.place import Site
from edge_runtime.site.scorer import BoolArray, Refit, SiteScorer, log_loss, refit
from edge_runtime.site.store import DAY_S, Store
from edge_runtime.stream.locator import LocatorSpec, smooth

# Neighbours farther apart than so many steps are not smoothed together.
_APART = 6.0


@dataclass(frozen=True, slots=True)
class Rule:
    """When a camera's scores are an alarm.

    Attributes:
        locator: How they are smoothed.
        threshold: What is above it is anomalous.
        min_duration_s: An alarm lasts so long at least, in seconds.
        cooldown_s: What begins within so many seconds after an alarm's end is no other one.
    """

    locator: LocatorSpec
    threshold: float
    min_duration_s: float = 0.0
    cooldown_s: float = 0.0


RuleOf = Callable[[str], Rule]


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
        wrong_marks_before: Marks that are wrong as a whole, by the bundle's scorer: false alarms of which some
            segment is above the threshold, and what was missed of which none is.
        wrong_marks_left_out: The same by scorers that did not see them.
        days: How far back the remembered segments go.
        kept: Alarms of these days that stay, as they would be.
        gone: Alarms that would not have been.
        new: Alarms that would have been in addition.
        replaces: The number of the scorer in use; 0 is the bundle's.
        changes: Whether the new scorer is another one than that in use.
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
    wrong_marks_before: int
    wrong_marks_left_out: int
    days: float
    kept: tuple[Alarm, ...]
    gone: tuple[Alarm, ...]
    new: tuple[Alarm, ...]
    replaces: int
    changes: bool


def propose(
    site: Site,
    store: Store,
    locator: str = "full",
    days: float = 7.0,
    rule_of: RuleOf | None = None,
) -> Proposal:
    """Refit the bundle's scorer to all marks of a store, and compare with what is in use. Changes nothing.

    Args:
        site: Of the bundle.
        store: Its marks and recent features.
        locator: Whose smoothing and threshold decide what an alarm is, of all cameras.
        days: How far back alarms are compared.
        rule_of: What an alarm of each camera is, instead.

    Raises:
        Conflict: There are no marks.
        FeatureError: Marked features cannot be used.
        HeadHuntError: As of `read_learned`.
    """
    if rule_of is None:
        spec = site.manifest.locators.named(locator)
        same = Rule(spec, spec.threshold)

        def rule_of(_: str) -> Rule:
            return same

    features, labels, groups = store.marked()
    if not len(features):
        raise Conflict("nothing is marked yet; mark an event as a false alarm, or what was missed, first")
    calibration = site.calibration
    fit = refit(calibration, features, labels, groups)
    current = read_learned(site)
    used = calibration.prior_mean if current is None else np.array(current.weights)
    in_use = SiteScorer(used, calibration.mean, calibration.scale)
    kept, gone, new = list[Alarm](), list[Alarm](), list[Alarm]()
    since, reach = time.time() - days * DAY_S, list[float]()
    for camera in store.cameras():
        starts, ends, (was, would) = store.score(camera, (used, fit.weights), since)
        rule = rule_of(camera)
        before, after = (alarms(camera, starts, ends, scores, rule) for scores in (was, would))
        meets = _meeting(after, before)
        kept += [one for one, stays in zip(after, meets, strict=True) if stays]
        new += [one for one, stays in zip(after, meets, strict=True) if not stays]
        gone += [one for one, stays in zip(before, _meeting(before, after), strict=True) if not stays]
        reach += [*starts[:1].tolist(), *ends[-1:].tolist()]
    marks = {mark.id: mark for mark in store.marks()}
    taught = [marks[mark] for mark in dict.fromkeys(groups) if mark in marks]
    limits = np.array([rule_of(marks[mark].camera).threshold if mark in marks else np.nan for mark in groups])
    return Proposal(
        bundle_id=site.bundle_id,
        marks=len(set(groups)),
        false_alarms=sum(mark.verdict == "false_alarm" for mark in taught),
        fit=fit,
        loss_before=log_loss(fit.before, labels),
        loss_now=log_loss(in_use.probabilities(features).astype(np.float64), labels),
        loss_left_out=log_loss(fit.left_out, labels),
        wrong_before=_wrong(fit.before, labels, limits),
        wrong_left_out=_wrong(fit.left_out, labels, limits),
        wrong_marks_before=_wrong_marks(fit.before > limits, labels, groups),
        wrong_marks_left_out=_wrong_marks(fit.left_out > limits, labels, groups),
        days=(max(reach) - min(reach)) / DAY_S if reach else 0.0,
        kept=tuple(kept),
        gone=tuple(gone),
        new=tuple(new),
        replaces=0 if current is None else current.number,
        changes=not np.array_equal(used, fit.weights),
    )


def accept(site: Site, proposal: Proposal, accepted: str | None = None) -> Learned:
    """Make a proposal's scorer the site's. A run that is going on takes it within seconds.

    Args:
        site: Of the bundle.
        proposal: What to use.
        accepted: When that was said, as of `learned.now`; by default now.

    Raises:
        UsageError: It is of another bundle, or the device's key cannot be used.
        OutputFailed: It cannot be written; the scorer in use stays.
    """
    if proposal.bundle_id != site.bundle_id:
        raise UsageError(f"the proposal is of the bundle {proposal.bundle_id[:8]}, not of {site.bundle_id[:8]}")
    learned = Learned(
        bundle_id=site.bundle_id,
        number=next_number(site),
        before=proposal.replaces,
        accepted=now() if accepted is None else accepted,
        marks=proposal.marks,
        segments=len(proposal.fit.before),
        weights=proposal.fit.weights.tolist(),
        loss_before=proposal.loss_before or 0.0,
        loss_left_out=proposal.loss_left_out or 0.0,
    )
    write_learned(site, learned)
    return learned


def alarms(camera: str, starts: FloatArray, ends: FloatArray, scores: FloatArray, rule: Rule) -> list[Alarm]:
    """What would have been told of one camera's segments; (n,) each, in order."""
    locator, found, over = rule.locator, list[Alarm](), -np.inf
    for first, end in _runs(starts, ends):
        smoothed = np.array(smooth(scores[first:end].tolist(), locator.sigma, locator.lookahead), dtype=np.float64)
        above = np.concatenate([[False], smoothed > rule.threshold, [False]])
        edges = np.flatnonzero(above[1:] != above[:-1])
        for begin, behind in edges.reshape(-1, 2).tolist():
            start, stop = float(starts[first + begin]), float(ends[first + behind - 1])
            # Seconds since 1970 have their seventh digit only.
            if stop - start < rule.min_duration_s - 1e-3:
                continue
            # One that the cooldown takes goes on as part of the last one.
            told, over = start >= over + rule.cooldown_s, stop
            if told:
                found.append(Alarm(camera, start, stop, float(smoothed[begin:behind].max())))
    return found


def _runs(starts: FloatArray, ends: FloatArray) -> list[tuple[int, int]]:
    """Where segments follow each other without a pause, as (first, end)."""
    if not len(starts):
        return []
    lengths = ends - starts
    edges = (np.flatnonzero(starts[1:] - ends[:-1] > _APART * lengths[:-1]) + 1).tolist()
    return list(zip([0, *edges], [*edges, len(starts)], strict=True))


def _meeting(ones: Sequence[Alarm], others: Sequence[Alarm]) -> list[bool]:
    """Of each alarm, whether one of the others is of the same time; both are of one camera, in order."""
    starts, ends = np.array([one.start for one in others]), np.array([one.end for one in others])
    # Those that end after it starts, without those that start after it ends.
    return [bool(np.searchsorted(ends, one.start, "right") < np.searchsorted(starts, one.end)) for one in ones]


def _wrong(probabilities: FloatArray, labels: BoolArray, thresholds: FloatArray) -> int:
    return int(((probabilities > thresholds) != labels).sum())


def _wrong_marks(above: BoolArray, labels: BoolArray, groups: Sequence[int]) -> int:
    marks = np.asarray(groups)
    return sum(bool(above[marks == mark].any()) != bool(labels[marks == mark].any()) for mark in set(groups))
