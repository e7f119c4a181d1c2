"""How often a good picture is told to be covered or frozen, and how soon a bad one is told.

    python -m benchmarks.faults.quality --hours 24 --coded-minutes 4 > benchmarks/faults/quality.txt

Days of made places (see places.py), at two pictures a second as the sensor gives them, then stretches of them coded
as H.264 at 10 frames a second, then covered and frozen cameras by day and at night. Exits with 1 where something was
told of a good picture. FFmpeg with libx264 is needed for what is coded.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import click
import cv2
import numpy as np

from benchmarks.faults.places import DAY_S, HEIGHT, PLACES, WIDTH, Place, Scene, covers
from edge_runtime.stream.pixels import UInt8Array
from edge_runtime.stream.quality import QualityChange, QualityWatch

FPS = 10
#: Looks of the sensor's pictures; the watch takes each of them.
STEP_S = 0.5
CODINGS = {
    "CRF 28, keyframe every 2 s": ("-crf", "28", "-g", "20"),
    "CRF 38, keyframe every 10 s": ("-crf", "38", "-g", "100"),
    "60 kbit/s, keyframe every 4 s": ("-b:v", "60k", "-maxrate", "60k", "-bufsize", "60k", "-g", "40"),
}
#: Looked at when coded: noon, the depth of dusk, midnight, in seconds since midnight.
HOURS_S = (12 * 3600.0, 17.75 * 3600.0, 24 * 3600.0)
GOOD_S, FAULT_S, BACK_S = 90.0, 40.0, 30.0

Picture = tuple[float, UInt8Array, bool | None]


def changes(pictures: Iterable[Picture]) -> list[QualityChange]:
    """What a watch tells of pictures, each with its time and whether it is a keyframe."""
    watch = QualityWatch()
    told = []
    for seconds, picture, key in pictures:
        watch.pass_by(key)
        change = watch.push(picture, seconds)
        if change is not None:
            told.append(change)
    return told


def through_h264(pictures: Iterable[Picture], coding: tuple[str, ...], folder: Path) -> Iterator[Picture]:
    """Pictures at `FPS`, coded and decoded; times as before."""
    path = folder / "coded.mkv"
    command = ["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{WIDTH}x{HEIGHT}"]
    command += ["-r", str(FPS), "-i", "-", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-threads", "1"]
    command += ["-preset", "superfast", "-tune", "zerolatency", "-sc_threshold", "0", *coding, str(path)]
    times = []
    with subprocess.Popen(command, stdin=subprocess.PIPE) as encoder:
        assert encoder.stdin is not None
        for seconds, picture, _ in pictures:
            encoder.stdin.write(picture.tobytes())
            times.append(seconds)
        encoder.stdin.close()
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    for seconds in times:
        good, decoded = capture.read()
        if not good:
            raise RuntimeError(f"{len(times)} pictures were coded, fewer came back")
        yield seconds, np.asarray(decoded, dtype=np.uint8), capture.get(cv2.CAP_PROP_FRAME_TYPE) == ord("I")


def day(place: Place, hours: float, seed: int) -> list[QualityChange]:
    """What is told of a place from noon on, as its sensor shows it."""
    scene = Scene(place, seed)
    times = DAY_S / 2 + np.arange(0, hours * 3600, STEP_S)
    return changes((float(time), scene.picture(float(time)), None) for time in times)


def coded(place: Place, minutes: float, seed: int) -> dict[str, int]:
    """How much is told of a place's coded pictures, by coding."""
    told = dict.fromkeys(CODINGS, 0)
    with tempfile.TemporaryDirectory() as folder:
        for name, coding in CODINGS.items():
            for begun_s in HOURS_S:
                scene = Scene(place, seed)
                times = begun_s + np.arange(0, minutes * 60, 1 / FPS)
                pictures = ((float(time), scene.picture(float(time)), None) for time in times)
                told[name] += len(changes(through_h264(pictures, coding, Path(folder))))
    return told


