"""One run as `hh-edge run` puts it together: configuration, detectors, cameras and outputs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import click

from edge_runtime.bundle.reader import Bundle
from edge_runtime.cli.console import LogConsole
from edge_runtime.cli.exit_codes import INTERRUPTED, tell, told
from edge_runtime.cli.planned import Wishes, described
from edge_runtime.cli.serving import serving
from edge_runtime.detector import Detector
from edge_runtime.errors import HeadHuntError, UsageError
from edge_runtime.inference.engine import Engine
from edge_runtime.machine import share_heaps
from edge_runtime.outputs.jsonlines import JsonLines, stdout_for_records_only, unfinished_events
from edge_runtime.outputs.sink import Output, Outputs
from edge_runtime.records import EventRecord
from edge_runtime.server.serving import check_http
from edge_runtime.stream.segments import Clock
from edge_runtime.watch.added import AddedCameras
from edge_runtime.watch.boards import Boards
from edge_runtime.watch.bundles import Bundles
from edge_runtime.watch.config import Plan, PlannedCamera
from edge_runtime.watch.config_outputs import check_outputs, open_outputs
from edge_runtime.watch.config_settings import Configuration
from edge_runtime.watch.detectors import Detectors
from edge_runtime.watch.files import check_files
from edge_runtime.watch.notify import ServiceManager
from edge_runtime.watch.options import CameraOptions, RunOptions
from edge_runtime.watch.run import Runner
from edge_runtime.watch.stopping import StopRequest, any_of
from edge_runtime.watch.supervisor import Supervisor, check_reloaded

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What the command line says.

    Attributes:
        wishes: What goes into the plan.
        follow: Whether the configuration is read again whenever it changes.
        clock: How segments are cut.
        no_self_test: Whether to start without a golden segment.
    """

    wishes: Wishes
    follow: bool
    clock: Clock | None
    no_self_test: bool


def check(chosen: Chosen) -> int:
    """Say what would run; returns the exit code.

    Raises:
        UsageError: Whatever is wrong, a refused bundle too: here it is the configuration's fault.
    """
    try:
        plan = chosen.wishes.plan()
        configuration = plan.configuration
        _run_options(configuration, chosen)
        check_files([camera.source for camera in plan.cameras])
        check_outputs(configuration, [camera.source.name for camera in plan.cameras])
        keys = configuration.trusted_keys
        for path in {camera.bundle for camera in plan.cameras if camera.bundle is not None}:
            Bundle.open(path, keys).manifest.segment.striding(configuration.stride)
        bundle = Bundle.open(str(configuration.bundle), keys)
        if configuration.feedback is not None:
            bundle.calibration()
        if configuration.http is not None:
            check_http(configuration.http)
        tell(described(plan, bundle))
    except HeadHuntError as error:
        raise UsageError(str(error)) from error
    return 0


