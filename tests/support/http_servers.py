"""Real HTTP servers on localhost that go down and come back, and answer what a test tells them to."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Request:
    """What was asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """What is answered."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


Handle = Callable[[Request], Reply]


@contextmanager
def http_server(handle: Handle, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve on localhost, on a free port or this one; gives the port. With `tls` over https."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = handle(Request(self.command, self.path, headers, body))
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        do_POST = do_PUT = do_GET = _answer  # noqa: N815  names of http.server

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        allow_reuse_address = True

        def handle_error(self, *_: object) -> None:
            """A client that trusts no certificate hangs up: no word about it."""

    server = Server(("127.0.0.1", port), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass(frozen=True)
class Papers:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path

    @property
    def served(self) -> ssl.SSLContext:
        """For a server that shows it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


def make_papers(folder: Path, name: str, *names: str, signer: Papers | None = None) -> Papers:
    """A certificate for the name `CN=name`, made out to `names` (`DNS:localhost`), signed by itself or by another."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl makes a certificate here")
    made = Papers(folder / f"{len(list(folder.iterdir()))}.pem", folder / f"{len(list(folder.iterdir()))}.key")
    command = ["openssl", "req", "-x509", "-days", "2", "-nodes", "-subj", f"/CN={name}"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-addext", f"subjectAltName={','.join(names)}"] if names else []
    command += ["-CA", str(signer.certificate), "-CAkey", str(signer.key)] if signer is not None else []
    command += ["-keyout", str(made.key), "-out", str(made.certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return made
