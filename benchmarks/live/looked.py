"""What it costs to look at the pictures of live cameras, and what cameras pay that nobody looks at.

    python -m benchmarks.live.looked --cameras 40 --output benchmarks/live/looked.txt

Cameras of 1280 x 720 and 25 frames a second are files that are played over and over, so that no other process is
measured. They are read, decoded and cut as in a run, without a model. Stretches in which nobody looks and stretches
in which every camera is looked at once a second take turns; the processor time of the whole process is compared.
Where the machine decodes fewer frames than the cameras have, they play slower, and the frames that came are told.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from benchmarks.cameras import clip_of
from benchmarks.commanding import PATH, WORK, rounds, say
from benchmarks.live.served import loop
from benchmarks.measuring import machine
from edge_runtime.stream.clock import RunClock
from edge_runtime.stream.pixels import PixelSpec
from edge_runtime.stream.segmenter import segmenter_for
from edge_runtime.stream.segments import SegmentSpec
from edge_runtime.video.camera import LiveCamera
from edge_runtime.video.capture import DecodedFrame
from edge_runtime.video.loop import LoopConnection
from edge_runtime.video.sources import parse_source
from edge_runtime.watch.backlog import Backlog
from edge_runtime.watch.feed import CameraFeed
from edge_runtime.watch.glimpses import WARM_S, Glimpses, as_jpeg, shrunk

_SIZE, _FPS, _LOOP_S = (1280, 720), 25, 40
_SETTLE_S = 5.0
_ASK_S = 1.0
_CALLS, _TRIES = 200_000, 200


@dataclass(frozen=True, slots=True)
class Stretch:
    """One stretch of time.

    Attributes:
        spent: Processor seconds a second.
        frames: Frames a second that came, of all cameras.
        looks: Pictures a second that were given out.
        worst_ms: The longest wait for a picture that was given out.
        bytes: Of all pictures, a second.
    """

    spent: float
    frames: float
    looks: float
    worst_ms: float
    bytes: float


@click.command()
@click.option("--cameras", "number", type=click.IntRange(min=1), default=40, show_default=True)
@click.option("--seconds", type=click.FloatRange(min=1), default=20.0, show_default=True, help="Of each stretch.")
@rounds(5)
@click.option("--footage", type=PATH, help="What the cameras see [default: generated].")
@click.option("--output", type=PATH, help="Where the text goes; else it is printed.")
@WORK
def looked(number: int, seconds: float, rounds: int, footage: Path | None, output: Path | None, work: Path) -> None:
    """Processor time of live pictures, one a second of every camera.

    \b
    Example:
      python -m benchmarks.live.looked --cameras 8 --seconds 5 --rounds 2
    """
    sent = loop(work / "live", footage or clip_of(work, None, _LOOP_S), _SIZE, _FPS, _LOOP_S)
    stretches: dict[bool, list[Stretch]] = {False: [], True: []}
    with watched(sent, number) as (glimpses, frames):
        time.sleep(_SETTLE_S)
        for place in range(rounds):
            say(f"round {place + 1} of {rounds}")
            for looking in (False, True):
                stretches[looking].append(stretch(glimpses, frames, number if looking else 0, seconds))
                # Of what was asked for last, the next stretch should hold nothing.
                time.sleep(WARM_S + _ASK_S)
    text = told(stretches, number, nobody_ns(), alone_ms(sent))
    if output is None:
        click.echo(text)
    else:
        output.write_text(text)


@contextmanager
def watched(sent: Path, number: int) -> Iterator[tuple[Glimpses, Callable[[], int]]]:
    """Cameras that are read, decoded and cut; what they finish is thrown away. Also how many frames came."""
    clock, backlog, glimpses, over = RunClock(), Backlog(), Glimpses(), threading.Event()
    segment, pixels = SegmentSpec(fps=float(_FPS)), PixelSpec(size=448)
    feeds = []

    def throw_away() -> None:
        while not over.is_set():
            backlog.take(0.2)

    with ExitStack() as stack:
        thread = threading.Thread(target=throw_away)
        thread.start()
        stack.callback(thread.join)
        stack.callback(over.set)
        for place in range(number):
            source = parse_source(f"camera{place}=loop:{sent}")
            backlog.add(source.name)
            feed = CameraFeed(source.name, segmenter_for(segment, "time", sparing=True), segment, pixels, backlog)
            feeds.append(feed)
            stack.enter_context(LiveCamera(source, glimpses.around(source.name, feed), clock))
        yield glimpses, lambda: sum(feed.frames for feed in feeds)


def stretch(glimpses: Glimpses, frames: Callable[[], int], looked_at: int, seconds: float) -> Stretch:
    """Measure a stretch of time in which so many cameras are looked at once a second."""
    begun_s, spent_s, before = time.monotonic(), time.process_time(), frames()
    looks = size = 0
    worst_s = 0.0
    while (passed_s := time.monotonic() - begun_s) < seconds:
        for place in range(looked_at):
            asked_s = time.monotonic()
            jpeg = glimpses.picture(f"camera{place}")
            if jpeg is not None:
                worst_s = max(worst_s, time.monotonic() - asked_s)
                looks, size = looks + 1, size + len(jpeg)
        time.sleep(max(0.0, min(_ASK_S - (time.monotonic() - begun_s - passed_s), seconds - passed_s)))
    took_s = time.monotonic() - begun_s
    spent_s, came = time.process_time() - spent_s, frames() - before
    return Stretch(spent_s / took_s, came / took_s, looks / took_s, 1e3 * worst_s, size / took_s)


def nobody_ns() -> float:
    """What a frame of a camera that nobody looks at costs more, in nanoseconds; the least of five."""

    class Passing:
        def on_frame(self, frame: DecodedFrame) -> None: ...

        def on_outage(self, *_: object) -> None: ...

        def on_state(self, *_: object) -> None: ...

    plain = Passing()
    glimpsed = Glimpses().around("gate", plain)
    frame = DecodedFrame(0, 0.0, lambda: np.zeros((1, 1, 3), np.uint8))

    def seconds_of(on_frame: Callable[[DecodedFrame], None]) -> float:
        begun_s = time.perf_counter()
        for _ in range(_CALLS):
            on_frame(frame)
        return time.perf_counter() - begun_s

    least = [min(seconds_of(on_frame) for _ in range(5)) for on_frame in (glimpsed.on_frame, plain.on_frame)]
    return (least[0] - least[1]) / _CALLS * 1e9


def alone_ms(sent: Path) -> dict[str, float]:
    """What the steps to one picture take by themselves, in milliseconds; the median of all tries."""
    connection = LoopConnection(parse_source(f"loop:{sent}"))
    try:
        while connection.grab() != "whole":
            pass
        picture = connection.picture()
        assert picture is not None
        small = shrunk(picture)
        steps: dict[str, Callable[[], object]] = {
            "converting": connection.picture,
            "shrinking": lambda: shrunk(picture),
            "encoding": lambda: as_jpeg(small),
        }
        taken: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(_TRIES):
            for name, step in steps.items():
                begun_s = time.perf_counter()
                step()
                taken[name].append(1e3 * (time.perf_counter() - begun_s))
        return {name: statistics.median(tries) for name, tries in taken.items()}
    finally:
        connection.close()


def told(stretches: dict[bool, list[Stretch]], number: int, nobody: float, alone: dict[str, float]) -> str:
    """What was measured, for a person."""
    nobody_looks, all_look = (_median(stretches[looking]) for looking in (False, True))
    more = [after.spent - before.spent for before, after in zip(stretches[False], stretches[True], strict=True)]
    looks = max(all_look.looks, 1e-9)
    here = machine()
    return "\n".join(
        [
            (__doc__ or "").split("\n", 1)[0],
            f"Command: {' '.join(['python -m benchmarks.live.looked', *sys.argv[1:]])}",
            f"Machine: {here['processor']}, {here['cores']} cores",
            "",
            f"{number} cameras of {_SIZE[0]} x {_SIZE[1]}, {_FPS} frames a second",
            f"{'':<28} {'nobody looks':>14} {'all, 1 a second':>16}",
            f"{'cores that are busy':<28} {nobody_looks.spent:>14.3f} {all_look.spent:>16.3f}",
            f"{'frames a second':<28} {nobody_looks.frames:>14.1f} {all_look.frames:>16.1f}",
            f"{'pictures a second':<28} {nobody_looks.looks:>14.1f} {all_look.looks:>16.1f}",
            f"{'kilobytes a picture':<28} {'':>14} {all_look.bytes / looks / 1e3:>16.1f}",
            f"{'longest wait, ms':<28} {'':>14} {all_look.worst_ms:>16.1f}",
            "",
            f"Looking takes {statistics.median(more):.3f} cores more ({min(more):.3f} to {max(more):.3f} in "
            f"{len(more)} rounds): {1e3 * statistics.median(more) / looks:.2f} ms a picture.",
            f"By itself a picture takes {sum(alone.values()):.2f} ms: "
            + ", ".join(f"{name} {ms:.2f}" for name, ms in alone.items())
            + f"; {number} a second are {number * sum(alone.values()) / 1e3:.3f} cores.",
            f"A frame of a camera that nobody looks at takes {nobody:.0f} ns more.",
            "",
        ]
    )


def _median(stretches: list[Stretch]) -> Stretch:
    return Stretch(
        *(
            statistics.median(getattr(one, name) for one in stretches)
            for name in ("spent", "frames", "looks", "worst_ms", "bytes")
        )
    )


if __name__ == "__main__":
    looked()
