"""What waits is kept in order and within its bounds, whatever happens to the process, the disk or the file."""

from __future__ import annotations

import logging
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import OutputFailed
from edge_runtime.outputs.spool import LEAST_BYTES, Spool, rank
from edge_runtime.records import AnyRecord, CameraRecord, EventRecord, GapRecord, RunRecord, SegmentRecord

STATES: tuple[Literal["new", "update", "end"], ...] = ("new", "update", "end")


def camera(number: int, padding: int = 0) -> CameraRecord:
    return CameraRecord("gate", "online", f"{number} {'x' * padding}")


def event(number: int, state: Literal["new", "update", "end"], end_s: float = 1.0) -> EventRecord:
    return EventRecord(state, f"1a-gate-{number}", "gate", 0.0, end_s, 0, 30, 0.9, 0.8)


def segment(number: int) -> SegmentRecord:
    return SegmentRecord("gate", number, 0, 48, 0.0, 1.6, 0.1, 0.1, False)


def any_record(kind: int, number: int) -> AnyRecord:
    return (
        segment(number),
        event(number, "update"),
        GapRecord("gate", float(number), number + 1.0, "lost"),
        event(number, "new"),
        event(number, "end"),
        camera(number, padding=number % 7 * 100),
        RunRecord("1a", "2026-01-01T00:00:00.000Z", "1a", "0", [f"gate {number}"]),
    )[kind]


def taken(spool: Spool, sink: str = "broker") -> list[AnyRecord]:
    """Take all that waits, as a sink that takes everything."""
    found = []
    while (waiting := spool.first(sink)) is not None:
        found.append(waiting.record)
        spool.remove(sink, waiting.id)
    return found


def numbers(spool: Spool, sink: str = "broker") -> list[int]:
    return [int(record.detail.split()[0]) for record in taken(spool, sink) if isinstance(record, CameraRecord)]


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file of this process grows beyond 1 byte."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fill_disk(*, full: bool) -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 if full else hard, hard))


