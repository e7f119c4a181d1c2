"""One run with every kind of output, against a real camera, a real broker and a real receiver of webhooks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from broker import Broker, broker, kept_by, until
from edge_command import STOP_S, of_type, parsed, start
from http_servers import Reply, Request, http_server
from rtsp import RtspServer

__all__ = ["broker"]

CONFIGURATION = """
version: 1
bundle: {bundle}
locator: low_latency
output: {{path: {folder}/records.jsonl, rotate_mb: 10}}
spool: {{path: {folder}/spool}}
mqtt: {{host: 127.0.0.1, port: {mqtt}, discovery: true}}
webhook: [{{url: "http://127.0.0.1:{hook}/x", secret: whsec_czNjcmV0czNjcmV0czNjcmV0czNjcmV0, kinds: [event]}}]
cameras:
  gate: {{source: "{gate}"}}
"""


def run(path: Path) -> subprocess.Popen[str]:
    return start("run", "--config", path, "--provider", "cpu", "--threads", 1, "--quiet")


def test_records_reach_every_output_and_what_waited_comes_later(
    always: Path, tmp_path: Path, rtsp_server: Callable[..., RtspServer], broker: Broker
) -> None:
    heard: list[Request] = []

    def hook(request: Request) -> Reply:
        heard.append(request)
        return Reply(204)

    server = rtsp_server(size=(320, 240), fps=15)
    path = tmp_path / "cameras.yaml"
    with http_server(hook) as port:
        values = {"bundle": always, "folder": tmp_path, "gate": server.url, "hook": port}
        path.write_text(CONFIGURATION.format(mqtt=broker.port, **values))
        path.chmod(0o600)
        first = run(path)
        try:
            until(lambda: kept_by(broker.port).get("headhunt/gate/state") == b"ON", 60)
            until(lambda: heard, 20)
        finally:
            first.kill()
            first.communicate()
    kept = kept_by(broker.port)
    assert json.loads(kept["headhunt/gate/status"])["state"] == "online"
    assert kept["headhunt/available"] == b"offline", "its last will"
    assert any(topic.startswith("homeassistant/device/") for topic in kept)
    assert json.loads(heard[0].body)["state"] == "new"
    told = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    (event,) = {record["id"] for record in of_type(told, "event")}

    # It was killed with its event open, and its receiver is gone: the next run ends it everywhere, once it can.
    second = run(path)
    try:
        until(lambda: kept_by(broker.port).get("headhunt/available") == b"online", 60)
    finally:
        second.send_signal(signal.SIGTERM)
        out, err = second.communicate(timeout=STOP_S)
    assert second.returncode == 0, err
    assert out == ""
    records = parsed((tmp_path / "records.jsonl").read_text())
    ends = [record for record in of_type(records, "event") if record["id"] == event and record["state"] == "end"]
    assert [record["reason"] for record in ends] == ["restart"]
    with http_server(hook, port):
        third = run(path)
        try:
            until(lambda: any(json.loads(one.body).get("reason") == "restart" for one in heard), 60)
        finally:
            third.send_signal(signal.SIGTERM)
            third.communicate(timeout=STOP_S)
    states = [json.loads(one.body)["state"] for one in heard if json.loads(one.body)["id"] == event]
    assert (states[0], states[-1]) == ("new", "end")
    assert os.listdir(tmp_path / "spool")
