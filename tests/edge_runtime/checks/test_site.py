"""Everything that a configuration names is tried once, and what does not work says what to do."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from broker import Broker, broker
from http_servers import Reply, http_server, make_papers
from rtsp import RtspServer, free_port

from edge_runtime.checks.doctor import Finding
from edge_runtime.checks.site import examine_site
from edge_runtime.errors import UsageError

__all__ = ["broker"]

SECRET = "whsec_czNjcmV0czNjcmV0czNjcmV0czNjcmV0"
CONFIGURATION = """
version: 1
bundle: {bundle}
output: {{path: {folder}/records.jsonl}}
spool: {{path: {folder}/spool}}
clips: {{path: {folder}/clips}}
site: {{path: {folder}/learned}}
mqtt: {{host: 127.0.0.1, port: {mqtt}}}
webhook: [{{url: "http://127.0.0.1:{hook}/x", secret: {secret}}}]
cameras:
  gate: {{source: "{gate}"}}
  yard: {{source: "rtsp://user:s3cret@127.0.0.1:{nobody}/stream"}}
  hall: {{source: "rtsp://127.0.0.1:1/", enabled: false}}
"""


def by_subject(path: Path) -> dict[str, Finding]:
    return {finding.subject: finding for finding in examine_site(path)}


def test_what_works_and_what_does_not(
    bundle_dir: Path, tmp_path: Path, rtsp_server: Callable[..., RtspServer], broker: Broker
) -> None:
    gate = rtsp_server(size=(320, 240))
    path, folder = tmp_path / "cameras.yaml", tmp_path / "state"
    folder.mkdir()
    with http_server(lambda request: Reply(405)) as hook:
        values = {"bundle": bundle_dir, "folder": folder, "gate": gate.url, "hook": hook, "nobody": free_port()}
        path.write_text(CONFIGURATION.format(mqtt=broker.port, secret=SECRET, **values))
        path.chmod(0o600)
        found = by_subject(path)
    assert {subject: finding.level for subject, finding in found.items()} == {
        "configuration": "ok",
        "bundle": "ok",
        "camera gate": "ok",
        "camera yard": "problem",
        "camera hall": "note",
        "output": "ok",
        "mqtt": "ok",
        "webhook": "ok",
        "spool": "ok",
        "clips": "ok",
        "site": "ok",
    }
    assert "pictures of 320 x 240" in found["camera gate"].found
    assert found["camera yard"].found.endswith(": refused")
    assert "check" in found["camera yard"].advice
    assert "s3cret" not in str(found)
    broker.kill()
    found = by_subject(path)
    assert [found[one].level for one in ("mqtt", "webhook")] == ["problem", "problem"]
    assert "check host and port" in found["mqtt"].found
    assert list(folder.iterdir()) == []


def test_cameras_that_hang_are_tried_at_once(bundle_dir: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        cameras = "".join(f"  c{number}: {{source: 'rtsp://127.0.0.1:{port}/{number}'}}\n" for number in range(8))
        path = tmp_path / "cameras.yaml"
        path.write_text(f"version: 1\nbundle: {bundle_dir}\ncameras:\n{cameras}")
        begun = time.monotonic()
        found = by_subject(path)
    # One after the other they would take eight times their timeout.
    assert time.monotonic() - begun < 25
    assert [found[f"camera c{number}"].level for number in range(8)] == ["problem"] * 8


def test_a_wrong_configuration(tmp_path: Path) -> None:
    path = tmp_path / "cameras.yaml"
    path.write_text("cameras: {gate: {soruce: x}}")
    with pytest.raises(UsageError, match="did you mean source"):
        examine_site(path)


def test_a_folder_that_takes_no_files_even_from_root(bundle_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "cameras.yaml"
    path.write_text(
        f"version: 1\nbundle: {bundle_dir}\noutput: {{path: /proc/records.jsonl}}\nclips: {{path: clips}}\n"
    )
    found = by_subject(path)
    assert found["output"].level == "problem"
    assert found["output"].found == "/proc: cannot be written"
    assert found["clips"].level == "ok"
    assert not (tmp_path / "clips").exists()


def test_servers_with_certificates_of_their_own(bundle_dir: Path, tmp_path: Path) -> None:
    papers = make_papers(tmp_path, "*")
    path = tmp_path / "cameras.yaml"

    def found(trust: str) -> dict[str, Finding]:
        hook = f"webhook: [{{url: 'https://127.0.0.1:{port}/x', secret: {SECRET}{trust}}}]"
        path.write_text(f"version: 1\nfrigate: {{url: 'https://127.0.0.1:{port}'{trust}}}\n{hook}\n")
        path.chmod(0o600)
        return by_subject(path)

    with http_server(lambda request: Reply(), tls=papers.served) as port:
        for trust in (f", tls_ca: {papers.certificate}", ", tls_insecure: true"):
            assert [found(trust)[one].level for one in ("webhook", "frigate")] == ["ok", "ok"]
        strange = found("")
    assert [strange[one].level for one in ("webhook", "frigate")] == ["problem", "problem"]
    assert "name a file with it, or with who signed it, as tls_ca" in strange["frigate"].found
    wrong = found(", tls_ca: none.pem")
    assert wrong["outputs"].found.startswith("webhook[0].tls_ca: ")
