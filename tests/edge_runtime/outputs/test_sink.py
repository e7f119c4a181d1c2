"""Every output is a sink on its own thread: one that fails or blocks stops neither the others nor the run."""

from __future__ import annotations

import logging
import threading
import time

import pytest

from edge_runtime.errors import OutputFailed
from edge_runtime.outputs.sink import Output, Outputs
from edge_runtime.records import GapRecord, Record


def record(number: int) -> Record:
    return GapRecord("gate", float(number), number + 1.0, "lost")


class Kept:
    """Keeps what it is given."""

    name = "kept"

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.threads: set[int] = set()
        self.closed = 0

    def write(self, record: Record) -> None:
        self.threads.add(threading.get_ident())
        self.records.append(record)

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closed += 1


class Blocking(Kept):
    """Blocks for ever with its first record."""

    name = "a dead broker"

    def write(self, record: Record) -> None:
        threading.Event().wait()


class Failing(Kept):
    """Fails with its third record."""

    name = "a full disk"

    def write(self, record: Record) -> None:
        if len(self.records) == 2:
            raise OutputFailed("a full disk: cannot be written")
        super().write(record)


def test_all_sinks_get_all_records_in_order_on_threads_of_their_own() -> None:
    sinks = [Kept(), Kept()]
    with Outputs([Output(sink) for sink in sinks]) as outputs:
        for number in range(1000):
            outputs.emit(record(number))
    for sink in sinks:
        assert sink.records == [record(number) for number in range(1000)]
        assert sink.closed == 1
        assert len(sink.threads) == 1
    assert len({*sinks[0].threads, *sinks[1].threads, threading.get_ident()}) == 3


def test_a_sink_that_blocks_for_ever_delays_nobody_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "edge_runtime")
    kept = Kept()
    begun = time.monotonic()
    with Outputs([Output(Blocking(), capacity=10), Output(kept, required=True)]) as outputs:
        for number in range(1000):
            outputs.emit(record(number))
    assert time.monotonic() - begun < 30  # seconds of grace, not for ever
    assert len(kept.records) == 1000
    text = "\n".join(caplog.messages)
    assert "a dead broker: takes records too slowly" in text
    assert "a dead broker: blocks, left behind with 10 records" in text
    assert "a dead broker: 989 records could not be handed over" in text
    assert len(caplog.messages) == 4  # the drops are said once and summed up once


def test_an_output_that_nobody_depends_on_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "edge_runtime")
    kept = Kept()
    with Outputs([Output(Failing()), Output(kept)]) as outputs:
        for number in range(10):
            outputs.emit(record(number))
    assert len(kept.records) == 10
    assert "a full disk: cannot be written" in caplog.text
    assert "8 records could not be handed over" in caplog.text


def emit_all(outputs: Outputs, count: int) -> None:
    """Slowly, so that a failure is met while records still come."""
    with outputs:
        for number in range(count):
            outputs.emit(record(number))
            time.sleep(0.0001)


def test_an_output_that_is_required_ends_the_run() -> None:
    kept, failing = Kept(), Failing()
    with pytest.raises(OutputFailed, match="a full disk"):
        emit_all(Outputs([Output(failing, required=True), Output(kept)]), 100_000)
    assert len(kept.records) < 100_000
    assert failing.records == [record(0), record(1)]
    assert (failing.closed, kept.closed) == (1, 1)


def test_a_failure_after_the_last_record_is_told_at_the_end() -> None:
    class FailsToClose(Kept):
        def close(self) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputFailed, match=r"kept: .*No space left"):
        emit_all(Outputs([Output(FailsToClose(), required=True)]), 1)


def test_what_went_wrong_first_is_what_is_told() -> None:
    def interrupted(outputs: Outputs) -> None:
        with outputs:
            for number in range(3):
                outputs.emit(record(number))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted(Outputs([Output(Failing(), required=True)]))


def test_one_that_waits_loses_nothing() -> None:
    class Slow(Kept):
        def write(self, record: Record) -> None:
            time.sleep(0.001)
            super().write(record)

    slow = Slow()
    with Outputs([Output(slow, required=True, waits=True, capacity=3)]) as outputs:
        for number in range(50):
            outputs.emit(record(number))
    assert slow.records == [record(number) for number in range(50)]
