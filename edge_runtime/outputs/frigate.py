"""Events to Frigate, through its HTTP API: one begins and ends there as it does here, with Frigate's recording of it.

Frigate gives an event the time at which it hears of it, less the seconds of its own `record.alerts.pre_capture`. One
that could not be told in time would lie beside what it is about: it is left out, which is logged.
"""

from __future__ import annotations

import json
import logging
import math
import ssl
import time
from collections.abc import Callable, Mapping, MutableMapping
from datetime import datetime
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote

from msgspec import UNSET

from edge_runtime.errors import NotDelivered, OutputFailed
from edge_runtime.files import printable
from edge_runtime.outputs.http_client import HttpAnswer, HttpServer
from edge_runtime.records import EventRecord, Record
from edge_runtime.repeats import RepeatedTrouble

log = logging.getLogger(__name__)

# Events that Frigate was told of and whose end never came here; more are forgotten, the oldest first.
_MOST_IDS = 1000
_UNAUTHORIZED = 401


class Frigate:
    """Creates an event in Frigate when one begins, and ends it; a sink, which is meant to stand behind a spool.

    It needs no updates: give its `SpooledSink` `kinds=frigate.kinds, updates=False`. Port 8971 needs a user with the
    role `admin`, port 5000 none. An event whose beginning Frigate took without the answer reaching this side is
    created again, and the first one is never ended.

    Args:
        url: Such as `http://frigate:5000` or `https://frigate:8971`.
        cameras: Frigate's names of cameras, by ours; a camera that is not in it has the same name there.
        label: What Frigate calls the events.
        sub_label: Beside the label.
        pre_capture_s: An event that reaches Frigate later than this after its first anomalous segment is left out, in
            seconds. Frigate's own `pre_capture` is 5 unless configured; where the locator answers later, raise both.
        login: User and password for port 8971.
        ids: Where Frigate's ids of open events are kept, by ours; `Notes` of a spool survives restarts.
        timeout_s: Longest wait for the connection, and for each part of the answer, in seconds.
        tls: See `http_client.tls_context`. Frigate's own certificate is self-signed.
        now: Gives seconds since 1970. For tests.

    Raises:
        UsageError: The URL cannot be read.
    """

    kinds = frozenset({"event"})

    def __init__(
        self,
        url: str,
        cameras: Mapping[str, str] | None = None,
        *,
        label: str = "anomaly",
        sub_label: str | None = None,
        pre_capture_s: float = 5.0,
        login: tuple[str, str] | None = None,
        ids: MutableMapping[str, str] | None = None,
        timeout_s: float = 10.0,
        tls: ssl.SSLContext | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._server = HttpServer(url, "frigate", timeout_s, tls)
        self.name = f"frigate {self._server.shown}"
        self._cameras = dict(cameras or {})
        self._label, self._sub_label = label, sub_label
        self._pre_capture_s = pre_capture_s
        self._login = login
        self._ids: MutableMapping[str, str] = {} if ids is None else ids
        self._now = now
        self._cookie: str | None = None
        self._late = 0
        self._lateness = RepeatedTrouble(log, logging.WARNING, self._more_late)

    @property
    def late(self) -> int:
        """Events that were left out because they came too late."""
        return self._late

    def write(self, record: Record) -> None:
        """Tell Frigate of the beginning or end of an event; passes everything else over.

        Raises:
            NotDelivered: Frigate does not answer, lets nobody in, or fails.
            OutputFailed: Frigate refuses this: no such camera, a user without the role.
        """
        if not isinstance(record, EventRecord):
            return
        if record.state == "new":
            self._create(record)
        elif record.state == "end":
            self._end(record)

    def close(self) -> None:
        """Say how many events were left out since it was said last."""
        self._lateness.sum_up(at_once=True)

    def _create(self, event: EventRecord) -> None:
        if event.id in self._ids:  # told before a kill
            return
        ended_at = _seconds(event)
        if ended_at is None:
            raise OutputFailed(f"{self.name}: an event of {printable(event.camera)} has no time; files are not sent")
        waited_s = self._now() - ended_at
        if waited_s > self._pre_capture_s:
            self._late += 1
            self._lateness.happened(
                f"{self.name}: an event of {printable(event.camera)} comes {waited_s:.1f} s late and is left out; "
                f"with pre_capture {self._pre_capture_s:g} s Frigate would date it wrongly"
            )
            return
        camera = self._cameras.get(event.camera, event.camera)
        began_s = waited_s + event.end_s - event.start_s
        answer = self._ask(
            "POST",
            f"/api/events/{quote(camera, safe='')}/{quote(self._label, safe='')}/create",
            {
                # Until it is ended.
                "duration": None,
                "sub_label": self._sub_label,
                "score": round(event.peak, 6),
                "include_recording": True,
                "source_type": "api",
                # Later versions date the event by it, earlier ones pass it over.
                "pre_capture": max(0, math.ceil(began_s)),
            },
        )
        try:
            told = json.loads(answer.body)["event_id"]
        except (ValueError, TypeError, KeyError):
            told = None
        if not isinstance(told, str) or not told:
            raise OutputFailed(f"{self.name}: took an event and gave it no id; is this Frigate?")
        while len(self._ids) >= _MOST_IDS:
            del self._ids[next(iter(self._ids))]
        self._ids[event.id] = told

    def _end(self, event: EventRecord) -> None:
        known = self._ids.get(event.id)
        if known is None:  # left out, or before this output was there
            return
        ended_at = _seconds(event)
        try:
            self._ask(
                "PUT",
                f"/api/events/{quote(known, safe='')}/end",
                {"end_time": self._now() if ended_at is None else ended_at},
            )
        except NotDelivered:
            raise
        except OutputFailed:
            del self._ids[event.id]
            raise
        del self._ids[event.id]

    def _ask(self, method: str, path: str, body: Mapping[str, object]) -> HttpAnswer:
        answer = self._send(method, path, body)
        if answer.status == _UNAUTHORIZED and self._login is not None:
            # The first time, and whenever the token has run out.
            self._log_in(*self._login)
            answer = self._send(method, path, body)
        if answer.is_success:
            return answer
        if answer.status == _UNAUTHORIZED:
            raise NotDelivered(f"{self.name}: lets nobody in without a login (401)")
        if answer.is_refusal:
            raise OutputFailed(f"{self.name}: refuses {method} {printable(path)} ({_told(answer)})")
        raise NotDelivered(f"{self.name}: answers with {_told(answer)}", answer.retry_after_s)

    def _send(self, method: str, path: str, body: Mapping[str, object]) -> HttpAnswer:
        headers = {} if self._cookie is None else {"cookie": self._cookie}
        return self._server.send(method, self._server.path.rstrip("/") + path, json.dumps(body).encode(), headers)

    def _log_in(self, user: str, password: str) -> None:
        self._cookie = None
        answer = self._send("POST", "/api/login", {"user": user, "password": password})
        if not answer.is_success:
            raise NotDelivered(f"{self.name}: refuses the login ({answer.status})", answer.retry_after_s)
        cookies: SimpleCookie = SimpleCookie()
        for text in answer.cookies:
            try:
                cookies.load(text)
            except CookieError:
                continue
        # `frigate_token`, unless Frigate's configuration calls it something else.
        self._cookie = "; ".join(f"{name}={cookie.coded_value}" for name, cookie in cookies.items()) or None

    def _more_late(self, count: int, seconds: int) -> str:
        return f"{self.name}: {count} more events were left out in the last {seconds} s, they came too late"


def _seconds(event: EventRecord) -> float | None:
    """When the last anomalous segment so far ended, in seconds since 1970."""
    if event.time is UNSET:
        return None
    try:
        return datetime.fromisoformat(event.time).timestamp()
    except ValueError:
        return None


def _told(answer: HttpAnswer) -> str:
    """What Frigate says, as one short line."""
    try:
        text = str(json.loads(answer.body)["message"])
    except (ValueError, TypeError, KeyError):
        text = ""
    text = printable(" ".join(text.split()))[:100]
    return f"{answer.status}: {text}" if text else str(answer.status)
