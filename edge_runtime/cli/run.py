"""`hh-edge run`: detection, from sources to records."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from edge_runtime.cli.exit_codes import INTERRUPTED, tell, told
from edge_runtime.cli.options import DEBUG, PROVIDER, THREADS

if TYPE_CHECKING:
    from edge_runtime.bundle.reader import Bundle
    from edge_runtime.cli.console import LogConsole
    from edge_runtime.cli.planned import Wishes
    from edge_runtime.detector import Detector
    from edge_runtime.inference.engine import Engine
    from edge_runtime.outputs.jsonlines import JsonLines
    from edge_runtime.records import EventRecord
    from edge_runtime.stream.segments import Clock
    from edge_runtime.watch.config import Plan, PlannedCamera
    from edge_runtime.watch.config_settings import Configuration
    from edge_runtime.watch.detectors import Detectors
    from edge_runtime.watch.options import CameraOptions, RunOptions
    from edge_runtime.watch.supervisor import Supervisor

log = logging.getLogger(__name__)

# Options that are keys of the configuration too. Given on the command line they hold.
_SETTINGS = (
    "bundle",
    "provider",
    "threads",
    "locator",
    "encode",
    "stride",
    "reuse_unchanged",
    "max_batch",
    "max_wait_ms",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The options of a run that are not in its plan."""

    wishes: Wishes
    follow: bool
    clock: Clock | None
    no_self_test: bool


