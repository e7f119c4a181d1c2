"""One run as `hh-edge run` puts it together: configuration, detectors, cameras and outputs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
from edge_runtime.server.parts import AlarmPart
from edge_runtime.server.serving import check_http
from edge_runtime.site.alarms import tried
from edge_runtime.site.sites import Sites
from edge_runtime.site.teaching import Limits
from edge_runtime.stream.alarm import Alarm
from edge_runtime.stream.segments import Clock
from edge_runtime.watch.added import AddedCameras
from edge_runtime.watch.boards import Boards
from edge_runtime.watch.bundles import Bundles
from edge_runtime.watch.config import Plan, PlannedCamera
from edge_runtime.watch.config_outputs import check_outputs, open_outputs
from edge_runtime.watch.config_settings import Configuration
from edge_runtime.watch.detectors import Detectors
from edge_runtime.watch.exchange import Exchange
from edge_runtime.watch.figures import RunFigures
from edge_runtime.watch.files import check_files
from edge_runtime.watch.glimpses import Glimpses
from edge_runtime.watch.learning import Learning
from edge_runtime.watch.notify import ServiceManager
from edge_runtime.watch.options import CameraOptions, RunOptions
from edge_runtime.watch.recording import show_what_is_seen
from edge_runtime.watch.run import Runner
from edge_runtime.watch.sites import learns, open_sites
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
    figures, glimpses = RunFigures(), Glimpses()
    service = ServiceManager()
    # What makes events at live cameras, once the bundle is open.
    sites: Sites | None = None
    supervisor: Supervisor | None = None

    def opened(path: Path) -> Bundle:
        exchange.opening(path)
        return bundles.open(path)

    def load(bundle: Bundle, engine: Engine | None) -> Detector:
        detector = Detector(
            bundle,
            configuration.provider,
            configuration.threads,
            engine=engine,
            self_test=False,
            growing=configuration.encode == "eager",
        )
        # Recordings have no clips, and nothing that makes events of live cameras.
        if sites is not None:
            show_what_is_seen(detector, others.clips, _half_of(sites))
        return detector

    detectors = Detectors(
        load,
        self_test=not chosen.no_self_test,
        open_bundle=opened,
        release=lambda bundle: bundles.release(bundle),  # noqa: PLW0108  it is made below
    )
    exchange = Exchange(detectors)
    hangup = None if chosen.wishes.config is None else asked.set
    with StopRequest(detectors.abandon, hangup=hangup, requested=service.ending) as stop:
        try:
            plan = chosen.wishes.plan()
            configuration = plan.configuration
            bundles = Bundles(configuration.trusted_keys)
            added = None if configuration.http is None else AddedCameras(chosen.wishes.config)
            learning = _learning(configuration, lambda: sites, lambda: supervisor)
            supervisor = _supervisor(plan, chosen, asked, detectors, learning, added, exchange)
            plan = plan if supervisor is None else supervisor.plan
            sources = [camera.source for camera in plan.cameras if camera.enabled]
            check_files(sources)
            live = any(camera.source.live for camera in plan.cameras)
            with (
                bundles,
                serving(plan, supervisor, added) as http,
                _opened(opened, configuration) as bundle,
                _sites(plan, bundle, supervisor) as sites,
                _lines(configuration, live) as lines,
                detectors,
                open_outputs(
                    configuration,
                    [camera.source.name for camera in plan.cameras],
                    None if supervisor is None else supervisor.pause,
                    None if learning is None else learning.teaching,
                ) as others,
                Outputs(
                    [
                        Output(lines, required=True),
                        *others.outputs,
                        *([] if learning is None else [Output(learning.recorders)]),
                        *http.outputs,
                    ]
                ) as outputs,
            ):
                detector = _kept_and_followed(configuration, detectors.open(bundle), exchange, learning)
                board = Boards([others.board, *http.boards])
                if supervisor is not None:
                    supervisor.board = board
                figures.outputs, figures.spool, figures.clips = outputs, others.spool, others.clips
                http.join(
                    alarms=None if sites is None else AlarmPart(sites.alarms, tried, Alarm),
                    pictures=glimpses,
                    teaching=None if learning is None else learning.teaching,
                    figures=figures,
                )
                options = _run_options(configuration, chosen, console, _both(service.alive, http.beat))
                runner = Runner(
                    detector,
                    outputs.emit,
                    any_of(stop.is_set, lambda: outputs.failed),
                    options=replace(
                        options,
                        rate=board.publish_rate,
                        figures=figures,
                        glimpses=glimpses,
                        sites=sites,
                        exchange=exchange,
                    ),
                    open_reader=others.open_reader,
                    unfinished=_unfinished(configuration, [*http.unfinished, *others.unfinished]),
                )
                runners.append(runner)
                runner.run(sources, _own(plan.cameras), supervisor)
        except HeadHuntError as error:
            if stop.exit_code != INTERRUPTED:
                raise
            _tell_late(error, as_json)
        finally:
            # Told already where a signal asked for it.
            service.ending()
            console.close()
            left_behind += [name for runner in runners for name in runner.left_behind]
        return stop.exit_code


def _tell_late(error: HeadHuntError, as_json: bool) -> None:
    """Tell an error that does not decide about the exit code: the run was interrupted before it."""
    text, _ = told(error)
    if as_json:
        log.error("%s", text)
    else:
        click.echo(f"error: {text}", err=True)


@contextmanager
def _opened(opened: Callable[[Path], Bundle], configuration: Configuration) -> Iterator[Bundle]:
    """The run's bundle; refused before its graphs are loaded, and before records are written."""
    bundle = opened(Path(str(configuration.bundle)))
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


