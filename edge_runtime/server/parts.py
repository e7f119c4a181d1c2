"""What the server asks the rest of a run, as protocols; whatever is None is answered with what to configure.

Times are seconds since 1970, UTC. Any thread may call anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from edge_runtime.server import shapes
from edge_runtime.server.state import RunState
from edge_runtime.site.forget import Erased, Forgets, Told
from edge_runtime.site.history import FloatArray, History
from edge_runtime.site.store import Mark, Verdict


class CameraControl(Protocol):
    """Pauses, adds and removes cameras; `watch.added.CameraDesk` for real."""

    def pause(self, name: str, paused: bool) -> None:
        """Pause or resume a camera. UsageError where there is none, Conflict where it is disabled."""

    def add(self, wanted: shapes.NewCamera) -> None:
        """Watch a camera from now on. Conflict where there is one; UsageError where something of it is wrong."""

    def remove(self, name: str) -> None:
        """Watch a camera that was added no more. Conflict where it is configured, UsageError where there is none."""


# ---- alarms


class Limits(Protocol):
    """What holds for a camera; `site.wish.AlarmNow` for real."""

    @property
    def threshold(self) -> float:
        """A smoothed score above it is anomalous."""

    @property
    def by(self) -> Any:
        """Who set it: `bundle`, `config`, `page` or `budget`."""

    @property
    def min_duration_s(self) -> float:
        """How long an event lasts at least."""

    @property
    def cooldown_s(self) -> float:
        """For how long after an event there is no other one."""

    @property
    def budget_per_day(self) -> float | None:
        """The budget that is wanted."""

    @property
    def missing_segments(self) -> int:
        """How many more segments that budget needs."""

    @property
    def on_page(self) -> bool:
        """Whether something of it was set on the page."""


class Alarms(Protocol):
    """What holds for all cameras; `site.alarms.Alarms` for real."""

    def of(self, camera: str, /) -> Limits:
        """What holds for a camera."""

    def set(
        self,
        camera: str,
        /,
        *,
        threshold: float | None,
        budget_per_day: float | None,
        min_duration_s: float | None,
        cooldown_s: float | None,
    ) -> Limits:
        """Let something else hold. UsageError where it cannot."""

    def reset(self, camera: str, /) -> Limits:
        """Back to the configuration's."""


class TriedAlarm(Protocol):
    """An alarm of the past."""

    @property
    def start(self) -> float:
        """When it began."""

    @property
    def end(self) -> float:
        """When it ended."""

    @property
    def peak(self) -> float:
        """Its highest smoothed score."""


class Counted(Protocol):
    """How many alarms a setting gives."""

    @property
    def alarms(self) -> int:
        """All of them."""

    @property
    def per_day(self) -> float:
        """In 24 hours of watching."""


class Tried(Protocol):
    """Two settings on the same scores; `site.trial.Tried` for real."""

    @property
    def days(self) -> float:
        """How long was watched."""

    @property
    def now(self) -> Counted:
        """What the setting that holds gives."""

    @property
    def then(self) -> Counted:
        """What the other one gives."""

    @property
    def gone_count(self) -> int:
        """How many are gone."""

    @property
    def new_count(self) -> int:
        """How many are new."""

    @property
    def gone(self) -> Sequence[TriedAlarm]:
        """The last of them."""

    @property
    def new(self) -> Sequence[TriedAlarm]:
        """The last of them."""


@dataclass(frozen=True, slots=True)
class AlarmPart:
    """Alarms, and how another setting is tried.

    Attributes:
        alarms: What holds.
        tried: `site.alarms.tried`: starts, ends and smoothed scores, then the setting that holds and the other one.
        alarm: `stream.alarm.Alarm`: makes such a setting of a threshold, a least duration and a cooldown.
    """

    alarms: Alarms
    tried: Callable[[FloatArray, FloatArray, FloatArray, Any, Any], Tried]
    alarm: Callable[[float, float, float], Any]

    def of(self, camera: str) -> shapes.Alarm:
        """What holds for a camera, as it is shown."""
        return shown_alarm(self.alarms.of(camera))


def shown_alarm(now: Limits) -> shapes.Alarm:
    """What holds for a camera, as it is shown."""
    return shapes.Alarm(
        threshold=now.threshold,
        by=now.by,
        min_duration=now.min_duration_s,
        cooldown=now.cooldown_s,
        budget_per_day=now.budget_per_day,
        missing_segments=now.missing_segments,
        on_page=now.on_page,
    )


# ---- pictures, feedback, figures


class Pictures(Protocol):
    """Live pictures of cameras; `watch.glimpses.Glimpses` for real."""

    def picture(self, camera: str, /) -> bytes | None:
        """The newest JPEG of a camera; None while the first is being made. Asking keeps it coming."""


class Document(Protocol):
    """Something that is given as it is."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values, times as UTC."""


class Teaching(Protocol):
    """What operators say of events, and the scorer that learns from it; `site.teaching.Teaching` for real.

    Conflict where something cannot be done now, UsageError where it never can.
    """

    def verdicts(self) -> Mapping[str, Verdict]:
        """What was said of events, by their ids."""

    def mark_event(self, event: str, verdict: Verdict | None, /) -> object:
        """Say something of an event; None takes it back."""

    def mark_missed(self, camera: str, start: float, end: float, /) -> Mark:
        """Say that something was missed."""

    def unmark(self, number: int, /) -> bool:
        """Delete a mark; whether it was there."""

    def propose(self) -> Document:
        """What would change; takes a second or two."""

    def accept(self, proposal: str, /) -> object:
        """Use a proposal's scorer. Conflict where the marks have changed since."""

    def undo(self) -> object:
        """Use the scorer before."""

    def status(self) -> Document:
        """All marks, and what is in use."""

    def forget(
        self,
        camera: str | None,
        start: float,
        end: float,
        clips: Path | None,
        told: Mapping[str, Told] | None,
        others: Sequence[Forgets],
        /,
    ) -> Erased:
        """Delete what is kept of a stretch; as of `site.forget`."""


class Figures(Protocol):
    """The run in numbers; `server.metrics.Metrics` for real."""

    def render(self, accept: str, /) -> tuple[bytes, str]:
        """The text for what an Accept header takes, and its content type."""


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
    alarms: AlarmPart | None = None
    pictures: Pictures | None = None
    teaching: Teaching | None = None
    figures: Figures | None = None
