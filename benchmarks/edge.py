"""Everything of a segment that is not a graph, at the edge: 1080p frames in, records out.

    python -m benchmarks edge

Decoded frames of 1920 x 1080 go through a detector's stream, as `hh-edge run` pushes them; an engine that answers at
once stands in for the graphs. What is left is the work beside them: resizing the sampled frames, cutting, recognising
frames that were encoded ahead, the scorer, the locator, and the records as lines of JSON. Decoding is not in it; see
`cameras`. The share is that of a segment whose graphs really run. OpenCV works on one thread, as in a camera's own.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.bundles import built
from benchmarks.commanding import BUNDLE, JSON, THREADS, WORK, Figures, hand_over, rounds
from benchmarks.measuring import in_turn
from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector, Stream
from edge_runtime.outputs.jsonlines import JsonLines
from edge_runtime.stream.pixels import PixelSpec, prepare
from edge_runtime.stream.segments import Clock, Encode
from models.reference.architecture import REFERENCE

T = TypeVar("T")
Pictures = list[NDArray[np.uint8]]

HEIGHT, WIDTH = 1080, 1920
# More than the caches hold, as frames from a decoder are.
_PICTURES = 16
# A file's stream knows its length and prepares the sampled frames alone; a camera's goes by the clock.
WAYS: dict[str, tuple[Clock, Encode]] = {
    "file": ("frames", "batch"),
    "camera": ("time", "batch"),
    "camera, eager": ("time", "eager"),
}


class AnswersAtOnce:
    """An engine that gives a bundle's golden tokens and features for whatever it is shown."""

    provider = "none"

    def __init__(self, bundle: Bundle) -> None:
        golden = bundle.golden()
        self._tokens, self._features = golden.tokens[:1], golden.features[:1]
        self._a_frame = self._tokens.shape[1] // bundle.manifest.segment.sampled

    def tokens(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See Engine."""
        return self._tokens[:, : frames.shape[1] * self._a_frame]

    def language(self, tokens: NDArray[np.float32]) -> NDArray[np.float32]:
        """See Engine."""
        return self._features

    def features(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See Engine."""
        return self._features

    def abandon(self) -> None:
        """See Engine; there is nothing to abandon."""

    def close(self) -> None:
        """See Engine; there is nothing to close."""


class Spent:
    """Seconds by what they were spent on."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def on(self, what: str, work: Callable[..., T]) -> Callable[..., T]:
        """The same work, its time added up."""

        def timed_work(*arguments: object) -> T:
            begun = time.perf_counter()
            try:
                return work(*arguments)
            finally:
                self.seconds[what] += time.perf_counter() - begun

        return timed_work


@click.command()
@BUNDLE
@rounds(20)
@THREADS
@WORK
@JSON
def edge(path: Path | None, rounds: int, threads: int, work: Path, as_json: bool) -> None:
    """All of a segment that is not a graph, for frames of 1920 x 1080.

    \b
    Example:
      python -m benchmarks edge --bundle bundle
    """
    cv2.setNumThreads(1)
    bundle = Bundle.open(path or built(REFERENCE, REFERENCE, work))
    pictures = _pictures()
    ways = {name: _beside(bundle, pictures, clock, encode, rounds) for name, (clock, encode) in WAYS.items()}
    with Detector(bundle, threads=threads) as detector:
        assert detector.engine is not None
        engine, one = detector.engine, bundle.golden().frames[:1]
        engine.features(one)
        graphs_ms = 1e3 * statistics.median(in_turn({"graphs": lambda: engine.features(one)}, rounds)["graphs"])
        provider = engine.provider
    figures: Figures = {
        "model": bundle.manifest.source_model.name,
        "frames": bundle.manifest.segment.sampled,
        "pixels": str(bundle.manifest.pixels),
        "rounds": rounds,
        "provider": provider,
        "graphs_ms": graphs_ms,
        "beside_ms": {name: sum(spent.values()) for name, spent in ways.items()},
        "spent_ms": ways,
        "share": {name: (own := sum(spent.values())) / (own + graphs_ms) for name, spent in ways.items()},
    }
    hand_over(figures, _said(figures), as_json)


def _beside(bundle: Bundle, pictures: Pictures, clock: Clock, encode: Encode, segments: int) -> dict[str, float]:
    """Milliseconds a segment beside the graphs, the median of each part."""
    spec, pixels = bundle.manifest.segment, bundle.manifest.pixels
    spent, found = Spent(), []
    with (
        tempfile.TemporaryDirectory() as folder,
        JsonLines.to_file(Path(folder) / "records.jsonl") as lines,
        Detector(bundle, engine=AnswersAtOnce(bundle), self_test=False) as detector,
    ):
        detector.probabilities = spent.on("scorer", detector.probabilities)  # type: ignore[method-assign]
        write, resize = spent.on("records", lines.write), spent.on("resizing", prepare)
        length = (segments + 1) * spec.frames
        stream = detector.stream("gate", "low_latency", clock, length, sparing=True, encode=encode)
        for segment in range(segments + 1):
            spent.seconds.clear()
            push = spent.on("all", _push_segment)
            push(stream, pictures, pixels, segment * spec.frames, spec.frames, spec.fps, resize, write)
            whole = spent.seconds.pop("all")
            found.append({**spent.seconds, "rest": whole - sum(spent.seconds.values())})
    # With the clock a segment ends with the next one's first frame; the first has none to end.
    parts = dict.fromkeys(part for one in found for part in one)
    return {part: 1e3 * statistics.median(one.get(part, 0.0) for one in found[1:]) for part in parts}


def _push_segment(
    stream: Stream,
    pictures: Pictures,
    pixels: PixelSpec,
    first: int,
    frames: int,
    fps: float,
    resize: Callable[..., NDArray[np.uint8]],
    write: Callable[..., object],
) -> None:
    for index in range(first, first + frames):
        picture = pictures[index % len(pictures)]
        for record in stream.push_lazy(lambda picture=picture: resize(picture, pixels), index / fps):  # type: ignore[misc]
            write(record)


def _pictures() -> Pictures:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8) for _ in range(_PICTURES)]


def _said(of: Figures) -> str:
    lines = [
        f"{of['model']}, {of['frames']} of {WIDTH} x {HEIGHT} to {of['pixels']}, median of {of['rounds']} segments; "
        f"graphs {of['graphs_ms']:.1f} ms on {of['provider']}"
    ]
    for name, spent in of["spent_ms"].items():
        parts = ", ".join(f"{part} {value:.1f}" for part, value in spent.items())
        lines.append(
            f"{name:<14} {of['beside_ms'][name]:6.1f} ms beside them, {100 * of['share'][name]:.0f} % of a segment "
            f"({parts})"
        )
    return "\n".join(lines)
