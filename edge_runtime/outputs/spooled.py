"""A sink behind a spool: what it cannot take now it gets later, in order, and nobody waits for it."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Collection

from edge_runtime.errors import NotDelivered, OutputFailed, one_line
from edge_runtime.outputs.sink import Sink
from edge_runtime.outputs.spool import Spool, Spooled, Waiting
from edge_runtime.records import EventRecord, Record
from edge_runtime.repeats import RepeatedTrouble

log = logging.getLogger(__name__)

_LONGEST_S = 60.0
# What a run's end waits for a delivery that is under way; less than what `Outputs` waits for all of them together.
_GRACE_S = 0.8


def backoff_s(failures: int, chance: float) -> float:
    """How long to wait before the next attempt, in seconds: about 1, 2, 4 … 60, a quarter more or less.

    Args:
        failures: Attempts that failed in a row, from 1.
        chance: Between 0 and 1. Outputs that lost the same server must not return to it at the same moment.
    """
    return min(_LONGEST_S, 2.0 ** min(failures - 1, 10)) * (0.75 + chance / 2)


class SpooledSink:
    """A sink for `Outputs` that keeps every record in a spool, from where a thread hands it to another sink.

    What waits from earlier runs is handed over first; the thread begins with the first record that is written, of
    any kind. A record that the inner sink cannot take now (`NotDelivered`) is tried again until it can, and those
    behind it wait. One that it refuses (any other error) is left out, which is logged and counted. A record may reach
    the inner sink twice, if the process is killed while it is handed over.

    Args:
        sink: Whom the records are for; used by the thread alone.
        spool: Where they wait, under the sink's name. It is closed after this sink.
        kinds: Types of records that it gets, such as `event`; None for all.
        updates: Whether it also gets what is told of events that go on.
        chance: Numbers from 0 to 1, for the time between attempts. For tests.

    Raises:
        UsageError: Another sink of this spool has the same name.
    """

    def __init__(
        self,
        sink: Sink,
        spool: Spool,
        kinds: Collection[str] | None = None,
        *,
        updates: bool = True,
        chance: Callable[[], float] = random.random,
    ) -> None:
        spool.claim(sink.name, events=kinds is None or "event" in kinds)
        self._sink, self._spool, self._chance = sink, spool, chance
        self._kinds = None if kinds is None else frozenset(kinds)
        self._updates = updates
        self._ending, self._left_behind = threading.Event(), threading.Event()
        self._refused = 0
        self._refusals = RepeatedTrouble(log, logging.ERROR, self._more_refused)
        self._thread = threading.Thread(target=self._deliver, name=f"delivery-{sink.name}", daemon=True)

    @property
    def name(self) -> str:
        """That of the inner sink."""
        return self._sink.name

    @property
    def waiting(self) -> Waiting:
        """What it has not got yet."""
        return self._spool.waiting.get(self.name, Waiting(0, 0.0))

    @property
    def refused(self) -> int:
        """Records that the inner sink refused, and will not get."""
        return self._refused

    def write(self, record: Record) -> None:
        """Keep a record for the inner sink. Does not wait for it."""
        if self._wants(record):
            self._spool.append(self.name, record)
        if self._thread.ident is None:
            self._thread.start()

    def close(self) -> None:
        """Hand over what waits, as far as that succeeds within a moment; the rest is for the next run."""
        self._ending.set()
        self._spool.wake()
        if self._thread.ident is None:
            self._sink.close()
        else:
            self._thread.join(_GRACE_S)
        self._left_behind.set()
        self._refusals.sum_up(at_once=True)
        if (left := self.waiting).records:
            log.warning("%s: %d records wait for the next run", self.name, left.records)

    def _wants(self, record: Record) -> bool:
        if self._kinds is not None and record.type not in self._kinds:
            return False
        return self._updates or not (isinstance(record, EventRecord) and record.state == "update")

    def _deliver(self) -> None:
        failures = 0
        while not (self._left_behind.is_set() or self._spool.closed):
            ending = self._ending.is_set()
            waiting = self._spool.first(self.name)
            if waiting is None:
                if ending:
                    break
                self._spool.wait(self.name, self._ending.is_set)
                continue
            again_s = self._hand_over(waiting, failures)
            failures = 0 if again_s is None else failures + 1
            if again_s is not None:
                if ending:
                    break
                self._ending.wait(again_s)
        try:
            self._sink.close()
        except Exception as error:  # noqa: BLE001  nothing depends on it any more
            log.warning("%s: %s", self.name, one_line(error))

    def _hand_over(self, waiting: Spooled, failures: int) -> float | None:
        """Hand one record over; returns after how many seconds to try again, or None where it is done with."""
        try:
            self._sink.write(waiting.record)
        except NotDelivered as error:
            if not failures:
                log.warning("%s; records wait in %s", one_line(error), self._spool.name)
            return max(backoff_s(failures + 1, self._chance()), error.after_s or 0.0)
        except Exception as error:  # noqa: BLE001  one record must not end the output
            told = one_line(error) if isinstance(error, OutputFailed) else f"{self.name}: {one_line(error)}"
            self._refused += 1
            self._refusals.happened(f"{told}; this {waiting.record.type} record is left out")
        else:
            if failures:
                log.warning("%s: takes records again, %d wait", self.name, self.waiting.records)
        self._spool.remove(self.name, waiting.id)
        return None

    def _more_refused(self, count: int, seconds: int) -> str:
        return f"{self.name}: {count} more records were left out in the last {seconds} s"
