"""One bundle's site as operators teach it. Any thread may call anything; each call opens the store anew."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from edge_runtime.errors import BundleRefused, Conflict, OutputFailed, UsageError
from edge_runtime.files import printable, shown_path
from edge_runtime.site.feedback import Proposal, Rule, RuleOf, accept, propose
from edge_runtime.site.learned import Learned, changing, read_learned, undo_learned
from edge_runtime.site.place import Site
from edge_runtime.site.store import KnownEvent, Mark, Store, Verdict

# For so long a proposal is shown as it was: only the alarms of the last days go on meanwhile.
_FRESH_S = 300.0


@dataclass(frozen=True, slots=True, eq=False)
class _Cached:
    id: str
    rules: list[Rule]
    made_s: float
    proposal: Proposal


class TaughtSite:
    """What is marked at a bundle's site, what that would change, and the scorer that was agreed to.

    Args:
        site: Of the bundle.
        rule_of: What an alarm of each camera is; by default as the locator `full` says.

    Raises:
        OutputFailed: By any method: the store cannot be read or written now; nothing has changed.
    """

    def __init__(self, site: Site, rule_of: RuleOf | None = None) -> None:
        self.site, self._rule_of = site, rule_of
        self._computing = threading.Lock()
        self._cached: _Cached | None = None

    # ---- what people said

    def marks(self) -> list[Mark]:
        """All marks, oldest first."""
        if not self.site.store_path.is_file():
            return []
        with self.store() as store:
            return store.marks()

    def newest_event(self, camera: str) -> KnownEvent | None:
        """The newest event of a camera; None where none is known."""
        if not self.site.store_path.is_file():
            return None
        with self.store() as store:
            return store.newest_event(camera)

    def mark_event(self, event_id: str, verdict: Verdict, camera: str | None = None) -> Mark:
        """Note what an operator said of an event; of this camera, where one is given.

        Raises:
            UsageError: It is not known, another camera's, or nothing of it is kept any more.
        """
        with self.store() as store:
            event = store.event(event_id)
            if camera is not None and event is not None and event.camera != camera:
                raise UsageError(f"event {printable(event_id)}: is one of another camera than {camera}")
            return store.mark_event(event_id, verdict, time.time())

    def mark_stretch(self, verdict: Verdict, camera: str, start: float, end: float) -> Mark:
        """Note what an operator said of a stretch, in seconds since 1970.

        Raises:
            UsageError: Nothing of it is kept, or it is none.
        """
        with self.store() as store:
            return store.mark(verdict, camera, start, end, time.time())

    def unmark(self, mark: int) -> bool:
        """Take back what was said; whether it was there."""
        with self.store() as store:
            return store.unmark(mark)

    def unmark_event(self, event_id: str, camera: str | None = None) -> bool:
        """Take back what was said of an event, of this camera where one is given; whether something was."""
        with self.store() as store:
            return store.unmark_event(event_id, camera)

    # ---- what that would change

    def propose(self) -> tuple[str, Proposal]:
        """What a refit to all marks would change, and its id: another one as soon as it would be another scorer.

        The first call scores days of features, some seconds a camera; later ones find that done.

        Raises:
            Conflict: Nothing is marked.
            HeadHuntError: The scorer in use cannot be read; undo leads out of that.
        """
        with self._computing, self.store() as store:
            known, name = self._cached, self._name(store)
            rules = [] if self._rule_of is None else [self._rule_of(camera) for camera in store.cameras()]
            if (
                known is not None
                and (known.id, known.rules) == (name, rules)
                and time.monotonic() - known.made_s < _FRESH_S
            ):
                return name, known.proposal
            proposal = propose(self.site, store, rule_of=self._rule_of)
            if self._name(store) != name:
                raise Conflict("somebody has marked or agreed to something meanwhile; look at it again")
            self._cached = _Cached(name, rules, time.monotonic(), proposal)
            return name, proposal

    def accept(self, name: str, accepted: str | None = None) -> Learned:
        """Use the scorer of a proposal from now on.

        Args:
            name: Its id.
            accepted: When that was said, as of `learned.now`; by default now.

        Raises:
            Conflict: It would be another one by now; nothing has changed.
            HeadHuntError: As of `propose`, and where it cannot be signed.
        """
        now, proposal = self.propose()
        with changing(self.site), self.store() as store:
            if name != now or self._name(store) != name:
                raise Conflict(
                    "the marks or the scorer have changed since that was proposed; look at what would change now, "
                    "and agree to that"
                )
            return accept(self.site, proposal, accepted)

    def undo(self) -> Learned | None:
        """Go back to the scorer before; returns it, None for the bundle's own.

        Raises:
            UsageError: There is nothing to undo.
            HeadHuntError: The one before cannot be used.
        """
        with changing(self.site):
            return undo_learned(self.site)

    def learned(self) -> Learned | None:
        """The scorer that was agreed to; None where the bundle's own is used, or the file is refused."""
        with contextlib.suppress(BundleRefused):
            return read_learned(self.site)
        return None

    @property
    def can_undo(self) -> bool:
        """Whether there is a scorer to go back from."""
        return self.site.scorer_path.exists()

    @contextlib.contextmanager
    def store(self) -> Iterator[Store]:
        """The store, for one call."""
        try:
            with self.site.open_store(create=False, durable=True) as store:
                yield store
        except sqlite3.Error as error:
            raise OutputFailed(
                f"{shown_path(self.site.store_path)}: cannot be read or written ({error}); nothing has changed, "
                "try again"
            ) from error

    def _name(self, store: Store) -> str:
        """What a proposal is made of: the marks, and what they are compared with."""
        marks = [[one.id, one.verdict, one.camera, one.start, one.end, one.at] for one in store.marks()]
        if not marks:
            raise Conflict("nothing is marked yet; mark an event as a false alarm, or what was missed, first")
        learned = read_learned(self.site)
        used = None if learned is None else [learned.number, learned.accepted, learned.weights]
        text = json.dumps([self.site.bundle_id, marks, used])
        return hashlib.sha256(text.encode()).hexdigest()[:32]
