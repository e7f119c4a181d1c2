"""The page's server in a real run: cameras as they come and go, events as they happen, kills and restarts."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from broker import until as until_within
from edge_command import STOP_S, hh_edge, start
from rtsp import RtspServer, free_port

LIMIT_S = 120.0
CONFIGURATION = """
version: 1
bundle: {bundle}
locator: low_latency
output: {{path: records.jsonl}}
clips: {{path: clips, pre_roll: 1, post_roll: 1, max_mb: 20}}
http: {{listen: "127.0.0.1:{port}"}}
cameras:
  gate: {{source: "{gate}"}}
"""


def until(true: Callable[[], Any]) -> Any:
    return until_within(true, LIMIT_S)


class Client:
    """What a browser asks."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {} if body is None else {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            is_json = answer.getheader("content-type", "").startswith("application/json")
            return answer.status, json.loads(content) if is_json else content
        except (OSError, http.client.HTTPException):
            return 0, None
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        status, found = self.ask("GET", path)
        return found if status == 200 else None

    def camera(self, name: str) -> dict[str, Any]:
        return self.get(f"/api/cameras/{name}") or {"state": "", "score": None, "open_event": None}

    def events(self, **wanted: str) -> list[dict[str, Any]]:
        query = "&".join(f"{key}={value}" for key, value in wanted.items())
        return (self.get(f"/api/events?{query}") or {"events": []})["events"]


@contextmanager
def running(path: Path, state: Path, *, end: int = signal.SIGTERM) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"STATE_DIRECTORY": str(state)}
    run = start("run", "--config", path, "--provider", "cpu", "--threads", 1, env=environment, cwd=path.parent)
    try:
        yield run
    finally:
        run.send_signal(end)
        _, log = run.communicate(timeout=STOP_S)
        assert run.returncode == (0 if end == signal.SIGTERM else -end), log
        assert "Traceback" not in log
        (path.parent / "log").write_text(log)


def test_a_run_is_seen_paused_added_to_killed_and_begun_again(
    always: Path, tmp_path: Path, rtsp_server: Callable[..., RtspServer]
) -> None:
    gate, yard = rtsp_server(size=(320, 240), fps=15), rtsp_server(size=(320, 240), fps=15)
    path, state, client = tmp_path / "cameras.yaml", tmp_path / "state", Client(free_port())
    path.write_text(CONFIGURATION.format(bundle=always, gate=gate.url, port=client.port))
    with running(path, state, end=signal.SIGKILL):
        # Answers before the bundle is loaded, and says so.
        until(lambda: client.get("/healthz"))
        until(lambda: client.get("/readyz"))
        assert client.get("/api/run")["role"] == "act"
        until(lambda: (client.camera("gate")["state"], client.camera("gate")["score"] is None) == ("online", False))
        event = until(lambda: [one for one in client.events(state="open") if one["snapshot"]])[0]
        assert client.camera("gate")["open_event"] == event["id"]
        assert client.get(f"/api/events/{event['id']}/snapshot")[:2] == b"\xff\xd8"
        until(lambda: client.get("/api/cameras/gate/scores")["scores"])

        with socket.create_connection(("127.0.0.1", client.port), LIMIT_S) as live:
            live.sendall(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            found = b""
            while b"event: score" not in found:
                found += live.recv(65_536)
        assert b"event: camera" in found

        assert client.ask("POST", "/api/cameras/gate/pause")[0] == 200
        until(lambda: client.camera("gate")["state"] == "unwatched")
        until(lambda: client.get(f"/api/events/{event['id']}")["state"] == "ended")
        # With the post-roll its clip is whole.
        until(lambda: client.get(f"/api/events/{event['id']}")["clip"])
        assert b"ftyp" in client.get(f"/api/events/{event['id']}/clip")[:16]
        assert client.ask("POST", "/api/cameras/gate/resume")[0] == 200
        until(lambda: client.camera("gate")["state"] == "online")

        assert client.ask("POST", "/api/cameras", {"name": "yard", "source": yard.url})[0] == 201
        until(lambda: client.camera("yard")["state"] == "online")
        left = until(lambda: client.events(state="open", camera="yard"))[0]["id"]

    with running(path, state):
        until(lambda: client.get("/readyz"))
        # What was added is there again, and what the kill left open is ended.
        until(lambda: client.camera("yard")["state"] == "online")
        assert client.camera("yard")["added"]
        until(lambda: client.get(f"/api/events/{left}")["state"] == "ended")
        assert client.ask("DELETE", "/api/cameras/gate")[0] == 409
        assert client.ask("DELETE", "/api/cameras/yard")[0] == 204
        assert client.ask("GET", "/api/cameras/yard")[0] == 404
        until(lambda: client.camera("gate")["state"] == "online")
        # The run ends in time, whoever listens.
        live = socket.create_connection(("127.0.0.1", client.port), LIMIT_S)
        live.sendall(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        live.recv(65_536)
    live.close()
    log = (tmp_path / "log").read_text()
    assert f"http://127.0.0.1:{client.port}/" in log
    assert client.get("/healthz") is None


def test_what_cannot_be_served_is_told_before_anything_is_loaded(bundle_dir: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        common = ("run", "--bundle", bundle_dir, "--camera", "gate=rtsp://127.0.0.1:9/x", "--quiet")
        environment = os.environ | {"STATE_DIRECTORY": str(tmp_path / "state")}
        busy = hh_edge(*common, "--http", address, env=environment)
    assert (busy.returncode, len(busy.stderr.splitlines())) == (1, 1), busy.stderr
    assert address in busy.stderr
    assert "--http HOST:PORT" in busy.stderr
    for wrong, word in (
        ("0.0.0.0:0", "hh-edge token add --role act"),
        ("nonsense", "127.0.0.1:8480"),
        ("[::1", "[::1]:8480"),
        ("127.0.0.1:70000", "127.0.0.1:8480"),
    ):
        refused = hh_edge(*common, "--http", wrong, env=environment)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused.stderr
        assert word in refused.stderr
    files = hh_edge("run", "--bundle", bundle_dir, "--camera", __file__, "--http", env=environment)
    assert files.returncode == 2
    assert "live cameras" in files.stderr


def test_tokens_of_a_run_that_can_be_reached(bundle_dir: Path, tmp_path: Path) -> None:
    environment = os.environ | {"STATE_DIRECTORY": str(tmp_path / "state")}
    token = hh_edge("token", "add", "--role", "read", env=environment).stdout.strip()
    port = free_port()
    command = ("run", "--bundle", bundle_dir, "--camera", "gate=rtsp://user:hunter2@127.0.0.1:9/x")
    run = start(*command, "--http", f"0.0.0.0:{port}", env=environment)
    try:
        client = Client(port)
        until(lambda: client.get("/healthz"))
        assert client.ask("GET", "/api/cameras")[0] == 401
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/api/cameras", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        assert answer.status == 200
        assert b"hunter2" not in answer.read()
        connection.close()
        # A run with a page goes on where no camera answers, and says which.
        reason = until(
            lambda: "offline" in client.ask("GET", "/readyz")[1]["reason"] and client.ask("GET", "/readyz")[1]
        )
        assert not reason["ready"]
        assert run.poll() is None
    finally:
        run.send_signal(signal.SIGTERM)
        _, log = run.communicate(timeout=STOP_S)
    assert run.returncode == 0, log
    assert "hunter2" not in log
    assert token not in log
