"""What people say of alarms over MQTT. Knows payloads; nothing of topics, stores or scorers.

Marking may wait for a disk, and the connection must not: it is done in a thread of its own.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from edge_runtime.errors import HeadHuntError, UsageError, one_line
from edge_runtime.files import printable
from edge_runtime.outputs.mqtt_topics import json_payload
from edge_runtime.repeats import RepeatedTrouble
from edge_runtime.strict_json import parse_object

log = logging.getLogger(__name__)

Verdict = Literal["false_alarm", "missed"]

_WAITING = 100
_LONGEST = 2000
# An event is told before it is kept: so often it is looked for again, after so many seconds.
_TRIES, _PAUSE_S = 6, 0.5
_CLOSE_S = 0.3


class Marks(Protocol):
    """Who keeps what people say; `site.teaching.Teaching` for real. Any thread may call anything."""

    def mark_event(self, event_id: str, verdict: Verdict | None, camera: str | None = None) -> Any:
        """Note what was said of an event of a camera, as something with an `id`; None takes it back."""

    def mark_stretch(self, verdict: Verdict, camera: str, start: float, end: float) -> Any:
        """Note what was said of a stretch of a camera, in seconds since 1970."""

    def newest_event(self, camera: str) -> str | None:
        """The newest event of a camera, also of earlier runs."""


@dataclass(frozen=True, slots=True)
class Said:
    """What somebody says.

    Attributes:
        verdict: None takes it back.
        event: Of this event; None: of the camera's newest one, or of a stretch.
        stretch: Of this one, in seconds since 1970.
    """

    verdict: Verdict | None
    event: str | None = None
    stretch: tuple[float, float] | None = None


def parse_said(payload: bytes) -> Said:
    """Read `false_alarm`, `EVENT false_alarm`, or JSON with `verdict` and `event`, or `start` and `end`.

    Raises:
        ValueError: It is something else; the message says what is wanted.
    """
    text = payload[:_LONGEST].decode("utf-8", "replace").strip()
    if not text.startswith("{"):
        named, _, word = text.rpartition(" ")
        return Said(_verdict(None if word == "none" else word), named.strip() or None)
    document = parse_object(text)
    if unknown := document.keys() - {"verdict", "event", "start", "end"}:
        raise ValueError(f"unknown key {min(unknown)[:40]!r}; there are verdict, event, start and end")
    if "verdict" not in document:
        raise ValueError("there is no verdict in it")
    verdict, event = _verdict(document["verdict"]), document.get("event")
    if event is not None and not (isinstance(event, str) and event):
        raise ValueError("event is not the id of an event")
    if "start" not in document and "end" not in document:
        return Said(verdict, event)
    if event is not None or verdict is None:
        raise ValueError("start and end mark a stretch; leave out event, and give a verdict")
    return Said(verdict, None, (_seconds(document, "start"), _seconds(document, "end")))


def _verdict(given: object) -> Verdict | None:
    if given == "false_alarm":
        return "false_alarm"
    if given == "missed":
        return "missed"
    if given is None:
        return None
    raise ValueError("the verdict is false_alarm or missed, or null (none without JSON) to take it back")


def _seconds(document: dict[str, Any], name: str) -> float:
    try:
        moment = datetime.fromisoformat(document[name])
    except (KeyError, TypeError, ValueError):
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"{name} is a time with its zone, as 2026-01-31T22:15:30Z")
    return moment.timestamp()


class MarkTaker:
    """Follows what people say, one after the other.

    Args:
        name: Of the broker, in logs.
        marks: Who keeps it.
        answer: Told of the outcome: camera, payload of a message.
    """

    def __init__(self, name: str, marks: Marks, answer: Callable[[str, str], None]) -> None:
        self._name, self._marks, self._answer = name, marks, answer
        self._changed = threading.Condition()
        self._queue: deque[tuple[str, bytes, str | None]] = deque()
        self._closing = threading.Event()
        self._wrong = RepeatedTrouble(
            log, logging.WARNING, lambda count, seconds: f"{name}: {count} more marks were refused in {seconds} s"
        )
        self._thread = threading.Thread(target=self._work, name="mqtt-marks", daemon=True)
        self._thread.start()

    def ask(self, camera: str, payload: bytes, newest: str | None) -> None:
        """Take what was said on a camera's topic. Does not wait.

        Args:
            camera: The camera.
            payload: Of the message.
            newest: Its newest event of this run.
        """
        with self._changed:
            if full := len(self._queue) >= _WAITING:
                self._queue.popleft()
            self._queue.append((camera, payload, newest))
            self._changed.notify()
        if full:
            self._wrong.happened(f"{self._name}: more is marked than can be kept; the oldest is left out")

    def close(self) -> None:
        """Take nothing more."""
        self._closing.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(_CLOSE_S)
        self._wrong.sum_up(at_once=True)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closing.is_set())
                if self._closing.is_set():
                    return
                camera, payload, newest = self._queue.popleft()
            try:
                answer = self._follow(camera, payload, newest)
            except (HeadHuntError, ValueError) as error:
                reason = printable(one_line(error))
                self._wrong.happened(f"{self._name}: {camera}: cannot be marked: {reason}")
                answer = {"event": None, "verdict": None, "mark": None, "error": reason}
            except Exception as error:
                log.exception("%s: %s: cannot be marked", self._name, camera)
                answer = {"event": None, "verdict": None, "mark": None, "error": printable(one_line(error))}
            self._wrong.sum_up()
            self._answer(camera, json_payload(answer))

    def _follow(self, camera: str, payload: bytes, newest: str | None) -> dict[str, Any]:
        try:
            said = parse_said(payload)
        except ValueError as error:
            raise ValueError(f"{payload[:40]!r}: {error}") from None
        if said.stretch is not None and said.verdict is not None:
            mark = self._marks.mark_stretch(said.verdict, camera, *said.stretch)
            return {"event": None, "verdict": said.verdict, "mark": mark.id, "error": None}
        event = said.event or newest or self._marks.newest_event(camera)
        if event is None:
            raise UsageError(f"no event of camera {camera} is known; name one")
        mark = self._mark(event, said.verdict, camera, newest)
        number = None if mark is None else mark.id
        log.info("%s: %s: event %s: %s", self._name, camera, printable(event), said.verdict or "taken back")
        return {"event": event, "verdict": said.verdict, "mark": number, "error": None}

    def _mark(self, event: str, verdict: Verdict | None, camera: str, newest: str | None) -> Any:
        for tried in range(_TRIES):
            try:
                return self._marks.mark_event(event, verdict, camera)
            except UsageError:
                if event != newest or tried + 1 == _TRIES or self._closing.wait(_PAUSE_S):
                    raise
        return None
