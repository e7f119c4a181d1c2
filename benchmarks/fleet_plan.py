"""Boxes, GPUs, network and money for a number of cameras, from measured costs and prices that are parameters.

    python -m benchmarks.fleet_plan --cameras 10 --cameras 1000 --cameras 100000
    python -m benchmarks.fleet_plan --cameras 1000 --segment-tflop 14.4 --gpu-tflops 400 --wire-bytes 1600000

The defaults of costs were measured: decoding of 1080p on one core and the work of a segment of InternVL3-1B at 16
frames and 15 of 24 layers (`benchmarks/README.md`), pixels of 1080p to 448 x 448 by the checkpoint's bicubic way
(`benchmarks/pixels.txt`), and those frames as JPEG 95 (`benchmarks/wire.txt`). Prices and the GPU's speed are
examples to be replaced; nothing here was measured on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import click

from benchmarks.fleet_options import AMOUNT, SHARE, SOME

HOURS = 24 * 365.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What one camera takes, and what hardware gives and costs.

    Attributes:
        fps: Frames a second that a camera sends.
        period_s: From one segment to the next.
        decode_ms: Of a core, to decode a frame.
        pixels_ms: Of a core, to bring the sampled frames of a segment to the model's size.
        encode_ms: Of a core, to encode them, where they go to a server.
        wire_bytes: Of a segment, from its box to a server; 0 where nothing travels: the GPUs stand in the boxes.
        segment_tflop: The work of a segment.
        gpu_tflops: What a GPU sustains.
        full: The share of a core or a GPU that is planned with; queues grow long near 1.
        box_cores: Of a box.
        box_price: Of a box.
        box_watts: Of a box.
        gpu_price: Of a GPU with its share of a server.
        gpu_watts: The same.
        years: Over which hardware is written off.
        kwh_price: Of electricity.
    """

    fps: float = 15.0
    period_s: float = 3.2
    decode_ms: float = 1.575
    pixels_ms: float = 178.8
    encode_ms: float = 22.0
    wire_bytes: int = 1_600_000
    segment_tflop: float = 14.4
    gpu_tflops: float = 400.0
    full: float = 0.6
    box_cores: int = 4
    box_price: float = 600.0
    box_watts: float = 25.0
    gpu_price: float = 30_000.0
    gpu_watts: float = 900.0
    years: float = 4.0
    kwh_price: float = 0.25


@dataclass(frozen=True, slots=True)
class Fleet:
    """What a number of cameras needs.

    Attributes:
        cameras: How many.
        boxes: That decode and cut.
        gpus: That score; where they stand in the boxes, at least one in each.
        uplink_mbit: From all boxes to the servers.
        box_uplink_mbit: From one box.
        yearly: Cost of one camera and year, in the currency of the prices.
    """

    cameras: int
    boxes: int
    gpus: int
    uplink_mbit: float
    box_uplink_mbit: float
    yearly: float


def cameras_a_box(costs: Costs) -> int:
    """How many cameras a box decodes and cuts, at least 1."""
    segment_ms = costs.pixels_ms + (costs.encode_ms if costs.wire_bytes else 0.0)
    core_share = costs.fps * costs.decode_ms / 1000 + segment_ms / 1000 / costs.period_s
    return max(1, math.floor(costs.full * costs.box_cores / core_share))


def cameras_a_gpu(costs: Costs) -> float:
    """How many cameras a GPU scores."""
    return costs.full * costs.gpu_tflops * costs.period_s / costs.segment_tflop


def _gpus(cameras: int, costs: Costs) -> int:
    # A quotient that is whole but for its last bit is whole.
    return math.ceil(cameras / cameras_a_gpu(costs) * (1 - 1e-12))


def plan_fleet(cameras: int, costs: Costs) -> Fleet:
    """Plan for a number of cameras."""
    boxes = math.ceil(cameras / cameras_a_box(costs))
    if costs.wire_bytes:
        gpus = _gpus(cameras, costs)
    else:
        # Boxes do not share what stands in them. Some have a camera more than the others.
        each, more = divmod(cameras, boxes)
        gpus = more * _gpus(each + 1, costs) + (boxes - more) * _gpus(each, costs)
    each_mbit = 8e-6 * costs.wire_bytes / costs.period_s
    bought = (boxes * costs.box_price + gpus * costs.gpu_price) / costs.years
    watts = boxes * costs.box_watts + gpus * costs.gpu_watts
    yearly = (bought + watts / 1000 * HOURS * costs.kwh_price) / cameras
    return Fleet(cameras, boxes, gpus, cameras * each_mbit, cameras / boxes * each_mbit, yearly)


def _option(name: str, kind: click.ParamType, meaning: str) -> Callable[[click.Command], click.Command]:
    default = Costs.__dataclass_fields__[name].default
    return click.option(f"--{name.replace('_', '-')}", type=kind, default=default, show_default=True, help=meaning)


_OPTIONS: dict[str, tuple[click.ParamType, str]] = {
    "fps": (SOME, "Of a camera."),
    "period_s": (SOME, "Seconds from segment to segment."),
    "decode_ms": (SOME, "Milliseconds of a core a frame."),
    "pixels_ms": (AMOUNT, "Milliseconds of a core a segment."),
    "encode_ms": (AMOUNT, "The same, where it goes to a server."),
    "wire_bytes": (
        click.IntRange(0, 10**9),
        "Of a segment to the server; 0: nothing travels, the GPUs stand in the boxes.",
    ),
    "segment_tflop": (SOME, "Work of a segment."),
    "gpu_tflops": (SOME, "What a GPU sustains, TFLOP/s."),
    "full": (SHARE, "Share that is planned with."),
    "box_cores": (click.IntRange(1, 10**6), "Of a box."),
    "box_price": (AMOUNT, "Of a box."),
    "box_watts": (AMOUNT, "Of a box."),
    "gpu_price": (AMOUNT, "Of a GPU and its share of a server."),
    "gpu_watts": (AMOUNT, "The same."),
    "years": (SOME, "Written off over."),
    "kwh_price": (AMOUNT, "Of electricity."),
}


@click.command()
@click.option(
    "--cameras", type=click.IntRange(1, 10**9), multiple=True, default=(10, 1000, 100_000), show_default=True
)
def main(cameras: tuple[int, ...], **given: float) -> None:
    """Boxes, GPUs, network and cost of one camera and year."""
    costs = Costs(**given)  # type: ignore[arg-type]  # click gives each the type of its default
    click.echo(
        f"a box of {costs.box_cores} cores decodes and cuts {cameras_a_box(costs)} cameras, "
        f"a GPU scores {cameras_a_gpu(costs):.0f}; each at {costs.full:.0%}"
        + ("" if costs.wire_bytes else "; the GPUs stand in the boxes")
    )
    click.echo("cameras   boxes    GPUs   to the servers   from one box   a camera and year")
    for one in (plan_fleet(count, costs) for count in cameras):
        click.echo(
            f"{one.cameras:7} {one.boxes:7} {one.gpus:7} {one.uplink_mbit:11.0f} Mbit/s "
            f"{one.box_uplink_mbit:7.0f} Mbit/s {one.yearly:12.2f}"
        )


for _name, (_kind, _meaning) in reversed(_OPTIONS.items()):
    main = _option(_name, _kind, _meaning)(main)


if __name__ == "__main__":
    main()