def detect(chosen: Chosen, console: LogConsole, left_behind: list[str], as_json: bool) -> int:
    """Run to the end, or until a signal; returns the exit code.

    Args:
        chosen: What the command line says.
        console: Shows how far files have got.
        left_behind: Gets the names of cameras whose read still blocks at the end.
        as_json: Whether an error is logged as JSON.

    Raises:
        HeadHuntError: What the run failed with.
    """
    share_heaps()
    runners: list[Runner] = []
    asked = threading.Event()
    service = ServiceManager()

    def opened(path: Path) -> Bundle:
        return bundles.open(path)

    def load(bundle: Bundle, engine: Engine | None) -> Detector:
        return Detector(
            bundle,
            configuration.provider,
            configuration.threads,
            engine=engine,
            self_test=False,
            growing=configuration.encode == "eager",
        )

    detectors = Detectors(load, self_test=not chosen.no_self_test, open_bundle=opened)
    hangup = None if chosen.wishes.config is None else asked.set
    with StopRequest(detectors.abandon, hangup=hangup, requested=service.ending) as stop:
        try:
            plan = chosen.wishes.plan()
            configuration = plan.configuration
            bundles = Bundles(configuration.trusted_keys)
            added = None if configuration.http is None else AddedCameras(chosen.wishes.config)
            supervisor = _supervisor(plan, chosen, asked, detectors, added)
            plan = plan if supervisor is None else supervisor.plan
            sources = [camera.source for camera in plan.cameras if camera.enabled]
            check_files(sources)
            live = any(camera.source.live for camera in plan.cameras)
            with (
                serving(plan, supervisor, added) as http,
                _opened(bundles, configuration) as bundle,
                _lines(configuration, live) as lines,
                detectors,
                open_outputs(
                    configuration,
                    [camera.source.name for camera in plan.cameras],
                    None if supervisor is None else supervisor.pause,
                ) as others,
                Outputs(
                    [
                        Output(lines, required=True),
                        *others.outputs,
                        *http.outputs,
                        *_feedback(configuration, bundle, detectors),
                    ]
                ) as outputs,
            ):
                board = Boards([others.board, *http.boards])
                if supervisor is not None:
                    supervisor.board = board
                    http.use_bundle(bundle, supervisor)
                options = _run_options(configuration, chosen, console, _both(service.alive, http.beat))
                runner = Runner(
                    detectors.open(bundle),
                    outputs.emit,
                    any_of(stop.is_set, lambda: outputs.failed),
                    options=replace(options, rate=board.publish_rate),
                    open_reader=others.open_reader,
                    unfinished=_unfinished(configuration, [*http.unfinished, *others.unfinished]),
                )
                runners.append(runner)
                runner.run(sources, {camera.source.name: camera.options for camera in plan.cameras}, supervisor)
        except HeadHuntError as error:
            if stop.exit_code != INTERRUPTED:
                raise
            text, _ = told(error)
            if as_json:
                log.error("%s", text)
            else:
                click.echo(f"error: {text}", err=True)
        finally:
            # Told already where a signal asked for it.
            service.ending()
            console.close()
            left_behind += [name for runner in runners for name in runner.left_behind]
        return stop.exit_code


@contextmanager
def _opened(bundles: Bundles, configuration: Configuration) -> Iterator[Bundle]:
    """The run's bundle; refused before its graphs are loaded, and before records are written."""
    bundle = bundles.open(Path(str(configuration.bundle)))
    bundle.manifest.segment.striding(configuration.stride)
    yield bundle


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    """One after the other."""

    def call() -> None:
        first()
        second()

    return call


def _run_options(
    configuration: Configuration,
    chosen: Chosen,
    console: LogConsole | None = None,
    alive: Callable[[], None] | None = None,
) -> RunOptions:
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


def _feedback(configuration: Configuration, bundle: Bundle, detectors: Detectors) -> list[Output]:
    """What keeps features for operators to mark, and uses the site's scorer; none where that was not asked for."""
    settings = configuration.feedback
    if settings is None:
        return []
    from edge_runtime.site.place import Site
    from edge_runtime.site.recorder import Recorder

    recorder = Recorder(
        Site.of(bundle, None if settings.path is None else Path(settings.path)),
        detectors.open(bundle),
        retention_s=settings.retention_days * 86_400,
        bytes_a_day=round(settings.max_mb_a_day * 1e6),
        step_s=bundle.manifest.segment.striding(configuration.stride).step_s,
    )
    return [Output(recorder)]


def _unfinished(configuration: Configuration, others: Sequence[EventRecord]) -> list[EventRecord]:
    """Events that an earlier run left open, as its outputs tell."""
    settings = configuration.output
    told = [] if settings is None or settings.path == "-" else unfinished_events(Path(settings.path))
    return list({event.id: event for event in (*others, *told)}.values())


def _supervisor(
    plan: Plan, chosen: Chosen, asked: threading.Event, detectors: Detectors, added: AddedCameras | None
) -> Supervisor | None:
    """What looks after the cameras of a configuration or a page; None for files, and without either."""
    if chosen.wishes.config is None and added is None:
        return None
    if not plan.cameras[0].source.live:
        if all(not camera.enabled for camera in plan.cameras):
            raise UsageError("all files of the configuration are disabled; there is nothing to do")
        if any(camera.schedule is not None for camera in plan.cameras):
            log.warning("schedules are for live cameras; files are run at once")
        return None

    def completed(camera: PlannedCamera) -> CameraOptions:
        if camera.bundle is None:
            return camera.options
        return replace(camera.options, detector=detectors.open_at(camera.bundle))

    def read_again() -> Plan:
        return check_reloaded(chosen.wishes.plan())

    beside = [] if added is None else added.planned(plan.configuration)
    return Supervisor(plan, read_again, asked, added=beside, options_of=completed, follow=chosen.follow)
