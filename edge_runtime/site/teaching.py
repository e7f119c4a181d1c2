"""All that a run's operators teach, whichever of its bundles a camera uses: for a page, MQTT, and the command line.

Any thread may call anything. Marks are numbered as in their store; those of a second bundle, and of each further one,
begin a thousand million later, so that a number names one mark of the run.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from edge_runtime.errors import Conflict, UsageError
from edge_runtime.site.feedback import Alarm, Proposal, Rule, RuleOf
from edge_runtime.site.forget import Erased, Forgets, Told, forget
from edge_runtime.site.learned import Learned, now
from edge_runtime.site.place import Site
from edge_runtime.site.store import Mark, Verdict
from edge_runtime.site.taught import TaughtSite
from edge_runtime.stream.clock import rfc3339

#: The longest stretch that is marked at once, in seconds.
LONGEST_S = 3600.0

_A_BUNDLE = 10**9
_LISTED = 200


class Limits(Protocol):
    """What makes scores of a camera an alarm."""

    @property
    def threshold(self) -> float:
        """A smoothed score above it is anomalous."""

    @property
    def min_duration_s(self) -> float:
        """How long an alarm lasts at least."""

    @property
    def cooldown_s(self) -> float:
        """For how long after an alarm there is no other one."""


@dataclass(frozen=True, slots=True)
class TaughtScorer:
    """The newest scorer that was agreed to.

    Attributes:
        number: Counts those of its bundle from 1.
        accepted: When, UTC, RFC 3339.
        marks: Of how many marks it was made.
    """

    number: int
    accepted: str
    marks: int


@dataclass(frozen=True, slots=True)
class TeachingStatus:
    """What is taught.

    Attributes:
        marks: All of them, oldest first.
        scorer: The newest that was agreed to; None where the bundles' own are used.
        can_undo: Whether there is a step back.
    """

    marks: tuple[Mark, ...]
    scorer: TaughtScorer | None
    can_undo: bool

    def to_dict(self) -> dict[str, Any]:
        """As plain values, times as UTC."""
        scorer = self.scorer
        return {
            "marks": [mark_document(mark) for mark in self.marks],
            "scorer": None
            if scorer is None
            else {"number": scorer.number, "accepted": scorer.accepted, "marks": scorer.marks},
            "can_undo": self.can_undo,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Proposed:
    """What would change, over all bundles that something was marked of.

    Attributes:
        id: For `Teaching.accept`.
        parts: The proposal of each bundle.
    """

    id: str
    parts: tuple[Proposal, ...]

    @property
    def marks(self) -> int:
        """How many marks teach."""
        return sum(part.marks for part in self.parts)

    @property
    def changes(self) -> bool:
        """Whether any scorer would be another one than that in use."""
        return any(part.changes for part in self.parts)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, times as UTC; lists hold 200 alarms at most, counts all."""
        parts = self.parts
        gone, new = (
            [alarm for part in parts for alarm in part.gone],
            [alarm for part in parts for alarm in part.new],
        )
        return {
            "proposal": self.id,
            "marks": self.marks,
            "false_alarms": sum(part.false_alarms for part in parts),
            "segments": sum(len(part.fit.before) for part in parts),
            "changes": self.changes,
            "days": max(part.days for part in parts),
            "wrong_before": sum(part.wrong_marks_before for part in parts),
            "wrong_left_out": sum(part.wrong_marks_left_out for part in parts),
            "loss_before": _mean_loss([(part.loss_before, part) for part in parts]),
            "loss_now": _mean_loss([(part.loss_now, part) for part in parts]),
            "loss_left_out": _mean_loss([(part.loss_left_out, part) for part in parts]),
            "kept": sum(len(part.kept) for part in parts),
            "gone": [_alarm_document(alarm) for alarm in gone[:_LISTED]],
            "gone_in_all": len(gone),
            "new": [_alarm_document(alarm) for alarm in new[:_LISTED]],
            "new_in_all": len(new),
            "replaces": max(part.replaces for part in parts),
        }


