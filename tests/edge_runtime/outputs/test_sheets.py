"""Contact sheets: what the model saw of the most anomalous segment of an event, kept beside its snapshot."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from filmed import RUN, Film, event
from numpy.typing import NDArray

from edge_runtime.outputs.clips import ClipOptions, Clips
from edge_runtime.outputs.sheets import KEPT, Sheets, SheetWanted, contact_sheet
from edge_runtime.stream.segments import Segment

PATIENCE_S = 60.0
NOTHING = np.zeros(4, np.float32)


def wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def segment(end_s: float, red: int = 0, frames: int = 16, size: tuple[int, int] = (90, 160)) -> Segment:
    """Frames of one red each, that differ in green."""
    pixels = np.zeros((frames, *size, 3), np.uint8)
    pixels[..., 0] = red
    pixels[..., 1] = (np.arange(frames) * 255 // max(1, frames - 1))[:, None, None]
    return Segment(0, 0, 48, end_s - 1.0, end_s, pixels)


def shown(jpeg: bytes) -> NDArray[np.uint8]:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(picture, dtype=np.uint8)


@pytest.mark.parametrize(
    ("frames", "size", "expected"),
    [
        (16, (448, 448), (640, 640)),
        (16, (90, 160), (360, 640)),
        (8, (384, 384), (320, 640)),
        (4, (448, 448), (160, 640)),
        (1, (448, 448), (160, 160)),
        (5, (64, 48), (128, 192)),
        (64, (224, 224), (960, 960)),
    ],
)
def test_the_frames_stand_side_by_side_in_their_order_and_colours(
    frames: int, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    picture = shown(contact_sheet(segment(1.0, 200, frames, size).pixels))
    assert picture.shape[:2] == expected
    width = min(160, size[1])
    height = round(size[0] * width / size[1])
    greens = []
    for place in range(min(frames, 36)):
        row, column = divmod(place, expected[1] // width)
        blue, green, red = picture[height * row + height // 2, width * column + width // 2].astype(int)
        assert abs(red - 200) < 25
        assert blue < 40
        greens.append(green)
    assert greens[0] < 30
    assert frames == 1 or greens[-1] > 225
    assert sorted(greens) == greens


def keeping(kept: list[tuple[str, bytes]]) -> Sheets:
    return Sheets(lambda wanted, jpeg: kept.append((wanted.event, jpeg)))


def test_an_event_gets_the_sheet_of_the_segment_that_ended_with_it() -> None:
    kept: list[tuple[str, bytes]] = []
    sheets = keeping(kept)
    seen = sheets.listener(lambda camera: 0.4)
    for number in range(6):
        seen("gate", segment(number * 3.2, 40 * number), NOTHING, 0.5)
        seen("yard", segment(number * 3.2, 10), NOTHING, 0.5)
    sheets.ask(SheetWanted("gate", "e1", "2026-01-31", 3 * 3.2))
    # The last one may be told of before it was made: in turn all the same.
    seen("gate", segment(20.0, 240), NOTHING, 0.4)
    sheets.ask(SheetWanted("gate", "e2", "2026-01-31", 20.0))
    sheets.start()
    sheets.close(PATIENCE_S)
    assert [event for event, _ in kept] == ["e1", "e2"]
    assert [abs(int(shown(jpeg)[10, 10, 2]) - red) < 25 for (_, jpeg), red in zip(kept, (120, 240), strict=True)]


def test_a_segment_that_is_not_notable_costs_nothing_and_has_none() -> None:
    kept: list[tuple[str, bytes]] = []
    sheets = keeping(kept)
    seen = sheets.listener(lambda camera: {"gate": 0.4, "yard": 0.6}[camera])
    seen("gate", segment(1.0), NOTHING, 0.39)
    seen("yard", segment(1.0), NOTHING, 0.59)
    assert not sheets._queue
    sheets.ask(SheetWanted("gate", "e1", "2026-01-31", 1.0))
    sheets.start()
    sheets.close(PATIENCE_S)
    assert not kept


def test_neither_what_waits_nor_what_is_kept_grows_without_bound(caplog: pytest.LogCaptureFixture) -> None:
    sheets = keeping([])
    seen = sheets.listener(lambda camera: 0.0)
    with caplog.at_level(logging.WARNING):
        for number in range(100):
            seen("gate", segment(float(number), frames=1, size=(4, 4)), NOTHING, 0.9)
    assert len(sheets._queue) == 16
    assert "contact sheets are made too slowly" in caplog.text
    sheets.start()
    for number in range(100, 100 + 10 * KEPT):
        wait(lambda: len(sheets._queue) < 16)
        seen(f"camera{number}", segment(0.0, frames=1, size=(4, 4)), NOTHING, 0.9)
        seen("gate", segment(float(number), frames=1, size=(4, 4)), NOTHING, 0.9)
    wait(lambda: not sheets._queue)
    sheets.close(PATIENCE_S)
    assert len(sheets._made["gate"]) == KEPT
    assert len(sheets._made) <= 256


def test_a_sheet_that_cannot_be_kept_does_not_end_the_others(caplog: pytest.LogCaptureFixture) -> None:
    kept: list[str] = []

    def keep(wanted: SheetWanted, jpeg: bytes) -> None:
        if wanted.event == "e1":
            raise OSError("the disk is away")
        kept.append(wanted.event)

    sheets = Sheets(keep)
    sheets.listener(lambda camera: 0.0)("gate", segment(1.0), NOTHING, 0.9)
    for name in ("e1", "e2"):
        sheets.ask(SheetWanted("gate", name, "2026-01-31", 1.0))
    sheets.start()
    sheets.close(PATIENCE_S)
    assert kept == ["e2"]
    assert "camera gate: no contact sheet: the disk is away" in caplog.text


def test_it_lies_beside_the_snapshot_and_is_that_of_the_highest_peak(tmp_path: Path) -> None:
    film = Film.of()
    clips = Clips(ClipOptions(folder=tmp_path, video=False))
    clips.film("gate", film.filmed)
    assert clips.sheets is not None
    seen = clips.sheets.listener(lambda camera: 0.35)
    path = tmp_path / "gate" / "2026-01-31" / f"{RUN}-gate-3.seen.jpg"
    film.send(20.0)
    seen("gate", segment(10.0, 80), NOTHING, 0.7)
    clips.write(event("new", 9.0, 10.0, peak=0.7))
    wait(path.exists)
    first = path.read_bytes()
    assert abs(int(shown(first)[10, 10, 2]) - 80) < 25
    # Another that is as high, or none of its own, takes the place of nothing.
    seen("gate", segment(11.0, 140), NOTHING, 0.6)
    clips.write(event("update", 9.0, 11.0, peak=0.7))
    clips.write(event("update", 9.0, 12.0, peak=0.8))
    seen("gate", segment(13.0, 220), NOTHING, 0.9)
    clips.write(event("update", 9.0, 13.0, peak=0.9))
    wait(lambda: path.read_bytes() != first)
    assert abs(int(shown(path.read_bytes())[10, 10, 2]) - 220) < 25
    clips.write(event("end", 9.0, 13.0, peak=0.9))
    clips.close()
    assert path.with_name(f"{RUN}-gate-3.jpg").exists()
    assert not list(tmp_path.rglob("*.part"))


def test_without_snapshots_there_are_none(tmp_path: Path) -> None:
    assert Clips(ClipOptions(folder=tmp_path, snapshots=False)).sheets is None
