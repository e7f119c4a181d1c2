"""Snapshots and clips of events: what they show, and that neither folder nor memory grows beyond what it may."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from filmed import FPS, RUN, Film, encoded, event, pictures, played, units
from numpy.typing import NDArray

from edge_runtime.outputs.clips import ClipOptions, Clips
from edge_runtime.outputs.sink import Output, Outputs
from edge_runtime.records import GapRecord, SegmentRecord

PATIENCE_S = 60.0


def wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def blank(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    picture = picture.copy()
    picture[:60, :80] = 0
    return picture


@contextmanager
def clips_of(folder: Path, films: dict[str, Film], **options: object) -> Iterator[Clips]:
    clips = Clips(ClipOptions(folder=folder, **options))  # type: ignore[arg-type]  # passed on as they are
    for camera, film in films.items():
        clips.film(camera, film.filmed)
    yield clips
    wait(lambda: not any(clip.alive for clip in clips._clips.values()))
    clips.close()


def the_clip(folder: Path, number: int = 3, camera: str = "gate") -> Path:
    return folder / camera / "2026-01-31" / f"{RUN}-{camera}-{number}.mp4"


def boxes(path: Path) -> list[bytes]:
    """What an MP4 consists of at its top."""
    data, found, at = path.read_bytes(), [], 0
    while at < len(data):
        found.append(data[at + 4 : at + 8])
        at += int.from_bytes(data[at : at + 4], "big")
    return found


def test_a_clip_shows_the_event_with_what_was_before_and_after_and_is_copied_to_the_bit(tmp_path: Path) -> None:
    film = Film.of()
    with clips_of(tmp_path, {"gate": film}, pre_roll_s=2.0, post_roll_s=3.0) as clips:
        film.send(11.0)
        clips.write(event("new", 8.55, 10.0))
        film.send(14.0)
        clips.write(event("update", 8.55, 12.0))
        film.send(20.0)
        clips.write(event("end", 8.55, 12.0))
    codec, first, count, last = played(the_clip(tmp_path))
    # From the key frame at or before 6.55 s, one a second, to 15 s.
    assert (codec, first, count) == ("h264", 0.0, 10 * FPS - FPS + 1)
    assert last == pytest.approx(9.0)
    assert boxes(the_clip(tmp_path)) == [b"ftyp", b"free", b"mdat", b"moov"]
    with av.open(str(the_clip(tmp_path))) as container:
        copied = [units(bytes(packet), lengths=True) for packet in container.demux(video=0) if packet.size]
    assert copied == [units(packet.data, lengths=False) for packet in film.packets[60:151]]


@pytest.mark.parametrize(("codec", "size"), [("libx265", (160, 120)), ("mjpeg", (161, 121)), ("libx264", (160, 120))])
def test_what_cannot_be_copied_is_encoded_and_masks_are_black_in_clip_and_snapshot(
    tmp_path: Path, codec: str, size: tuple[int, int]
) -> None:
    size = (160, 120) if codec != "mjpeg" else size
    film = Film.of(codec, size=size, blank=blank)
    seen: list[tuple[str, bytes]] = []
    with clips_of(tmp_path, {"gate": film}, pre_roll_s=2.0, post_roll_s=2.0) as clips:
        clips.on_snapshot.append(lambda camera, jpeg: seen.append((camera, jpeg)))
        film.send(11.0)
        clips.write(event("new", 8.0, 10.0))
        film.send(20.0)
        clips.write(event("end", 8.0, 10.0))
        wait(lambda: the_clip(tmp_path).with_suffix(".jpg").exists() and seen)
    name, first, count, last = played(the_clip(tmp_path))
    assert (name, first) == ("h264", 0.0)
    assert count == 6 * FPS + 1
    assert last == pytest.approx(6.0, abs=0.01)
    snapshot = the_clip(tmp_path).with_suffix(".jpg").read_bytes()
    assert seen == [("gate", snapshot)]
    shown = [*pictures(the_clip(tmp_path)), cv2.imdecode(np.frombuffer(snapshot, np.uint8), cv2.IMREAD_COLOR)]
    assert shown[0].shape[:2] == (120, 160)
    assert shown[-1].shape[:2] == (size[1], size[0])
    for picture in shown:
        assert picture[:52, :72].max() <= 24
        assert picture[70:, 90:].max() > 200


def test_a_clip_ends_at_its_longest_and_with_the_connection(tmp_path: Path) -> None:
    films = {"gate": Film.of(), "yard": Film.of()}
    with clips_of(tmp_path, films, pre_roll_s=1.0, post_roll_s=1.0, max_s=5.0) as clips:
        for camera, film in films.items():
            film.send(6.0)
            clips.write(event("new", 4.0, 6.0, camera=camera))
        films["yard"].send(6.5)
        films["yard"].tap.end()
        films["gate"].send(25.0)
        for camera in films:
            clips.write(event("update", 4.0, 20.0, camera=camera))
    assert played(the_clip(tmp_path))[3] == pytest.approx(5.0)
    assert played(the_clip(tmp_path, camera="yard"))[3] == pytest.approx(3.5)


def test_another_connection_with_another_size_begins_another_clip(tmp_path: Path) -> None:
    film = Film.of()
    stale = film.tap
    with clips_of(tmp_path, {"gate": film}, pre_roll_s=4.0, post_roll_s=1.0) as clips:
        film.send(6.0)
        film.tap = film.filmed.ring.tap()
        film.tap.begin(encoded(size=(320, 240))[0])
        # The reader before was blocked, and comes back late.
        stale.take(film.packets[60].data, True, 0, 0, False)
        film.packets = encoded(size=(320, 240))[1]
        film.send(15.0)
        clips.write(event("new", 7.0, 9.0))
        clips.write(event("end", 7.0, 9.0))
    assert pictures(the_clip(tmp_path))[0].shape == (240, 320, 3)
    # Nothing of the connection before, though it was asked for.
    assert played(the_clip(tmp_path))[3] <= 10.0 - 6.0


def test_damaged_packets_are_left_out_and_the_file_plays(tmp_path: Path) -> None:
    film = Film.of()
    with clips_of(tmp_path, {"gate": film}, pre_roll_s=2.0, post_roll_s=2.0) as clips:
        film.send(9.0)
        for junk in (b"", b"\0\0\0\1\x65" + bytes(range(200)), b"\0\0\0\1\x67\xff"):
            film.tap.take(junk, True, None, None, True)
        film.send(20.0)
        clips.write(event("new", 8.0, 10.0))
        clips.write(event("end", 8.0, 10.0))
    assert played(the_clip(tmp_path))[2] == 6 * FPS + 1


def test_a_later_peak_makes_another_snapshot_in_the_place_of_the_first(tmp_path: Path) -> None:
    film = Film.of()
    seen: list[bytes] = []
    with clips_of(tmp_path, {"gate": film}, video=False) as clips:
        clips.on_snapshot.append(lambda _, jpeg: seen.append(jpeg))
        film.send(10.0)
        clips.write(event("new", 4.0, 6.0, peak=0.7))
        wait(lambda: len(seen) == 1)
        clips.write(event("update", 4.0, 8.0, peak=0.7))
        clips.write(event("update", 4.0, 10.0, peak=0.8))
        clips.write(event("end", 4.0, 10.0, peak=0.8))
        wait(lambda: len(seen) == 2)
        snapshot = the_clip(tmp_path).with_suffix(".jpg")
        wait(lambda: snapshot.read_bytes() == seen[1])
    # At 5 s the bar is at 4 * 50 % 160, at 9 s, in the middle of the segment of the peak, at 4 * 90 % 160.
    for jpeg, bar in zip(seen, (40, 40), strict=True):
        picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert picture[60, bar + 4].max() < 140
    assert [item for item in tmp_path.rglob("*") if item.is_file()] == [snapshot]


def test_the_folder_never_holds_more_than_it_may_while_several_events_are_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limit = 900_000
    cameras = [f"camera{number}" for number in range(6)]
    films = {camera: Film.of(noise=True, blank=blank if camera == "camera0" else None) for camera in cameras}
    most, stop = 0, threading.Event()

    def look() -> dict[str, int]:
        sizes = {}
        for folder, _, names in os.walk(tmp_path):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    sizes[name.removesuffix(".part")] = os.lstat(os.path.join(folder, name)).st_size
        return sizes

    def watch() -> None:
        nonlocal most
        while not stop.is_set():
            # Files are not seen all at the same moment: what was there before and after was there in between.
            before, after = look(), look()
            most = max(most, sum(min(size, after.get(name, 0)) for name, size in before.items()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with clips_of(tmp_path, films, pre_roll_s=1.0, post_roll_s=1.0, most_bytes=limit) as clips:
            for number in range(5):
                for camera, film in films.items():
                    begun = 5.0 * number + 1
                    film.send(begun + 2.0)
                    clips.write(event("new", begun, begun + 1.0, number=number, camera=camera))
                    film.send(begun + 4.0)
                    clips.write(event("end", begun, begun + 2.0, number=number, camera=camera))
                wait(lambda: not any(clip.alive for clip in clips._clips.values()))
                assert clips.shelf.used <= limit
    finally:
        stop.set()
        watcher.join()
    assert 0 < most <= limit
    kept = list(tmp_path.rglob("*.mp4"))
    assert kept
    for path in kept:
        played(path)
    # The oldest went first.
    assert all(path.stem.endswith(("-3", "-4")) for path in kept)


def test_one_event_that_is_larger_than_the_limit_is_cut_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    film = Film.of(noise=True)
    with clips_of(tmp_path, {"gate": film}, most_bytes=300_000, snapshots=False) as clips:
        film.send(25.0)
        clips.write(event("new", 6.0, 20.0))
        clips.write(event("end", 6.0, 20.0))
    _, _, count, _ = played(the_clip(tmp_path))
    assert 0 < count < 200
    assert the_clip(tmp_path).stat().st_size <= 300_000
    assert boxes(the_clip(tmp_path)) == [b"ftyp", b"free", b"mdat", b"moov"]
    assert [record.message for record in caplog.records if "cut short" in record.message] == [
        f"camera gate: the clip of event {RUN}-gate-3 is cut short: its folder holds all that it may; "
        "raise clips.max_mb"
    ]


def test_a_full_disk_costs_clips_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    full = True
    write = os.pwrite

    def pwrite(descriptor: int, data: bytes, at: int) -> int:
        if full:
            raise OSError(28, "No space left on device")
        return write(descriptor, data, at)

    # A disk as full as one can be made without the right to mount one.
    monkeypatch.setattr("edge_runtime.outputs.shelf.os.pwrite", pwrite)
    film = Film.of()
    with clips_of(tmp_path, {"gate": film}, pre_roll_s=1.0, post_roll_s=1.0) as clips:
        for number, begun in enumerate((2.0, 6.0)):
            film.send(begun + 4.0)
            clips.write(event("new", begun, begun + 1.0, number=number))
            clips.write(event("end", begun, begun + 1.0, number=number))
            wait(lambda: not any(clip.alive for clip in clips._clips.values()))
            wait(lambda number=number: clips._trouble._missing == 2 if number == 0 else True)
            full = False
        wait(lambda: any("can be written again" in record.message for record in caplog.records))
    assert not list(tmp_path.rglob("*.part"))
    assert not the_clip(tmp_path, 0).exists()
    played(the_clip(tmp_path, 1))
    told = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert told[0] == f"clips in {tmp_path}: cannot be written (No space left on device); detection goes on without"
    assert re.search(r"can be written again; since .*Z 2 files are missing or cut", told[-1])
    assert clips.shelf.used == sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())


def mount(folder: Path, options: str) -> bool:
    """Put a disk of memory there, or change it; whether that is permitted."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return (
        shutil.which("mount") is not None
        and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.parametrize("masked", [False, True])
