"""What clients who are slow, or many, or never finish, cost: a connection for a while, and nobody else anything."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest
from served import Served, served

from edge_runtime.errors import UsageError
from edge_runtime.server import wire
from edge_runtime.server.limits import Connections
from edge_runtime.server.serving import check_http
from edge_runtime.watch.config_settings import HttpSettings

LIMIT_S = 60.0


@pytest.fixture
def hasty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A server that waits half a second for a request."""
    monkeypatch.setattr(wire.Wire.__init__, "__kwdefaults__", {"request_s": 0.5, "take_s": 1.0})
    with served(tmp_path) as running:
        yield running


def opened(server: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT_S)


def ends(connection: socket.socket) -> bool:
    """Whether the other side ends a connection, by itself and within the limit."""
    try:
        while connection.recv(65_536):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET /healthz HTTP/1.1\r\nHost: local",
        b"POST /api/forget HTTP/1.1\r\nHost: [::1]\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHost",
    ],
)
def test_a_request_that_does_not_come_is_not_waited_for(hasty: Served, begun: bytes) -> None:
    with opened(hasty) as connection:
        connection.sendall(begun)
        assert ends(connection)
    assert hasty.get("/healthz").status == 200


def test_bytes_that_drip_do_not_keep_a_connection(hasty: Served) -> None:
    with opened(hasty) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connection.recv(65_536)
        stopped = threading.Event()

        def drip() -> None:
            for byte in b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 10_000:
                try:
                    connection.send(bytes([byte]))
                except OSError:
                    break
                if stopped.wait(0.05):
                    break

        dripping = threading.Thread(target=drip)
        dripping.start()
        assert ends(connection)
        stopped.set()
        dripping.join()


def test_who_takes_nothing_of_an_answer_is_left(hasty: Served) -> None:
    clip = next((hasty.folder / "clips").rglob("*.mp4"))
    clip.write_bytes(bytes(50_000_000))
    with opened(hasty) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(f"GET /api/events/{hasty.event}/clip HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        # Read after it is over: what was on its way comes, and the rest never.
        deadline = time.monotonic() + LIMIT_S
        while len(open_connections(hasty)) > 0:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert hasty.get("/healthz").status == 200


def open_connections(server: Served) -> list[str]:
    """Connections that the server's process still has, by what the system says."""
    listed = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    port = f":{server.port:04X}"
    return [line for line in listed if line.split()[1].endswith(port) and line.split()[3] == "01"]


def test_a_slow_loris_of_one_address_leaves_room_for_others(tmp_path: Path) -> None:
    with served(tmp_path, connections=Connections(most=30, most_each=20)) as server:
        slow = [opened(server) for _ in range(20)]
        for connection in slow:
            connection.sendall(b"GET / HTTP/1.1\r\nHost")
        answer = None
        deadline = time.monotonic() + LIMIT_S
        # The last of them may not be counted yet.
        while answer is None or answer.status != 503:
            assert time.monotonic() < deadline
            answer = server.get("/healthz")
        assert "too many connections" in answer.json["error"]
        with socket.create_connection(("127.0.0.1", server.port), LIMIT_S, source_address=("127.0.0.2", 0)) as other:
            other.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert other.recv(65_536).startswith(b"HTTP/1.1 200")
        for connection in slow:
            connection.close()
        deadline = time.monotonic() + LIMIT_S
        while server.get("/healthz").status != 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_run_that_ends_does_not_wait_for_clients(tmp_path: Path) -> None:
    with served(tmp_path) as server:
        lives = [opened(server) for _ in range(5)]
        for connection in lives[:3]:
            connection.sendall(b"GET /api/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200 OK" in connection.recv(65_536)
        start = time.monotonic()
    # A second, and what a busy machine adds.
    assert time.monotonic() - start < 5.0
    for connection in lives:
        assert ends(connection)
        connection.close()


def test_what_is_garbage_is_refused_and_not_logged(server: Served, caplog: pytest.LogCaptureFixture) -> None:
    for garbage in (
        b"\x16\x03\x01\x02\x00",
        b"\0" * 1000,
        b"GET\r\n\r\n",
        b"A" * 70_000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ):
        with opened(server) as connection:
            connection.sendall(garbage + b"\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            ends(connection)
    assert server.get("/healthz").status == 200
    assert "Traceback" not in caplog.text


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    return make_certificate(folder)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost "
            f"-addext subjectAltName=DNS:localhost -keyout {key.name} -out {cert.name}"
        ).split(),
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return cert, key


def over_tls(port: int, cafile: Path, path: str = "/healthz") -> bytes:
    context = ssl.create_default_context(cafile=str(cafile))
    with (
        socket.create_connection(("127.0.0.1", port), LIMIT_S) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        found = b""
        while more := connection.recv(65_536):
            found += more
    return found


def test_tls_with_files_that_are_renewed(
    tmp_path: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(certificate[0].read_bytes())
    key.write_bytes(certificate[1].read_bytes())
    monkeypatch.setattr("served.wait_until_answered", lambda _: None)
    settings = HttpSettings(listen="127.0.0.1:0", tls_cert=str(cert), tls_key=str(key))
    with served(tmp_path, settings=settings) as server:
        assert over_tls(server.port, cert).startswith(b"HTTP/1.1 200")
        with opened(server) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert ends(plain)
        (tmp_path / "new").mkdir()
        new_cert, new_key = make_certificate(tmp_path / "new")
        new_key.replace(key)
        new_cert.replace(cert)
        deadline = time.monotonic() + LIMIT_S
        while True:
            try:
                assert over_tls(server.port, cert).startswith(b"HTTP/1.1 200")
                break
            except ssl.SSLCertVerificationError:
                assert time.monotonic() < deadline
                time.sleep(0.1)


def test_certificates_that_cannot_be_used_are_told_before_the_run(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("nothing")
    for cert, key in ((bad, certificate[1]), (certificate[0], bad), (tmp_path / "none", certificate[1])):
        settings = HttpSettings(listen="127.0.0.1:0", tls_cert=str(cert), tls_key=str(key))
        with pytest.raises(UsageError, match="certificate and key"):
            check_http(settings)


def test_a_fault_in_the_server_is_logged_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("edge_runtime.server.app.build_app", broken)
    monkeypatch.setattr("served.wait_until_answered", lambda _: time.sleep(0.2))
    with served(tmp_path):
        pass
    deadline = time.monotonic() + LIMIT_S
    while "detection goes on" not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.02)
