"""A bundle that is judged again says the same without running, and never what another one said."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from edge_command import with_manifest

from edge_runtime.bundle.reader import Bundle
from edge_runtime.errors import DatasetError, InferenceFailed, OutputFailed, SourceUnavailable
from edge_runtime.records import GapRecord
from offline.console import Console
from offline.data.cache import EntryStore
from offline.data.dataset import Dataset, read_dataset
from offline.evaluation import run as running_module
from offline.evaluation.kept import KeptRuns, Said
from offline.evaluation.run import BundleWorker, Running, run_videos

QUIET = Console(quiet=True)
CPU = Running(provider="cpu")


@pytest.fixture
def chosen(dataset_csv: Path) -> Dataset:
    return read_dataset(dataset_csv).split("test")


@pytest.fixture
def runs_of(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that a detector really ran."""
    ran: list[str] = []
    really = running_module._run_video
    monkeypatch.setattr(
        running_module, "_run_video", lambda detector, path, how: ran.append(path.stem) or really(detector, path, how)
    )
    return ran


def test_the_same_without_running_it_again(
    bundle: Bundle, chosen: Dataset, tmp_path: Path, runs_of: list[str]
) -> None:
    wanted = run_videos(bundle, chosen, CPU, QUIET)
    store = EntryStore(tmp_path / "store")
    first = run_videos(bundle, chosen, CPU, QUIET, store)
    runs_of.clear()
    again = run_videos(bundle, chosen, CPU, QUIET, store)
    assert not runs_of
    for runs in (first, again):
        # To the last bit: records as they are written would be rounded.
        assert [(run.video, run.fps, run.records) for run in runs] == [
            (run.video, run.fps, run.records) for run in wanted
        ]
        for one, other in zip(runs, wanted, strict=True):
            assert one.raw.segments == other.raw.segments
            assert one.smoothed.segments == other.smoothed.segments


def test_what_is_said_otherwise_is_run(
    bundle: Bundle, bundle_dir: Path, chosen: Dataset, tmp_path: Path, runs_of: list[str]
) -> None:
    store, video = EntryStore(tmp_path / "store"), next(iter(chosen))
    another = Bundle.open(with_manifest(bundle_dir, tmp_path / "another", producer={"note": "another one"}))
    assert another.manifest.bundle_id != bundle.manifest.bundle_id
    for one, how in (
        (bundle, CPU),
        (another, CPU),
        (bundle, Running(provider="openvino")),
        (bundle, Running(provider="cpu", locator="low_latency")),
        (bundle, Running(provider="cpu", stride=24)),
    ):
        BundleWorker(one, how, store).run(video)
    assert len(runs_of) == 5
    BundleWorker(bundle, CPU, store).run(video)
    assert len(runs_of) == 5
    # A copy under another name has records of another camera.
    copy = tmp_path / "other.mp4"
    shutil.copy(video.path, copy)
    other = BundleWorker(bundle, CPU, store).run(replace(video, name="other", path=copy))[1]
    assert len(runs_of) == 6
    assert {record.camera for record in other.records if hasattr(record, "camera")} == {"other"}


def test_a_damaged_entry_is_run_again(bundle: Bundle, chosen: Dataset, tmp_path: Path, runs_of: list[str]) -> None:
    store, video = EntryStore(tmp_path / "store"), next(iter(chosen))
    worker = BundleWorker(bundle, CPU, store)
    frames, wanted = worker.run(video)
    (entry,) = (tmp_path / "store").glob("*.npz")
    whole = entry.read_bytes()
    key = entry.stem
    arrays = store.get(key)
    assert arrays is not None
    for damage in (
        lambda: entry.write_bytes(whole[: len(whole) // 2]),
        lambda: store.put(key, {name: value for name, value in arrays.items() if name != "fps"}),
        lambda: store.put(key, arrays | {"records": arrays["records"][:-3]}),
    ):
        damage()
        again = worker.run(video)
        assert (again[0], again[1].records) == (frames, wanted.records)
    assert len(runs_of) == 4
    assert worker.run(video)[0] == 0


def test_what_is_kept_is_held_against_the_manifest(bundle: Bundle, chosen: Dataset, tmp_path: Path) -> None:
    store, video = EntryStore(tmp_path / "store"), next(iter(chosen))
    worker = BundleWorker(bundle, CPU, store)
    worker.run(video)
    wrong = replace(video, events=(), label="normal", frames=7)
    with pytest.raises(DatasetError, match="7"):
        worker.run(wrong)


def test_names_that_are_no_utf_8_are_kept(tmp_path: Path) -> None:
    gap = GapRecord(camera="caf\udce9", start_s=0.0, end_s=1 / 3, reason="unscored")
    kept = KeptRuns(EntryStore(tmp_path), {"how": "x"})
    kept.put("caf\udce9", "0" * 64, Said((gap,), 48, 15.0))
    assert kept.get("caf\udce9", "0" * 64) == Said((gap,), 48, 15.0)
    assert kept.get("cafe", "0" * 64) is None
    assert KeptRuns(EntryStore(tmp_path), {"how": "y"}).get("caf\udce9", "0" * 64) is None


def test_what_failed_once_is_run_again(
    bundle: Bundle, chosen: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a server was started again meanwhile."""
    store, video = EntryStore(tmp_path / "store"), next(iter(chosen))
    worker = BundleWorker(bundle, CPU, store)
    engine = worker._detector.engine
    really, fails = engine.features, [True]

    def features(frames: np.ndarray) -> np.ndarray:
        if fails:
            fails.clear()
            raise InferenceFailed("no answer in time")
        return really(frames)

    monkeypatch.setattr(engine, "features", features)
    first = worker.run(video)[1]
    assert [one.reason for one in first.records if isinstance(one, GapRecord)] == ["unscored"]
    second = worker.run(video)[1]
    assert not any(isinstance(one, GapRecord) for one in second.records)
    frames, third = worker.run(video)
    assert (frames, third.records) == (0, second.records)


def test_a_store_that_cannot_be_written_costs_a_line(
    bundle: Bundle, chosen: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = EntryStore(tmp_path / "store")

    def put(*_: object) -> None:
        raise OutputFailed(f"{tmp_path}: cannot be written (Read-only file system)")

    monkeypatch.setattr(store, "put", put)
    runs = run_videos(bundle, chosen, CPU, QUIET, store)
    assert len(runs) == len(chosen) > 1
    assert caplog.text.count("is not kept for the next time") == 1


def test_unreadable_videos_are_left_out_with_a_store_as_without(
    bundle: Bundle, chosen: Dataset, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video " * 1000)
    bad = replace(next(iter(chosen)), name="broken.mp4", path=broken)
    videos = Dataset(chosen.path, (bad, *chosen.videos))
    for store in (None, EntryStore(tmp_path / "store")):
        with pytest.raises(SourceUnavailable, match="--skip-unreadable"):
            run_videos(bundle, videos, CPU, QUIET, store)
        runs = run_videos(bundle, videos, replace(CPU, skip_unreadable=True), QUIET, store)
        assert [run.video.name for run in runs] == [video.name for video in chosen]
