"""`/api/live` on a real socket."""

from __future__ import annotations

import http.client
import json
from typing import Any

from served import RUN, Served, told

from edge_runtime.records import SegmentRecord
from edge_runtime.server import live
from edge_runtime.server.tokens import remove_token, tokens_path


class Reader:
    """Server-sent events, as they come."""

    def __init__(self, server: Served, path: str = "/api/live", token: str | None = None) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.connection.request("GET", path, headers=headers)
        self.answer = self.connection.getresponse()

    def next(self) -> tuple[str, Any]:
        """The next event."""
        kind = ""
        while line := self.answer.readline().decode().rstrip("\n"):
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                self.answer.readline()
                return kind, json.loads(line.removeprefix("data: "))
            elif line.startswith(("retry", ":")):
                self.answer.readline()
        return "", None


def segment(number: int, camera: str = "gate") -> SegmentRecord:
    return SegmentRecord(
        camera=camera,
        index=number,
        start_frame=0,
        end_frame=48,
        start_s=0.0,
        end_s=3.2,
        score=0.1,
        smoothed=0.2,
        anomalous=False,
        time="2026-01-31T22:15:30.000Z",
    )


def test_it_begins_with_what_is_and_tells_what_changes(server: Served) -> None:
    reader = Reader(server)
    assert reader.answer.getheader("content-type") == "text/event-stream; charset=utf-8"
    assert [reader.next()[0] for _ in range(2)] == ["camera", "camera"]
    server.parts.state.write(segment(1))
    server.parts.state.write(told("new", 50))
    assert reader.next()[0] == "score"
    assert reader.next()[1]["open_event"] == f"{RUN}-gate-50"
    kind, event = reader.next()
    assert (kind, event["id"], event["state"]) == ("event", f"{RUN}-gate-50", "open")
    server.ask("PUT", "/api/cameras/gate/alarm", {"threshold": 0.9})
    kind, camera = reader.next()
    assert (kind, camera["alarm"]["threshold"]) == ("camera", 0.9)


def test_one_camera_alone(server: Served) -> None:
    reader = Reader(server, "/api/live?camera=yard")
    assert reader.next()[1]["name"] == "yard"
    server.parts.state.write(segment(1, "gate"))
    server.parts.state.write(segment(1, "yard"))
    assert reader.next()[1]["camera"] == "yard"
    assert server.get("/api/live?camera=nowhere").status == 404


def test_who_is_too_slow_is_closed_and_the_run_does_not_wait(server: Served) -> None:
    reader = Reader(server)
    for number in range(200_000):
        server.parts.state.write(segment(number))
        if number % 1000 == 0 and not server.parts.state._listeners:
            break
    # Everything that was on its way, then the end.
    kinds = []
    while (kind := reader.next()[0]) != "":
        kinds.append(kind)
    assert kinds[-1] == "behind"
    assert not server.parts.state._listeners


def test_who_goes_is_forgotten(server: Served) -> None:
    import time

    readers = [Reader(server) for _ in range(3)]
    assert len(server.parts.state._listeners) == 3
    for reader in readers:
        reader.answer.close()
        reader.connection.close()
    deadline = time.monotonic() + 60
    while server.parts.state._listeners:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_ends_when_its_token_is_removed(guarded: Served, monkeypatch: Any) -> None:
    monkeypatch.setattr(live, "_COMMENT_S", 0.1)
    reader = Reader(guarded, token=guarded.token)
    assert reader.next()[0] == "camera"
    remove_token(tokens_path(), "act-1")
    while reader.next()[0] != "":
        pass