def broken(place: Place, begun_s: float, fault: str, coding: tuple[str, ...] | None, seed: int) -> str:
    """When a fault is told, counted from its beginning, and when its end is, counted from its end."""
    scene = Scene(place, seed)
    views = dict(covers(np.random.default_rng(seed)))
    bad_s, good_s = begun_s + GOOD_S, begun_s + GOOD_S + FAULT_S

    def pictures() -> Iterator[Picture]:
        held: UInt8Array | None = None
        for time in begun_s + np.arange(0, GOOD_S + FAULT_S + BACK_S, 1 / FPS):
            seconds = float(time)
            if not bad_s <= seconds < good_s:
                yield seconds, (held := scene.picture(seconds)), None
            elif fault == "frozen":
                assert held is not None
                yield seconds, held, None
            else:
                yield seconds, scene.noisy(views[fault], seconds), None

    with tempfile.TemporaryDirectory() as folder:
        told = changes(pictures() if coding is None else through_h264(pictures(), coding, Path(folder)))
    wanted = "frozen" if fault == "frozen" else "covered"
    if any(change.seconds < bad_s for change in told):
        return "told too soon"
    first = next((change.seconds - bad_s for change in told if wanted in change.qualities), None)
    last = next(
        (change.seconds - good_s for change in told if not change.qualities and change.seconds >= good_s), None
    )
    return "not told" if first is None else f"{first:.1f} s, ended {'never' if last is None else f'{last:.1f} s'}"


def report(hours: float, coded_minutes: float, seed: int, jobs: int) -> Iterator[tuple[str, int]]:
    """Lines to print, each with how much was told falsely."""
    seeds = [zlib.crc32(f"{place.name} {seed}".encode()) for place in PLACES]
    with ProcessPoolExecutor(jobs) as pool:
        days = [pool.submit(day, place, hours, own) for place, own in zip(PLACES, seeds, strict=True)]
        stretches = [pool.submit(coded, place, coded_minutes, own) for place, own in zip(PLACES, seeds, strict=True)]
        yield f"Good pictures as the sensor gives them, {WIDTH} x {HEIGHT}, 2 a second: told in {hours:g} h", 0
        for place, told in zip(PLACES, days, strict=True):
            tellings = [f"{one.seconds / 3600 % 24:.3f} h {one.qualities or 'good'}" for one in told.result()]
            yield f"  {place.name:<50}{len(tellings):>4}  {'; '.join(tellings[:8])}", len(tellings)
        yield f"\nThe same as H.264, {FPS} a second: told in {coded_minutes:g} min at noon, dusk and midnight each", 0
        for place, counts in zip(PLACES, stretches, strict=True):
            for name, count in counts.result().items():
                yield f"  {place.name:<50}{name:<32}{count:>4}", count
        yield f"\nBad pictures after {GOOD_S:g} s of good ones, for {FAULT_S:g} s: told after, and the end after", 0
        faults = [(fault, None) for fault in (*dict(covers(np.random.default_rng(0))), "frozen")]
        faults += [(fault, name) for fault in ("black", "frozen") for name in CODINGS]
        for place, own in zip(PLACES, seeds, strict=True):
            for fault, name in faults:
                coding = None if name is None else CODINGS[name]
                when = [
                    pool.submit(broken, place, begun_s, fault, coding, own) for begun_s in (HOURS_S[0], HOURS_S[2])
                ]
                noon, midnight = (one.result() for one in when)
                label = fault if name is None else f"{fault}, {name}"
                yield f"  {place.name:<50}{label:<40}noon {noon:<24}midnight {midnight}", 0


@click.command()
@click.option("--hours", default=24.0, show_default=True, help="Of each place, as the sensor shows it.")
@click.option("--coded-minutes", default=10.0, show_default=True, help="Of each place, coding and time of day.")
@click.option("--seed", default=0, show_default=True, help="Of the places and of what happens there.")
@click.option("--jobs", default=1, show_default=True, help="Processes at once.")
def main(hours: float, coded_minutes: float, seed: int, jobs: int) -> None:
    """Print what is told of good and of bad pictures."""
    false = 0
    for line, count in report(hours, coded_minutes, seed, jobs):
        click.echo(line)
        sys.stdout.flush()
        false += count
    click.echo(f"\nTold of good pictures: {false}")
    raise SystemExit(1 if false else 0)


if __name__ == "__main__":
    main()
