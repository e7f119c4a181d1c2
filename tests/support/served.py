"""A real HTTP server over a run without cameras: real state, history, supervisor and files; and a small client.

What other parts of a run give (alarms, pictures, marks, metrics) is stood in for by dictionaries.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_runtime.errors import Conflict
from edge_runtime.outputs.shelf import Shelf
from edge_runtime.records import CameraRecord, EventRecord, RunRecord, SegmentRecord
from edge_runtime.server.limits import Connections
from edge_runtime.server.parts import AlarmPart, Parts
from edge_runtime.server.serving import HttpServer, listen
from edge_runtime.server.state import RunState, utc
from edge_runtime.server.tokens import add_token, tokens_path
from edge_runtime.site.forget import Erased, forget
from edge_runtime.site.history import History, PastEvent, PastScore, ToldEvent
from edge_runtime.site.store import Mark, Verdict
from edge_runtime.video.sources import Source, parse_source
from edge_runtime.watch.added import AddedCameras, CameraDesk
from edge_runtime.watch.boards import Boards
from edge_runtime.watch.config import Plan, PlannedCamera
from edge_runtime.watch.config_settings import Configuration, HttpSettings
from edge_runtime.watch.options import CameraOptions
from edge_runtime.watch.supervisor import Supervisor

RUN = "0185d179-20260131T221530123"
#: When the newest score ends, in seconds since 1970.
NOW = 1_769_900_000.0
JPEG = b"\xff\xd8\xff\xe0" + b"a picture" * 100 + b"\xff\xd9"
CLIP = bytes(range(256)) * 4000


class NoCameras:
    """A run whose cameras only have names."""

    def __init__(self) -> None:
        self._names: dict[str, Source] = {}

    @property
    def names(self) -> list[str]:
        return list(self._names)

    def add(self, source: Source, options: CameraOptions | None = None) -> None:
        self._names[source.name] = source

    def remove(self, name: str) -> None:
        del self._names[name]


@dataclass(frozen=True)
class Limits:
    threshold: float = 0.5
    by: str = "bundle"
    min_duration_s: float = 0.0
    cooldown_s: float = 0.0
    budget_per_day: float | None = None
    missing_segments: int = 0
    on_page: bool = False


@dataclass(frozen=True)
class TriedAlarm:
    start: float
    end: float
    peak: float


@dataclass(frozen=True)
class Counted:
    alarms: int
    per_day: float


@dataclass(frozen=True)
class Tried:
    days: float
    now: Counted
    then: Counted
    gone_count: int
    new_count: int
    gone: list[TriedAlarm]
    new: list[TriedAlarm]


class Alarms:
    """Settings in a dictionary."""

    def __init__(self) -> None:
        self.chosen: dict[str, Limits] = {}

    def of(self, camera: str) -> Limits:
        return self.chosen.get(camera, Limits())

    def set(
        self,
        camera: str,
        *,
        threshold: float | None,
        budget_per_day: float | None,
        min_duration_s: float | None,
        cooldown_s: float | None,
    ) -> Limits:
        self.chosen[camera] = Limits(
            0.5 if threshold is None else threshold,
            "page" if budget_per_day is None else "budget",
            min_duration_s or 0.0,
            cooldown_s or 0.0,
            budget_per_day,
            on_page=True,
        )
        return self.chosen[camera]

    def reset(self, camera: str) -> Limits:
        self.chosen.pop(camera, None)
        return self.of(camera)


def tried(starts: Any, ends: Any, smoothed: Any, now: Any, then: Any) -> Tried:
    """Counts segments, not events."""
    above = [float(limits[0]) for limits in (now, then)]
    counts = [int((smoothed > limit).sum()) for limit in above]
    gone = [TriedAlarm(NOW - 600, NOW - 590, 0.9)] if counts[0] > counts[1] else []
    return Tried(0.04, Counted(counts[0], 1.0), Counted(counts[1], 1.0), len(gone), 0, gone, [])


class Plain(dict[str, Any]):
    """Plain values."""

    def to_dict(self) -> dict[str, Any]:
        return dict(self)


class Teaching:
    """Marks in a dictionary, and scorers that are numbers."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._lock = threading.Lock()
        self._marks: dict[int, Mark] = {}
        self._last = 0
        self._scorers: list[dict[str, Any]] = []

    def verdicts(self) -> dict[str, Verdict]:
        return {mark.event: mark.verdict for mark in self._marks.values() if mark.event is not None}

    def mark_event(self, event: str, verdict: Verdict | None) -> None:
        with self._lock:
            self._marks = {key: mark for key, mark in self._marks.items() if mark.event != event}
            found = self._history.event(event)
            if found is None:
                raise Conflict("this event is not written down yet")
            if verdict is not None:
                self._add(verdict, found.camera, found.start, found.end, event)

    def status(self) -> Plain:
        marks = [
            {"id": one.id, "verdict": one.verdict, "camera": one.camera, "start": utc(one.start), "end": utc(one.end)}
            | {"event": one.event, "at": utc(one.at)}
            for one in self._marks.values()
        ]
        return Plain(marks=marks, scorer=(self._scorers or [None])[-1], can_undo=bool(self._scorers))

    def mark_missed(self, camera: str, start: float, end: float) -> Mark:
        if camera != "gate":
            raise Conflict(f"camera {camera[:20]!a}: no features of that time are kept")
        with self._lock:
            return self._add("missed", camera, start, end, None)

    def _add(self, verdict: Verdict, camera: str, start: float, end: float, event: str | None) -> Mark:
        self._last += 1
        self._marks[self._last] = Mark(self._last, verdict, camera, start, end, event, NOW)
        return self._marks[self._last]

    def unmark(self, number: int) -> bool:
        return self._marks.pop(number, None) is not None

    def propose(self) -> Plain:
        if not self._marks:
            raise Conflict("nothing is marked yet")
        gone = [{"camera": "gate", "start": utc(NOW - 60), "end": utc(NOW - 50), "peak": 0.8}]
        return Plain(
            proposal=f"of-{sorted(self._marks)}",
            marks=len(self._marks),
            false_alarms=1,
            segments=5,
            changes=True,
            days=2.0,
            wrong_before=3,
            wrong_left_out=1,
            loss_before=0.4,
            loss_now=0.4,
            loss_left_out=None,
            kept=1,
            gone=gone,
            gone_in_all=1,
            new=[],
            new_in_all=0,
            replaces=len(self._scorers),
        )

    def accept(self, proposal: str) -> None:
        if proposal != f"of-{sorted(self._marks)}":
            raise Conflict("the marks have changed since; look at the proposal again")
        number = len(self._scorers) + 1
        self._scorers.append({"number": number, "accepted": utc(NOW), "marks": len(self._marks)})

    def undo(self) -> None:
        if not self._scorers:
            raise Conflict("the bundle's own scorer is in use")
        self._scorers.pop()

    def forget(
        self, camera: str | None, start: float, end: float, clips: Path | None, told: Any, others: Any
    ) -> Erased:
        return forget([], clips, camera, start, end, told, others)


