"""`hh-edge`: parses, calls one function, prints, returns its exit code. Heavy imports wait for their command."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_runtime._version import __version__
from edge_runtime.cli.exit_codes import run_command
from edge_runtime.inference.providers import AUTO, provider_choices

if TYPE_CHECKING:
    from edge_runtime.stream.segments import Clock

BUNDLE = click.argument("bundle", type=click.Path(path_type=Path))
PROVIDER = click.option(
    "--provider",
    type=click.Choice(provider_choices()),
    default=AUTO,
    show_default=True,
    help="What runs the graphs. A provider that is asked for by name and does not load is an error.",
)
THREADS = click.option(
    "--threads", type=click.IntRange(min=1), help="Processor threads for one segment [default: one a core]."
)
DEBUG = click.option("--debug", is_flag=True, help="Debug logs, and a traceback for an error.")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout instead of text.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="hh-edge")
def cli() -> None:
    """Watch cameras with a bundle: frames in, anomaly events out.

    \b
    Example:
      hh-edge doctor
      hh-edge verify bundle/
      hh-edge run --bundle bundle/ --camera gate=rtsp://user:password@10.0.0.7/stream
    """


@cli.command()
@click.option("--bundle", type=click.Path(path_type=Path), required=True, help="Folder that `hh-offline build` made.")
@click.option(
    "--camera",
    "cameras",
    multiple=True,
    required=True,
    metavar="SRC",
    help="A video file, rtsp://…, http://… (MJPEG) or a device number; name=SRC gives it a name. Repeat it for "
    "several cameras at once, or several files one after another.",
)
@click.option(
    "--locator",
    type=click.Choice(["full", "low_latency"]),
    default="full",
    show_default=True,
    help="full smooths over later segments too and answers later; low_latency answers at once. "
    "`hh-edge inspect` gives the seconds.",
)
@click.option(
    "--clock",
    type=click.Choice(["frames", "time"]),
    help="Cut segments by counting frames or by time [default: frames for files, time for live cameras].",
)
@PROVIDER
@THREADS
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Write records to this file instead of stdout; a file that exists is appended to, with a warning.",
)
@DEBUG
@click.option("--quiet", is_flag=True, help="Only warnings and errors on stderr, no progress line.")
def run(
    bundle: Path,
    cameras: tuple[str, ...],
    locator: str,
    clock: Clock | None,
    provider: str,
    threads: int | None,
    output: Path | None,
    debug: bool,
    quiet: bool,
) -> int:
    """Detect anomalies and write records, one JSON object a line.

    You get a `segment` record for every stretch of 48 frames (or what the bundle says) once its score is final,
    `event` records when consecutive segments are anomalous (new, update, end), a `gap` record for what could not
    be scored, and `camera` records when a live camera comes, stalls, goes or returns.

    A file ends the run; with a live camera it lasts until SIGINT (Ctrl-C) or SIGTERM: what is open is then scored
    and written, within 3 seconds. A second signal ends at once. In records of live cameras, start_s and end_s are
    seconds since the start of the run on a monotonic clock; the log gives the start in UTC.

    A live camera that goes away is tried again for ever, after 1, 2, 5, 10, 30, 30 … seconds. When scoring is
    slower than the cameras, the oldest waiting segments become gaps (reason `dropped`).

    \b
    Exit codes:
      0    done, or stopped by SIGTERM
      1    the work failed: a file that is truncated, records that could not be written
      2    wrong usage, or a missing extra
      3    the bundle was refused
      4    the file could not be opened, or no live camera answered at the start
      130  interrupted (SIGINT)

    \b
    Example:
      hh-edge run --bundle bundle/ --camera clip.mp4 --output records.jsonl
      hh-edge run --bundle bundle/ --camera gate=rtsp://user:password@10.0.0.7/stream --locator low_latency
    """
    from edge_runtime.bundle.reader import Bundle
    from edge_runtime.cli.console import start_logging
    from edge_runtime.detector import Detector
    from edge_runtime.outputs.jsonlines import JsonLines, stdout_for_records_only
    from edge_runtime.video.sources import parse_source
    from edge_runtime.watch.run import Runner, check_sources
    from edge_runtime.watch.stopping import StopRequest

    console = start_logging(quiet, debug)
    loaded: list[Detector] = []

    def hurry() -> None:
        for detector in loaded:
            detector.abandon()

    with StopRequest(hurry) as stop:
        sources = [parse_source(text) for text in cameras]
        check_sources(sources)
        opened = Bundle.open(bundle)
        with (
            stdout_for_records_only() if output is None else JsonLines.to_file(output) as lines,
            Detector(opened, provider, threads) as detector,
        ):
            loaded.append(detector)
            try:
                runner = Runner(detector, lines.write, stop, locator=locator, clock=clock, progress=console.progress)
                runner.run(sources)
            finally:
                console.close()
        return stop.exit_code


@cli.command()
@BUNDLE
@AS_JSON
@DEBUG
def inspect(bundle: Path, as_json: bool, debug: bool) -> None:
    """Show what is in a bundle, after checking every file against its hash.

    You get the model, prompt and expert heads it came from, how it cuts and samples, how well it did on its
    validation split, how late its two locators answer, and its size on disk.

    \b
    Example:
      hh-edge inspect bundle/
      hh-edge inspect bundle/ --json | jq .experts
    """
    from edge_runtime.bundle.reader import Bundle
    from edge_runtime.bundle.summary import as_dict, as_text
    from edge_runtime.cli.console import start_logging

    start_logging(debug=debug)
    opened = Bundle.open(bundle)
    click.echo(_json(as_dict(opened)) if as_json else as_text(opened))


@cli.command()
@BUNDLE
@PROVIDER
@THREADS
@AS_JSON
@DEBUG
def verify(bundle: Path, provider: str, threads: int | None, as_json: bool, debug: bool) -> int:
    """Check a bundle's files, then that this machine computes with it what the builder's machine did.

    You get the largest difference of tokens, features and probabilities on the golden segments, and what is
    allowed at this precision and provider. Exit code 3 where a file is not what the manifest says, 1 where a
    difference is too large.

    \b
    Example:
      hh-edge verify bundle/
      hh-edge verify bundle/ --provider cuda
    """
    from edge_runtime.bundle.reader import Bundle
    from edge_runtime.checks.verify import verify as check
    from edge_runtime.cli.console import start_logging
    from edge_runtime.detector import Detector

    start_logging(debug=debug)
    with Detector(Bundle.open(bundle), provider, threads) as detector:
        found = check(detector)
    click.echo(_json(found.to_dict()) if as_json else "\n".join(found.lines()))
    if not found.passed:
        click.echo(
            f"error: {bundle}: this machine's {found.provider} provider computes other values than the builder",
            err=True,
        )
    return 0 if found.passed else 1


@cli.command()
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
def bench(
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
        click.echo(_json(speed.to_dict() | ({} if load is None else {"cameras": cameras, "load": load})))
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


@cli.command()
@AS_JSON
@DEBUG
def doctor(as_json: bool, debug: bool) -> None:
    """Say what this machine offers: versions, providers that really load, video, processor, memory, GPU.

    You get one line a finding, with what to do about it where there is something to do. The exit code is 0
    whatever is found.

    \b
    Example:
      hh-edge doctor
    """
    from dataclasses import asdict

    from edge_runtime.checks.doctor import examine
    from edge_runtime.cli.console import start_logging

    start_logging(debug=debug)
    findings = examine()
    if as_json:
        click.echo(_json([asdict(finding) for finding in findings]))
        return
    click.echo("\n".join(line for finding in findings for line in finding.lines()))


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)


def main() -> None:
    """Entry point of `hh-edge`."""
    code = run_command(cli)
    if any(thread.name.startswith("camera-") for thread in threading.enumerate()):
        # A reader still blocks in native code: it would run on while the interpreter takes itself apart.
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
    sys.exit(code)
