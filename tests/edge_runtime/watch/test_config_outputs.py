"""The outputs of a configuration, against real servers: what is written there is what they get."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from broker import Broker, broker, kept_by, until
from http_servers import Papers, Reply, Request, http_server, make_papers

from edge_runtime.errors import UsageError
from edge_runtime.outputs.sink import Outputs
from edge_runtime.records import EventRecord
from edge_runtime.stream.clock import RunClock
from edge_runtime.watch.config import read_plan
from edge_runtime.watch.config_outputs import broker_of, check_outputs, open_outputs
from edge_runtime.watch.config_settings import Configuration

__all__ = ["broker"]

SECRET = "whsec_czNjcmV0czNjcmV0czNjcmV0czNjcmV0"


def configuration(folder: Path, text: str) -> Configuration:
    path = folder / "cameras.yaml"
    path.write_text(f"version: 1\nspool: {{path: {folder}/spool}}\n{text}\n")
    path.chmod(0o600)
    return read_plan(path, {}).configuration


@contextmanager
def outputs(wanted: Configuration, *cameras: str) -> Iterator[Outputs]:
    """Open for a moment, as in a run."""
    with open_outputs(wanted, cameras, lambda camera, paused: None) as others, Outputs(others.outputs) as opened:
        yield opened


def anomaly() -> EventRecord:
    return EventRecord("new", "e-1", "gate", 0.0, 1.0, 0, 30, 0.9, 0.9, time=RunClock().utc(0.0))


# ---- MQTT


def test_all_that_a_broker_is_configured_with_reaches_it(tmp_path: Path) -> None:
    text = "mqtt: {host: h, port: 99, keepalive_s: 7, client_id: c, prefix: p, discovery_prefix: d, onvif: true}"
    mqtt = configuration(tmp_path, text).mqtt
    assert mqtt is not None
    made = broker_of(mqtt)
    kept = ("host", "port", "keepalive_s", "client_id", "prefix", "discovery_prefix", "onvif")
    assert {name: getattr(made, name) for name in kept} == {name: getattr(mqtt, name) for name in kept}


def devices(broker: Broker, prefix: str = "homeassistant") -> list[str]:
    found = (re.fullmatch(f"{prefix}/device/(.+)/config", topic) for topic in kept_by(broker.port))
    return sorted(match[1] for match in found if match)


def test_what_an_earlier_run_published_of_a_camera_goes_with_the_camera(broker: Broker, tmp_path: Path) -> None:
    text = f"mqtt: {{host: 127.0.0.1, port: {broker.port}}}"
    with outputs(configuration(tmp_path, text), "gate", "yard"):
        until(lambda: devices(broker) == ["headhunt_gate", "headhunt_yard"])
    # Another prefix, or another place for descriptions, is somebody else's.
    for other in ("prefix: other", "discovery_prefix: ha"):
        with outputs(configuration(tmp_path, text[:-1] + f", {other}}}"), "dock"):
            until(lambda: any("dock" in topic for topic in kept_by(broker.port)))
        assert devices(broker)[:2] == ["headhunt_gate", "headhunt_yard"]
    assert devices(broker) == ["headhunt_gate", "headhunt_yard", "other_dock"]
    assert devices(broker, "ha") == ["headhunt_dock"]
    with outputs(configuration(tmp_path, text), "gate"):
        until(lambda: [topic for topic in kept_by(broker.port) if "yard" in topic] == [])
    kept = kept_by(broker.port, "headhunt/#")
    assert json.loads(kept["headhunt/gate/status"])["state"] == "offline"
    assert devices(broker) == ["headhunt_gate", "other_dock"]


# ---- https


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    """A certificate as Frigate makes one for itself: for any name, which is none."""
    folder = tmp_path / "papers"
    folder.mkdir()
    return make_papers(folder, "*")


@pytest.mark.parametrize("trust", ["tls_ca: papers/0.pem", "tls_insecure: true"])
def test_a_frigate_with_a_certificate_of_its_own(tmp_path: Path, papers: Papers, trust: str) -> None:
    heard: list[Request] = []

    def answer(request: Request) -> Reply:
        heard.append(request)
        return Reply(200, json.dumps({"event_id": "1.0-abc"}).encode())

    with http_server(answer, tls=papers.served) as port:
        text = f"frigate: {{url: 'https://127.0.0.1:{port}', {trust}}}\n"
        text += f"webhook: [{{url: 'https://127.0.0.1:{port}/hook', secret: {SECRET}, {trust}}}]\n"
        with outputs(configuration(tmp_path, text), "gate") as opened:
            opened.emit(anomaly())
            until(lambda: {request.path for request in heard} == {"/hook", "/api/events/gate/anomaly/create"})


def test_without_trust_nothing_is_sent(tmp_path: Path, papers: Papers, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Request] = []

    def answer(request: Request) -> Reply:
        heard.append(request)
        return Reply()

    with http_server(answer, tls=papers.served) as port:
        text = f"frigate: {{url: 'https://127.0.0.1:{port}'}}"
        with outputs(configuration(tmp_path, text), "gate") as opened:
            opened.emit(anomaly())
            until(lambda: "its certificate is not trusted" in caplog.text)
    assert heard == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("frigate: {{url: https://h, tls_ca: {file}}}", "frigate.tls_ca"),
        ("webhook: [{{url: https://h, secret: {secret}, tls_ca: {file}}}]", "webhook[0].tls_ca"),
    ],
)
@pytest.mark.parametrize(
    ("file", "trouble"),
    [
        ("none.pem", "cannot be read (No such file or directory)"),
        ("text.pem", "holds no certificates that can be read ("),
        ("folder", ""),
    ],
)
def test_a_file_that_holds_no_certificate_is_refused_before_anything_is_opened(
    tmp_path: Path, text: str, place: str, file: str, trouble: str
) -> None:
    (tmp_path / "text.pem").write_text("-----BEGIN CERTIFICATE-----\nnone\n")
    (tmp_path / "folder").mkdir()
    wanted = configuration(tmp_path, text.format(file=file, secret=SECRET))
    with pytest.raises(UsageError) as caught:
        check_outputs(wanted)
    assert str(caught.value).startswith(f"{place}: {tmp_path}/{file}: {trouble}")
    assert str(caught.value).isprintable()
