"""What the server asks the rest of a run, as protocols; whatever is None is answered with what to configure.

Results are plain values with the names of `shapes`; times are seconds since 1970, UTC. Any thread may call anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_runtime.server import shapes
from edge_runtime.server.state import RunState
from edge_runtime.site.history import History


class CameraControl(Protocol):
    """Pauses, adds and removes cameras; `watch.supervisor.Supervisor` with `watch.added.AddedCameras` for real."""

    def pause(self, name: str, paused: bool) -> None:
        """Pause or resume a camera. UsageError where there is none, or it is disabled."""

    def add(self, camera: shapes.NewCamera) -> None:
        """Watch a camera from now on. Conflict where there is one; UsageError where something of it is wrong."""

    def remove(self, name: str) -> None:
        """Watch a camera that was added no more. Conflict where it is configured, UsageError where there is none."""

    def is_added(self, name: str) -> bool:
        """Whether a camera was added, not configured."""


class AlarmSettings(Protocol):
    """When each camera's events are told."""

    def of(self, camera: str) -> shapes.Alarm:
        """What holds for a camera."""

    def set(self, camera: str, wanted: shapes.NewAlarm) -> shapes.Alarm:
        """Let something else hold. UsageError where it cannot."""

    def reset(self, camera: str) -> shapes.Alarm:
        """Back to the configuration's."""

    def tried(self, camera: str, scores: Past, wanted: shapes.TryQuery) -> TriedAlarms:
        """Compare what holds with something else, on scores of the past."""


class Past(Protocol):
    """Scores of the past; `site.history.Past` for real."""


@dataclass(frozen=True, slots=True)
class TriedAlarm:
    """An alarm of the past, in seconds since 1970."""

    start: float
    end: float
    peak: float


@dataclass(frozen=True, slots=True)
class TriedAlarms:
    """What `AlarmSettings.tried` finds: how many alarms there were and would have been, and which are gone or new."""

    now: int
    then: int
    gone: Sequence[TriedAlarm]
    new: Sequence[TriedAlarm]


class Pictures(Protocol):
    """Live pictures of cameras; `watch.glimpses.Glimpses` for real."""

    def picture(self, camera: str) -> bytes | None:
        """The newest JPEG of a camera; None while the first is being made. Asking keeps it coming."""


class Teaching(Protocol):
    """What operators say of events, and the scorer that learns from it; `site.teaching` for real.

    Conflict where something cannot be done now, UsageError where it never can.
    """

    def verdicts(self) -> dict[str, shapes.Verdict]:
        """What was said of events, by their ids."""

    def mark_event(self, event: str, verdict: shapes.Verdict | None) -> None:
        """Say something of an event; None takes it back."""

    def feedback(self) -> shapes.Feedback:
        """All marks, and what is in use."""

    def mark_missed(self, camera: str, start: float, end: float) -> shapes.Mark:
        """Say that something was missed."""

    def unmark(self, mark: int) -> bool:
        """Delete a mark; whether it was there."""

    def propose(self) -> shapes.Proposal:
        """What would change; takes a second or two."""

    def accept(self, proposal: str) -> None:
        """Use a proposal's scorer. Conflict where the marks have changed since."""

    def undo(self) -> None:
        """Use the scorer before."""

    def forget(self, camera: str | None, start: float, end: float) -> shapes.Forgotten:
        """Delete features, events and marks of a stretch; its `files` and `writing` are 0."""


class Figures(Protocol):
    """The run in numbers, for Prometheus."""

    def render(self) -> tuple[bytes, str]:
        """The text, and its content type."""


@dataclass(slots=True, kw_only=True)
class Parts:
    """Everything the server asks. It serves from the start of a run, when there is little yet: parts come later.

    Attributes:
        state: What cameras are like now.
        history: Events and scores of the past.
        days_of_scores: How long scores are kept.
        cameras: Pauses, adds and removes.
        clips: The folder of snapshots and clips.
        alarms: When events are told.
        pictures: Live pictures.
        teaching: Marks and scorers.
        figures: For Prometheus.
    """

    state: RunState
    history: History | None = None
    days_of_scores: float = 7.0
    cameras: CameraControl | None = None
    clips: Path | None = None
    alarms: AlarmSettings | None = None
    pictures: Pictures | None = None
    teaching: Teaching | None = None
    figures: Figures | None = None
