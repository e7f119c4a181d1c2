"""Polygons against the rule that decides for a single point."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.records import Record, SegmentRecord
from edge_runtime.video.file import VideoFile
from edge_runtime.video.sources import parse_source
from edge_runtime.watch.mask import Mask, MaskedVideo
from edge_runtime.watch.options import CameraOptions
from edge_runtime.watch.run import Runner

Point = tuple[float, float]

fractions = st.floats(0, 1)
triangles = st.lists(st.tuples(fractions, fractions), min_size=3, max_size=3).filter(
    lambda points: area(points) > 1e-3
)


def area(points: list[Point]) -> float:
    (ax, ay), (bx, by), (cx, cy) = points
    return abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) / 2


def depth(points: list[Point], size: tuple[int, int]) -> NDArray[np.float64]:
    """How far the centre of each pixel lies inside a triangle, in pixels; outside it is negative."""
    width, height = size
    corners = np.array(points) * (width, height)
    if np.linalg.det(np.array([corners[1] - corners[0], corners[2] - corners[0]])) < 0:
        corners = corners[::-1]
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    sides = []
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        sides.append(((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / max(np.hypot(bx - ax, by - ay), 1e-9))
    return np.min(sides, axis=0)


@given(triangles, st.integers(2, 90), st.integers(2, 70))
def test_what_lies_inside_is_black_and_what_lies_outside_stays(points: list[Point], width: int, height: int) -> None:
    picture = np.random.default_rng(1).integers(1, 255, (height, width, 3), np.uint8)
    before = picture.copy()
    masked = Mask.parse([points]).blank(picture)
    inside = depth(points, (width, height))
    assert not masked[inside >= 0].any()
    kept = inside < -3
    assert np.array_equal(masked[kept], before[kept])
    # Every pixel is either black or as it was, and the decoder's buffer was not written to.
    assert np.logical_or((masked == 0).all(axis=2), (masked == before).all(axis=2)).all()
    assert np.array_equal(picture, before)


@given(st.lists(triangles, min_size=2, max_size=4))
def test_several_polygons_hide_what_each_of_them_hides(several: list[list[Point]]) -> None:
    picture = np.full((40, 60, 3), 200, np.uint8)
    each = [Mask.parse([points]).blank(picture) == 0 for points in several]
    assert np.array_equal(Mask.parse(several).blank(picture) == 0, np.logical_or.reduce(each))


def test_the_whole_picture() -> None:
    assert not Mask.parse("0,0,1,0,1,1,0,1").blank(np.full((37, 53, 3), 9, np.uint8)).any()


@given(triangles)
def test_a_text_is_the_same_polygon(points: list[Point]) -> None:
    text = ",".join(f"{x!r},{y!r}" for x, y in points)
    assert Mask.parse(text) == Mask.parse([text]) == Mask.parse([points])


def test_a_picture_of_another_size_has_a_mask_of_that_size() -> None:
    mask = Mask.parse("0,0,0.5,0,0.5,1,0,1")
    for width in (100, 40, 100):
        masked = mask.blank(np.full((10, width, 3), 7, np.uint8))
        assert abs(int((masked[5] == 0).all(axis=1).sum()) - width // 2) <= 2


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "no polygon"),
        ([[(0, 0), (1, 1)]], "2 points"),
        ([[(0, 0), (0.5, 0.5), (1, 1)]], "one line"),
        ([[(0, 0), (0, 0), (0, 0)]], "one line"),
        ([[(0, 0), (1920, 0), (0, 1)]], "divide x by its width"),
        ([[(0, 0), (-0.1, 0), (0, 1)]], "0 to 1"),
        ([[(0, 0), (float("nan"), 0), (0, 1)]], "0 to 1"),
        ("0,0,1,0,1", "x,y,x,y"),
        ("0,0,1,0,1,nan", "x,y,x,y"),
        ("a,b", "x,y,x,y"),
        ("", "x,y,x,y"),
    ],
)
def test_masks_that_are_none(value: str | list[str | list[Point]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Mask.parse(value)


def test_a_masked_file_shows_nothing_there_read_once_or_again(clip_path: Path) -> None:
    mask = Mask.parse("0,0,0.5,0,0.5,1,0,1")
    with MaskedVideo(clip_path, mask) as masked, VideoFile(clip_path) as plain:
        pictures = [frame.retrieve() for frame in masked.frames(stop=3)]
        again = masked.read_again([2])[2]
        untouched = [frame.retrieve() for frame in plain.frames(stop=3)]
    half = pictures[0].shape[1] // 2
    rim = half + 2
    for picture, original in zip(pictures, untouched, strict=True):
        assert not picture[:, :half].any()
        assert np.array_equal(picture[:, rim:], original[:, rim:])
    assert np.array_equal(again, pictures[2])


def test_the_model_sees_the_masked_picture(bundle: Bundle, clip_path: Path) -> None:
    """What is hidden in every frame cannot change a score; a mask that hides nothing of use changes none."""
    source = parse_source(str(clip_path))

    def scores(mask: Mask | None) -> list[float]:
        records: list[Record] = []
        with Detector(bundle, "cpu", threads=1) as detector:
            runner = Runner(detector, records.append, threading.Event())
            runner.run([source], {source.name: CameraOptions(mask=mask)})
        return [record.score for record in records if isinstance(record, SegmentRecord)]

    whole = scores(Mask.parse("0,0,1,0,1,1,0,1"))
    assert scores(None) != whole
    assert whole[0] == whole[1]
