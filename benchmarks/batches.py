"""What scoring segments of several cameras in one call brings: time a segment in batches of 1, 2, 4, 8.

    python -m benchmarks batches --provider cpu

The same segments are scored in batches of each size in turn, by the two graphs and the scorer, as a run scores those
that several cameras have finished (`hh-edge run --max-batch`). The first of a batch waits for all of it.
"""

from __future__ import annotations

import statistics
from functools import partial
from pathlib import Path

import click
import numpy as np

from benchmarks.bundles import built
from benchmarks.commanding import BUNDLE, JSON, PROVIDER, THREADS, WORK, Figures, hand_over, rounds
from benchmarks.measuring import in_turn, median_ratio
from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.stream.segments import Segment
from edge_runtime.watch.scoring import Waiting, score_together
from models.reference.architecture import REFERENCE


@click.command()
@BUNDLE
@click.option("--size", "sizes", type=click.IntRange(min=1), multiple=True, default=(1, 2, 4, 8), show_default=True)
@PROVIDER
@rounds(20)
@THREADS
@WORK
@JSON
def batches(
    path: Path | None,
    sizes: tuple[int, ...],
    provider: str | None,
    rounds: int,
    threads: int,
    work: Path,
    as_json: bool,
) -> None:
    """Time a segment takes, alone and in batches.

    \b
    Example:
      python -m benchmarks batches --bundle bundle --provider openvino --rounds 50
    """
    bundle = Bundle.open(path or built(REFERENCE, REFERENCE, work))
    sizes = tuple(sorted({1, *sizes}))
    most = max(sizes)
    frames = bundle.golden().frames
    with Detector(bundle, provider or "auto", threads) as detector:
        assert detector.engine is not None
        # Noise on the golden ones: no two segments are the same, and none is easier than another.
        noise = np.random.default_rng(0).integers(0, 8, (most, *frames.shape[1:]), dtype=np.uint8)
        waiting = [
            Waiting(f"camera{place}", Segment(place, 0, 48, 0.0, 3.2, frames[place % len(frames)] | one), detector)
            for place, one in enumerate(noise)
        ]

        def score(size: int) -> list[float | None]:
            return [
                score for first in range(0, most, size) for score in score_together(waiting[first : first + size])
            ]

        works = {str(size): partial(score, size) for size in sizes}
        # Alike, but for the rounding of another order of adding up; the first call of a size plans its memory.
        scores = {name: np.array(work(), np.float64) for name, work in works.items()}
        apart = max(float(np.abs(scores[name] - scores["1"]).max()) for name in works)
        taken = in_turn(works, rounds)
        used = detector.engine.provider
    figures: Figures = {
        "model": bundle.manifest.source_model.name,
        "provider": used,
        "threads": threads,
        "rounds": rounds,
        "ms_a_segment": {str(size): 1e3 * statistics.median(taken[str(size)]) / most for size in sizes},
        "ratio": {str(size): median_ratio(taken[str(size)], taken["1"]) for size in sizes},
        "apart": apart,
    }
    each = "\n".join(
        f"{size:>9}{figures['ms_a_segment'][str(size)]:>16.2f}{figures['ratio'][str(size)]:>16.2f}"
        f"{size * figures['ms_a_segment'][str(size)]:>18.2f}"
        for size in sizes
    )
    text = (
        f"{figures['model']} on {used}, {threads} threads, {most} segments {rounds} times, paired\n"
        f"    batch  ms a segment  alone is 1.00  ms for the batch\n{each}\n"
        f"scores differ by at most {apart:.1e}"
    )
    hand_over(figures, text, as_json)
