"""A run that is controlled from outside while it goes on: over MQTT, by its configuration, by a service manager."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from broker import Broker, Listener, broker, kept_by
from broker import until as until_within
from edge_command import STOP_S, of_type, parsed, start, with_manifest
from rtsp import RtspServer, free_port

__all__ = ["broker"]

LIMIT_S = 60.0
HEAD = """
version: 1
bundle: {bundle}
locator: low_latency
output: {{path: {folder}/records.jsonl}}
spool: {{path: {folder}/spool}}
mqtt: {{host: 127.0.0.1, port: {mqtt}}}
cameras:
"""


@pytest.fixture
def short(bundle_dir: Path, tmp_path: Path) -> Path:
    """A bundle whose segments last half a second."""
    return with_manifest(bundle_dir, tmp_path / "bundle", segment={"frames": 8})


def until(true: Callable[[], Any]) -> Any:
    """Wait until something is so, with all the time that a busy machine takes."""
    return until_within(true, LIMIT_S)


class Site:
    """A configuration, its run, and what that has recorded so far."""

    def __init__(self, folder: Path, bundle: Path, broker: Broker) -> None:
        self.folder, self.broker = folder, broker
        self.path = folder / "cameras.yaml"
        self.head = HEAD.format(bundle=bundle, folder=folder, mqtt=broker.port)

    def write(self, **cameras: str) -> None:
        lines = [f"  {name}: {{source: {source}}}\n" for name, source in cameras.items()]
        self.path.write_text(self.head + "".join(lines))
        self.path.chmod(0o600)

    @contextmanager
    def running(self, *more: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
        command = ("run", "--config", self.path, "--provider", "cpu", "--threads", 1, "--quiet", *more)
        run = start(*command, **options)
        try:
            yield run
        finally:
            run.send_signal(signal.SIGTERM)
            _, self.log = run.communicate(timeout=STOP_S)
        assert run.returncode == 0, self.log

    @property
    def records(self) -> list[dict[str, Any]]:
        path = self.folder / "records.jsonl"
        text = path.read_text() if path.exists() else ""
        # The last line may be half there.
        return parsed(text[: text.rfind("\n") + 1])

    def segments(self, camera: str) -> int:
        return sum(record["camera"] == camera for record in of_type(self.records, "segment"))

    def more(self, camera: str, count: int = 3) -> None:
        """Wait until more segments of a camera are recorded."""
        before = self.segments(camera)
        until(lambda: self.segments(camera) >= before + count)


def device(listener: Listener, camera: str) -> str | None:
    return listener.last(f"homeassistant/device/headhunt_{camera}/config")


def status(listener: Listener, camera: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(listener.last(f"headhunt/{camera}/status") or "{}")
    return found


def test_a_camera_is_paused_and_resumed_over_mqtt_and_the_other_is_untouched(
    short: Path, tmp_path: Path, rtsp_server: Callable[..., RtspServer], broker: Broker
) -> None:
    site, listener = Site(tmp_path, short, broker), Listener(broker.port)
    site.write(**{name: rtsp_server(size=(320, 240), fps=15).url for name in ("gate", "yard")})
    with site.running():
        for name in ("gate", "yard"):
            until(lambda name=name: site.segments(name) >= 3)
        assert listener.last("headhunt/gate/pause") == "OFF"
        listener.say("headhunt/gate/pause/set", "ON")
        until(lambda: listener.last("headhunt/gate/pause") == "ON")
        until(lambda: "is paused" in status(listener, "gate")["detail"])
        assert status(listener, "gate")["state"] == "offline"
        until(lambda: listener.last("headhunt/gate/fps") == "0.0")

        def nothing_comes_while_the_other_goes_on() -> bool:
            before = site.segments("gate")
            site.more("yard", 6)
            return site.segments("gate") == before

        # What it had finished is scored first.
        until(nothing_comes_while_the_other_goes_on)
        assert device(listener, "gate")

        listener.say("headhunt/gate/pause/set", "OFF")
        until(lambda: listener.last("headhunt/gate/pause") == "OFF")
        site.more("gate")
        until(lambda: status(listener, "gate")["state"] == "online")
        until(lambda: float(listener.last("headhunt/yard/fps") or 0) > 1)
    states = [(one["camera"], one["state"]) for one in of_type(site.records, "camera")]
    begun = [states.count((name, "online")) for name in ("gate", "yard")]
    assert begun == [2, 1], "the yard was never begun anew"
    assert "camera gate: is paused by request" in site.log
    assert "camera gate: is resumed by request" in site.log
    listener.close()


def test_a_pause_does_not_outlive_the_run(short: Path, tmp_path: Path, broker: Broker) -> None:
    site, listener = Site(tmp_path, short, broker), Listener(broker.port)
    site.write(gate=f"rtsp://127.0.0.1:{free_port()}/s")
    with site.running():
        until(lambda: status(listener, "gate").get("reason") == "refused")
        listener.say("headhunt/gate/pause/set", "ON")
        until(lambda: listener.last("headhunt/gate/pause") == "ON")
    with site.running():
        until(lambda: listener.last("headhunt/gate/pause") == "OFF")
        until(lambda: status(listener, "gate").get("reason") == "refused")
    listener.close()


def test_a_camera_that_is_taken_out_of_the_file_is_taken_from_home_assistant(
    short: Path, tmp_path: Path, broker: Broker
) -> None:
    site, listener = Site(tmp_path, short, broker), Listener(broker.port)
    nobody = f"rtsp://127.0.0.1:{free_port()}/s"
    site.write(gate=nobody, yard=nobody, dock=f"{nobody}, enabled: false")
    with site.running("--watch"):
        until(lambda: status(listener, "yard").get("reason") == "refused")
        until(lambda: status(listener, "dock").get("detail") == "is disabled, and not watched")
        assert all(device(listener, name) for name in ("gate", "yard", "dock"))
        # A disabled camera cannot be paused, and its switch shows so.
        listener.say("headhunt/dock/pause/set", "ON")
        site.write(gate=nobody, dock=f"{nobody}, enabled: false")
        until(lambda: device(listener, "yard") == "")
        until(lambda: [topic for topic in kept_by(broker.port) if "yard" in topic] == [])
        assert listener.last("headhunt/dock/pause") == "OFF"
        assert device(listener, "dock")
    assert "dock: cannot be paused (camera dock is disabled; enable it in" in site.log
    # What was taken out between two runs goes with the next one.
    site.write(dock=f"{nobody}, enabled: false")
    with site.running():
        until(lambda: device(listener, "gate") == "")
        until(lambda: listener.last("headhunt/available") == "online")
    kept = kept_by(broker.port)
    assert [topic for topic in kept if "gate" in topic or "yard" in topic] == []
    assert [topic for topic in kept if topic.startswith("homeassistant/")] == [
        "homeassistant/device/headhunt_dock/config"
    ]
    listener.close()


def test_a_service_manager_is_told_once_that_the_end_was_asked_for(
    short: Path, tmp_path: Path, broker: Broker
) -> None:
    site = Site(tmp_path, short, broker)
    site.write(gate=f"rtsp://127.0.0.1:{free_port()}/s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(LIMIT_S)
        with site.running(env=os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify")}):
            assert manager.recv(100) == b"READY=1"
        assert manager.recv(100) == b"STOPPING=1"
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(100)