@click.command("run")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="cameras.yaml: cameras, their schedules and masks, and everything below. What the command line says holds; "
    "--camera adds to its cameras. SIGHUP has it read again.",
)
@click.option("--check-config", is_flag=True, help="Read and check everything, say what would run, and end.")
@click.option("--watch", is_flag=True, help="Read the configuration again whenever the file changes.")
@click.option("--bundle", type=click.Path(path_type=Path), help="Folder that `hh-offline build` made.")
@click.option(
    "--camera",
    "cameras",
    multiple=True,
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
@click.option(
    "--max-batch",
    type=click.IntRange(min=1),
    metavar="SEGMENTS",
    help="Score at most so many segments of live cameras in one call [default: 8 on a GPU, else 1].",
)
@click.option(
    "--max-wait-ms",
    type=click.FloatRange(0, 60_000),
    metavar="MS",
    help="How long a segment waits for others of its batch [default: 0, whatever is ready goes together].",
)
@click.option("--no-self-test", is_flag=True, help="Start without running one golden segment of the bundle first.")
@DEBUG
@click.option("--quiet", is_flag=True, help="Only warnings and errors on stderr, no progress line.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: one JSON object a line on stderr.",
)
@click.pass_context
def command(context: click.Context, /, **given: Any) -> int:
    """Detect anomalies and write records, one JSON object a line.

    You get a `run` record first, a `segment` record for every stretch of 48 frames (or what the bundle says) once
    its score is final, `event` records when consecutive segments are anomalous (new, update, end), a `gap` record
    for what could not be scored, and `camera` records when a live camera comes, stalls, goes or returns.

    A file ends the run; with a live camera it lasts until SIGINT (Ctrl-C) or SIGTERM: what is open is then scored
    and written, within 3 seconds. A second signal ends at once. In records of live cameras, start_s and end_s are
    seconds since the start of the run on a monotonic clock, and `time` is the end in UTC. An event that a crash left
    open in the --output file is ended by the next run (`reason: "restart"`).

    A live camera that goes away is tried again for ever, after 1, 2, 3, 3 … seconds; one that refuses the password
    every 15 minutes only, because cameras lock accounts (three times more at once, if it took the password before in
    this run). When scoring is slower than the cameras, the oldest waiting segments become gaps (reason `dropped`). Of
    several files each one that can be scored is scored, whatever is wrong with the others.

    With --config a run goes on where no camera answers, and while all are outside their schedules. On SIGHUP, and
    with --watch whenever the file changes, cameras are added, removed and changed without touching the others; a
    configuration that is wrong is told in one line, and the one before stays.

    \b
    Exit codes:
      0    done, or stopped by SIGTERM
      1    the work failed: a file that is truncated, records that could not be written, a failed self-test
      2    wrong usage, a wrong configuration, or a missing extra
      3    the bundle was refused
      4    a file could not be opened, or no live camera answered at the start (without --config)
      130  interrupted (SIGINT), whatever failed before

    \b
    Example:
      hh-edge run --bundle bundle/ --camera clip.mp4 --output records.jsonl
      hh-edge run --bundle bundle/ --camera gate=rtsp://user:password@10.0.0.7/stream --locator low_latency
      hh-edge run --bundle bundle/ --camera yard=rtsp://10.0.0.8/stream --reuse-unchanged 4
      hh-edge run --config cameras.yaml --check-config
      hh-edge run --config cameras.yaml --watch
    """
    from edge_runtime.cli.console import start_logging

    as_json, debug = given["log_format"] == "json", given["debug"]
    console = start_logging(given["quiet"], debug, given["log_format"])
    left_behind: list[str] = [] if context.obj is None else context.obj
    try:
        if given["check_config"]:
            return _check(_chosen(context, given))
        return _detect(_chosen(context, given), console, left_behind, as_json)
    except Exception as error:
        if not as_json:
            raise
        text, code = told(error)
        log.error("%s", text, exc_info=debug)
        return code


def _chosen(context: click.Context, given: dict[str, Any]) -> Chosen:
    from edge_runtime.cli.planned import Wishes
    from edge_runtime.errors import UsageError

    for option in ("check_config", "watch"):
        if given[option] and given["config"] is None:
            raise UsageError(f"--{option.replace('_', '-')} needs --config FILE")
    settings = {
        name: given[name]
        for name in _SETTINGS
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT and given[name] is not None
    }
    if "bundle" in settings:
        settings["bundle"] = str(settings["bundle"])
    wishes = Wishes(config=given["config"], settings=settings, output=given["output"], cameras=given["cameras"])
    return Chosen(wishes=wishes, follow=given["watch"], clock=given["clock"], no_self_test=given["no_self_test"])


def _check(chosen: Chosen) -> int:
    """Say what would run. Whatever is wrong, a refused bundle too, is the configuration's fault here."""
    from edge_runtime.bundle.reader import Bundle
    from edge_runtime.cli.planned import described
    from edge_runtime.errors import HeadHuntError, UsageError
    from edge_runtime.watch.config_outputs import check_outputs
    from edge_runtime.watch.files import check_files

    try:
        plan = chosen.wishes.plan()
        _run_options(plan.configuration, chosen)
        check_files([camera.source for camera in plan.cameras])
        check_outputs(plan.configuration)
        for path in {camera.bundle for camera in plan.cameras if camera.bundle is not None}:
            Bundle.open(path)
        tell(described(plan, Bundle.open(str(plan.configuration.bundle)).manifest))
    except HeadHuntError as error:
        raise UsageError(str(error)) from error
    return 0


def _run_options(
    configuration: Configuration,
    chosen: Chosen,
    console: LogConsole | None = None,
    alive: Callable[[], None] | None = None,
) -> RunOptions:
    from edge_runtime.watch.options import RunOptions

    return RunOptions(
        locator=configuration.locator,
        clock=chosen.clock,
        encode=configuration.encode,
        stride=configuration.stride,
        reuse_unchanged=configuration.reuse_unchanged,
        max_batch=configuration.max_batch,
        max_wait_ms=configuration.max_wait_ms,
        progress=None if console is None else console.progress,
        alive=alive,
    )


def _lines(configuration: Configuration, live: bool) -> AbstractContextManager[JsonLines]:
    """Where records go. A run over live cameras outlives a disk that is full for a while."""
    from edge_runtime.outputs.jsonlines import JsonLines, stdout_for_records_only

    settings = configuration.output
    if settings is None or settings.path == "-":
        return stdout_for_records_only(persistent=live)
    return JsonLines.to_file(
        Path(settings.path),
        None if settings.rotate_mb is None else round(settings.rotate_mb * 1e6),
        None if settings.rotate_days is None else settings.rotate_days * 86_400,
        settings.keep or 10,
        persistent=live,
    )


def _unfinished(configuration: Configuration, others: Sequence[EventRecord]) -> list[EventRecord]:
    """Events that an earlier run left open, as its outputs tell."""
    from edge_runtime.outputs.jsonlines import unfinished_events

    settings = configuration.output
    told = [] if settings is None or settings.path == "-" else unfinished_events(Path(settings.path))
    return list({event.id: event for event in (*others, *told)}.values())


def _detect(chosen: Chosen, console: LogConsole, left_behind: list[str], as_json: bool) -> int:
    from edge_runtime.bundle.reader import Bundle
    from edge_runtime.detector import Detector
    from edge_runtime.errors import HeadHuntError
    from edge_runtime.outputs.sink import Output, Outputs
    from edge_runtime.watch.config_outputs import open_outputs
    from edge_runtime.watch.detectors import Detectors
    from edge_runtime.watch.files import check_files
    from edge_runtime.watch.notify import ServiceManager
    from edge_runtime.watch.run import Runner
    from edge_runtime.watch.stopping import StopRequest, any_of

    runners: list[Runner] = []
    asked = threading.Event()
    service = ServiceManager()

    def load(bundle: Bundle, engine: Engine | None) -> Detector:
        return Detector(
            bundle,
            configuration.provider,
            configuration.threads,
            engine=engine,
            self_test=False,
            growing=configuration.encode == "eager",
        )

    detectors = Detectors(load, self_test=not chosen.no_self_test)
    with StopRequest(detectors.abandon, hangup=None if chosen.wishes.config is None else asked.set) as stop:
        try:
            plan = chosen.wishes.plan()
            configuration = plan.configuration
            options = _run_options(configuration, chosen, console, service.alive)
            sources = [camera.source for camera in plan.cameras if camera.enabled]
            check_files(sources)
            supervisor = _supervisor(plan, chosen, asked, _own_options(detectors))
            bundle = Bundle.open(str(configuration.bundle))
            # Refused before the graphs are loaded.
            bundle.manifest.segment.striding(configuration.stride)
            live = any(camera.source.live for camera in plan.cameras)
            names = [source.name for source in sources]
            with (
                _lines(configuration, live) as lines,
                detectors,
                open_outputs(configuration, names) as others,
                Outputs([Output(lines, required=True), *others.outputs]) as outputs,
            ):
                runner = Runner(
                    detectors.open(bundle),
                    outputs.emit,
                    any_of(stop.is_set, lambda: outputs.failed),
                    options=options,
                    open_reader=others.open_reader,
                    unfinished=_unfinished(configuration, others.unfinished),
                )
                runners.append(runner)
                runner.run(sources, {camera.source.name: camera.options for camera in plan.cameras}, supervisor)
                service.ending()
        except HeadHuntError as error:
            if stop.exit_code != INTERRUPTED:
                raise
            text, _ = told(error)
            if as_json:
                log.error("%s", text)
            else:
                click.echo(f"error: {text}", err=True)
        finally:
            console.close()
            left_behind += [name for runner in runners for name in runner.left_behind]
        return stop.exit_code


def _own_options(detectors: Detectors) -> Callable[[PlannedCamera], CameraOptions]:
    """Completes a camera's options by the detector of its own bundle."""
    from edge_runtime.bundle.reader import Bundle

    def options_of(camera: PlannedCamera) -> CameraOptions:
        if camera.bundle is None:
            return camera.options
        return replace(camera.options, detector=detectors.open(Bundle.open(camera.bundle)))

    return options_of


def _supervisor(
    plan: Plan, chosen: Chosen, asked: threading.Event, own: Callable[[PlannedCamera], CameraOptions]
) -> Supervisor | None:
    """What looks after the cameras of a configuration; None for files, and without one."""
    from edge_runtime.errors import UsageError
    from edge_runtime.watch.supervisor import Supervisor, check_reloaded

    if chosen.wishes.config is None:
        return None
    if not plan.cameras[0].source.live:
        if all(not camera.enabled for camera in plan.cameras):
            raise UsageError("all files of the configuration are disabled; there is nothing to do")
        if any(camera.schedule is not None for camera in plan.cameras):
            log.warning("schedules are for live cameras; files are run at once")
        return None
    return Supervisor(plan, lambda: check_reloaded(chosen.wishes.plan()), asked, options_of=own, follow=chosen.follow)
