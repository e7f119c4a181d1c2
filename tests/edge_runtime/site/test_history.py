"""A site's history gives back what was written, forgets what it is told to, and outlives what happens to its file."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import OutputFailed, UsageError
from edge_runtime.records import EventRecord, RunRecord, SegmentRecord
from edge_runtime.site import history as history_module
from edge_runtime.site.history import EventFilter, History, PastEvent, PastScore, ToldEvent
from edge_runtime.site.history_recorder import HistoryRecorder
from edge_runtime.stream.clock import rfc3339

NOW = 1_769_900_000.0
LIMIT_S = 60.0


def scores(count: int, camera: str = "gate", step_s: float = 3.2, start: float = NOW) -> list[PastScore]:
    return [
        PastScore(camera, start + n * step_s, start + (n + 1) * step_s, (n % 101) / 101, n % 101 > 70)
        for n in range(count)
    ]


def event(number: int, camera: str = "gate", *, open_: bool = False) -> ToldEvent:
    start = NOW + 10 * number
    return ToldEvent(PastEvent(f"r-{camera}-{number}", camera, start, start + 5, number / 1000, 0.5, open_))


def test_scores_come_back_as_they_were(tmp_path: Path) -> None:
    history = History(tmp_path / "history.sqlite")
    written = scores(1000)
    for begin in range(0, 1000, 7):
        history.remember([*written[begin : begin + 7], *scores(3, "yard")])
    past = history.scores("gate", NOW, NOW + 1e6)
    np.testing.assert_allclose(past.starts, [one.start for one in written], atol=1e-4)
    np.testing.assert_allclose(past.ends, [one.end for one in written], atol=1e-4)
    np.testing.assert_allclose(past.smoothed, [one.smoothed for one in written], atol=1e-6)
    assert past.anomalous.tolist() == [one.anomalous for one in written]
    assert past.starts.dtype == past.smoothed.dtype == np.float64
    some = history.scores("gate", NOW + 100, NOW + 200)
    assert len(some.starts) == sum(one.end > NOW + 100 and one.start < NOW + 200 for one in written)
    assert len(history.scores("nowhere", 0, 1e12).starts) == 0
    assert history.cameras() == ["gate", "yard"]


def test_a_history_of_before_p_values_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    History(path).remember([], [event(1)])
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE events DROP COLUMN p")
    history = History(path)
    later = PastEvent("r-gate-2", "gate", NOW, NOW + 5, 0.9, 0.5, open=False, p=0.0025)
    history.remember([], [ToldEvent(later)])
    assert history.event("r-gate-1") == event(1).event
    assert history.event("r-gate-2") == later


def test_a_week_of_a_camera_takes_little_room(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    history = History(path)
    history.remember(scores(27_000))
    history.close()
    # A day of segments of 3.2 seconds.
    assert path.stat().st_size < 600_000


@given(
    peaks=st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["a", "b"]), st.booleans()), max_size=30),
    limit=st.integers(1, 7),
    camera=st.sampled_from([None, "a", "b"]),
    open_=st.sampled_from([None, True, False]),
    least=st.sampled_from([None, 0.3]),
)
def test_pages_hold_every_event_once_the_newest_first(
    tmp_path_factory: pytest.TempPathFactory,
    peaks: list[tuple[int, str, bool]],
    limit: int,
    camera: str | None,
    open_: bool | None,
    least: float | None,
) -> None:
    history = History(tmp_path_factory.mktemp("history") / "history.sqlite")
    told = [
        PastEvent(f"e{number}", name, NOW + start, NOW + start + 1, number / 30, 0.1, is_open)
        for number, (start, name, is_open) in enumerate(peaks)
    ]
    history.remember([], [ToldEvent(one) for one in told])
    found: list[PastEvent] = []
    after = None
    while True:
        page = history.events(EventFilter(camera=camera, open=open_, min_peak=least, limit=limit, after=after))
        assert len(page.events) <= limit
        found += page.events
        if (after := page.next) is None:
            break
    wanted = [
        one
        for one in told
        if camera in (None, one.camera) and open_ in (None, one.open) and (least is None or one.peak >= least)
    ]
    assert found == sorted(wanted, key=lambda one: (one.start, one.id), reverse=True)
    history.close()


def test_filters_by_time_and_ids(tmp_path: Path) -> None:
    history = History(tmp_path / "history.sqlite")
    history.remember([], [event(number) for number in range(10)])
    page = history.events(EventFilter(start=NOW + 20, end=NOW + 50))
    assert [one.id for one in page.events] == ["r-gate-4", "r-gate-3", "r-gate-2"]
    assert [one.id for one in history.events(EventFilter(among=["r-gate-3", "x"])).events] == ["r-gate-3"]
    assert len(history.events(EventFilter(without=["r-gate-3"])).events) == 9
    assert history.events(EventFilter(among=[])).events == ()
    for cursor in ("x", "!!", "AAAA", "eA"):
        with pytest.raises(UsageError, match="cursor"):
            history.events(EventFilter(after=cursor))


def test_a_description_stays_when_the_event_goes_on(tmp_path: Path) -> None:
    history = History(tmp_path / "history.sqlite")
    history.remember([], [event(1, open_=True)])
    assert history.describe("r-gate-1", "a fall; ' -- \u00fc")
    assert not history.describe("r-gate-2", "nothing")
    history.remember([], [event(1)])
    found = history.event("r-gate-1")
    assert found is not None
    assert (found.description, found.open) == ("a fall; ' -- \u00fc", False)
    history.describe("r-gate-1", "")
    assert history.event("r-gate-1").description is None  # type: ignore[union-attr]


def test_what_is_forgotten_is_gone_from_the_file_too(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    history = History(path)
    history.remember(scores(200) + scores(200, "yard"), [event(1), event(2), event(30), event(1, "yard")])
    history.describe("r-gate-2", "somebody-in-particular")
    assert history.forget("gate", NOW, NOW + 100) == (32, 2)
    assert history.forget("gate", NOW, NOW + 100) == (0, 0)
    past = history.scores("gate", 0, 1e12)
    assert len(past.starts) == 168
    assert past.starts.min() >= NOW + 99
    assert len(history.scores("yard", 0, 1e12).starts) == 200
    for suffix in ("", "-wal"):
        content = (
            path.with_name(path.name + suffix).read_bytes() if suffix == "" or Path(f"{path}-wal").exists() else b""
        )
        assert b"somebody-in-particular" not in content
    assert history.forget(None, 0, 1e12) == (368, 2)


def test_old_scores_and_events_go_and_open_events_stay(tmp_path: Path) -> None:
    history = History(tmp_path / "history.sqlite")
    history.remember(scores(100) + scores(100, "yard"), [event(1), event(2, open_=True), event(30)])
    history.remove_older(NOW + 160, NOW + 100)
    assert history.scores("gate", 0, 1e12).starts.min() >= NOW + 100
    assert {one.id for one in history.events(EventFilter()).events} == {"r-gate-2", "r-gate-30"}


def test_a_damaged_file_is_set_aside_and_another_begun(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "history.sqlite"
    path.write_bytes(b"SQLite format 3\0" + os.urandom(8192))
    history = History(path)
    history.remember(scores(3))
    assert len(history.scores("gate", 0, 1e12).starts) == 3
    assert len(list(tmp_path.glob("*.corrupt-*"))) == 1
    assert "damaged" in caplog.text


def test_something_elses_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE mine (x)")
    with pytest.raises(UsageError, match="is no history"):
        History(path).cameras()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputFailed):
        History(tmp_path / "file" / "history.sqlite").cameras()


# ---- the recorder


def segment(index: int, camera: str = "gate", zero: float = NOW) -> SegmentRecord:
    from datetime import UTC, datetime

    end = datetime.fromtimestamp(zero + 3.2 * (index + 1), UTC)
    return SegmentRecord(
        camera=camera,
        index=index,
        start_frame=0,
        end_frame=48,
        start_s=3.2 * index,
        end_s=3.2 * (index + 1),
        score=0.5,
        smoothed=0.25,
        anomalous=False,
        time=rfc3339(end),
    )


def told(state: str, number: int = 1, reason: str | None = None) -> EventRecord:
    from datetime import UTC, datetime

    record = EventRecord(
        state=state,
        id=f"r-gate-{number}",
        camera="gate",
        start_s=1.0,
        end_s=4.0,
        start_frame=0,
        end_frame=48,
        peak=0.9,
        mean=0.8,
        time=rfc3339(datetime.fromtimestamp(NOW + 4.0, UTC)),
    )
    if reason is None:
        return record
    import msgspec

    return msgspec.structs.replace(record, reason=reason)


def run_record() -> RunRecord:
    from datetime import UTC, datetime

    return RunRecord(
        run="r", started=rfc3339(datetime.fromtimestamp(NOW, UTC)), bundle_id="b", version="0", cameras=["gate"]
    )


def test_records_become_history_without_gaps_between_neighbours(tmp_path: Path) -> None:
    history = History(tmp_path / "history.sqlite")
    recorder = HistoryRecorder(history, scores_s=1e12, events_s=1e12)
    recorder.write(run_record())
    for index in range(100):
        recorder.write(segment(index))
    recorder.write(told("new"))
    recorder.write(told("end"))
    recorder.close()
    past = history.scores("gate", 0, 1e12)
    assert len(past.starts) == 100
    assert np.abs(past.starts[1:] - past.ends[:-1]).max() < 1e-4
    assert abs(past.starts[0] - NOW) < 0.01
    found = history.event("r-gate-1")
    assert found is not None
    assert not found.open
    assert abs(found.start - NOW - 1) < 0.01


def test_a_clock_that_was_set_moves_what_comes_after(tmp_path: Path) -> None:
    history = History(tmp_path / "history.sqlite")
    recorder = HistoryRecorder(history, scores_s=1e12, events_s=1e12)
    recorder.write(run_record())
    recorder.write(segment(0))
    recorder.write(segment(1, zero=NOW + 1e6))
    recorder.close()
    assert history.scores("gate", 0, 1e12).starts[-1] == pytest.approx(NOW + 1e6 + 3.2, abs=0.01)


def test_an_event_that_a_killed_run_left_open_is_ended_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    program = f"""
import sys, time
sys.path[:0] = {[str(Path(__file__).parent)]!r}
from test_history import *
recorder = HistoryRecorder(History(Path({str(path)!r})), scores_s=1e12, events_s=1e12)
recorder.write(run_record()); recorder.write(segment(0)); recorder.write(told("new"))
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", program])
    history = History(path)
    deadline = time.monotonic() + LIMIT_S
    while not (path.exists() and history.unfinished()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    recorder = HistoryRecorder(history, scores_s=1e12, events_s=1e12)
    (record,) = recorder.unfinished()
    assert (record.id, record.state) == ("r-gate-1", "new")
    recorder.write(run_record())
    recorder.write(told("end", reason="restart"))
    recorder.close()
    found = history.event("r-gate-1")
    assert found is not None
    assert (found.open, round(found.start - NOW)) == (False, 1)
    assert len(history.scores("gate", 0, 1e12).starts) == 1
    assert recorder.unfinished() == []


def test_a_disk_that_takes_nothing_costs_scores_and_no_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    history = History(tmp_path / "history.sqlite")
    recorder = HistoryRecorder(history, scores_s=1e12, events_s=1e12)
    whole = history.remember
    failed: list[int] = []

    def full(*given: object) -> None:
        failed.append(1)
        raise OutputFailed("database or disk is full")

    monkeypatch.setattr(history, "remember", full)
    recorder.write(run_record())
    recorder.write(told("new"))
    recorder.write(segment(0))
    deadline = time.monotonic() + LIMIT_S
    while not failed:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    monkeypatch.setattr(history, "remember", whole)
    recorder.write(segment(1))
    recorder.close()
    assert history.event("r-gate-1") is not None
    assert len(history.scores("gate", 0, 1e12).starts) == 1
    assert "disk is full" in caplog.text


def test_a_disk_that_is_full_is_told_and_changes_nothing(tmp_path: Path) -> None:
    history = History(tmp_path / "history.sqlite")
    history.remember(scores(10))
    # As good as a full disk: no page can be added.
    with history._reading() as db:
        db.execute(f"PRAGMA max_page_count={db.execute('PRAGMA page_count').fetchone()[0]}")
        with pytest.raises(OutputFailed, match="free some space"):
            history.remember(scores(100_000, "yard"))
    assert len(history.scores("gate", 0, 1e12).starts) == 10
    assert len(history.scores("yard", 0, 1e12).starts) == 0
    # It is opened anew, and takes what comes.
    history.remember(scores(100, "yard"))
    assert len(history.scores("yard", 0, 1e12).starts) == 100


def test_a_log_that_somebody_reads_while_it_is_forgotten_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "WAIT_S", 0.2)
    history = History(tmp_path / "history.sqlite")
    history.remember(scores(100))
    reader = sqlite3.connect(tmp_path / "history.sqlite", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT COUNT(*) FROM scores").fetchone()
    with pytest.raises(OutputFailed, match="all is deleted, but another process still reads the log; try again"):
        history.forget(None, 0.0, 1e12)
    reader.close()
    assert history.forget(None, 0.0, 1e12) == (0, 0)
    assert (tmp_path / "history.sqlite-wal").stat().st_size == 0