def test_records_come_back_in_order_each_sink_its_own(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool") as spool:
        for number in range(100):
            spool.append("broker" if number % 3 else "webhook", camera(number))
        assert spool.waiting["broker"].records == 66
        assert spool.waiting["webhook"].records == 34
        assert numbers(spool, "webhook") == [number for number in range(100) if not number % 3]
        assert numbers(spool) == [number for number in range(100) if number % 3]
        assert spool.waiting == {}
        assert spool.lost == 0


def test_what_was_not_taken_waits_for_the_next_run(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool") as spool:
        for number in range(10):
            spool.append("broker", camera(number))
        for _ in range(4):
            waiting = spool.first("broker")
            assert waiting is not None
            spool.remove("broker", waiting.id)
    with Spool(tmp_path / "spool") as spool:
        spool.append("broker", camera(10))
        assert numbers(spool) == [4, 5, 6, 7, 8, 9, 10]


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.sampled_from(["a", "b"]), st.integers(0, 6), st.integers(1, 60)),
            st.tuples(st.just("take"), st.sampled_from(["a", "b"]), st.just(0), st.integers(1, 40)),
            st.tuples(st.just("reopen"), st.just(""), st.just(0), st.just(0)),
        ),
        max_size=40,
    )
)
def test_order_and_bounds_hold_for_any_use(steps: list[tuple[str, str, int, int]]) -> None:
    """What is lost is counted, has the lowest rank there is, and leaves the rest in order."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spool"
        spool = Spool(path, LEAST_BYTES)
        sent: dict[str, list[str]] = defaultdict(list)
        got: dict[str, list[str]] = defaultdict(list)
        lost = count = 0

        def waiting_lines() -> list[tuple[int, str]]:
            assert spool._rows._disk is not None
            return [(row.rank, row.line) for row in spool._rows._disk.rows()]

        for what, sink, kind, repeats in steps:
            if what == "reopen":
                lost += spool.lost
                spool.close()
                spool = Spool(path, LEAST_BYTES)
            for _ in range(repeats):
                if what == "append":
                    record = any_record(kind, count := count + 1)
                    before, lost_before = waiting_lines(), spool.lost
                    spool.append(sink, record)
                    sent[sink].append(record.to_json())
                    after = waiting_lines()
                    gone = [*before, (rank(record), record.to_json())]
                    for row in after:
                        gone.remove(row)
                    assert len(gone) == spool.lost - lost_before
                    assert not gone or max(gone)[0] <= min((row[0] for row in after), default=9)
                    assert spool._rows._disk is not None
                    assert spool._rows._disk.bytes <= LEAST_BYTES
                elif (waiting := spool.first(sink)) is not None:
                    got[sink].append(waiting.record.to_json())
                    spool.remove(sink, waiting.id)
        for sink in ("a", "b"):
            got[sink] += [record.to_json() for record in taken(spool, sink)]
            order = iter(sent[sink])
            assert all(line in order for line in got[sink])  # a subsequence
        assert sum(map(len, got.values())) + lost + spool.lost == count
        spool.close()


def test_segments_make_room_for_events(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Spool(tmp_path / "spool", LEAST_BYTES) as spool:
        for number in range(2000):
            spool.append("broker", segment(number))
            if number % 20 == 0:
                spool.append("broker", event(number, "new"))
        records = taken(spool)
    assert [record.id for record in records if isinstance(record, EventRecord)] == [
        f"1a-gate-{number}" for number in range(0, 2000, 20)
    ]
    kept = [record.index for record in records if isinstance(record, SegmentRecord)]
    assert kept == list(range(2000 - len(kept), 2000))  # the newest
    assert spool.lost == 2000 - len(kept) > 0
    assert "full with 64.0 KiB; records are dropped, segments first" in caplog.text
    assert len(caplog.messages) <= 2


def test_the_file_stays_near_its_bound(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool", 2**20) as spool:
        for number in range(8_000):
            spool.append("broker", segment(number))
        size = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert size < 2 * 2**20 + 5 * 2**20  # the rows and indices, and SQLite's log of 4 MiB


def test_what_waited_too_long_is_dropped_and_counted(tmp_path: Path) -> None:
    clock = Clock()
    with Spool(tmp_path / "spool", max_age_s=100, monotonic=clock) as spool:
        spool.append("broker", camera(0))
        spool.append("gone", camera(0))
        clock.seconds = 90
        spool.append("broker", camera(1))
        assert spool.waiting["broker"].oldest_s == pytest.approx(90, abs=0.1)
        clock.seconds = 160
        spool.append("broker", camera(2))
        assert numbers(spool) == [1, 2]
        assert spool.waiting == {}  # also those of a sink that never asks
        assert spool.lost == 2


def test_a_clock_that_was_not_set_makes_nothing_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "spool"
    for seconds in (12.0, 4e9, time.time()):  # since 1970; in the year 2096; now
        monkeypatch.setattr("edge_runtime.outputs.spool.time.time", lambda s=seconds: s)
        with Spool(path) as spool:
            spool.append("broker", camera(int(seconds)))
    with Spool(path) as spool:
        assert len(numbers(spool)) == 3


CHILD = """
import sys
from pathlib import Path
from edge_runtime.outputs.spool import Spool
from edge_runtime.records import CameraRecord
spool, first = Spool(Path(sys.argv[1])), int(sys.argv[2])
for number in range(first, first + 1_000_000):
    spool.append("broker", CameraRecord("gate", "online", str(number)))
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_a_killed_process_loses_nothing_that_was_kept(tmp_path: Path) -> None:
    path, trials = tmp_path / "spool", 20
    told: list[int] = []
    for trial in range(trials):
        first = told[-1] + 2 if told else 0  # it may have kept one more than it told
        with subprocess.Popen([sys.executable, "-c", CHILD, str(path), str(first)], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            said = [child.stdout.readline() for _ in range(1 + trial * 13 % 40)]
            child.send_signal(signal.SIGKILL)
            said += child.stdout.readlines()
        told += [int(line) for line in said if line.endswith(b"\n")]
    with Spool(path) as spool:
        found = numbers(spool)
    assert found == sorted(set(found))
    assert set(told) <= set(found)
    assert len(found) - len(told) <= trials


@pytest.mark.parametrize("damage", ["other bytes", "torn in the middle", "cut off"])
def test_a_damaged_file_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    path = tmp_path / "spool"
    with Spool(path) as spool:
        for number in range(2000):
            spool.append("broker", camera(number, 100))
    content = path.read_bytes()
    if damage == "other bytes":
        path.write_bytes(b"\xff" * len(content))
    elif damage == "torn in the middle":
        path.write_bytes(content[:8192] + b"\xff" * 40_960 + content[8192 + 40_960 :])
    else:
        path.write_bytes(content[:20_000])
    with Spool(path) as spool:
        spool.append("broker", camera(1))
        assert numbers(spool) == [1]
    (aside,) = tmp_path.glob("spool.corrupt-*")
    assert aside.stat().st_size > 10_000
    assert "is damaged" in caplog.text
    assert aside.name in caplog.text


def test_a_file_that_is_damaged_while_it_is_open(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "spool"
    with Spool(path) as spool:
        for number in range(8_000):  # far more than SQLite keeps in memory
            spool.append("broker", camera(number, 500))
        spool.append("broker", event(1, "new"))
        with path.open("r+b") as file:
            file.write(b"\xff" * path.stat().st_size)
        Path(f"{path}-wal").write_bytes(b"")
        for number in range(100):
            spool.append("broker", camera(number))
            spool.first("broker")
        assert "is damaged" in caplog.text
        assert numbers(spool)[-1] == 99
    with Spool(path) as spool:
        assert [one.id for one in spool.unfinished_events()] == ["1a-gate-1"]


def test_a_full_disk_is_gone_through_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, full_disk: None
) -> None:
    clock = Clock()
    path = tmp_path / "spool"
    with Spool(path, monotonic=clock) as spool:
        for number in range(10):
            spool.append("broker", camera(number))
        fill_disk(full=True)
        for number in range(10, 30):
            clock.seconds += 0.3
            spool.append("broker", camera(number))
        assert spool.waiting["broker"].records == 30
        assert len([text for text in caplog.messages if "cannot be used" in text]) == 1
        for number in range(5):
            waiting = spool.first("broker")
            assert waiting is not None
            assert waiting.record == camera(number)
            spool.remove("broker", waiting.id)
        spool.append("broker", event(3, "new"))
        spool.note("frigate", "1", "one")
        fill_disk(full=False)
        clock.seconds += 2
        spool.append("broker", camera(30))
        assert len([text for text in caplog.messages if "can be written again; 21 records" in text]) == 1
    with Spool(path) as spool:
        assert numbers(spool) == list(range(5, 31))
        assert [one.id for one in spool.unfinished_events()] == ["1a-gate-3"]
        assert spool.notes("frigate") == {"1": "one"}
        assert spool.lost == 0


def test_memory_is_bounded_too(tmp_path: Path, full_disk: None) -> None:
    with Spool(tmp_path / "spool", memory_bytes=LEAST_BYTES) as spool:
        fill_disk(full=True)
        for number in range(2000):
            spool.append("broker", segment(number))
            if number % 100 == 0:
                spool.append("broker", camera(number))
        assert spool._rows._memory.bytes <= LEAST_BYTES
        assert numbers(spool) == list(range(0, 2000, 100))
        assert 0 < spool.lost < 2000


def test_a_disk_that_is_full_from_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, full_disk: None
) -> None:
    clock = Clock()
    fill_disk(full=True)
    with Spool(tmp_path / "spool", monotonic=clock) as spool:
        spool.append("broker", camera(0))
        assert "wait in memory" in caplog.text
        fill_disk(full=False)
        clock.seconds += 2
        spool.append("broker", camera(1))
    with Spool(tmp_path / "spool") as spool:
        assert numbers(spool) == [0, 1]


