"""A covered or frozen picture is told within 15 s, a dark, still, foggy or noisy one never."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.stream.pixels import UInt8Array
from edge_runtime.stream.quality import (
    LOOKS_S,
    QualityChange,
    QualityWatch,
    block_means,
    is_uniform,
    lasting_contrast,
)

FPS = 10
WIDTH, HEIGHT = 320, 180
FOOTAGE = os.environ.get("HEADHUNT_FOOTAGE")
RNG = np.random.default_rng(7)
NOISES = RNG.normal(0, 1, (6, 2 * HEIGHT, 2 * WIDTH)).astype(np.float32)
VIEW = cv2.GaussianBlur(cv2.resize(RNG.uniform(20, 230, (9, 16)).astype(np.float32), (WIDTH, HEIGHT)), (0, 0), 1)

Moment = tuple[UInt8Array, bool | None]


def sensed(view: float | np.ndarray, sigma: float, rng: np.random.Generator = RNG) -> UInt8Array:
    """What a sensor with noise makes of a view."""
    row, column = rng.integers(HEIGHT), rng.integers(WIDTH)
    noise = NOISES[rng.integers(len(NOISES)), row : row + HEIGHT, column : column + WIDTH]
    grey = np.clip(np.rint(view + sigma * noise), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def told(moments: Iterable[Moment], fps: float = FPS) -> list[QualityChange]:
    watch = QualityWatch()
    changes = []
    for index, (picture, key) in enumerate(moments):
        watch.pass_by(key)
        if (change := watch.push(picture, index / fps)) is not None:
            changes.append(change)
    return changes


def noisy(view: float | np.ndarray, sigma: float, seconds: float, fps: float = FPS) -> Iterator[Moment]:
    for _ in range(round(seconds * fps)):
        yield sensed(view, sigma), None


def held(
    picture: UInt8Array, seconds: float, keys: Callable[[int], bool | None] = lambda _: None
) -> Iterator[Moment]:
    for index in range(round(seconds * FPS)):
        yield picture, keys(index)


def chain(*parts: Iterable[Moment]) -> Iterator[Moment]:
    for part in parts:
        yield from part


def only(
    changes: list[QualityChange],
    quality: str,
    since_s: float,
    until_s: float,
    within_s: float = 15,
    back_s: float = 5.5,
) -> None:
    """The quality was told once, soon after its beginning, and its end within a few seconds of that."""
    assert [change.qualities for change in changes] == [(quality,), ()]
    assert since_s + 3 <= changes[0].seconds <= since_s + within_s
    assert until_s <= changes[1].seconds <= until_s + back_s


@settings(max_examples=10, deadline=None)
@given(st.floats(0.02, 1), st.floats(0.5, 8), st.integers(0, 2**16))
def test_a_still_place_is_neither(light: float, sigma: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    assert told((sensed(VIEW * light, sigma, rng), None) for _ in range(60 * FPS)) == []


@pytest.mark.parametrize("level", [0, 16, 128, 255])
@pytest.mark.parametrize("sigma", [0, 2, 5])
def test_covered(level: float, sigma: float) -> None:
    only(told(chain(noisy(VIEW, 2, 20), noisy(level, sigma, 20), noisy(VIEW, 2, 10))), "covered", 20, 40)


def test_a_hand_that_lets_light_in_at_one_side_covers() -> None:
    hand = np.linspace(10, 90, WIDTH, dtype=np.float32)[None]
    only(told(chain(noisy(VIEW, 2, 20), noisy(hand, 2, 20), noisy(VIEW, 2, 10))), "covered", 20, 40)


def test_a_clock_in_the_picture_does_not_hide_a_cap() -> None:
    def with_clock(moments: Iterable[Moment]) -> Iterator[Moment]:
        for index, (picture, key) in enumerate(moments):
            cv2.putText(picture, f"12:00:{index // FPS:02d}", (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255,) * 3, 1)
            yield picture, key

    only(told(with_clock(chain(noisy(VIEW, 2, 20), noisy(0, 2, 20), noisy(VIEW, 2, 10)))), "covered", 20, 40)


def test_covered_again_at_once() -> None:
    changes = told(chain(*(noisy(view, 2, 15) for view in (VIEW, 0, VIEW, 0, VIEW))))
    assert [change.qualities for change in changes] == [("covered",), (), ("covered",), ()]


@pytest.mark.parametrize("sigma", [0, 2])
def test_dusk_is_no_cover(sigma: float) -> None:
    """Even where it ends in a picture without a spark of light, or noise."""
    looks = 600
    lights = np.geomspace(1, 1e-3, looks)
    dusk = ((sensed(VIEW * light, sigma), None) for light in lights)
    assert told(chain(dusk, noisy(0, sigma, 300, 2)), fps=2) == []


def test_headlights_do_not_make_a_dark_place_one_that_was_covered() -> None:
    def night() -> Iterator[Moment]:
        yield from noisy(1, 3, 120, 2)
        for passing_s in (3, 10, 40, 8):
            yield from noisy(VIEW * 0.5, 3, passing_s, 2)
            yield from noisy(1, 3, 60, 2)

    assert told(night(), fps=2) == []


def test_a_moment_in_the_dark_is_no_cover() -> None:
    assert told(chain(noisy(VIEW, 2, 20), noisy(0, 1, 4), noisy(VIEW * 0.4, 4, 20))) == []


def test_covered_before_the_run() -> None:
    """A picture of one value shows nothing; darkness with noise may be a night."""
    only(told(chain(noisy(0, 0, 20), noisy(VIEW, 2, 10))), "covered", 0, 20)
    assert told(noisy(1, 2, 60)) == []


def test_a_dark_place_whose_noise_an_encoder_takes_away() -> None:
    """The noise is gone between keyframes, but for a little of it; a dead sensor has none."""
    dark = np.zeros((HEIGHT, WIDTH, 3), np.uint8)

    def groups() -> Iterator[Moment]:
        for number in range(20):
            picture = dark.copy()
            picture[8 * number : 8 * number + 8, 40:48] = 1
            yield from held(picture, 10, lambda index: index == 0)

    assert told(groups()) == []
    (change,) = told(held(dark, 20, lambda index: index % 100 == 0))
    assert change.qualities == ("covered",)
    assert change.seconds <= 12
    assert [change.qualities for change in told(chain(held(dark, 20), noisy(2, 2, 10)))] == [("covered",), ()]


def test_frozen() -> None:
    picture = sensed(VIEW, 2)
    only(told(chain(noisy(VIEW, 2, 20), held(picture, 20), noisy(VIEW, 2, 10))), "frozen", 20, 40)


def test_the_end_of_a_frozen_picture_is_told_at_once_where_something_moved() -> None:
    picture = sensed(VIEW, 2)
    only(told(chain(held(picture, 20), noisy(255 - VIEW, 2, 10))), "frozen", 0, 20, back_s=0.6)


def test_an_encoder_that_drops_noise_between_keyframes_is_not_frozen() -> None:
    def smooth(group_s: float) -> Iterator[Moment]:
        while True:
            yield from held(sensed(VIEW, 1), group_s, lambda index: index == 0)

    for group_s in (2, 10, 60):
        moments = smooth(group_s)
        assert told(next(moments) for _ in range(180 * FPS)) == []


def test_identical_pictures_over_a_keyframe_are_frozen_and_without_one_at_last() -> None:
    picture = sensed(VIEW, 2)
    for every_s, sooner_s, later_s in ((2, 12, 13), (10, 12, 13), (14, 14, 15), (1000, 120, 121)):
        (change,) = told(held(picture, 125, lambda index, every=every_s * FPS: index % every == 0))
        assert change.qualities == ("frozen",)
        assert sooner_s <= change.seconds <= later_s


def test_a_frozen_picture_that_is_encoded_again_returns() -> None:
    group = [sensed(VIEW + 0.4 * step, 1) for step in range(10)]
    (change,) = told((group[index % 10], index % 10 == 0) for index in range(15 * FPS))
    assert change.qualities == ("frozen",)


def test_a_light_that_blinks_before_a_background_without_noise_is_not_frozen() -> None:
    lit = VIEW.copy()
    lit[80:100, 100:120] += 60
    pictures = sensed(VIEW, 0), sensed(lit, 0)
    assert told((pictures[index // 7 % 2], None) for index in range(60 * FPS)) == []


def test_nothing_is_compared_across_an_interruption() -> None:
    watch, picture = QualityWatch(), sensed(VIEW, 2)
    for seconds in np.arange(0, 50, 0.5):
        if seconds % 10 == 0:
            watch.interrupt()
        assert watch.push(picture, float(seconds)) is None


def test_a_camera_that_comes_back_covered_was_covered() -> None:
    watch = QualityWatch()
    for seconds in np.arange(0, 10, 0.5):
        assert watch.push(sensed(VIEW, 2), float(seconds)) is None
    watch.interrupt()
    changes = [watch.push(sensed(0, 2), float(seconds)) for seconds in np.arange(12, 20, 0.5)]
    assert [change.qualities for change in changes if change] == [("covered",)]


@given(st.lists(st.floats(0, 1), max_size=60))
def test_looks_keep_their_distance(steps: list[float]) -> None:
    watch, picture = QualityWatch(), sensed(VIEW, 1)
    now, last = 0.0, None
    for step in steps:
        now += step
        if watch.due(now):
            assert last is None or now - last >= min(LOOKS_S) - 1e-5
            last = now
        elif last is not None:
            assert now - last < max(LOOKS_S)
            assert not watch.overdue(now)
        watch.push(picture, now)
        assert not watch.due(now)


def test_a_change_of_size_is_no_change_of_quality() -> None:
    small = cv2.resize(sensed(VIEW, 2), (160, 90))
    assert told(chain(noisy(VIEW, 2, 10), ((small, None) for _ in range(50)), noisy(VIEW, 2, 10))) == []


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (90, 160), (1080, 1920), (4000, 2)])
def test_any_size_has_blocks(shape: tuple[int, int]) -> None:
    picture = np.zeros((*shape, 3), np.uint8)
    means = block_means(picture)
    assert means.ndim == 2
    assert means.shape[0] <= 54
    assert means.shape[1] <= 96
    assert lasting_contrast(means, means) == 0
    assert is_uniform(picture)
    watch = QualityWatch()
    for seconds in range(8):
        assert watch.push(picture, float(seconds)) is None


def footage() -> list[UInt8Array]:
    if FOOTAGE is None:
        pytest.skip("HEADHUNT_FOOTAGE names no video")
    capture, frames = cv2.VideoCapture(FOOTAGE), []
    while (read := capture.read())[0] and len(frames) < 600:
        frames.append(np.asarray(read[1], dtype=np.uint8))
    return frames


def coded(pictures: Iterable[UInt8Array], folder: Path, *coding: str) -> Iterator[Moment]:
    """Pictures through H.264, as cameras send them."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg")
    path, encoder = folder / "coded.mkv", None
    for picture in pictures:
        if encoder is None:
            size = f"{picture.shape[1]}x{picture.shape[0]}"
            command = [
                "ffmpeg",
                "-v",
                "error",
                "-y",
                "-f",
                "rawvideo",
                "-pix_fmt",
                "bgr24",
                "-s",
                size,
                "-r",
                str(FPS),
            ]
            command += [
                "-i",
                "-",
                "-c:v",
                "libx264",
                "-pix_fmt",
                "yuv420p",
                "-preset",
                "superfast",
                *coding,
                str(path),
            ]
            encoder = subprocess.Popen(command, stdin=subprocess.PIPE)
        assert encoder.stdin is not None
        encoder.stdin.write(picture.tobytes())
    assert encoder is not None
    encoder.communicate()
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    while (read := capture.read())[0]:
        yield np.asarray(read[1], dtype=np.uint8), capture.get(cv2.CAP_PROP_FRAME_TYPE) == ord("I")


