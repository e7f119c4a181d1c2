"""`hh-edge run`: detection, from sources to records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_runtime.cli.exit_codes import INTERRUPTED
from edge_runtime.cli.options import DEBUG, PROVIDER, THREADS

if TYPE_CHECKING:
    from edge_runtime.cli.console import LogConsole
    from edge_runtime.stream.segments import Clock, Encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The options of a run, as they were given."""

    bundle: Path
    cameras: tuple[str, ...]
    locator: str
    clock: Clock | None
    encode: Encode
    stride: int | None
    reuse_unchanged: float | None
    provider: str
    threads: int | None
    output: str | None
    no_self_test: bool


@click.command("run")
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
@click.option(
    "--encode",
    type=click.Choice(["batch", "eager"]),
    default="batch",
    show_default=True,
    help="eager runs the model on each sampled frame when it comes: a segment's record then waits for the newest "
    "frame and the question alone. batch runs it on all of them at the end, which takes less time in all and less "
    "memory a camera.",
)
@click.option(
    "--stride",
    type=click.IntRange(min=1),
    metavar="FRAMES",
    help="Begin a segment every so many frames, a divisor of a segment's frames. A record is one stride long then, "
    "its score the mean of the segments that cover it. Frames that several segments see are encoded once; they do "
    "where the stride is a multiple of frames / sampled frames [default: what the bundle was calibrated with].",
)
@click.option(
    "--reuse-unchanged",
    type=float,
    metavar="LEVELS",
    help="Encode a frame only if it changed: one that differs from the frame that was encoded last by at most so "
    "many grey levels (0 to 255), on average in the block of 16 x 16 pixels where they differ most, takes its "
    "tokens. 0: identical pixels only, which is exact; 4, say, for a camera with nothing in sight. `hh-edge inspect` "
    "says what the build measured [default: off].",
)
@PROVIDER
@THREADS
@click.option(
    "--output",
    type=click.Path(),
    help="Write records to this file instead of stdout (`-`); a file that exists is appended to, with a warning.",
)
@click.option("--no-self-test", is_flag=True, help="Start without running one golden segment of the bundle first.")
@DEBUG
@click.option("--quiet", is_flag=True, help="Only warnings and errors on stderr, no progress line.")
@click.pass_obj
def command(left_behind: list[str] | None, /, debug: bool, quiet: bool, **chosen: Any) -> int:
    """Detect anomalies and write records, one JSON object a line.

    You get a `run` record first, a `segment` record for every stretch of 48 frames (or what the bundle says) once
    its score is final, `event` records when consecutive segments are anomalous (new, update, end), a `gap` record
    for what could not be scored, and `camera` records when a live camera comes, stalls, goes or returns.

    A file ends the run; with a live camera it lasts until SIGINT (Ctrl-C) or SIGTERM: what is open is then scored
    and written, within 3 seconds. A second signal ends at once. In records of live cameras, start_s and end_s are
    seconds since the start of the run on a monotonic clock, and `time` is the end in UTC. An event that a crash left
    open in the --output file is ended by the next run (`reason: "restart"`).

    A live camera that goes away is tried again for ever, after 1, 2, 5, 10, 30, 30 … seconds. When scoring is
    slower than the cameras, the oldest waiting segments become gaps (reason `dropped`). Of several files each one
    that can be scored is scored, whatever is wrong with the others.

    \b
    Exit codes:
      0    done, or stopped by SIGTERM
      1    the work failed: a file that is truncated, records that could not be written, a failed self-test
      2    wrong usage, or a missing extra
      3    the bundle was refused
      4    a file could not be opened, or no live camera answered at the start
      130  interrupted (SIGINT), whatever failed before

    \b
    Example:
      hh-edge run --bundle bundle/ --camera clip.mp4 --output records.jsonl
      hh-edge run --bundle bundle/ --camera gate=rtsp://user:password@10.0.0.7/stream --locator low_latency
      hh-edge run --bundle bundle/ --camera yard=rtsp://10.0.0.8/stream --reuse-unchanged 4
    """
    from edge_runtime.cli.console import start_logging

    return _detect(Chosen(**chosen), start_logging(quiet, debug), [] if left_behind is None else left_behind)


def _detect(chosen: Chosen, console: LogConsole, left_behind: list[str]) -> int:
    from edge_runtime.bundle.reader import Bundle
    from edge_runtime.detector import Detector
    from edge_runtime.errors import HeadHuntError, one_line
    from edge_runtime.files import printable
    from edge_runtime.outputs.jsonlines import JsonLines, stdout_for_records_only, unfinished_events
    from edge_runtime.outputs.sink import Output, Outputs
    from edge_runtime.video.sources import parse_source
    from edge_runtime.watch.files import check_files
    from edge_runtime.watch.options import RunOptions
    from edge_runtime.watch.run import Runner, check_sources
    from edge_runtime.watch.stopping import StopRequest, any_of

    loaded: list[Detector] = []
    runners: list[Runner] = []

    def hurry() -> None:
        for detector in loaded:
            detector.abandon()

    with StopRequest(hurry) as stop:
        try:
            options = RunOptions(
                locator=chosen.locator,
                clock=chosen.clock,
                encode=chosen.encode,
                stride=chosen.stride,
                reuse_unchanged=chosen.reuse_unchanged,
                progress=console.progress,
            )
            sources = [parse_source(text) for text in chosen.cameras]
            check_sources(sources)
            check_files(sources)
            bundle = Bundle.open(chosen.bundle)
            # Refused before the graphs are loaded.
            bundle.manifest.segment.striding(chosen.stride)
            to_stdout = chosen.output in (None, "-")
            unfinished = [] if to_stdout else unfinished_events(Path(str(chosen.output)))
            with (
                stdout_for_records_only() if to_stdout else JsonLines.to_file(Path(str(chosen.output))) as lines,
                Detector(
                    bundle, chosen.provider, chosen.threads, self_test=False, growing=chosen.encode == "eager"
                ) as detector,
                Outputs([Output(lines, required=True)]) as outputs,
            ):
                # Before the self-test: a signal during it must reach the graphs.
                loaded.append(detector)
                if not chosen.no_self_test:
                    detector.self_test()
                runner = Runner(
                    detector,
                    outputs.emit,
                    any_of(stop.is_set, lambda: outputs.failed),
                    options=options,
                    unfinished=unfinished,
                )
                runners.append(runner)
                runner.run(sources)
        except HeadHuntError as error:
            if stop.exit_code != INTERRUPTED:
                raise
            click.echo(f"error: {printable(one_line(error))}", err=True)
        finally:
            console.close()
            left_behind += [name for runner in runners for name in runner.left_behind]
        return stop.exit_code
