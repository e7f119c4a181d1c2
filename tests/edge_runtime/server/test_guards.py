"""Who is let in, from where, and with how much."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served import Served, served

from edge_runtime.errors import OutputFailed, UsageError
from edge_runtime.server.app import OPERATIONS
from edge_runtime.server.guards import TOO_MANY_S
from edge_runtime.server.serving import check_http, listen
from edge_runtime.server.tokens import add_token, remove_token, tokens_path
from edge_runtime.watch.config_settings import HttpSettings


def raw(server: Served, text: bytes) -> bytes:
    """What comes back for bytes, to the end of the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        found = b""
        # What is refused in the middle may reset the connection.
        with contextlib.suppress(ConnectionError):
            connection.sendall(text)
        with contextlib.suppress(ConnectionError):
            while more := connection.recv(65_536):
                found += more
    return found


# ---- hosts and origins


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8480", "127.0.0.1", "LOCALHOST", "127.0.0.1:1", "[::1]:8480"]
)
def test_its_own_names_are_taken(server: Served, host: str) -> None:
    assert server.get("/api/run", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "192.0.2.1",
        "0.0.0.0",
        "127.0.0.1@evil.example",
        "a b",
        "",
        "[::2]",
        "é",
    ],
)
def test_other_hosts_are_refused_everywhere(server: Served, host: str) -> None:
    for path in ("/", "/healthz", "/api/run"):
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("latin-1")
        status = int(raw(server, request).split(b" ", 2)[1])
        assert status in (400, 421), host
    twice = b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    assert int(raw(server, twice).split(b" ", 2)[1]) in (400, 421)


def test_configured_names_are_taken(tmp_path: Path) -> None:
    with served(tmp_path, settings=HttpSettings(listen="127.0.0.1:0", hosts=["nvr.local"])) as server:
        assert server.get("/api/run", headers={"Host": "nvr.local"}).status == 200
        assert server.get("/api/run", headers={"Host": "NVR.local:443"}).status == 200
        assert server.get("/api/run", headers={"Host": "xnvr.local"}).status == 421


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:1", "http://127.0.0.1", "", "file://"]
)
def test_pages_of_others_change_nothing(server: Served, origin: str) -> None:
    for operation in OPERATIONS:
        if operation.method != "GET":
            path = operation.path.format(name="gate", id=server.event, mark=1)
            answer = server.ask(operation.method, path, {}, headers={"Origin": origin})
            assert answer.status == 403, (operation.path, answer.content)
    assert server.supervisor.paused == frozenset()
    assert server.get("/api/run", headers={"Origin": origin}).status == 200


def test_its_own_page_may_change_things(server: Served) -> None:
    for scheme in ("http", "https"):
        origin = f"{scheme}://127.0.0.1:{server.port}"
        assert server.ask("POST", "/api/cameras/gate/pause", headers={"Origin": origin}).status == 200


def test_a_form_of_another_site_is_no_json(server: Served) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx"):
        answer = server.ask("POST", "/api/cameras", b'{"name":"x"}', headers={"Content-Type": kind})
        assert answer.status == 415


# ---- tokens


def test_without_a_token_nothing_but_probes_and_the_page_is_given(guarded: Served) -> None:
    for operation in OPERATIONS:
        path = operation.path.format(name="gate", id=guarded.event, mark=1)
        answer = guarded.ask(operation.method, path, {"token": "hh_x"} if operation.body else None, token=None)
        if operation.path == "/api/session":
            assert answer.status == (401 if operation.method == "POST" else 200)
        elif operation.role is None:
            assert answer.status == 200
        else:
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer"), path
    assert guarded.get("/", token=None).status == 200
    assert guarded.get("/api/session", token=None).json == {"role": None, "needs_token": True}


def test_who_reads_changes_nothing(tmp_path: Path) -> None:
    with served(tmp_path, token="read") as server:
        for operation in OPERATIONS:
            path = operation.path.format(name="gate", id=server.event, mark=1)
            if operation.role == "act":
                answer = server.ask(operation.method, path, {} if operation.body else None)
                assert answer.status == 403, path
                assert "--role act" in answer.json["error"]
        assert server.get("/api/run").json["role"] == "read"


