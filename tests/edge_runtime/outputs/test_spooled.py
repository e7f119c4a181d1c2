"""A sink behind a spool gets every record it wants once it can take it, in order, and holds nobody up."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_runtime.errors import NotDelivered, OutputFailed, UsageError
from edge_runtime.outputs.sink import Output, Outputs
from edge_runtime.outputs.spool import Spool
from edge_runtime.outputs.spooled import SpooledSink, backoff_s
from edge_runtime.records import CameraRecord, EventRecord, GapRecord, Record


def camera(number: int) -> CameraRecord:
    return CameraRecord("gate", "online", str(number))


class Broker:
    """Takes records while it is up, and never those with a detail of `poison`."""

    name = "broker"

    def __init__(self, *, up: bool = True) -> None:
        self.up = up
        self.records: list[Record] = []
        self.attempts: list[float] = []
        self.threads: set[int] = set()
        self.closed = 0

    def write(self, record: Record) -> None:
        self.threads.add(threading.get_ident())
        self.attempts.append(time.monotonic())
        if not self.up:
            raise NotDelivered("broker: is down")
        if isinstance(record, CameraRecord) and record.detail == "poison":
            raise OutputFailed("broker: does not take this")
        if isinstance(record, CameraRecord) and record.detail == "bug":
            raise ZeroDivisionError
        self.records.append(record)

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closed += 1


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds between attempts become hundredths."""
    monkeypatch.setattr(
        "edge_runtime.outputs.spooled.backoff_s", lambda failures, chance: backoff_s(failures, chance) / 100
    )


def test_what_a_broker_missed_it_gets_in_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    broker = Broker(up=False)
    with Spool(tmp_path / "spool") as spool:
        sink = SpooledSink(broker, spool)
        with Outputs([Output(sink)]) as outputs:
            for number in range(200):
                outputs.emit(camera(number))
            until(lambda: sink.waiting.records == 200 and len(broker.attempts) > 3)
            assert sink.waiting.oldest_s > 0
            broker.up = True
            until(lambda: sink.waiting.records == 0)
            for number in range(200, 210):
                outputs.emit(camera(number))
    assert broker.records == [camera(number) for number in range(210)]
    assert broker.closed == 1
    assert len(broker.threads) == 1
    assert [text for text in caplog.messages if "is down" in text] == [
        f"broker: is down; records wait in {spool.name}"
    ]
    assert len([text for text in caplog.messages if "takes records again" in text]) == 1


def test_the_next_run_begins_with_what_was_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Spool(tmp_path / "spool") as spool, Outputs([Output(SpooledSink(Broker(up=False), spool))]) as outputs:
        for number in range(10):
            outputs.emit(camera(number))
    assert "broker: 10 records wait for the next run" in caplog.text
    broker = Broker()
    with Spool(tmp_path / "spool") as spool, Outputs([Output(SpooledSink(broker, spool))]) as outputs:
        outputs.emit(camera(10))
    assert broker.records == [camera(number) for number in range(11)]


def test_what_a_sink_refuses_does_not_hold_up_the_rest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker()
    with Spool(tmp_path / "spool") as spool:
        sink = SpooledSink(broker, spool)
        with Outputs([Output(sink)]) as outputs:
            for detail in ("0", "poison", "1", "poison", "bug", "2"):
                outputs.emit(CameraRecord("gate", "online", detail))
        assert sink.refused == 3
    assert broker.records == [camera(0), camera(1), camera(2)]
    assert "broker: does not take this; this camera record is left out" in caplog.text
    assert "broker: 2 more records were left out" in caplog.text


def test_a_sink_gets_the_kinds_that_it_wants(tmp_path: Path) -> None:
    def event(state: str) -> EventRecord:
        return EventRecord(state, "1", "gate", 0.0, 1.0, 0, 30, 0.9, 0.8)  # type: ignore[arg-type]

    told: list[Record] = [GapRecord("gate", 0, 1, "lost"), event("new"), camera(0), event("update"), event("end")]
    broker = Broker()
    with Spool(tmp_path / "spool") as spool:
        sink = SpooledSink(broker, spool, kinds={"event"}, updates=False)
        with Outputs([Output(sink)]) as outputs:
            for record in told:
                outputs.emit(record)
    assert broker.records == [event("new"), event("end")]