class Teaching:
    """What operators of one run say, and what it learns from that.

    Args:
        sites: Of the run's bundles, that of most cameras first; `add` brings further ones.
        locator_of: The locator of each camera, `full` or `low_latency`; by default `full` for all.
        alarm_of: What makes an alarm of each camera; None of one for which the locator's threshold holds.

    Raises:
        OutputFailed: By any method: a store cannot be read or written now; nothing has changed.
    """

    def __init__(
        self,
        sites: Sequence[Site] = (),
        *,
        locator_of: Callable[[str], str] = lambda _: "full",
        alarm_of: Callable[[str], Limits | None] = lambda _: None,
    ) -> None:
        self._locator_of, self._alarm_of = locator_of, alarm_of
        self._sites: tuple[TaughtSite, ...] = ()
        self._lock = threading.Lock()
        for site in sites:
            self.add(site)

    def add(self, site: Site) -> None:
        """Take a further bundle; one that is known already stays as it is."""
        with self._lock:
            if all(one.site.bundle_id != site.bundle_id for one in self._sites):
                self._sites = (*self._sites, TaughtSite(site, self._rules(site)))

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites of the run's bundles."""
        return tuple(one.site for one in self._sites)

    # ---- marks

    def marks(self) -> list[Mark]:
        """All marks, oldest first."""
        found = [_numbered(mark, place) for place, site in enumerate(self._sites) for mark in site.marks()]
        return sorted(found, key=lambda mark: (mark.at, mark.id))

    def verdicts(self) -> dict[str, Verdict]:
        """What was said of events, by their ids."""
        return {mark.event: mark.verdict for mark in self.marks() if mark.event is not None}

    def mark_event(self, event_id: str, verdict: Verdict | None, camera: str | None = None) -> Mark | None:
        """Note what an operator said of an event; None takes it back. The last word counts.

        Args:
            event_id: Of the event.
            verdict: What it is.
            camera: The event has to be one of this camera, where that is given.

        Raises:
            Conflict: It is not known, or nothing of it is kept any more.
            UsageError: It is another camera's.
        """
        if verdict is None:
            for site in self._with_store():
                site.unmark_event(event_id, camera)
            return None
        return self._first(lambda site: site.mark_event(event_id, verdict, camera))

    def mark_missed(self, camera: str, start: float, end: float) -> Mark:
        """Note that something was missed there.

        Args:
            camera: On which camera.
            start: Seconds since 1970, UTC.
            end: Seconds since 1970, UTC.

        Raises:
            Conflict: Nothing of it is kept.
            UsageError: It ends before it starts, or is longer than `LONGEST_S`.
        """
        return self.mark_stretch("missed", camera, start, end)

    def mark_stretch(self, verdict: Verdict, camera: str, start: float, end: float) -> Mark:
        """As `mark_missed`, of either verdict."""
        if not end - start <= LONGEST_S:
            raise UsageError(f"mark what happened, {LONGEST_S / 60:.0f} minutes at most; several marks say more")
        return self._first(lambda site: site.mark_stretch(verdict, camera, start, end))

    def newest_event(self, camera: str) -> str | None:
        """The id of the newest event of a camera; None where none is known."""
        found = [event for site in self._with_store() if (event := site.newest_event(camera)) is not None]
        return max(found, key=lambda event: event.start).id if found else None

    def unmark(self, number: int) -> bool:
        """Take a mark back; whether there was one of that number."""
        place, mark = divmod(number, _A_BUNDLE)
        sites = self._sites
        return 0 <= place < len(sites) and sites[place] in self._with_store() and sites[place].unmark(mark)

    # ---- scorers

    def propose(self) -> Proposed:
        """What a refit to all marks would change. Changes nothing; done once for the same marks.

        Raises:
            Conflict: Nothing is marked.
            HeadHuntError: A scorer that is in use cannot be read.
        """
        found = self._proposed()
        return Proposed(_joined([name for _, name, _ in found]), tuple(proposal for _, _, proposal in found))

    def accept(self, proposal: str) -> Learned:
        """Use what was proposed from now on. A run that goes on takes it within seconds.

        Args:
            proposal: Its id.

        Returns:
            The new scorer; where several bundles have one, that of the first.

        Raises:
            Conflict: Something else would be proposed by now, or nothing, or it is in use already; nothing has
                changed.
            HeadHuntError: As of `propose`, and where it cannot be signed or written.
        """
        found = self._proposed()
        if _joined([name for _, name, _ in found]) != proposal:
            raise Conflict(
                "the marks or the scorer have changed since that was proposed; look at what would change now, and "
                "agree to that"
            )
        # Those whose scorer has learned all of it already keep it.
        changed = [one for one in found if one[2].changes]
        if not changed:
            raise Conflict("the scorer in use has learned these marks already; there is nothing to agree to")
        accepted = now()
        learned = [site.accept(name, accepted) for site, name, _ in changed]
        return learned[0]

    def undo(self) -> Learned | None:
        """Take the newest agreement back, of all bundles that it was about.

        Returns:
            The newest scorer that is used now; None where there are only the bundles' own.

        Raises:
            Conflict: There is nothing to undo.
            HeadHuntError: The scorer before cannot be used.
        """
        there = [(site, site.learned()) for site in self._sites if site.can_undo]
        if not there:
            raise Conflict("the bundle's own scorer is used; there is nothing to undo")
        newest = self._newest()
        for site, learned in there:
            # One that is refused is in nobody's way when it goes.
            if learned is None or newest is None or learned.accepted == newest.accepted:
                site.undo()
        return self._newest()

    def status(self) -> TeachingStatus:
        """What is marked and taught."""
        newest = self._newest()
        return TeachingStatus(
            tuple(self.marks()),
            None if newest is None else TaughtScorer(newest.number, newest.accepted, newest.marks),
            any(site.can_undo for site in self._sites),
        )

    def forget(
        self,
        camera: str | None,
        start: float,
        end: float,
        clips: Path | None = None,
        told: Mapping[str, Told] | None = None,
        others: Sequence[Forgets] = (),
    ) -> Erased:
        """Delete all that is kept of a stretch; as of `forget.forget`, of the stores of all bundles.

        Raises:
            HeadHuntError: As of `forget.forget`.
        """
        with ExitStack() as stack:
            stores = [stack.enter_context(site.store()) for site in self._with_store()]
            return forget(stores, clips, camera, start, end, told, others)

    def _newest(self) -> Learned | None:
        found = [learned for site in self._sites if (learned := site.learned()) is not None]
        return max(found, key=lambda learned: learned.accepted, default=None)

    def _proposed(self) -> list[tuple[TaughtSite, str, Proposal]]:
        marked = [site for site in self._sites if site.marks()]
        if not marked:
            raise Conflict("nothing is marked yet; mark an event as a false alarm, or what was missed, first")
        return [(site, *site.propose()) for site in marked]

    def _with_store(self) -> list[TaughtSite]:
        return [site for site in self._sites if site.site.store_path.is_file()]

    def _first(self, mark: Callable[[TaughtSite], Mark]) -> Mark:
        """Mark in the first store that has it."""
        failed: UsageError = Conflict("nothing is kept yet; a run with `feedback:` keeps what can be marked")
        for place, site in enumerate(self._sites):
            if not site.site.store_path.is_file():
                continue
            try:
                return _numbered(mark(site), place)
            except UsageError as error:
                failed = error
        raise failed

    def _rules(self, site: Site) -> RuleOf:
        def rule(camera: str) -> Rule:
            spec = site.manifest.locators.named(self._locator_of(camera))
            limits = self._alarm_of(camera)
            if limits is None:
                return Rule(spec, spec.threshold)
            return Rule(spec, limits.threshold, limits.min_duration_s, limits.cooldown_s)

        return rule


def mark_document(mark: Mark) -> dict[str, Any]:
    """A mark as plain values, times as UTC."""
    return {
        "id": mark.id,
        "verdict": mark.verdict,
        "camera": mark.camera,
        "start": _utc(mark.start),
        "end": _utc(mark.end),
        "event": mark.event,
        "at": _utc(mark.at),
    }


def _alarm_document(alarm: Alarm) -> dict[str, Any]:
    return {
        "camera": alarm.camera,
        "start": _utc(alarm.start),
        "end": _utc(alarm.end),
        "peak": round(alarm.peak, 6),
    }


def _utc(seconds: float) -> str:
    return rfc3339(datetime.fromtimestamp(seconds, UTC))


def _numbered(mark: Mark, place: int) -> Mark:
    return replace(mark, id=place * _A_BUNDLE + mark.id)


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else hashlib.sha256(" ".join(names).encode()).hexdigest()[:32]


def _mean_loss(losses: Sequence[tuple[float | None, Proposal]]) -> float | None:
    sizes = [(loss, len(part.fit.before)) for loss, part in losses if loss is not None]
    return sum(loss * size for loss, size in sizes) / sum(size for _, size in sizes) if sizes else None