class TestFootage:
    """Real surveillance footage."""

    def test_it_is_neither_at_any_crop(self) -> None:
        frames = footage()
        height, width = frames[0].shape[:2]
        for top in range(0, height - height // 3 + 1, height // 3):
            for left in range(0, width - width // 3 + 1, width // 3):
                crop = (frame[top : top + height // 3, left : left + width // 3] for frame in frames)
                assert told((picture, None) for picture in crop) == []
        assert told((picture, None) for picture in frames) == []

    def test_black_and_frozen(self) -> None:
        frames = footage()
        pictures = [
            *frames[:200],
            *[np.zeros_like(frames[0])] * 200,
            *frames[200:300],
            *[frames[300]] * 200,
            *frames[301:400],
        ]
        changes = told((picture, None) for picture in pictures)
        assert [change.qualities for change in changes] == [("covered",), (), ("frozen",), ()]
        beginnings = [20, 40, 50, 70]
        for change, since_s in zip(changes, beginnings, strict=True):
            assert since_s <= change.seconds <= since_s + 15

    def test_black_as_a_camera_codes_it(self, tmp_path: Path) -> None:
        frames = [cv2.resize(frame, (384, 288)) for frame in footage()[:300]]
        pictures = [*frames[:200], *[np.zeros_like(frames[0])] * 200, *frames[200:]]
        only(told(coded(pictures, tmp_path, "-crf", "30", "-g", "20")), "covered", 20, 40)

    @pytest.mark.parametrize(
        "coding", [("-crf", "23", "-g", "40"), ("-b:v", "2M", "-maxrate", "2M", "-bufsize", "4M", "-g", "40")]
    )
    # The encoder takes 10 s and more to come to rest.
    def test_a_frozen_sensor_behind_an_encoder(self, tmp_path: Path, coding: tuple[str, ...]) -> None:
        frames = [cv2.resize(frame, (384, 288)) for frame in footage()[:300]]
        pictures = [*frames[:200], *[frames[200]] * 300, *frames[201:]]
        only(told(coded(pictures, tmp_path, "-tune", "zerolatency", *coding)), "frozen", 20, 50, within_s=25)

    def test_a_still_place_at_night_coarsely_coded(self, tmp_path: Path) -> None:
        still = cv2.resize(footage()[50], (WIDTH, HEIGHT)).astype(np.float32)[..., 1] * 0.15
        for coding in (("-crf", "30", "-g", "20"), ("-crf", "40", "-g", "100"), ("-crf", "40", "-g", "1000")):
            pictures = (sensed(still, 0.7) for _ in range(60 * FPS))
            assert told(coded(pictures, tmp_path, "-tune", "zerolatency", *coding)) == []
