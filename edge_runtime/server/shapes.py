"""What the HTTP API takes and gives, as types. `docs/openapi.json` is generated from here."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Time = Annotated[
    str,
    Meta(description="UTC, RFC 3339: 2026-01-31T22:15:00.000Z.", extra_json_schema={"format": "date-time"}),
]
#: In a query or a body: with its time zone.
Moment = Annotated[datetime, Meta(tz=True)]
Probability = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(ge=0, le=86_400.0)]
Budget = Annotated[float, Meta(ge=0.05, le=10_000)]
Role = Literal["read", "act"]
StateName = Literal["online", "stalled", "offline", "unwatched", "starting"]
Verdict = Literal["false_alarm", "missed"]
CameraName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
EventId = Annotated[str, Meta(min_length=1, max_length=300)]

_WORDS = 4000


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what is given."""


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what comes behind a `?`."""


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what is sent."""


class Problem(Shape, frozen=True):
    """Why a request was not carried out, in one sentence that says what to do."""

    error: str


# ---- the run


class Health(Shape, frozen=True):
    """The process answers."""

    status: Literal["ok"]


class Readiness(Shape, frozen=True):
    """Whether cameras are being watched, and why not."""

    ready: bool
    reason: str


class Session(Shape, frozen=True):
    """What who asks may do; `role` is null where a token is needed and none was given."""

    role: Role | None
    needs_token: bool


class Run(Shape, frozen=True):
    """The run behind this server. `started` and `bundle_id` are null until its bundle is loaded."""

    run: str | None
    started: Time | None
    time: Time
    version: str
    bundle_id: str | None
    role: Role
    clips: bool
    feedback: bool
    days_of_scores: float


# ---- cameras


class Alarm(Shape, frozen=True):
    """When a camera's events are told, and who said so. `on_page`: something of it was set over this API."""

    threshold: float
    by: Literal["bundle", "config", "page", "budget"]
    min_duration: float = 0.0
    cooldown: float = 0.0
    budget_per_day: float | None = None
    missing_segments: int = 0
    on_page: bool = False


class Score(Shape, frozen=True):
    """The newest scored segment. `time`: when it ended; `p`: how seldom normal segments score as high."""

    time: Time
    score: float
    smoothed: float
    p: float | None
    anomalous: bool


class Camera(Shape, frozen=True):
    """One camera as it is now.

    `since`: when it came into its state. `quality`: what is wrong with its picture; `quality_since`: since when.
    `added`: over this API, not by the configuration. `picture`: whether a live picture can be asked for.
    """

    name: str
    state: StateName
    reason: str | None
    detail: str
    since: Time
    quality: list[str]
    quality_since: dict[str, Time]
    paused: bool
    added: bool
    fps: float | None
    score: Score | None
    open_event: str | None
    alarm: Alarm
    picture: bool


class Cameras(Shape, frozen=True):
    """All cameras."""

    cameras: list[Camera]


Pair = Annotated[list[float | None], Meta(min_length=2, max_length=2)]


class Scores(Shape, frozen=True):
    """Smoothed scores of a stretch: `[seconds since 1970, highest score]` of each step, null where there is none."""

    step_s: float
    scores: list[Pair]


class Stretch(Shape, frozen=True):
    """An alarm of the past."""

    start: Time
    end: Time
    peak: float
    event: str | None


class Counted(Shape, frozen=True):
    """How many alarms there are."""

    alarms: int
    per_day: float


class Tried(Shape, frozen=True):
    """What another setting would have told. `gone` and `new` hold the last 200 at most, the counts all."""

    days: float
    now: Counted
    then: Counted
    gone_count: int
    new_count: int
    gone: list[Stretch]
    new: list[Stretch]


class NewCamera(Body, frozen=True):
    """A camera to watch from now on."""

    name: CameraName
    source: Annotated[str, Meta(min_length=1, max_length=2048)]
    locator: Literal["full", "low_latency"] | None = None
    schedule: Annotated[str, Meta(max_length=_WORDS)] | list[Annotated[str, Meta(max_length=_WORDS)]] | None = None
    mask: Annotated[str, Meta(max_length=_WORDS)] | list[Annotated[str, Meta(max_length=_WORDS)]] | None = None


class NewAlarm(Body, frozen=True):
    """When a camera's events are told: a threshold, or a budget of false alarms a day; null is as configured."""

    threshold: Probability | None = None
    budget_per_day: Budget | None = None
    min_duration: Seconds | None = None
    cooldown: Seconds | None = None


