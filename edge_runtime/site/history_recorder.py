"""What a run writes into a site's history, in a thread of its own: scores and events. Delays nothing.

One transaction a second at most, whatever the number of cameras. What cannot be written, because the disk is full or
does not answer, is told: scores of that time are missing then, events are tried again.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from datetime import datetime

from msgspec import UNSET

from edge_runtime.errors import HeadHuntError, one_line
from edge_runtime.files import shown_path
from edge_runtime.records import EventRecord, Record, RunRecord, SegmentRecord
from edge_runtime.repeats import RepeatedTrouble
from edge_runtime.site.history import DAY_S, History, PastEvent, PastScore, ToldEvent

log = logging.getLogger(__name__)

# Some ten minutes of forty cameras.
_WAITING = 16_384
_TICK_S = 1.0
_SWEEP_S = 600.0
_CLOSE_S = 0.8
# Events that wait for a disk that takes nothing.
_EVENTS = 4096
# The computer's date was set meanwhile where it says otherwise by more than this.
_SET_S = 0.5


class HistoryRecorder:
    """A sink that fills a history. Begins with the first record.

    Args:
        history: Where to.
        scores_s: How long scores are kept, in seconds.
        events_s: How long events are kept, in seconds.

    Attributes:
        name: What logs call it.
    """

    def __init__(self, history: History, *, scores_s: float = 7 * DAY_S, events_s: float = 30 * DAY_S) -> None:
        self.name = f"history in {shown_path(history.path)}"
        self._history = history
        self._scores_s, self._events_s = scores_s, events_s
        self._queue: deque[PastScore | ToldEvent] = deque()
        self._changed = threading.Condition()
        self._closing = self._started = False
        self._zero = 0.0
        # By their ids, as they were told last: those that could not be written.
        self._owed: dict[str, ToldEvent] = {}
        self._swept_s = -math.inf
        self._left_out = RepeatedTrouble(
            log, logging.WARNING, lambda count, seconds: f"{self.name}: {count} more were left out in {seconds} s"
        )
        self._failures = RepeatedTrouble(
            log, logging.ERROR, lambda count, seconds: f"{self.name}: failed {count} more times in {seconds} s"
        )
        self._thread = threading.Thread(target=self._work, name="history", daemon=True)

    def unfinished(self) -> list[EventRecord]:
        """Events that an earlier run left open; none where that cannot be read."""
        try:
            return self._history.unfinished()
        except HeadHuntError as error:
            self._failures.happened(f"{self.name}: cannot be read ({one_line(error)})")
            return []

    # ---- the sink's thread

    def write(self, record: Record) -> None:
        """Take one record; does not wait for a disk."""
        if isinstance(record, RunRecord):
            self._zero = datetime.fromisoformat(record.started).timestamp()
        elif isinstance(record, SegmentRecord):
            zero = self._zero_of(record)
            start, end = zero + record.start_s, zero + record.end_s
            self._put(PastScore(record.camera, start, end, record.smoothed, record.anomalous))
        elif isinstance(record, EventRecord):
            self._put(self._told(record))

    def close(self) -> None:
        """Write what waits, as far as there is time."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._started:
            self._thread.join(_CLOSE_S)
        for trouble in (self._left_out, self._failures):
            trouble.sum_up(at_once=True)

    def _told(self, record: EventRecord) -> ToldEvent:
        restart = record.reason is not UNSET
        if restart and record.time is not UNSET:
            # On the axis of the run that began it.
            zero = datetime.fromisoformat(record.time).timestamp() - record.end_s
        else:
            zero = self._zero_of(record)
        is_open = record.state != "end"
        start, end = zero + record.start_s, zero + record.end_s
        p = None if record.p is UNSET else record.p
        event = PastEvent(record.id, record.camera, start, end, record.peak, record.mean, is_open, p=p)
        return ToldEvent(event, record.to_json() if is_open else None, restart)

    def _zero_of(self, record: SegmentRecord | EventRecord) -> float:
        """When second 0 of the run was, by the computer's date.

        Not computed from each record: neighbours would be milliseconds apart that follow each other at once.
        """
        if record.time is not UNSET:
            zero = datetime.fromisoformat(record.time).timestamp() - record.end_s
            if abs(zero - self._zero) > _SET_S:
                self._zero = zero
        return self._zero

    def _put(self, item: PastScore | ToldEvent) -> None:
        with self._changed:
            if not self._started:
                self._started = True
                self._thread.start()
            if full := len(self._queue) >= _WAITING:
                self._queue.popleft()
            self._queue.append(item)
        if full:
            self._left_out.happened(f"{self.name}: is written too slowly, the oldest is left out")

    # ---- its own thread

    def _work(self) -> None:
        while True:
            with self._changed:
                # Not woken by every record: what comes within a second is one transaction.
                self._changed.wait_for(lambda: self._closing, _TICK_S)
                items, closing = list(self._queue), self._closing
                self._queue.clear()
            try:
                self._write(items)
            except HeadHuntError as error:
                self._owe(items)
                self._failures.happened(f"{self.name}: cannot be written ({one_line(error)}); scores are missing")
            except Exception:
                log.exception("%s: could not write", self.name)
            for trouble in (self._left_out, self._failures):
                trouble.sum_up()
            if closing:
                self._history.close()
                return

    def _write(self, items: list[PastScore | ToldEvent]) -> None:
        scores = [item for item in items if isinstance(item, PastScore)]
        # An event that was told several times is written as it was told last.
        events = self._owed | {item.event.id: item for item in items if isinstance(item, ToldEvent)}
        if scores or events:
            self._history.remember(scores, list(events.values()))
            self._owed = {}
        now = time.time()
        if now - self._swept_s >= _SWEEP_S or now < self._swept_s:
            self._swept_s = now
            self._history.remove_older(now - self._scores_s, now - self._events_s)

    def _owe(self, items: list[PastScore | ToldEvent]) -> None:
        self._owed |= {item.event.id: item for item in items if isinstance(item, ToldEvent)}
        while len(self._owed) > _EVENTS:
            del self._owed[next(iter(self._owed))]