def test_a_disk_that_runs_full_keeps_what_fits_and_works_again_when_it_has_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, masked: bool
) -> None:
    caplog.set_level(logging.INFO)
    if not mount(tmp_path, "size=400k"):
        pytest.skip("may not mount a disk")
    try:
        film = Film.of(noise=True, blank=blank if masked else None)
        with clips_of(tmp_path, {"gate": film}, snapshots=False) as clips:
            film.send(16.0)
            clips.write(event("new", 6.0, 10.0, number=1))
            clips.write(event("end", 6.0, 11.0, number=1))
            wait(lambda: not any(clip.alive for clip in clips._clips.values()))
            assert any("cannot be written (No space left on device)" in record.message for record in caplog.records)
            assert 0 < played(the_clip(tmp_path, 1))[2] < 150
            assert mount(tmp_path, "remount,size=20m")
            film.send(29.0)
            clips.write(event("new", 20.0, 22.0, number=2))
            clips.write(event("end", 20.0, 22.0, number=2))
        assert played(the_clip(tmp_path, 2))[2] >= 120
        assert clips.shelf.used == sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)
    assert any("can be written again; since" in record.message for record in caplog.records)


def test_an_encoder_that_is_too_slow_is_cut_and_memory_stays_bounded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    waiting, go = threading.Event(), threading.Event()

    def slow(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        waiting.set()
        assert go.wait(PATIENCE_S)
        return picture

    film = Film.of(noise=True, most=400_000, blank=slow)
    with clips_of(tmp_path, {"gate": film}, snapshots=False) as clips:
        film.send(6.0)
        clips.write(event("new", 5.0, 6.0))
        assert waiting.wait(PATIENCE_S)
        film.send(29.0)
        assert film.filmed.ring.size <= 400_000
        clips.write(event("end", 5.0, 28.0))
        go.set()
    assert any("could not be written as fast as it came" in record.message for record in caplog.records)
    played(the_clip(tmp_path))


def test_records_let_go_what_no_event_can_need_any_more(tmp_path: Path) -> None:
    film = Film.of()
    with clips_of(tmp_path, {"gate": film}, pre_roll_s=2.0) as clips:
        film.send(10.0)
        before = film.filmed.ring.size
        clips.write(SegmentRecord("gate", 0, 0, 30, 5.0, 8.0, 0.1, 0.1, False))
        after = film.filmed.ring.size
        clips.write(GapRecord("gate", 8.0, 10.0, "stalled"))
        assert before > after > film.filmed.ring.size > 0
        assert film.filmed.ring.read(3.0, 10.0).start_s == pytest.approx(6.0)


def test_what_may_yet_become_an_event_is_kept_from_its_first_segment_on(tmp_path: Path) -> None:
    film = Film.of()
    with clips_of(tmp_path, {"gate": film}, pre_roll_s=1.0, post_roll_s=0.0) as clips:
        film.send(4.0)
        clips.write(SegmentRecord("gate", 0, 0, 30, 1.0, 4.0, 0.1, 0.1, False))
        # An event that is told once it has lasted for nine seconds.
        for index, end_s in enumerate((7.0, 10.0, 13.0), start=1):
            film.send(end_s)
            clips.write(SegmentRecord("gate", index, 0, 30, end_s - 3.0, end_s, 0.9, 0.9, True))
        clips.write(event("new", 4.0, 13.0))
        film.send(16.0)
        clips.write(SegmentRecord("gate", 4, 0, 30, 13.0, 16.0, 0.9, 0.9, True))
        clips.write(event("update", 4.0, 16.0))
        # Told, it is its clip's: memory holds what may begin later.
        assert film.filmed.ring.read(3.0, 16.0).start_s == pytest.approx(12.0)
        film.send(20.0)
        clips.write(SegmentRecord("gate", 5, 0, 30, 16.0, 19.0, 0.1, 0.1, False))
        clips.write(event("end", 4.0, 16.0))
    _, first, count, _ = played(the_clip(tmp_path))
    # Key frames are one second apart: from 3 s to 16 s.
    assert first == 0.0
    assert count == pytest.approx(13 * FPS + 1, abs=1)


def test_the_end_of_an_event_lets_nothing_go_of_the_one_that_may_come(tmp_path: Path) -> None:
    film = Film.of()
    with clips_of(tmp_path, {"gate": film}, pre_roll_s=1.0, video=False) as clips:
        film.send(4.0)
        clips.write(SegmentRecord("gate", 0, 0, 30, 1.0, 4.0, 0.9, 0.9, True))
        clips.write(event("new", 1.0, 4.0))
        film.send(7.0)
        # The quiet segment is told before the end that it means.
        clips.write(SegmentRecord("gate", 1, 0, 30, 4.0, 7.0, 0.1, 0.1, False))
        clips.write(event("end", 1.0, 4.0))
        for index, end_s in enumerate((10.0, 13.0, 16.0), start=2):
            film.send(end_s)
            clips.write(SegmentRecord("gate", index, 0, 30, end_s - 3.0, end_s, 0.9, 0.9, True))
        # Not told yet: it began at 7 s.
        assert film.filmed.ring.read(1.0, 16.0).start_s == pytest.approx(6.0)


def test_pictures_of_an_event_that_is_told_late_are_of_its_peak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = Film.of()
    with clips_of(tmp_path, {"gate": film}, pre_roll_s=1.0, video=False) as clips:
        at: list[float] = []
        monkeypatch.setattr(clips, "_snapshot", lambda event, filmed, at_s: at.append(at_s))
        assert clips.sheets is not None
        sheets: list[float] = []
        monkeypatch.setattr(clips.sheets, "ask", lambda wanted: sheets.append(wanted.end_s))
        for index, (end_s, score) in enumerate(((4.0, 0.9), (7.0, 0.6), (10.0, 0.7))):
            film.send(end_s)
            clips.write(SegmentRecord("gate", index, 0, 30, end_s - 3.0, end_s, score, 0.9, True))
        clips.write(event("new", 1.0, 10.0, peak=0.9))
        assert (at, sheets) == ([2.5], [4.0])
        film.send(13.0)
        clips.write(SegmentRecord("gate", 3, 0, 30, 10.0, 13.0, 0.95, 0.9, True))
        clips.write(event("update", 1.0, 13.0, peak=0.95))
        assert (at[1:], sheets[1:]) == ([11.5], [13.0])


def test_of_files_no_clips_are_made_which_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with clips_of(tmp_path, {}) as clips:
        for index in range(3):
            clips.write(SegmentRecord("street", index, 0, 30, 5.0, 8.0, 0.9, 0.9, True))
            clips.write(event("new", 5.0, 8.0, camera="street", number=index))
    assert [record.message for record in caplog.records] == [
        f"clips in {tmp_path}: made of live cameras only; of files none are"
    ]


def test_a_sink_among_others_completes_its_clips_when_the_run_ends(tmp_path: Path) -> None:
    film = Film.of()
    clips = Clips(ClipOptions(folder=tmp_path))
    clips.film("gate", film.filmed)
    with Outputs([Output(clips)]) as outputs:
        film.send(9.0)
        outputs.emit(event("new", 8.0, 9.0))
        outputs.emit(event("end", 8.0, 9.0))
        wait(lambda: list(tmp_path.rglob("*.mp4*")))
    # The second that outputs have at the end is enough, or the next run keeps what there is.
    wait(lambda: not any(clip.alive for clip in clips._clips.values()))
    played(the_clip(tmp_path))