def _own(cameras: Sequence[PlannedCamera]) -> dict[str, CameraOptions]:
    """What is chosen for single sources; a live camera's alarm is looked after by what the site is to the run."""
    return {
        camera.source.name: camera.options if camera.source.live else replace(camera.options, alarm=camera.alarm)
        for camera in cameras
    }


def _sites(plan: Plan, bundle: Bundle, supervisor: Supervisor | None) -> AbstractContextManager[Sites | None]:
    """Alarms and what is learned of live cameras; nothing for files, and where nothing of it was asked for."""
    if not plan.cameras[0].source.live:
        if any(camera.alarm.budget_per_day is not None for camera in plan.cameras):
            log.warning("budgets are for live cameras; files are run with the locator's threshold")
        return nullcontext()
    if supervisor is None and not learns(plan):
        return nullcontext()
    return open_sites(plan, bundle.manifest, supervisor)


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


def _half_of(sites: Sites) -> Callable[[str], float]:
    """Half of a camera's threshold: segments that score as much may become part of an event."""
    return lambda camera: sites.alarms.of(camera).threshold / 2


def _learning(
    configuration: Configuration, sites: Callable[[], Sites | None], supervisor: Callable[[], Supervisor | None]
) -> Learning | None:
    """What keeps features for operators to mark, and uses the sites' scorers; None where that was not asked for.

    Args:
        configuration: Of the run.
        sites: Gives what makes events at its cameras, where that is there.
        supervisor: Gives who looks after them, where somebody does.
    """
    if configuration.feedback is None:
        return None

    def alarm_of(camera: str) -> Limits | None:
        there = sites()
        return None if there is None else there.alarms.of(camera)

    def locator_of(camera: str) -> str:
        there = supervisor()
        own = None if there is None else there.locator_of(camera)
        return own or configuration.locator

    def discount(camera: str, peak: float, ago_s: float, *, back: bool = False) -> None:
        there = sites()
        if there is not None:
            there.discount(camera, peak, ago_s, back=back)

    return Learning(
        configuration.feedback, configuration, locator_of=locator_of, alarm_of=alarm_of, discount=discount
    )


def _kept_and_followed(
    configuration: Configuration, detector: Detector, exchange: Exchange, learning: Learning | None
) -> Detector:
    """Keep what the run's detector shows, where that was asked for, and follow its bundle."""
    path = Path(str(configuration.bundle))
    if learning is not None:
        exchange.taken, exchange.retired = learning.take_if_possible, learning.recorders.drop
        learning.take(path, detector)
    exchange.follow(path, detector)
    return detector


def _unfinished(configuration: Configuration, others: Sequence[EventRecord]) -> list[EventRecord]:
    """Events that an earlier run left open, as its outputs tell."""
    settings = configuration.output
    told = [] if settings is None or settings.path == "-" else unfinished_events(Path(settings.path))
    return list({event.id: event for event in (*others, *told)}.values())


def _supervisor(
    plan: Plan,
    chosen: Chosen,
    asked: threading.Event,
    detectors: Detectors,
    learning: Learning | None,
    added: AddedCameras | None,
    exchange: Exchange,
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
        detector = detectors.open_at(camera.bundle)
        exchange.follow(camera.bundle, detector, camera.bundle)
        if learning is not None:
            learning.take_if_possible(camera.bundle, detector)
        return replace(camera.options, detector=detector, bundle=camera.bundle)

    def read_again() -> Plan:
        return check_reloaded(chosen.wishes.plan())

    beside = [] if added is None else added.planned(plan.configuration)
    return Supervisor(plan, read_again, asked, added=beside, options_of=completed, follow=chosen.follow)
