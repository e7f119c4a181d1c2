"""Where records go: every output is a sink on its own thread, behind a queue of its own.

No sink can delay scoring or end the run, except the one that the run is for: the records that were asked for on
standard output or in a file.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from edge_runtime.errors import OutputFailed, one_line
from edge_runtime.records import Record
from edge_runtime.repeats import RepeatedTrouble

log = logging.getLogger(__name__)

# What waits for a required sink is lost when the process is killed: enough for it to write while the caller scores.
_REQUIRED = 16
_CAPACITY = 10_000
# What all outputs that nobody depends on may take at the end, together.
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
        required: The run is for this output. No record of it is dropped: when its queue is full the caller waits, and
            a camera's segments become gaps meanwhile. When it fails, the run ends with its error. Another output's
            failure is logged; when its queue is full the oldest record is dropped, which is counted and logged.
        capacity: Records that may wait; by default 16 for a required output and 10,000 for others.
    """

    sink: Sink
    required: bool = False
    capacity: int | None = None

    @property
    def places(self) -> int:
        """How many records may wait."""
        return self.capacity or (_REQUIRED if self.required else _CAPACITY)


@dataclass(frozen=True, slots=True)
class OutputFigures:
    """What one output has not got.

    Attributes:
        sink: Its name.
        waiting: Records that wait for it in memory.
        lost: Records that it will never get.
    """

    sink: str
    waiting: int
    lost: int


class Outputs:
    """Hands every record to all sinks; a context manager that closes them. `emit` is called by one thread."""

    def __init__(self, outputs: Sequence[Output]) -> None:
        # Required ones first: at the end they are waited for before the others.
        self._threads = [_SinkThread(output) for output in sorted(outputs, key=lambda output: not output.required)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for thread in self._threads:
            thread.end()
        failures = [failure for thread in self._threads if (failure := thread.join()) is not None]
        # What went wrong first is what is told.
        if error is None and failures:
            raise failures[0]

    @property
    def failed(self) -> bool:
        """Whether a required sink has failed: a run that has nothing to say must end for that, too."""
        return any(thread.failed for thread in self._threads)

    def figures(self) -> tuple[OutputFigures, ...]:
        """What each output has not got. Any thread may ask."""
        return tuple(thread.figures() for thread in self._threads)

    def emit(self, record: Record) -> None:
        """Queue one record for every sink.

        Raises:
            OutputFailed: A required sink failed, with this record or one before it, or the outputs were closed.
        """
        for thread in self._threads:
            thread.put(record)


class _SinkThread:
    """One sink, its queue and its thread."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._name = output.sink.name
        self._queue: deque[Record] = deque()
        self._changed = threading.Condition()
        # When the others' time is up, on the monotonic clock; None while records still come.
        self._until_s: float | None = None
        self._failure: OutputFailed | None = None
        self._lost = 0
        self._drops = RepeatedTrouble(log, logging.WARNING, self._more)
        self._thread = threading.Thread(target=self._work, name=f"output-{self._name}", daemon=True)

    @property
    def failed(self) -> bool:
        return self._output.required and self._failure is not None

    def figures(self) -> OutputFigures:
        # What a file left out, or a server refused, got as far as the sink itself.
        lost = sum(getattr(self._output.sink, name, 0) for name in ("missing", "refused"))
        return OutputFigures(self._name, len(self._queue), self._lost + lost)

    def start(self) -> None:
        self._thread.start()

    def put(self, record: Record) -> None:
        output, dropped = self._output, False
        with self._changed:
            if self._until_s is not None:
                raise OutputFailed(f"{self._name}: was closed before this record")
            if output.required:
                self._changed.wait_for(lambda: len(self._queue) < output.places or self._failure is not None)
            if self._failure is not None:
                if output.required:
                    raise self._failure
                self._lost += 1
                return
            if len(self._queue) >= output.places:
                self._queue.popleft()
                self._lost += 1
                dropped = True
            self._queue.append(record)
            self._changed.notify_all()
        if dropped:
            self._drops.happened(f"{self._name}: takes records too slowly, the oldest are dropped")

    def end(self) -> None:
        """Nothing more will be put: let the queue run empty and close the sink."""
        with self._changed:
            self._until_s = time.monotonic() + _GRACE_S
            self._changed.notify_all()

    def join(self) -> OutputFailed | None:
        """Wait for the end; returns what a required sink failed with.

        A required sink has all the time it takes: whoever stops the process sets the limit. The others have a second,
        and are left behind.
        """
        assert self._until_s is not None
        self._thread.join(None if self._output.required else max(0.0, self._until_s - time.monotonic()))
        self._drops.sum_up(at_once=True)
        if self._output.required:
            return self._failure
        if self._thread.is_alive():
            log.warning("%s: blocks, left behind with %d records", self._name, len(self._queue))
        if self._lost:
            log.warning("%s: %d records could not be handed over", self._name, self._lost)
        return None

    def _work(self) -> None:
        try:
            while (record := self._next()) is not None:
                self._output.sink.write(record)
        except BaseException as error:  # noqa: BLE001  an output that fails must not do so unseen
            self._fail(error, records=1)
        try:
            self._output.sink.close()
        except BaseException as error:  # noqa: BLE001
            self._fail(error, records=0)

    def _next(self) -> Record | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._until_s is not None)
            if not self._queue:
                return None
            record = self._queue.popleft()
            self._changed.notify_all()
            return record

    def _fail(self, error: BaseException, records: int) -> None:
        """Note the first failure, with which `records` and all that wait are lost."""
        with self._changed:
            if self._failure is not None:
                return
            told = error if isinstance(error, OutputFailed) else OutputFailed(f"{self._name}: {one_line(error)}")
            self._failure = told
            self._lost += records + len(self._queue)
            self._queue.clear()
            self._changed.notify_all()
        if not self._output.required:
            log.error("%s", told)

    def _more(self, count: int, seconds: int) -> str:
        return f"{self._name}: {count} more records were dropped in the last {seconds} s"
