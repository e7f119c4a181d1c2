"""`hh-edge bench`: speed on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from edge_runtime.cli.options import AS_JSON, BUNDLE, DEBUG, PROVIDER, THREADS, as_json_text


@click.command("bench")
@BUNDLE
@PROVIDER
@THREADS
@click.option(
    "--seconds", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="How long to measure."
)
@click.option(
    "--cameras", type=click.IntRange(min=1), help="Say how much of this machine so many live cameras would take."
)
@AS_JSON
@DEBUG
def command(
    bundle: Path,
    provider: str,
    threads: int | None,
    seconds: float,
    cameras: int | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Measure how fast this machine scores segments, and how many cameras that would feed.

    You get segments per second, milliseconds per stage (p50 and p95) and peak memory, measured on the bundle's
    golden segments one after another. Resizing from 1920 x 1080 is included, decoding is not: each camera takes
    some of a core for that.

    \b
    Example:
      hh-edge bench bundle/ --seconds 30 --cameras 4
    """
    from edge_runtime.bundle.reader import Bundle
    from edge_runtime.checks.bench import bench as measure
    from edge_runtime.cli.console import start_logging
    from edge_runtime.detector import Detector

    start_logging(debug=debug)
    opened = Bundle.open(bundle)
    golden = opened.golden()
    with Detector(opened, provider, threads) as detector:
        speed = measure(detector, golden, seconds)
    load = None if cameras is None else cameras / speed.live_cameras
    if as_json:
        click.echo(as_json_text(speed.to_dict() | ({} if load is None else {"cameras": cameras, "load": load})))
        return
    click.echo(f"{speed.segments_per_s:.2f} segments/s on {speed.provider} ({speed.segments} measured)")
    for stage in speed.stages:
        click.echo(f"  {stage.stage:<10} p50 {stage.p50_ms:9.2f} ms   p95 {stage.p95_ms:9.2f} ms")
    click.echo(f"feeds {speed.live_cameras:.1f} live cameras (--clock time, a segment every {speed.segment_s:.2f} s)")
    click.echo(f"feeds {speed.cameras_30fps:.1f} streams of 30 frames/s that are cut by counting (--clock frames)")
    if speed.peak_memory_mib is not None:
        click.echo(f"peak memory {speed.peak_memory_mib:.0f} MiB")
    if load is not None:
        verdict = "leave decoding the rest" if load <= 1 else "too many: segments would be dropped"
        click.echo(f"{cameras} live cameras would take {100 * load:.0f} % of this machine's scoring; {verdict}")
