"""What a segment weighs on its way to a Triton server: sixteen frames as they are, and as JPEG of several qualities.

    python -m benchmarks.wire street.avi --size 96 --size 448

Segments of 48 frames, as a box cuts, prepares and encodes them; every file of a segment has as many bytes on the
network as its largest.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import click
import numpy as np

from benchmarks.commanding import PATH
from edge_runtime.inference.triton_engine import encode_jpeg
from edge_runtime.stream.pixels import PixelSpec
from edge_runtime.stream.segments import SegmentSpec
from offline.data.segments import read_segments

SEGMENT = SegmentSpec(frames=48, sampled=16, fps=15)
_KB = 1000


@click.command()
@click.argument("footage", type=PATH)
@click.option("--size", "sizes", type=int, multiple=True, default=(96, 224, 448), show_default=True)
@click.option("--quality", "qualities", type=int, multiple=True, default=(95, 90, 80), show_default=True)
@click.option("--segments", type=int, default=10, show_default=True, help="At most.")
def main(footage: Path, sizes: Sequence[int], qualities: Sequence[int], segments: int) -> None:
    """See this module's first lines."""
    click.echo(f"python -m benchmarks.wire {footage.name}\n")
    click.echo("size  quality  kB a segment  of raw  encoding, ms")
    for size in sizes:
        read = islice(read_segments(footage, PixelSpec(size=size), SEGMENT), segments)
        frames = [one.pixels[np.newaxis] for one in read]
        raw = frames[0].nbytes
        click.echo(f"{size:4}      raw  {raw / _KB:12.0f}   100 %")
        for quality in qualities:
            begun_s = time.perf_counter()
            sent = [encode_jpeg(one, quality).nbytes for one in frames]
            took_s = (time.perf_counter() - begun_s) / len(frames)
            mean = float(np.mean(sent))
            click.echo(f"{size:4}  {quality:7}  {mean / _KB:12.0f}  {100 * mean / raw:4.0f} %  {1000 * took_s:12.1f}")


if __name__ == "__main__":
    main()
