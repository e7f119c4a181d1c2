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


def test_a_required_output_that_is_slow_loses_nothing_and_holds_little_back() -> None:
    class Slow(Kept):
        def write(self, record: Record) -> None:
            time.sleep(0.001)
            super().write(record)

    slow, behind = Slow(), 0
    with Outputs([Output(slow, required=True)]) as outputs:
        for number in range(200):
            outputs.emit(record(number))
            behind = max(behind, number + 1 - len(slow.records))
    assert slow.records == [record(number) for number in range(200)]
    # What the process has taken and not handed over is lost when it is killed.
    assert behind <= 16 + 2


def test_outputs_that_block_share_one_second_behind_the_required_one() -> None:
    kept = Kept()
    outputs = Outputs([*(Output(Blocking()) for _ in range(20)), Output(kept, required=True)])
    begun = time.monotonic()
    emit_all(outputs, 1)
    assert kept.closed == 1
    assert time.monotonic() - begun < 15  # one second for all of them, not one for each


def test_a_required_failure_is_seen_without_another_record() -> None:
    """A camera that says nothing for hours must not hide a full disk for hours."""
    outputs = Outputs([Output(Failing(), required=True), Output(Failing())])

    def three_records_and_silence() -> None:
        with outputs:
            for number in range(3):
                outputs.emit(record(number))
            deadline = time.monotonic() + 30
            while not outputs.failed and time.monotonic() < deadline:
                time.sleep(0.01)
            assert outputs.failed

    with pytest.raises(OutputFailed, match="a full disk"):
        three_records_and_silence()


def test_what_ends_a_sinks_thread_ends_no_caller_in_a_wait() -> None:
    class Exits(Kept):
        def write(self, record: Record) -> None:
            raise SystemExit(3)

    with pytest.raises(OutputFailed, match="kept: 3"):
        emit_all(Outputs([Output(Exits(), required=True)]), 100)


def test_nothing_is_taken_after_the_end() -> None:
    outputs = Outputs([Output(Kept())])
    emit_all(outputs, 1)
    with pytest.raises(OutputFailed, match="was closed before this record"):
        outputs.emit(record(1))


def test_a_name_with_braces_is_a_name(caplog: pytest.LogCaptureFixture) -> None:
    class Braces(Blocking):
        name = "rec{date}.jsonl"

    with Outputs([Output(Braces(), capacity=1)]) as outputs:
        for number in range(5):
            outputs.emit(record(number))
    assert "rec{date}.jsonl: takes records too slowly" in caplog.text
