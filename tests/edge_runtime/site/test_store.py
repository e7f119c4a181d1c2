"""The store of a site: what is written is read, what is forgotten is gone, and a killed process loses nothing."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from site_calibration import ID, SIZE, calibration

from edge_runtime.errors import UsageError
from edge_runtime.site.scorer import SiteScorer
from edge_runtime.site.store import SEGMENTS_A_MARK, KnownEvent, Remembered, Store, row_bytes


def remembered(camera: str = "gate", count: int = 10, first: float = 1000.0, seed: int = 1) -> list[Remembered]:
    known, rng = calibration(), np.random.default_rng(seed)
    rows = (known.mean + known.scale * rng.normal(size=(count, SIZE)) * 2).astype(np.float32)
    return [Remembered(camera, first + 2 * i, first + 2 * i + 2, 0.5, row) for i, row in enumerate(rows)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "site" / "features.sqlite", ID, calibration())


def content(store: Store) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(store.path.parent.iterdir()))


def test_features_come_back_with_scores_that_hardly_differ(store: Store) -> None:
    segments = remembered(count=500)
    store.remember(segments)
    known = calibration()
    scorer = SiteScorer(known.prior_mean, known.mean, known.scale)
    exact = scorer.probabilities(np.stack([one.features for one in segments]))
    starts, ends, (again,) = store.score("gate", [scorer.weights])
    assert starts.tolist() == [one.start for one in segments]
    assert ends.tolist() == [one.end for one in segments]
    assert np.abs(again - exact).max() < 0.001
    assert [one.score for one in store.segments("gate")] == [0.5] * 500


def test_an_event_and_a_stretch_are_marked_with_their_features(store: Store) -> None:
    store.remember(remembered(), [KnownEvent("e-1", "gate", 1004.0, 1008.0, 0.9)])
    first = store.mark_event("e-1", "false_alarm", 5.0)
    second = store.mark("missed", "gate", 1013.0, 1017.5, 6.0)
    features, labels, groups = store.marked()
    assert groups == [first.id] * 2 + [second.id] * 2
    assert labels.tolist() == [False, False, True, True]
    np.testing.assert_array_equal(features[:2], [one.features for one in store.segments("gate", 1004.0, 1008.0)])
    assert store.marks() == [first, second]
    # Said again, otherwise: the last word holds.
    again = store.mark_event("e-1", "missed", 7.0)
    assert [mark.verdict for mark in store.marks()] == ["missed", "missed"]
    assert store.unmark(again.id)
    assert not store.unmark(again.id)
    assert store.marked()[2] == [second.id] * 2


def test_marks_outlive_the_retention_of_features(store: Store) -> None:
    store.remember(remembered(), [KnownEvent("e-1", "gate", 1004.0, 1008.0, 0.9)])
    store.mark_event("e-1", "false_alarm", 5.0)
    store.remove_older(1e9)
    assert store.segments("gate") == []
    assert store.events() == []
    assert len(store.marked()[0]) == 2
    with pytest.raises(UsageError, match=r"e-1: is not known here"):
        store.mark_event("e-1", "missed", 6.0)
    with pytest.raises(UsageError, match=r"camera gate: no features of that time are kept"):
        store.mark("missed", "gate", 1000.0, 1004.0, 6.0)
    with pytest.raises(UsageError, match=r"camera yard: .*; cameras are gate"):
        store.mark("missed", "yard", 1000.0, 1004.0, 6.0)


def test_a_long_event_teaches_no_more_than_its_bound(store: Store) -> None:
    store.remember(remembered(count=100))
    store.mark("false_alarm", "gate", 0.0, 5000.0, 6.0)
    assert len(store.marked()[0]) == SEGMENTS_A_MARK


def test_features_that_are_not_finite_and_wrong_marks_are_refused(store: Store) -> None:
    one = remembered(count=1)[0]
    bad = Remembered("gate", 0.0, 2.0, 0.5, np.full(SIZE, np.nan, np.float32))
    with pytest.raises(ValueError, match="not finite"):
        store.remember([one, bad])
    assert store.segments("gate") == []
    with pytest.raises(UsageError, match="unknown mark"):
        store.mark("wrong", "gate", 0.0, 1.0, 0.0)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="ends after it starts"):
        store.mark("missed", "gate", 1.0, 1.0, 0.0)


def test_what_is_forgotten_is_gone_from_the_files_too(store: Store) -> None:
    store.remember([*remembered(), *remembered("yard", seed=2)], [KnownEvent("e-1", "gate", 1004.0, 1008.0, 0.9)])
    store.mark_event("e-1", "false_alarm", 5.0)
    store.mark("missed", "yard", 1004.0, 1008.0, 5.0)
    known = calibration()
    gate = store.segments("gate", 1004.0, 1006.0)[0].features
    packed = known.standardised(gate[None])[0].astype("<f2").tobytes()
    assert packed in content(store)
    assert gate.astype("<f4").tobytes() in content(store)
    told = store.forget("gate", 1003.0, 1009.0)
    assert (told.segments, told.events, told.marks) == (4, 1, 1)
    assert packed not in content(store)
    assert gate.astype("<f4").tobytes() not in content(store)
    assert b"e-1" not in content(store)
    assert [one.start for one in store.segments("gate")] == [1000.0, 1010.0, 1012.0, 1014.0, 1016.0, 1018.0]
    assert len(store.segments("yard")) == 10
    assert len(store.marks()) == 1
    again = store.forget("gate", 1003.0, 1009.0)
    assert (again.segments, again.events, again.marks) == (0, 0, 0)
    assert store.forget(None, 0.0, 1e9).segments == 16
    assert store.marks() == []


def test_another_bundles_features_and_other_databases_are_refused(store: Store, tmp_path: Path) -> None:
    store.close()
    with pytest.raises(UsageError, match="holds features of the bundle abababab, not of cdcdcdcd"):
        Store(store.path, "cd" * 32, calibration())
    other = tmp_path / "other.sqlite"
    database = sqlite3.connect(other)
    database.execute("CREATE TABLE things (a)")
    database.close()
    with pytest.raises(UsageError, match="is no store of feedback"):
        Store(other, ID, calibration())
    with pytest.raises(UsageError, match="no such store"):
        Store(tmp_path / "nowhere.sqlite", ID, calibration(), create=False)


def test_two_processes_may_write_and_forget_at_once(store: Store) -> None:
    """A run writes while the command line marks and forgets: no statement fails, and nothing comes back."""
    failures: list[BaseException] = []
    begun = threading.Event()

    def run() -> None:
        try:
            with Store(store.path, ID, calibration()) as mine:
                for place in range(60):
                    mine.remember(remembered("yard", 5, 10.0 * place))
                    begun.set()
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    store.remember(remembered())
    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(60)
    for _ in range(3):
        store.forget("gate", 0.0, 1e9)
    thread.join()
    assert failures == []
    assert store.segments("gate") == []
    assert len(store.segments("yard")) == 300


_KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_store import ID, calibration, remembered
from edge_runtime.site.store import Store
store = Store(Path({path!r}), ID, calibration())
store.remember(remembered(count=7))
store.mark("missed", "gate", 1000.0, 1004.0, 1.0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_wrote_is_there(tmp_path: Path) -> None:
    path = tmp_path / "features.sqlite"
    code = _KILLED.format(tests=str(Path(__file__).parent), path=str(path))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[3]), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    with Store(path, ID, calibration(), create=False) as store:
        assert len(store.segments("gate")) == 7
        assert len(store.marked()[0]) == 2


def test_a_full_disk_loses_what_does_not_fit_and_harms_nothing(store: Store) -> None:
    """SQLite's own bound on pages stands for the disk's: it raises the same error."""
    store.remember(remembered())
    store._db.execute("PRAGMA max_page_count=1")
    with pytest.raises(sqlite3.Error) as caught:
        store.remember(remembered("yard", 5000))
    assert caught.value.sqlite_errorname == "SQLITE_FULL"
    assert store.segments("yard") == []
    assert len(store.segments("gate")) == 10
    store._db.execute("PRAGMA max_page_count=1000000")
    store.remember(remembered("yard", 50))
    assert len(store.segments("yard")) == 50


@pytest.mark.parametrize("size", [40, 640, 768, 1280, 2560])
def test_segments_take_the_room_that_is_counted_for_them(tmp_path: Path, size: int) -> None:
    rng = np.random.default_rng(0)
    with Store(tmp_path / "features.sqlite", ID, calibration(size)) as store:
        for first in range(0, 3000, 20):
            store.remember(
                [
                    Remembered(f"camera {i % 3}", 1.7e9 + 3.2 * i, 1.7e9 + 3.2 * (i + 1), 0.5, rng.normal(size=size))
                    for i in range(first, first + 20)
                ]
            )
    assert 0.6 < store.path.stat().st_size / (3000 * row_bytes(size)) < 1.05


def test_a_store_of_an_earlier_layout_still_opens(tmp_path: Path) -> None:
    path = tmp_path / "features.sqlite"
    Store(path, ID, calibration()).close()
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE segments")
        db.execute(
            "CREATE TABLE segments (camera TEXT NOT NULL, start REAL NOT NULL, end REAL NOT NULL, "
            "score REAL NOT NULL, features BLOB NOT NULL, PRIMARY KEY (camera, start)) WITHOUT ROWID"
        )
    db.close()
    with Store(path, ID, calibration()) as store:
        store.remember(remembered())
        store.remove_older(1010.0)
        assert [one.start for one in store.segments("gate")] == [1008.0 + 2 * i for i in range(6)]
        assert store.forget(None, 0.0, 1e12).segments == 6


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_store_that_is_made_while_it_is_opened_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Another process makes it behind the first, second or third look at the file."""
    path, connect = tmp_path / "features.sqlite", sqlite3.connect

    class Between(sqlite3.Connection):
        looks = 0

        def execute(self, *words: object) -> sqlite3.Cursor:
            if self.looks == after:
                monkeypatch.setattr(sqlite3, "connect", connect)
                Store(path, ID, calibration()).close()
            self.looks += 1
            return super().execute(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(sqlite3, "connect", lambda *given, **named: connect(*given, **named, factory=Between))
    with Store(path, ID, calibration()) as store:
        store.remember(remembered())
    with Store(path, ID, calibration(), create=False) as again:
        assert again.bundle_id == ID
