"""Puts the server of a run together: what it shows, and what it may change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.outputs.sink import Output
from edge_runtime.records import EventRecord
from edge_runtime.server.parts import AlarmPart, Parts, Pictures, Teaching
from edge_runtime.server.serving import HttpServer, listen
from edge_runtime.server.state import RunState
from edge_runtime.site.history import DAY_S, HISTORY, History
from edge_runtime.site.history_recorder import HistoryRecorder
from edge_runtime.watch.added import AddedCameras, CameraDesk
from edge_runtime.watch.boards import CameraBoard
from edge_runtime.watch.config import Plan
from edge_runtime.watch.figures import RunFigures
from edge_runtime.watch.sites import folder_of
from edge_runtime.watch.supervisor import Supervisor

# Where no clips are kept, events are kept so long.
_EVENT_DAYS = 30.0
_SCORE_DAYS = 7.0


@dataclass(frozen=True, slots=True)
class Serving:
    """What a run gives to its server.

    Attributes:
        parts: What the server asks; others are added to it as they come.
        outputs: Take the run's records.
        boards: Are told which cameras there are.
        unfinished: Events that an earlier run left open, as the history tells.
    """

    parts: Parts | None = None
    outputs: Sequence[Output] = ()
    boards: Sequence[CameraBoard] = ()
    unfinished: list[EventRecord] = field(default_factory=list)

    def beat(self) -> None:
        """The loop that scores goes on."""
        if self.parts is not None:
            self.parts.state.beat()

    def join(
        self,
        *,
        alarms: AlarmPart | None = None,
        pictures: Pictures | None = None,
        teaching: Teaching | None = None,
        figures: RunFigures | None = None,
    ) -> None:
        """Let the server ask further parts of the run, once they are there."""
        if self.parts is None:
            return
        # Needs the libraries of the server.
        from edge_runtime.server.metrics import Metrics

        if alarms is not None:
            self.parts.alarms, self.parts.state.alarm_of = alarms, alarms.of
        if pictures is not None:
            self.parts.pictures, self.parts.state.has_picture = pictures, lambda _: True
        self.parts.teaching = teaching or self.parts.teaching
        if figures is not None:
            self.parts.figures = Metrics(figures)


@contextmanager
def serving(plan: Plan, supervisor: Supervisor | None, added: AddedCameras | None) -> Iterator[Serving]:
    """Serve while the body lasts, where the configuration says so.

    The socket is bound, and answers are given, from the beginning: loading a bundle may take a minute.

    Args:
        plan: What the run does.
        supervisor: Of its cameras.
        added: Where cameras are kept that are added over the API.

    Raises:
        UsageError: As of `listen`.
        OutputFailed: As of `listen`.
    """
    settings, configuration = plan.configuration.http, plan.configuration
    if settings is None or supervisor is None or added is None:
        yield Serving()
        return
    listening = listen(settings)
    state = RunState([camera.source.name for camera in supervisor.plan.cameras])
    state.is_added = supervisor.is_added
    history = History(folder_of(configuration) / HISTORY)
    clips = configuration.clips
    days = _EVENT_DAYS if clips is None else clips.max_days
    recorder = HistoryRecorder(history, scores_s=_SCORE_DAYS * DAY_S, events_s=days * DAY_S)
    parts = Parts(
        state=state,
        history=history,
        days_of_scores=_SCORE_DAYS,
        cameras=CameraDesk(supervisor, added),
        clips=None if clips is None else Path(clips.path),
    )
    unfinished = recorder.unfinished()
    with HttpServer(listening, parts):
        yield Serving(parts, [Output(state), Output(recorder)], [state], unfinished)