class ScoresQuery(Query, frozen=True):
    """A stretch, by default the last hour; in how many steps."""

    begin: Moment | None = msgspec.field(default=None, name="from")
    to: Moment | None = None
    points: Annotated[int, Meta(ge=1, le=5000)] = 600


class TryQuery(Query, frozen=True):
    """What is tried, on how many days."""

    threshold: Probability
    min_duration: Seconds = 0.0
    cooldown: Seconds = 0.0
    days: Annotated[float, Meta(gt=0, le=31)] = 7.0


# ---- events


class Event(Shape, frozen=True):
    """One event. `end`: of its last anomalous segment so far. `p`: the lowest p-value of its segments, where that is
    known. `mark`: what an operator said of it."""

    id: str
    camera: str
    start: Time
    end: Time
    state: Literal["open", "ended"]
    seconds: float
    peak: float
    mean: float
    p: float | None
    snapshot: bool
    clip: bool
    seen: bool
    mark: Verdict | None
    description: str | None


class Events(Shape, frozen=True):
    """A page of events, newest first; `next` is the `after` of the next page."""

    events: list[Event]
    next: str | None


class EventsQuery(Query, frozen=True):
    """Which events."""

    camera: Annotated[str, Meta(max_length=300)] | None = None
    begin: Moment | None = msgspec.field(default=None, name="from")
    to: Moment | None = None
    state: Literal["open", "ended"] | None = None
    min_peak: Probability | None = None
    mark: Literal["false_alarm", "missed", "none"] | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 50
    after: Annotated[str, Meta(max_length=500)] | None = None


class Description(Body, frozen=True):
    """What an event shows, in words; an empty text deletes it."""

    text: Annotated[str, Meta(max_length=_WORDS)]


class NewVerdict(Body, frozen=True):
    """What an operator says of an event; null takes it back."""

    verdict: Verdict | None


class LiveQuery(Query, frozen=True):
    """Of which camera; by default of all."""

    camera: Annotated[str, Meta(max_length=300)] | None = None


# ---- feedback


class Mark(Shape, frozen=True):
    """What an operator said of a stretch of one camera."""

    id: int
    verdict: Verdict
    camera: str
    start: Time
    end: Time
    event: str | None
    at: Time


class Scorer(Shape, frozen=True):
    """The site's scorer in use: its number, when it was accepted, and of how many marks it learned."""

    number: int
    accepted: Time
    marks: int


class Feedback(Shape, frozen=True):
    """All marks, and the scorer in use; null is the bundle's own."""

    marks: list[Mark]
    scorer: Scorer | None
    can_undo: bool


class Missed(Body, frozen=True):
    """A stretch in which something was missed."""

    camera: Annotated[str, Meta(min_length=1, max_length=300)]
    start: Moment
    end: Moment


class CameraStretch(Shape, frozen=True):
    """An alarm of the past, of one camera."""

    camera: str
    start: Time
    end: Time
    peak: float


class Proposal(Shape, frozen=True):
    """What a scorer that learns from all marks would change. `wrong_left_out`: on marks that it had not seen.

    `gone` and `new` hold 200 at most, the counts all; `changes`: whether it is another scorer than that in use.
    """

    proposal: str
    marks: int
    false_alarms: int
    days: float
    wrong_before: int
    wrong_left_out: int
    loss_before: float | None
    loss_left_out: float | None
    kept: int
    gone: list[CameraStretch]
    new: list[CameraStretch]
    gone_in_all: int
    new_in_all: int
    changes: bool
    replaces: int


class Accept(Body, frozen=True):
    """Which proposal is accepted."""

    proposal: Annotated[str, Meta(min_length=1, max_length=200)]


class Forget(Body, frozen=True):
    """What is deleted: a stretch of one camera, or of all where `camera` is null."""

    camera: Annotated[str, Meta(max_length=300)] | None
    start: Moment
    end: Moment


class Forgotten(Shape, frozen=True):
    """How much was deleted. `writing`: files of that time that are still being written, and stay."""

    segments: int
    events: int
    marks: int
    files: int
    writing: int


class Token(Body, frozen=True):
    """A token that `hh-edge token add` made."""

    token: Annotated[str, Meta(min_length=1, max_length=200)]


# ---- /api/live


class LiveScore(Shape, frozen=True):
    """A segment was scored."""

    camera: str
    time: Time
    score: float
    smoothed: float
    anomalous: bool