def test_what_waits_in_memory_at_the_end_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, full_disk: None
) -> None:
    with Spool(tmp_path / "spool") as spool:
        fill_disk(full=True)
        spool.append("broker", camera(0))
    fill_disk(full=False)
    assert "1 records waited in memory and are lost" in caplog.text
    assert spool.lost == 1


def test_two_runs_do_not_share_a_spool(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool"), pytest.raises(OutputFailed, match="another run uses it"):
        Spool(tmp_path / "spool")
    Spool(tmp_path / "spool").close()


def test_places_and_files_that_are_no_spools(tmp_path: Path) -> None:
    with pytest.raises(OutputFailed, match="cannot be opened"):
        Spool(tmp_path / "no" / "such" / "folder" / "spool")
    with pytest.raises(OutputFailed, match="cannot be opened"):
        Spool(tmp_path)
    with sqlite3.connect(tmp_path / "photos.db") as database:
        database.execute("CREATE TABLE photos (name TEXT)")
    database.close()
    with pytest.raises(OutputFailed, match="is a database of something else"):
        Spool(tmp_path / "photos.db")
    for bad in ({"max_bytes": 1}, {"max_age_s": 0.0}, {"memory_bytes": 1}):
        with pytest.raises(ValueError, match="at least"):
            Spool(tmp_path / "spool", **bad)  # type: ignore[arg-type]


def test_events_that_were_begun_and_not_ended_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    with Spool(path) as spool:
        for one in (event(0, "new"), event(0, "end"), event(7, "new"), event(7, "update", 3.0), event(9, "new")):
            spool.append("broker", one)
        spool.append("webhook", event(7, "new"))
        spool.append("webhook", event(0, "new"))  # killed before this sink had its end
        taken(spool)
        taken(spool, "webhook")
    with Spool(path) as spool:
        unfinished = {one.id: one for one in spool.unfinished_events()}
        assert unfinished == {
            "1a-gate-0": event(0, "new"),
            "1a-gate-7": event(7, "update", 3.0),
            "1a-gate-9": event(9, "new"),
        }
        for one in unfinished.values():
            ended = EventRecord("end", one.id, "gate", 0.0, 1.0, 0, 30, 0.9, 0.8, reason="restart")
            spool.append("broker", ended)
    with Spool(path) as spool:
        assert spool.unfinished_events() == []


def test_an_end_that_was_told_to_one_sink_is_not_forgotten_for_the_others(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    ended = EventRecord("end", "1a-gate-7", "gate", 0.0, 1.0, 0, 30, 0.9, 0.8, reason="restart")
    with Spool(path) as spool:
        for sink in ("broker", "hook", "no longer there", "of segments"):
            spool.append(sink, event(7, "new"))
    for told in (["hook"], ["broker", "hook"]):
        with Spool(path) as spool:
            for sink in ("broker", "hook"):
                spool.claim(sink)
            spool.claim("of segments", events=False)
            assert [one.id for one in spool.unfinished_events()] == ["1a-gate-7"]
            # Killed when only these had been told.
            for sink in told:
                spool.append(sink, ended)
    with Spool(path) as spool:
        assert spool.unfinished_events() == []


def test_notes_survive_and_are_forgotten(tmp_path: Path) -> None:
    with Spool(tmp_path / "spool") as spool:
        spool.note("frigate", "a", "1")
        spool.note("frigate", "b", "2")
        spool.note("other", "a", "3")
        spool.note("frigate", "a", None)
    with Spool(tmp_path / "spool") as spool:
        assert spool.notes("frigate") == {"b": "2"}
        assert spool.notes("other") == {"a": "3"}


def test_nothing_is_kept_after_the_end(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.close()
    spool.append("broker", camera(0))
    assert spool.first("broker") is None
    assert spool.lost == 1
    spool.close()


def test_a_record_of_a_later_version_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    path = tmp_path / "spool"
    with Spool(path) as spool:
        spool.append("broker", camera(0))
        spool.append("broker", camera(1))
        assert spool._rows._disk is not None
        spool._rows._disk._db.execute("""UPDATE records SET line = '{"type":"mood"}' WHERE id = 1""")
    with Spool(path) as spool:
        assert numbers(spool) == [1]
        assert spool.lost == 1
    assert "not a record" in caplog.text
