"""One run, from sources to records: files one after another, or live cameras side by side."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import msgspec

from edge_runtime._version import __version__
from edge_runtime.bundle.manifest import Manifest
from edge_runtime.detector import Detector
from edge_runtime.errors import UsageError
from edge_runtime.records import EventRecord, RunRecord
from edge_runtime.stream.clock import RunClock, rfc3339
from edge_runtime.video.camera import LiveCamera
from edge_runtime.video.sources import Source
from edge_runtime.watch.camera import OpenReader
from edge_runtime.watch.cameras import LiveRun, run_id
from edge_runtime.watch.files import Emit, FileRun
from edge_runtime.watch.options import CameraOptions, RunOptions
from edge_runtime.watch.stopping import Stop, any_of
from edge_runtime.watch.supervisor import Supervisor

log = logging.getLogger(__name__)


def check_sources(sources: Sequence[Source]) -> None:
    """Refuse what cannot run together.

    Raises:
        UsageError: Nothing, one name twice, or files beside live cameras.
    """
    if not sources:
        raise UsageError("no camera was given; add --camera SRC")
    names = Counter(source.name for source in sources)
    twice = sorted(name for name, count in names.items() if count > 1)
    if twice:
        raise UsageError(f"two cameras are called {twice[0]!r}; name them: --camera gate=SRC --camera yard=SRC")
    if len({source.live for source in sources}) > 1:
        raise UsageError("files end and live cameras do not; run them with two commands, or write loop:FILE")


def warn_of_unmeasured_reuse(levels: float | None, manifest: Manifest) -> None:
    """Log where an operator reuses tokens of frames that differ by more than the build has tried.

    Args:
        levels: As `reuse_unchanged` of `Detector.stream`.
        manifest: Of the bundle.
    """
    if not levels:
        return
    measured = manifest.reuse_threshold
    if measured is None:
        log.warning(
            "--reuse-unchanged %g: what that does to the accuracy of this bundle was not measured; "
            "hh-offline build --reuse-unchanged %g measures it",
            levels,
            levels,
        )
    elif levels > measured:
        log.warning(
            "--reuse-unchanged %g: the build measured the accuracy with %g grey levels; take no more, "
            "or measure again with hh-offline build --reuse-unchanged %g",
            levels,
            measured,
            levels,
        )


class Runner:
    """Runs a detector over sources and hands every record to `write`, in each camera's order.

    Args:
        detector: What scores.
        write: Takes every record; what it raises ends the run.
        stop: Looked at between frames; then what is open is scored and written, and `run` returns.
        options: Of the run.
        open_reader: Makes the reader of a live camera.
        unfinished: Events that an earlier run began and never ended, as they stood last; this one ends them.

    Attributes:
        left_behind: Names of live cameras whose read was still blocked at the end; see `LiveRun`.
    """

    def __init__(
        self,
        detector: Detector,
        write: Emit,
        stop: Stop,
        *,
        options: RunOptions | None = None,
        open_reader: OpenReader = LiveCamera,
        unfinished: Sequence[EventRecord] = (),
    ) -> None:
        self._detector = detector
        self._write = write
        self._stop = stop
        self._options = options or RunOptions()
        self._open_reader = open_reader
        self._unfinished = unfinished
        self.left_behind: list[str] = []

    def run(
        self,
        sources: Sequence[Source],
        own: Mapping[str, CameraOptions] | None = None,
        supervisor: Supervisor | None = None,
    ) -> None:
        """Run to the end of the files, or until stopped. The first record is a `run`.

        Args:
            sources: Files or live cameras.
            own: What was chosen for single sources, by their names.
            supervisor: Adds and removes live cameras, `sources` among them, as its plan wants; a run that has one
                goes on where none of them answers, and where there is none.

        Raises:
            UsageError: See `check_sources`.
            SourceUnavailable: A file cannot be opened (the others are run), or no live camera answered its first
                attempt.
            FootageIncomplete: Part of a file could not be scored (the other files are run).
            Exception: Whatever `write` raises.
        """
        if supervisor is None:
            check_sources(sources)
        own = own or {}
        manifest, clock = self._detector.bundle.manifest, RunClock()
        warn_of_unmeasured_reuse(self._options.reuse_unchanged, manifest)
        self._write(
            RunRecord(
                run=run_id(manifest, clock),
                started=rfc3339(clock.started_at),
                bundle_id=manifest.bundle_id,
                version=__version__,
                cameras=[source.name for source in sources],
            )
        )
        for event in self._unfinished:
            self._write(msgspec.structs.replace(event, state="end", reason="restart"))
        if supervisor is None and not sources[0].live:
            FileRun(self._detector, self._write, self._stop, self._options, own).run(sources)
            return
        live = LiveRun(
            self._detector,
            self._write,
            self._options,
            clock,
            open_reader=self._open_reader,
            must_answer=supervisor is None,
        )
        self.left_behind = live.left_behind
        exchange = self._options.exchange
        with nullcontext() if exchange is None else exchange.watching(live):
            self._serve(live, sources, own, supervisor)
        if exchange is not None and exchange.busy:
            self.left_behind.append("a bundle that was being loaded")

    def _serve(
        self,
        live: LiveRun,
        sources: Sequence[Source],
        own: Mapping[str, CameraOptions],
        supervisor: Supervisor | None,
    ) -> None:
        if supervisor is not None:
            with supervisor.watching(live, self._stop):
                live.serve(any_of(self._stop.is_set, lambda: supervisor.failed))
            return
        try:
            for source in sources:
                live.add(source, own.get(source.name))
        except BaseException:
            live.close()
            raise
        live.serve(self._stop)