def test_a_session_stands_for_its_token_until_it_is_closed_or_the_token_removed(guarded: Served) -> None:
    answer = guarded.ask("POST", "/api/session", {"token": guarded.token}, token=None)
    assert answer.json == {"role": "act", "needs_token": True}
    cookie = answer.headers["set-cookie"]
    for word in ("HttpOnly", "SameSite=Strict", "Path=/"):
        assert word in cookie
    assert "Secure" not in cookie
    assert str(guarded.token) not in cookie
    given_ = {"Cookie": f"a=b; {cookie.split(';')[0]}; c=d"}
    assert guarded.get("/api/run", token=None, headers=given_).json["role"] == "act"
    assert guarded.get("/api/session", token=None, headers=given_).json["role"] == "act"
    closed = guarded.ask("DELETE", "/api/session", token=None, headers=given_)
    assert closed.json == {"role": None, "needs_token": True}
    assert "Max-Age=0" in closed.headers["set-cookie"]
    assert guarded.get("/api/run", token=None, headers=given_).status == 401
    cookie = guarded.ask("POST", "/api/session", {"token": guarded.token}, token=None).headers["set-cookie"]
    given_ = {"Cookie": cookie.split(";")[0]}
    assert guarded.get("/api/run", token=None, headers=given_).status == 200
    remove_token(tokens_path(), "act-1")
    assert guarded.get("/api/run", token=None, headers=given_).status == 401
    assert guarded.get("/api/run").status == 401


def test_wrong_tokens_run_out_and_then_nothing_is_looked_at(guarded: Served) -> None:
    statuses = [guarded.get("/api/run", token=f"hh_{number}").status for number in range(12)]
    assert statuses[:10] == [401] * 10
    assert statuses[-1] == 429
    late = guarded.get("/api/run")
    assert late.status == 429
    assert 1 <= int(late.headers["retry-after"]) <= 6
    assert guarded.ask("POST", "/api/session", {"token": guarded.token}, token=None).status == 429
    # Probes carry no token, and go on.
    assert guarded.get("/healthz", token=None).status == 200


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(header=st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=50))
def test_no_other_header_lets_anybody_in(guarded: Served, header: str) -> None:
    answer = guarded.get(
        "/api/run", token=None, headers={"Authorization": header.encode("latin-1").decode("latin-1")}
    )
    assert answer.status in (400, 401, 429)


def test_another_address_than_loopback_needs_a_token(state_folder: Path) -> None:
    for address in ("0.0.0.0:0", "[::]:0"):
        with pytest.raises(UsageError, match="hh-edge token add --role act"):
            check_http(HttpSettings(listen=address))
    with pytest.raises(UsageError, match="require_token"):
        check_http(HttpSettings(listen="127.0.0.1:0", require_token=True))
    add_token(tokens_path(), "act", None)
    listening = listen(HttpSettings(listen="0.0.0.0:0"))
    assert listening.needs_token
    listening.socket.close()


def test_a_port_that_is_taken_is_one_clear_error(server: Served) -> None:
    with pytest.raises(OutputFailed, match=f"127.0.0.1:{server.port}") as told:
        listen(HttpSettings(listen=f"127.0.0.1:{server.port}"))
    assert told.value.exit_code == 1
    with pytest.raises(UsageError, match="no address of this computer"):
        listen(HttpSettings(listen="no.such.host.invalid:0"))


# ---- sizes, headers, errors


def test_what_is_too_large_is_refused_before_it_is_read(server: Served) -> None:
    assert server.ask("POST", "/api/cameras", b"x" * 70_000).status == 413
    chunked = (
        b"POST /api/cameras HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n" + b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    )
    assert b" 413 " in raw(
        server,
        chunked
        + b"8001\r\n"
        + b"x" * 0x8001
        + b"\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    )
    assert b" 200 " not in raw(server, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 900_000 + b"\r\n\r\n")
    assert server.get("/healthz").status == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"\xff", b'"x"', b"[" * 30_000, b'{"verdict": NaN}', b'{"verdict": "\\ud800"}'],
)
def test_bodies_that_are_something_else(server: Served, body: bytes) -> None:
    answer = server.ask("POST", f"/api/events/{server.event}/feedback", body)
    assert answer.status == 400
    assert isinstance(answer.json["error"], str)