def test_two_sinks_share_a_spool_and_one_that_is_down_holds_up_itself_alone(tmp_path: Path) -> None:
    down, up = Broker(up=False), Broker()
    up.name = "other"
    with Spool(tmp_path / "spool") as spool:
        with Outputs([Output(SpooledSink(down, spool)), Output(SpooledSink(up, spool))]) as outputs:
            for number in range(50):
                outputs.emit(camera(number))
            until(lambda: len(up.records) == 50)
        assert {name: waiting.records for name, waiting in spool.waiting.items()} == {"broker": 50}


def test_a_sink_that_blocks_is_left_behind_and_its_record_kept(tmp_path: Path) -> None:
    class Blocks(Broker):
        def write(self, record: Record) -> None:
            threading.Event().wait()

    begun = time.monotonic()
    with Spool(tmp_path / "spool") as spool, Outputs([Output(SpooledSink(Blocks(), spool))]) as outputs:
        outputs.emit(camera(0))
        until(lambda: spool.waiting != {})
    assert time.monotonic() - begun < 15
    with Spool(tmp_path / "spool") as spool:
        assert spool.waiting["broker"].records == 1


def test_a_sink_that_asks_to_be_left_alone_is_left_alone(tmp_path: Path) -> None:
    class Busy(Broker):
        def write(self, record: Record) -> None:
            super().write(record)
            if len(self.attempts) == 1:
                raise NotDelivered("busy: is busy", after_s=0.5)

    busy = Busy()
    with Spool(tmp_path / "spool") as spool, Outputs([Output(SpooledSink(busy, spool))]) as outputs:
        outputs.emit(camera(0))
        until(lambda: len(busy.attempts) == 2)
    assert busy.attempts[1] - busy.attempts[0] > 0.49


def test_attempts_come_more_and_more_seldom_and_never_stop() -> None:
    assert [backoff_s(failures, 0.5) for failures in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert backoff_s(10_000, 1.0) == 75
    assert 0.75 == backoff_s(1, 0.0) < backoff_s(1, 1.0) == 1.25


def test_two_sinks_of_one_name_would_get_each_others_records(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool") as spool:
        SpooledSink(Broker(), spool)
        with pytest.raises(UsageError, match="two outputs are called 'broker'"):
            SpooledSink(Broker(), spool)


def test_a_sink_that_was_never_written_to_is_closed(tmp_path: Path) -> None:
    broker = Broker()
    with Spool(tmp_path / "spool") as spool, Outputs([Output(SpooledSink(broker, spool))]):
        pass
    assert broker.closed == 1


CHILD = """
import sys
from pathlib import Path
from edge_runtime.outputs.jsonlines import JsonLines
from edge_runtime.outputs.spool import Spool
from edge_runtime.outputs.spooled import SpooledSink
from edge_runtime.records import CameraRecord
folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
with Spool(folder / "spool") as spool:
    sink = SpooledSink(JsonLines.to_file(folder / "taken.jsonl"), spool)
    for number in range(first, last):
        sink.write(CameraRecord("gate", "online", str(number)))
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
    sink.close()
"""


def test_a_run_that_is_killed_hands_over_everything_in_the_end(tmp_path: Path) -> None:
    """In order, every record at least once, and only the one that was under way twice."""
    told: list[int] = []
    kills = 10
    for trial in range(kills + 1):
        first = told[-1] + 2 if told else 0
        last = first + 1_000_000 if trial < kills else first + 5
        command = [sys.executable, "-c", CHILD, str(tmp_path), str(first), str(last)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            said = []
            if trial < kills:
                said = [child.stdout.readline() for _ in range(1 + trial * 17 % 60)]
                child.send_signal(signal.SIGKILL)
            said += child.stdout.readlines()
        told += [int(line) for line in said if line.endswith(b"\n")]
    taken = [int(json.loads(line)["detail"]) for line in (tmp_path / "taken.jsonl").read_text().splitlines()]
    assert taken == sorted(taken)
    assert set(told) <= set(taken)
    assert len(taken) - len(told) <= 2 * kills
