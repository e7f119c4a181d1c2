"""Forgetting deletes features, snapshots and clips of a stretch, and nothing else; again, it finds nothing."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_runtime.bundle.reader import Bundle
from edge_runtime.cli import cli
from edge_runtime.errors import Conflict, OutputFailed, UsageError
from edge_runtime.outputs.shelf import Shelf, event_files
from edge_runtime.site.forget import forget, parse_time, shown_time
from edge_runtime.site.history import HISTORY, History, PastEvent, PastScore, ToldEvent
from edge_runtime.site.place import Site
from edge_runtime.site.store import KnownEvent, Remembered, Store

DAY = "2026-01-31"
ZERO = parse_time("2026-01-31T12:00:00Z")


def event_id(camera: str, number: int) -> str:
    return f"0185d179-20260131T120000000-{camera}-{number}"


def filmed(folder: Path, camera: str, number: int, at: float) -> None:
    shelf = Shelf(folder, 10**9, 10**12, now=lambda: at)
    for suffix in ("mp4", "jpg", "seen.jpg"):
        file = shelf.new_file(camera, event_id(camera, number), DAY, suffix)
        file.write(b"content")
        file.finish()
    shelf.close()


def filled(site: Site, clips: Path) -> Store:
    store = site.open_store()
    mean = site.calibration.mean.astype("float32")
    for camera in ("gate", "yard/2"):
        for number in range(3):
            at = ZERO + 1000 * number
            store.remember(
                [Remembered(camera, at, at + 3, 0.9, mean)],
                [KnownEvent(event_id(camera, number), camera, at, at + 3, 0.9)],
            )
            filmed(clips, camera, number, at + 8)
    return store


def names(clips: Path) -> list[str]:
    return sorted(path.name for path in clips.rglob("*") if path.is_file())


@pytest.fixture
def site(bundle: Bundle, tmp_path: Path) -> Site:
    return Site.of(bundle, tmp_path / "site")


def test_one_cameras_stretch_goes_and_nothing_else(site: Site, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    with filled(site, clips) as store:
        erased = forget([store], clips, "yard/2", ZERO + 999, ZERO + 1002)
        assert (erased.kept.segments, erased.kept.events, erased.files, erased.writing) == (1, 1, 3, 0)
        assert len(names(clips)) == 15
        assert not [one for one in event_files(clips, "yard/2") if one[1] == event_id("yard/2", 1)]
        assert {camera for camera, _, _, _ in event_files(clips)} == {"gate", "yard/2"}
        again = forget([store], clips, "yard/2", ZERO + 999, ZERO + 1002)
        assert (again.kept.segments, again.files) == (0, 0)
        assert forget([store], clips, None, ZERO - 1, ZERO + 10_000).files == 15
        assert names(clips) == []


def test_clips_of_events_that_nobody_knows_go_by_when_they_were_written(site: Site, tmp_path: Path) -> None:
    filmed(tmp_path, "gate", 1, ZERO)
    filmed(tmp_path, "gate", 2, ZERO + 50_000)
    assert forget([], tmp_path, None, ZERO - 60, ZERO - 1).files == 3
    assert len(names(tmp_path)) == 3


def test_strangers_and_files_that_are_written_stay(site: Site, tmp_path: Path) -> None:
    filmed(tmp_path, "gate", 1, ZERO)
    place = tmp_path / "gate" / DAY
    (place / f"{event_id('gate', 2)}.mp4.part").write_bytes(b"begun")
    os.utime(place / f"{event_id('gate', 2)}.mp4.part", (ZERO, ZERO))
    (place / "holiday.jpg").write_bytes(b"mine")
    erased = forget([], tmp_path, "gate", ZERO - 60, ZERO + 60)
    assert (erased.files, erased.writing) == (3, 1)
    assert names(tmp_path) == [f"{event_id('gate', 2)}.mp4.part", "holiday.jpg"]


def test_what_else_keeps_something_is_told_and_one_failure_stops_nothing(site: Site, tmp_path: Path) -> None:
    told: list[tuple[str | None, float, float]] = []

    class Stubborn:
        def forget(self, camera: str | None, start: float, end: float) -> tuple[int, int]:
            told.append((camera, start, end))
            raise OutputFailed("no room")

    with filled(site, tmp_path / "clips") as store:
        with pytest.raises(OutputFailed, match="no room"):
            forget([store], tmp_path / "clips", "gate", ZERO - 1, ZERO + 5, others=[Stubborn(), Stubborn()])
        assert told == [("gate", ZERO - 1, ZERO + 5)] * 2
        assert [event.id for event in store.events("gate")] == [event_id("gate", 1), event_id("gate", 2)]
        # A clip whose event the store has forgotten already is found by what a history knows of it.
        known = KnownEvent("", "gate", ZERO + 1000, ZERO + 1003, 0.9)
        store.forget("gate", ZERO + 999, ZERO + 1004)
        args = (tmp_path / "clips", "gate", ZERO + 999, ZERO + 1004)
        assert forget([store], *args, told={event_id("gate", 1): known}).files == 3


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "12:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no time"):
        parse_time(text)


def test_times_are_read_as_they_are_shown() -> None:
    assert shown_time(ZERO) == "2026-01-31T12:00:00Z"
    assert parse_time("2026-01-31T13:00:00+01:00") == ZERO
    with pytest.raises(UsageError, match="--to must lie after --from"):
        forget([], None, None, 2.0, 2.0)


def test_the_commands_say_what_they_did(site: Site, bundle: Bundle, tmp_path: Path) -> None:
    """Mark, propose, accept, undo and forget, as an operator types it."""
    clips = tmp_path / "clips"
    filled(site, clips).close()
    about = ["--bundle", str(bundle.path), "--site", str(site.folder)]

    def said(*words: str) -> str:
        result = CliRunner().invoke(cli, [*words[:1], *about, *words[1:]], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    assert "peak 0.90" in said("feedback", "--list")
    assert "mark 1: false_alarm, camera gate, 2026-01-31T12:00:00Z" in said(
        "feedback", event_id("gate", 0), "false_alarm"
    )
    stretch = ["--camera", "gate", "--from", "2026-01-31T12:16:40Z", "--to", "2026-01-31T12:16:43Z"]
    assert "mark 2: missed" in said("feedback", *stretch, "--", "-", "missed")
    assert "2 marks (1 false alarm), 2 segments" in said("feedback", "--propose")
    assert "the site's scorer 1 is used from now on" in said("feedback", "--accept")
    with pytest.raises(Conflict, match="learned these marks already"):
        said("feedback", "--accept")
    assert "the bundle's own scorer is used" in said("feedback", "--undo")
    assert '"accepted": 2' in said("feedback", "--accept", "--json")
    assert "the bundle's own scorer is used" in said("feedback", "--undo")
    assert "mark 2 is deleted" in said("feedback", "--unmark", "2")
    span = ["--from", "2026-01-31T00:00Z", "--to", "2026-02-01T00:00Z", "--clips", str(clips)]
    assert "6 segments with their features and scores, 6 events, 1 marks, 18 snapshots" in said("forget", *span)
    assert "deleted: 0 segments" in said("forget", *span)
    for wrong in ([], ["--propose", "--undo"], ["only-an-event"], ["-", "missed"], ["e", "missed", "--camera", "c"]):
        with pytest.raises(UsageError):
            CliRunner().invoke(cli, ["feedback", *about, *wrong], catch_exceptions=False, standalone_mode=False)


def test_the_command_forgets_the_history_too(site: Site, bundle: Bundle) -> None:
    history = History(site.folder / HISTORY)
    start = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()
    told = PastEvent("0185d179-20260131T115900000-gate-1", "gate", start, start + 5, 0.9, 0.8, open=False)
    history.remember([PastScore("gate", start, start + 3, 0.5, anomalous=False)], [ToldEvent(told)])
    history.close()
    words = ["forget", "--bundle", str(bundle.path), "--site", str(site.folder)]
    words += ["--from", "2026-01-31T00:00Z", "--to", "2026-02-01T00:00Z"]
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0
    assert "deleted: 1 segments with their features and scores, 1 events" in done.output
    assert len(history.scores("gate", 0.0, 1e12).starts) == 0
    assert history.event(told.id) is None