def test_every_answer_has_the_headers_that_browsers_are_told_with(server: Served) -> None:
    for path in ("/", "/healthz", "/api/run", "/nothing", "/api/cameras/nowhere", f"/api/events/{server.event}/clip"):
        headers = server.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == ("no-cache" if path == "/" else "no-store")
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers


def test_methods_that_are_not_there(server: Served) -> None:
    answer = server.ask("PUT", "/api/cameras/gate")
    assert answer.status == 405
    assert "GET" in answer.headers["allow"]
    assert "GET" in answer.json["error"]
    assert server.ask("OPTIONS", "/api/cameras").status == 405
    assert server.ask("TRACE", "/api/cameras").status == 405


def test_a_fault_shows_the_client_nothing_and_the_log_all(
    server: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Any:
        raise RuntimeError("a secret place")

    monkeypatch.setattr(server.parts.state, "cameras", broken)
    answer = server.get("/api/cameras")
    assert answer.status == 500
    assert "secret" not in answer.content.decode()
    assert "a secret place" in caplog.text
    assert server.get("/api/run").status == 200


# ---- paths


ENCODINGS = (
    "../", "..%2F", "%2e%2e/", "%2e%2e%2f", "..%5C", "..\\", "%252e%252e%252f", "..%c0%af", "%c0%ae%c0%ae/", "..%00/",
    "....//", "..;/", "/%2e/", "%ef%bc%8e%ef%bc%8e/", "..%u2215", "file:", "~/", "%2Fetc%2Fpasswd%00", "\u2025/",
)  # fmt: skip


@pytest.mark.parametrize("step", ENCODINGS)
def test_no_path_leads_out_of_the_folder(server: Served, tmp_path: Path, step: str) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(b"TOP-SECRET")
    (tmp_path / "clips" / "secret.jpg").write_bytes(b"TOP-SECRET")
    targets = [step * depth + name for depth in (1, 2, 4, 8) for name in ("secret", "secret.jpg", "etc/passwd")]
    for target in targets:
        for path in (
            f"/api/events/{target}/snapshot",
            f"/api/events/{target}",
            f"/api/cameras/{target}/picture",
            f"/static/{target}",
            f"/{target}",
            f"/api/events/{server.event}%00{target}/snapshot",
        ):
            request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            answer = raw(server, request.encode("utf-8"))
            assert int(answer.split(b" ", 2)[1]) in (400, 404), path
            assert b"TOP-SECRET" not in answer
            assert b"root:" not in answer


def test_a_link_in_the_folder_is_not_followed(server: Served, tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"TOP-SECRET")
    (snapshot,) = (tmp_path / "clips").rglob("*.jpg")
    snapshot.unlink()
    snapshot.symlink_to(tmp_path / "secret.jpg")
    assert server.get(f"/api/events/{server.event}/snapshot").status == 404
    day = snapshot.parent
    day.rename(tmp_path / "elsewhere")
    day.symlink_to(tmp_path / "elsewhere")
    assert server.get(f"/api/events/{server.event}/clip").status == 404


# ---- what an attack costs


def test_a_thousand_wrong_tokens_and_the_rest_goes_on(guarded: Served) -> None:
    statuses: Counter[int] = Counter()
    lock = threading.Lock()

    def guess(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", guarded.port, timeout=60)
        for number in range(first, first + 25):
            connection.request("GET", "/api/run", headers={"Authorization": f"Bearer hh_{number}"})
            answer = connection.getresponse()
            answer.read()
            with lock:
                statuses[answer.status] += 1
        connection.close()

    threads = [threading.Thread(target=guess, args=(first,)) for first in range(0, 1000, 25)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    # Meanwhile others are answered.
    assert guarded.get("/healthz", token=None).status == 200
    for thread in threads:
        thread.join()
    assert statuses.total() == 1000
    # As many as there are at first, and what came back meanwhile; the others were not looked at, and had to wait.
    assert 10 <= statuses[401] <= 10 + 1 + (time.monotonic() - begun) / 6
    assert set(statuses) == {401, 429}
    assert time.monotonic() - begun > 20 * TOO_MANY_S
    assert guarded.get("/healthz", token=None).status == 200


def test_many_at_once_are_answered(server: Served) -> None:
    failures: list[str] = []

    def ask() -> None:
        for path in ("/api/cameras", "/api/events", "/api/run"):
            answer = server.get(path)
            if answer.status != 200:
                failures.append(json.dumps([path, answer.status]))

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
