"""How many cameras a server carries: a simulator of discrete events, and the real thing beside it.

    python -m benchmarks.fleet service --bundle bundle --output service.json
    python -m benchmarks.fleet simulate --service service.json --cameras 40 --cameras 80
    python -m benchmarks.fleet check --bundle bundle --cameras 20 --cameras 60 --seconds 60
    python -m benchmarks.fleet check --bundle bundle --serve --boxes 4 --cameras 40 --cameras 80 | tee fleet.txt
    python -m benchmarks.fleet picture fleet.txt fleet.png

How long a batch takes is drawn from what was measured, so that the simulator knows of no other slowness than the real
thing's. `check` runs both on the same plan: real segments by a real clock through the real backlog and the real
graphs; with `--serve`, or a `--provider` that is a Triton server, boxes are processes that share it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np

from benchmarks.bundles import built
from benchmarks.commanding import BUNDLE, PATH, WORK
from benchmarks.fleet_options import AMOUNT, SOME
from benchmarks.fleet_picture import picture
from benchmarks.fleet_real import SIZES, WARM, ServerFigures, measure_service, run_boxes, run_here, sizes_up_to
from benchmarks.fleet_simulator import Outcome, Plan, Service, simulate
from benchmarks.serving import served
from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.inference.triton_engine import TritonEngine
from models.reference.architecture import REFERENCE

CAMERAS = click.option(
    "--cameras", type=click.IntRange(min=1), multiple=True, default=(10, 40, 80), show_default=True
)
SERVICE = click.option("--service", type=PATH, required=True, help="The JSON that `service` wrote.")
SECONDS = click.option("--seconds", type=SOME, default=60.0, show_default=True)
SEED = click.option("--seed", default=0, show_default=True)
PROVIDER = click.option("--provider", default="cpu", show_default=True, help="As of hh-edge run.")
BATCH = click.option(
    "--batch", type=click.IntRange(min=1), help="Of a box [default: as hh-edge run, 8 with a server and 1 without]."
)
#: Of a box with a server.
_TOGETHER = 8


@click.group()
def main() -> None:
    """Cameras against servers, simulated and real."""


main.add_command(picture)


@contextmanager
def _scoring(path: Path | None, provider: str, work: Path) -> Iterator[tuple[Detector, ServerFigures | None]]:
    """What scores, and where it is a server, what that says of itself."""
    bundle = Bundle.open(path or built(REFERENCE, REFERENCE, work))
    if not provider.startswith("triton://"):
        with Detector(bundle, provider, threads=1) as detector:
            yield detector, None
        return
    with (
        closing(TritonEngine(bundle.manifest, provider)) as engine,
        closing(ServerFigures(bundle.manifest, provider)) as figures,
        Detector(bundle, engine=engine) as detector,
    ):
        yield detector, figures


def _measured(detector: Detector, figures: ServerFigures | None, rounds: int, sizes: Sequence[int]) -> Service:
    if figures is None:
        return measure_service(detector, rounds, sizes)
    return figures.measure(detector, rounds, sizes)


@main.command()
@BUNDLE
@PROVIDER
@click.option("--rounds", type=click.IntRange(min=1), default=60, show_default=True)
@click.option("--output", type=PATH, required=True)
@WORK
def service(path: Path | None, provider: str, rounds: int, output: Path, work: Path) -> None:
    """Measure how long batches take, and keep it."""
    with _scoring(path, provider, work) as (detector, figures):
        found = _measured(detector, figures, rounds, SIZES if figures is None else sizes_up_to(figures.batch))
    output.write_text(json.dumps(msgspec.to_builtins(found, str_keys=True)) + "\n")
    parts = [*((f"stage {number}", stage) for number, stage in enumerate(found.stages, 1)), ("beside", found.beside)]
    for name, times in parts:
        for size, taken in sorted(times.by_batch.items()) if times is not None else ():
            middle, most = np.quantile(taken, (0.5, 0.95))
            click.echo(f"{name}, {size} segments: {1000 * middle:.1f} ms, 95 % below {1000 * most:.1f} ms")


def read_service(path: Path) -> Service:
    """Read what `service` wrote."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Service)
    except (OSError, msgspec.DecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise click.ClickException(
            f"{path}: cannot be read ({why}); write it with: python -m benchmarks.fleet service --output {path}"
        ) from error


@main.command("simulate")
@SERVICE
@CAMERAS
@SECONDS
@SEED
@BATCH
@click.option("--boxes", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--servers", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--server-batch", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--instances", type=click.IntRange(min=1), default=1, show_default=True, help="Of a server's models.")
@click.option("--delay-ms", type=AMOUNT, default=0.0, show_default=True, help="How long a server waits for a batch.")
@click.option(
    "--request-bytes", type=click.IntRange(min=0), default=0, show_default=True, help="Of a segment over the network."
)
@click.option("--link-gbit", type=SOME, default=1.0, show_default=True, help="Of a server.")
@click.option("--round-trip-ms", type=AMOUNT, default=0.0, show_default=True)
@click.option(
    "--faster", type=SOME, default=1.0, show_default=True, help="How many times as fast as what was measured."
)
def simulate_command(service: Path, cameras: Sequence[int], seconds: float, seed: int, **given: Any) -> None:
    """Latency and gaps against cameras.

    \b
    Example:
      python -m benchmarks.fleet simulate --service service.json --cameras 100 --boxes 10 --server-batch 8
    """
    known = read_service(service).faster(given["faster"])
    batch = given["batch"] or (_TOGETHER if known.beside is not None else 1)
    plan = Plan(
        cameras=1,
        boxes=given["boxes"],
        servers=given["servers"],
        box_batch=batch,
        server_batch=max(given["server_batch"], batch),
        instances=given["instances"],
        delay_s=given["delay_ms"] / 1000,
        request_bytes=given["request_bytes"],
        link_bytes_per_s=given["link_gbit"] * 1.25e8,
        round_trip_s=given["round_trip_ms"] / 1000,
    )
    click.echo(_HEADER)
    for count in cameras:
        out = simulate(replace(plan, cameras=count), known, seconds, seed)
        click.echo(_row(count, "simulated", out, seconds, plan))


@main.command()
@BUNDLE
@PROVIDER
@CAMERAS
@SECONDS
@SEED
@BATCH
@click.option("--rounds", type=click.IntRange(min=1), default=60, show_default=True)
@click.option("--boxes", type=click.IntRange(min=1), default=1, show_default=True, help="Processes; with a server.")
@click.option("--serve", is_flag=True, help="Start a Triton server here, of the wheel nvidia-pytriton.")
@click.option("--server-batch", type=click.IntRange(min=1), default=8, show_default=True, help="With --serve.")
@click.option(
    "--delay-ms", type=AMOUNT, default=2.0, show_default=True, help="How long it waits for a batch, with --serve."
)
@WORK
def check(path: Path | None, provider: str, cameras: Sequence[int], serve: bool, work: Path, **given: Any) -> None:
    """The simulator beside the real thing: on one box, or on several that share a Triton server.

    \b
    Examples:
      python -m benchmarks.fleet check --bundle bundle --cameras 20 --cameras 60 --seconds 60
      python -m benchmarks.fleet check --bundle bundle --serve --boxes 4 --cameras 20 --cameras 60
    """
    path = path or built(REFERENCE, REFERENCE, work)
    with ExitStack() as stack:
        if serve:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleet-")))
            server = served(Bundle.open(path), folder, 1, given["server_batch"], given["delay_ms"])
            provider = stack.enter_context(server).address
        detector, figures = stack.enter_context(_scoring(path, provider, work))
        if figures is None and given["boxes"] > 1:
            raise click.UsageError("several boxes share a server: give --serve, or its address as --provider")
        _check(path, provider, cameras, detector, figures, given)


def _check(
    path: Path,
    provider: str,
    cameras: Sequence[int],
    detector: Detector,
    figures: ServerFigures | None,
    given: Mapping[str, Any],
) -> None:
    seconds, seed = given["seconds"], given["seed"]
    batch = given["batch"] or (1 if figures is None else _TOGETHER)
    click.echo(_HEADER)
    for count in cameras:
        if figures is None:
            plan = Plan(cameras=count, box_batch=batch, server_batch=batch)
        else:
            plan = figures.plan(count, given["boxes"], batch)
        # Anew each time: other work on the machine comes and goes.
        known = _measured(detector, figures, given["rounds"], sizes_up_to(plan.server_batch))
        if figures is None:
            real = run_here(plan, detector, seconds, seed)
        else:
            real = run_boxes(plan, path, provider, figures, seconds, seed)
        click.echo(_row(count, "real", real, seconds, plan))
        # As cold as the real one: queues that overflow take minutes to fill.
        click.echo(_row(count, "simulated", simulate(plan, known, seconds, seed, WARM * seconds), seconds, plan))


_HEADER = "cameras             latency: median    95 %    99 %   segments lost   busy   together: segments, ms"


def _row(cameras: int, name: str, out: Outcome, seconds: float, plan: Plan) -> str:
    middle, most, last = (out.latency_s(share) for share in (0.5, 0.95, 0.99))
    stages = "; ".join(
        f"{stage.segments / max(1, stage.runs):.2f}, {1000 * stage.worked_s / max(1, stage.runs):.0f}"
        for stage in out.stages
    )
    return (
        f"{cameras:7}  {name:10}  {1000 * middle:11.0f} ms  {1000 * most:5.0f}   {1000 * last:5.0f}"
        f"   {100 * out.lost:11.1f} %  {100 * out.busy_s / seconds / plan.servers / plan.instances:4.0f} %   {stages}"
    )


if __name__ == "__main__":
    main()
