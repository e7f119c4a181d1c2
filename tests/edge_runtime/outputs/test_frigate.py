"""Events of the edge begin and end in Frigate.

Frigate itself needs its container and cameras, so a stand-in answers here: a server that keeps Frigate's contract as
its source has it (api/event.py, api/auth.py, api/defs/request/events_body.py), and refuses what that refuses.
"""

from __future__ import annotations

import json
import logging
import math
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from http_servers import Reply, Request, http_server

from edge_runtime.errors import NotDelivered, OutputFailed, UsageError
from edge_runtime.outputs.frigate import Frigate
from edge_runtime.outputs.notes import Notes
from edge_runtime.outputs.sink import Output, Outputs
from edge_runtime.outputs.spool import Spool
from edge_runtime.outputs.spooled import SpooledSink
from edge_runtime.records import CameraRecord, EventRecord


def event(
    state: Literal["new", "update", "end"], number: int = 0, late_s: float = 0.5, end_s: float = 1.6
) -> EventRecord:
    at = datetime.fromtimestamp(time.time() - late_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return EventRecord(state, f"1a-gate-{number}", "gate", 0.0, end_s, 0, 48, 0.97, 0.9, time=at)


class StandIn:
    """What Frigate knows: its events by id, who may come in, and what it was asked."""

    def __init__(self, *, password: str | None = None) -> None:
        self.events: dict[str, dict[str, Any]] = {}
        self.cameras = {"gate", "front door"}
        self.password = password
        self.tokens: set[str] = set()
        self.requests: list[Request] = []
        self.fault: Reply | None = None

    def __call__(self, request: Request) -> Reply:
        self.requests.append(request)
        if self.fault is not None:
            return self.fault
        body = json.loads(request.body)
        if request.path == "/api/login":
            return self._log_in(body)
        cookie = re.search(r"frigate_token=(\S+)", request.headers.get("cookie", ""))
        if self.password is not None and (cookie is None or cookie[1] not in self.tokens):
            return Reply(401, b"<html>401 Authorization Required</html>")
        if created := re.fullmatch(r"/api/events/([^/]+)/([^/]+)/create", request.path):
            return self._create(request, created[1].replace("%20", " "), created[2], body)
        if ended := re.fullmatch(r"/api/events/([^/]+)/end", request.path):
            return self._end(request, ended[1], body)
        return self._reply(404, message="Not Found")

    def _log_in(self, body: dict[str, Any]) -> Reply:
        if set(body) != {"user", "password"} or body != {"user": "edge", "password": self.password}:
            return self._reply(401, message="Login failed")
        self.tokens = {f"header.payload.{len(self.requests)}"}
        (token,) = self.tokens
        return Reply(200, headers={"set-cookie": f"frigate_token={token}; HttpOnly; Path=/; SameSite=lax"})

    def _create(self, request: Request, camera: str, label: str, body: dict[str, Any]) -> Reply:
        assert request.method == "POST"
        types = {
            "duration": (int, type(None)),
            "sub_label": (str, type(None)),
            "score": (float, int),
            "include_recording": bool,
            "source_type": str,
            "pre_capture": (int, type(None)),
        }
        if any(not isinstance(value, types[key]) for key, value in body.items()):  # type: ignore[arg-type]
            return self._reply(422, message="unprocessable")
        if camera not in self.cameras:
            return self._reply(404, message=f"{camera} is not a valid camera.")
        event_id = f"{time.time()}-{len(self.events)}abc"
        start = time.time() - (body["pre_capture"] or 0)
        self.events[event_id] = {**body, "camera": camera, "label": label, "start_time": start, "end_time": None}
        return self._reply(200, success=True, message="Successfully created event.", event_id=event_id)

    def _end(self, request: Request, event_id: str, body: dict[str, Any]) -> Reply:
        assert request.method == "PUT"
        if event_id not in self.events:
            return self._reply(404, message=f"{event_id} must be set and valid.")
        self.events[event_id]["end_time"] = body["end_time"]
        return self._reply(200, success=True, message="Event successfully ended.")

    @staticmethod
    def _reply(status: int, **content: object) -> Reply:
        return Reply(status, json.dumps({"success": status == 200, **content}).encode())


@contextmanager
def frigate(stand_in: StandIn) -> Iterator[str]:
    with http_server(stand_in) as port:
        yield f"http://127.0.0.1:{port}"


def test_an_event_begins_and_ends() -> None:
    stand_in = StandIn()
    with frigate(stand_in) as url:
        sink = Frigate(url, {"gate": "front door"}, sub_label="edge")
        begin, end = event("new"), event("end", end_s=9.6)
        for record in (begin, event("update"), CameraRecord("gate", "online", ""), end):
            sink.write(record)
        sink.close()
    ((_, told),) = stand_in.events.items()
    assert (told["camera"], told["label"], told["sub_label"]) == ("front door", "anomaly", "edge")
    assert (told["duration"], told["include_recording"], told["source_type"]) == (None, True, "api")
    assert told["score"] == begin.peak
    assert told["pre_capture"] == math.ceil(0.5 + 1.6)
    assert told["start_time"] == pytest.approx(time.time() - 2.1, abs=10)
    assert told["end_time"] == datetime.fromisoformat(str(end.time)).timestamp()
    assert len(stand_in.requests) == 2


def test_an_event_that_waited_too_long_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    stand_in = StandIn()
    with frigate(stand_in) as url:
        sink = Frigate(url)
        for number in range(3):
            sink.write(event("new", number, late_s=3600))
            sink.write(event("end", number))
        sink.close()
        assert stand_in.requests == []
        Frigate(url, pre_capture_s=7200).write(event("new", late_s=3600))
    assert len(stand_in.events) == 1
    assert sink.late == 3
    assert "an event of gate comes 3600.0 s late and is left out" in caplog.text
    assert "2 more events were left out" in caplog.text


def test_an_events_end_is_told_after_a_restart(tmp_path: Path) -> None:
    stand_in = StandIn()
    with frigate(stand_in) as url:
        for state in ("new", "end"):
            with Spool(tmp_path / "spool") as spool:
                sink = Frigate(url, ids=Notes(spool, "frigate"))
                spooled = SpooledSink(sink, spool, sink.kinds, updates=False)
                with Outputs([Output(spooled)]) as outputs:
                    outputs.emit(event(state))  # type: ignore[arg-type]
                    deadline = time.monotonic() + 30
                    while spooled.waiting.records and time.monotonic() < deadline:
                        time.sleep(0.01)
        with Spool(tmp_path / "spool") as spool:
            assert dict(Notes(spool, "frigate")) == {}
    ((_, told),) = stand_in.events.items()
    assert told["end_time"] is not None


def test_a_beginning_that_is_handed_over_twice_is_told_once() -> None:
    stand_in = StandIn()
    with frigate(stand_in) as url:
        sink = Frigate(url)
        sink.write(event("new"))
        sink.write(event("new"))
    assert len(stand_in.events) == 1


def test_a_login_is_made_when_it_is_asked_for_and_again_when_it_has_run_out() -> None:
    stand_in = StandIn(password="p4ss")
    with frigate(stand_in) as url:
        sink = Frigate(url, login=("edge", "p4ss"))
        sink.write(event("new", 1))
        sink.write(event("new", 2))
        stand_in.tokens.clear()
        sink.write(event("end", 1))
    assert len(stand_in.events) == 2
    assert [request.path for request in stand_in.requests].count("/api/login") == 2


@pytest.mark.parametrize("login", [None, ("edge", "wr0ng")])
def test_who_is_not_let_in_tries_again_later(login: tuple[str, str] | None) -> None:
    stand_in = StandIn(password="p4ss")
    with frigate(stand_in) as url:
        sink = Frigate(url, login=login)
        with pytest.raises(NotDelivered, match="401") as caught:
            sink.write(event("new"))
        assert "wr0ng" not in str(caught.value)
    assert len(stand_in.requests) == (1 if login is None else 2)


def test_a_camera_that_frigate_does_not_know_is_refused() -> None:
    stand_in = StandIn()
    with frigate(stand_in) as url, pytest.raises(OutputFailed, match="yard is not a valid camera") as caught:
        Frigate(url, {"gate": "yard"}).write(event("new"))
    assert not isinstance(caught.value, NotDelivered)


def test_an_event_that_frigate_has_forgotten_is_forgotten_here() -> None:
    stand_in, ids = StandIn(), {"1a-gate-0": "long gone"}
    with frigate(stand_in) as url:
        sink = Frigate(url, ids=ids)
        with pytest.raises(OutputFailed, match="must be set and valid"):
            sink.write(event("end"))
        sink.write(event("end"))
    assert ids == {}


def test_faults_are_tried_again_and_the_id_is_kept() -> None:
    stand_in, ids = StandIn(), {"1a-gate-0": "theirs"}
    stand_in.events["theirs"] = {}
    stand_in.fault = Reply(500, b'{"success": false, "message": "An unknown error occurred"}')
    with frigate(stand_in) as url:
        sink = Frigate(url, ids=ids)
        for record in (event("end"), event("new", 1)):
            with pytest.raises(NotDelivered, match="500: An unknown error occurred"):
                sink.write(record)
        stand_in.fault = None
        sink.write(event("end"))
    with pytest.raises(NotDelivered, match="does not answer"):
        sink.write(event("new", 1))
    assert ids == {}


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"event_id": 7}', b"<html>"])
def test_what_is_not_frigate_is_said(body: bytes) -> None:
    stand_in = StandIn()
    stand_in.fault = Reply(200, body)
    with frigate(stand_in) as url, pytest.raises(OutputFailed, match="is this Frigate"):
        Frigate(url).write(event("new"))


def test_events_of_files_have_no_time_and_are_not_sent() -> None:
    with pytest.raises(OutputFailed, match="has no time"):
        Frigate("http://127.0.0.1:9").write(EventRecord("new", "1", "clip", 0.0, 1.6, 0, 48, 0.9, 0.9))


def test_open_events_are_bounded() -> None:
    ids = {str(number): "x" for number in range(1000)}
    with frigate(StandIn()) as url:
        Frigate(url, ids=ids).write(event("new"))
    assert len(ids) == 1000
    assert "0" not in ids


def test_a_url_that_is_none() -> None:
    with pytest.raises(UsageError, match="frigate: the URL"):
        Frigate("frigate:5000")