class Pictures:
    """One picture for all."""

    def picture(self, camera: str) -> bytes | None:
        return JPEG if camera == "gate" else None


class Figures:
    """One number."""

    def render(self, accept: str = "") -> tuple[bytes, str]:
        return b"# HELP up Whether it is up.\n# TYPE up gauge\nup 1.0\n", "text/plain; version=0.0.4; charset=utf-8"


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


@dataclass
class Served:
    """A server, and what it serves."""

    port: int
    parts: Parts
    supervisor: Supervisor
    folder: Path
    token: str | None = None
    event: str = f"{RUN}-gate-1"
    events: list[str] = field(default_factory=list)
    cookie: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = "",
    ) -> Answer:
        """One request on a connection of its own; `token` is the server's, another, or none (None)."""
        given = dict(headers or {})
        if (token := self.token if token == "" else token) is not None:
            given.setdefault("Authorization", f"Bearer {token}")
        text = None
        if body is not None:
            text = body if isinstance(body, bytes) else json.dumps(body).encode()
            given.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, text, given)
            reply = connection.getresponse()
            return Answer(reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def sign_in(self) -> str:
        """A cookie that stands for the server's token."""
        answer = self.ask("POST", "/api/session", {"token": self.token}, token=None)
        assert answer.status == 200
        return answer.headers["set-cookie"].split(";")[0]

    def get(self, path: str, **more: Any) -> Answer:
        return self.ask("GET", path, **more)


def fill(parts: Parts, events: int = 12, hours: float = 1.0) -> list[str]:
    """Scores of a few hours, events, and files of the first event; returns the events' ids, the newest first."""
    state, history = parts.state, parts.history
    assert history is not None
    state.write(
        RunRecord(run=RUN, started=utc(NOW - 3600), bundle_id="0185d179" * 8, version="0.1.0", cameras=["gate"])
    )
    state.beat()
    for name in ("gate", "yard"):
        state.write(CameraRecord(camera=name, state="online", detail="gives pictures", time=utc(NOW - 3500)))
    state.write(
        SegmentRecord(
            camera="gate",
            index=0,
            start_frame=0,
            end_frame=48,
            start_s=0.0,
            end_s=3.2,
            score=0.25,
            smoothed=0.3,
            anomalous=False,
            time=utc(NOW),
        )
    )
    count = int(hours * 3600 / 3.2)
    scores = [
        PastScore(
            "gate", NOW - (count - place) * 3.2, NOW - (count - place - 1) * 3.2, place % 100 / 100, place % 100 > 70
        )
        for place in range(count)
    ]
    told = [
        ToldEvent(
            PastEvent(
                f"{RUN}-gate-{number + 1}",
                "gate",
                NOW - 100 * (events - number),
                NOW - 100 * (events - number) + 10,
                0.5 + 0.5 * number / events,
                0.5,
                False,
                p=0.0025 if number % 2 else None,
            )
        )
        for number in range(events)
    ]
    history.remember(scores, told)
    if parts.clips is not None and not parts.clips.exists():
        shelf = Shelf(parts.clips, 10**9, 10**9)
        for suffix, content in (("jpg", JPEG), ("mp4", CLIP)):
            file = shelf.new_file("gate", told[0].event.id, utc(told[0].event.start)[:10], suffix)
            file.write(content)
            file.finish()
        shelf.close()
    return [one.event.id for one in reversed(told)]


@contextmanager
def served(
    folder: Path,
    *,
    others: bool = True,
    token: str | None = None,
    settings: HttpSettings | None = None,
    connections: Connections | None = None,
    events: int = 12,
) -> Iterator[Served]:
    """Serve in this process. The state folder must be the test's own ($STATE_DIRECTORY).

    Args:
        folder: For all files.
        others: Whether the parts are there that other branches of a run give.
        token: The role of a token that is needed.
        settings: Of the server; by default loopback, any free port.
        connections: As of HttpServer.
        events: How many there are.
    """
    secret = None if token is None else add_token(tokens_path(), "act" if token == "act" else "read", None)
    settings = settings or HttpSettings(listen="127.0.0.1:0", require_token=token is not None)
    cameras = tuple(
        PlannedCamera(parse_source(f"{name}=rtsp://user:secret@192.0.2.1/{name}"), CameraOptions(locator="full"))
        for name in ("gate", "yard")
    )
    plan = Plan(folder / "cameras.yaml", Configuration(http=settings), cameras, ())
    added = AddedCameras(plan.path, folder / "added-cameras.json")
    supervisor = Supervisor(plan, lambda: plan, added=added.planned(plan.configuration), tick_s=0.05)
    state = RunState([camera.source.name for camera in supervisor.plan.cameras])
    state.is_added = supervisor.is_added
    supervisor.board = Boards([state])
    history = History(folder / "history.sqlite")
    parts = Parts(state=state, history=history, cameras=CameraDesk(supervisor, added))
    if others:
        alarms = Alarms()
        part = AlarmPart(alarms, tried, lambda *limits: limits)
        state.alarm_of, state.has_picture = part.of, lambda _: True
        parts.alarms, parts.pictures, parts.figures = part, Pictures(), Figures()
        parts.teaching, parts.clips = Teaching(history), folder / "clips"
    ids = fill(parts, events)
    listening = listen(settings)
    with (
        HttpServer(listening, parts, sessions_path=folder / "sessions.json", connections=connections),
        supervisor.watching(NoCameras(), threading.Event()),
    ):
        server = Served(listening.port, parts, supervisor, folder, secret, events=ids)
        wait_until_answered(server)
        yield server
    history.close()


def wait_until_answered(server: Served, limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while True:
        try:
            if server.get("/healthz", token=None).status == 200:
                return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def told(state: str, number: int = 1, camera: str = "gate", end_s: float = 10.0) -> EventRecord:
    """One record of an event."""
    return EventRecord(
        state=state,
        id=f"{RUN}-{camera}-{number}",
        camera=camera,
        start_s=5.0,
        end_s=end_s,
        start_frame=0,
        end_frame=48,
        peak=0.9,
        mean=0.8,
        time=utc(NOW + end_s),
    )
