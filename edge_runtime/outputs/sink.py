"""Where records go: every output is a sink on its own thread, behind a queue of its own.

No sink can delay scoring or end the run, except the one that the run is for: the records that were asked for on
standard output or in a file.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from edge_runtime.errors import OutputFailed, one_line
from edge_runtime.records import Record
from edge_runtime.repeats import RepeatedTrouble

log = logging.getLogger(__name__)

_CAPACITY = 10_000
# What an output that nobody depends on may take at the end.
_GRACE_S = 1.0


class Sink(Protocol):
    """One output. `write` and `close` are called from one thread, which is the sink's own."""

    @property
    def name(self) -> str:
        """What to call it in a log line: `standard output`, a file, a host."""

    def write(self, record: Record) -> None:
        """Hand one record over; may take as long as it takes.

        Raises:
            OutputFailed: It cannot be handed over; nothing is written to this sink after that.
        """

    def close(self) -> None:
        """Learn that nothing more will be written.

        Raises:
            OutputFailed: What was written before may be missing.
        """


@dataclass(frozen=True, slots=True)
class Output:
    """A sink and what it may do to the run.

    Attributes:
        sink: Where records go.
        required: The run is for this output: when it fails, the run ends with its error. Others log it.
        waits: When the queue is full the caller waits. Otherwise the oldest record is dropped, which is counted
            and logged: right for cameras, which cannot wait. Files can.
        capacity: Records that may wait.
    """

    sink: Sink
    required: bool = False
    waits: bool = False
    capacity: int = _CAPACITY


class Outputs:
    """Hands every record to all sinks; a context manager that closes them.

    `emit` is called by one thread. It takes as long as an append, but where an output `waits`.
    """

    def __init__(self, outputs: Sequence[Output]) -> None:
        self._threads = [_SinkThread(output) for output in outputs]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failures = [failure for thread in self._threads if (failure := thread.end()) is not None]
        # What went wrong first is what is told.
        if error is None and failures:
            raise failures[0]

    def emit(self, record: Record) -> None:
        """Queue one record for every sink.

        Raises:
            OutputFailed: A required sink failed, with this record or one before it.
        """
        for thread in self._threads:
            thread.put(record)


class _SinkThread:
    """One sink, its queue and its thread."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._queue: deque[Record] = deque()
        self._changed = threading.Condition()
        self._ending = False
        self._failure: OutputFailed | None = None
        self._lost = 0
        name = output.sink.name
        self._drops = RepeatedTrouble(
            log, logging.WARNING, f"{name}: {{count}} more records were dropped in the last {{seconds}} s"
        )
        self._thread = threading.Thread(target=self._work, name=f"output-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, record: Record) -> None:
        output, dropped = self._output, False
        with self._changed:
            if output.waits:
                self._changed.wait_for(lambda: len(self._queue) < output.capacity or self._failure is not None)
            if self._failure is not None:
                if output.required:
                    raise self._failure
                self._lost += 1
                return
            if len(self._queue) >= output.capacity:
                self._queue.popleft()
                self._lost += 1
                dropped = True
            self._queue.append(record)
            self._changed.notify_all()
        if dropped:
            self._drops.happened(f"{output.sink.name}: takes records too slowly, the oldest are dropped")

    def end(self) -> OutputFailed | None:
        """Let the queue run empty and close the sink; returns what a required sink failed with.

        A required sink has all the time it takes: whoever stops the process sets the limit. Others have a second,
        and are left behind.
        """
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join(None if self._output.required else _GRACE_S)
        self._drops.sum_up(at_once=True)
        if self._thread.is_alive():
            log.warning("%s: blocks, left behind with %d records", self._output.sink.name, len(self._queue))
        if self._lost and not self._output.required:
            log.warning("%s: %d records could not be handed over", self._output.sink.name, self._lost)
        return self._failure if self._output.required else None

    def _work(self) -> None:
        try:
            while (record := self._next()) is not None:
                self._output.sink.write(record)
        except Exception as error:  # noqa: BLE001  an output that fails must not do so unseen
            self._fail(error, records=1)
        try:
            self._output.sink.close()
        except Exception as error:  # noqa: BLE001
            self._fail(error, records=0)

    def _next(self) -> Record | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._ending)
            if not self._queue:
                return None
            record = self._queue.popleft()
            self._changed.notify_all()
            return record

    def _fail(self, error: Exception, records: int) -> None:
        """Note the first failure, with which `records` and all that wait are lost."""
        with self._changed:
            if self._failure is not None:
                return
            name = self._output.sink.name
            self._failure = error if isinstance(error, OutputFailed) else OutputFailed(f"{name}: {one_line(error)}")
            self._lost += records + len(self._queue)
            self._queue.clear()
            self._changed.notify_all()
        if not self._output.required:
            log.error("%s", self._failure)
