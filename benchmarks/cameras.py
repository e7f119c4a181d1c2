"""How many cameras of 1080p one process feeds: decoding and scoring together, no network.

    python -m benchmarks cameras --streams 1 --streams 2 --streams 4

Every stream is a thread that decodes an H.264 file of 1920 x 1080 and pushes its frames into one detector, as fast
as both go. What comes out is frames a second over all streams; divided by a camera's rate, that is how many cameras
the process keeps up with. The clip is generated, or `--footage`, enlarged.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import cv2
import numpy as np

from benchmarks.bundles import built
from benchmarks.commanding import BUNDLE, JSON, PATH, PROVIDER, WORK, Figures, hand_over
from benchmarks.edge import HEIGHT, WIDTH
from benchmarks.measuring import timed
from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.video.file import VideoFile
from edge_runtime.watch.files import run_through
from models.reference.architecture import REFERENCE
from offline.scenes.truth import BgrImage
from offline.scenes.video import Encoding, FootageLoop, write_mp4

_FPS = 15.0
_ENCODING = Encoding(crf=23, preset="veryfast")


@click.command()
@BUNDLE
@click.option("--footage", type=PATH, help="A video instead of the generated one.")
@click.option("--streams", type=click.IntRange(min=1), multiple=True, default=(1, 2, 4), show_default=True)
@click.option("--seconds", type=click.IntRange(min=1), default=20, show_default=True, help="Of the clip.")
@PROVIDER
@WORK
@JSON
def cameras(
    path: Path | None,
    footage: Path | None,
    streams: tuple[int, ...],
    seconds: int,
    provider: str | None,
    work: Path,
    as_json: bool,
) -> None:
    """Streams of 1080p that one process decodes and scores.

    \b
    Example:
      python -m benchmarks cameras --bundle bundle --streams 2 --footage street.avi
    """
    bundle = Bundle.open(path or built(REFERENCE, REFERENCE, work))
    clip = clip_of(work, footage, seconds)
    with Detector(bundle, provider or "cpu", threads=1) as detector:
        assert detector.engine is not None
        rates = {str(count): _frames_a_second(detector, clip, count) for count in streams}
        used = detector.engine.provider
    with VideoFile(clip) as video:
        seconds_alone = timed(video.count_frames)
        decoded = video.count_frames() / seconds_alone
    best = max(rates.values())
    figures: Figures = {
        "model": bundle.manifest.source_model.name,
        "provider": used,
        "seconds": seconds,
        "footage": footage.name if footage else "generated",
        "decoded_per_s": decoded,
        "frames_per_s": rates,
        "cameras_10fps": best / 10,
        "cameras_25fps": best / 25,
    }
    each = ", ".join(f"{count} streams {rate:.0f}" for count, rate in rates.items())
    text = (
        f"{figures['model']} on {used}, H.264 of {WIDTH} x {HEIGHT} ({figures['footage']}), frames a second in all: "
        f"{each}; decoded alone on one thread {decoded:.0f}\n"
        f"{best / 10:.1f} cameras of 10 frames/s, {best / 25:.1f} of 25"
    )
    hand_over(figures, text, as_json)


def _frames_a_second(detector: Detector, clip: Path, count: int) -> float:
    """Over `count` streams side by side, each reading the whole clip."""
    manifest = detector.bundle.manifest

    def one(number: int) -> int:
        with VideoFile(clip) as video:
            stream = detector.stream(f"camera{number}", clock="frames", length=video.frame_count_hint)
            frames = 0

            def done(read: int) -> None:
                nonlocal frames
                frames = read

            for _ in run_through(video, stream, manifest.pixels, manifest.segment.fps, frames_done=done):
                pass
            return frames

    begun = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        frames = sum(pool.map(one, range(count)))
    return frames / (time.perf_counter() - begun)


def clip_of(work: Path, footage: Path | None, seconds: int) -> Path:
    """A clip of 1920 x 1080, made where it is not there yet; generated where no footage is given."""
    path = work / f"{footage.stem if footage else 'generated'}-1080p-{seconds}s.mp4"
    if not path.is_file():
        work.mkdir(parents=True, exist_ok=True)
        images = _generated(seconds) if footage is None else _enlarged(footage, seconds)
        write_mp4(path, images, size=(WIDTH, HEIGHT), fps=_FPS, encoding=_ENCODING)
    return path


def _enlarged(footage: Path, seconds: int) -> Iterator[BgrImage]:
    loop = FootageLoop(footage, size=(640, 360), fps=_FPS)
    for number in range(round(seconds * _FPS)):
        yield np.asarray(cv2.resize(loop.picture(number), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)


def _generated(seconds: int) -> Iterator[BgrImage]:
    """A still ground with some grain, and discs that move over it."""
    random = np.random.default_rng(0)
    coarse = random.integers(40, 200, (27, 48, 3), dtype=np.uint8)
    ground = np.asarray(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)
    for number in range(round(seconds * _FPS)):
        image = cv2.add(ground, random.integers(0, 6, ground.shape, dtype=np.uint8))
        for disc in range(8):
            centre = ((211 * disc + 9 * number) % WIDTH, (137 * disc + 4 * number) % HEIGHT)
            cv2.circle(image, centre, 40, (20 * disc, 255 - 20 * disc, 120), -1)
        yield np.asarray(image, np.uint8)
