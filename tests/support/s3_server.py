"""A real S3 server on loopback (moto), in a process of its own, and one that breaks off or refuses in front of it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

# moto's server lets everybody in; botocore wants to sign all the same.
_KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
_SERVE = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@dataclass
class Bucket:
    """A bucket, the environment that leads to it, and what goes wrong on the way.

    Attributes:
        url: `s3://…`.
        environment: For processes that are started.
        refuses: Methods that are answered with 403.
        halves: Whether half of every object arrives.
        refuse_puts_after: How many objects are taken yet before the bucket becomes read-only; None for any number.
        asked: Methods and paths, as they came.
    """

    url: str
    environment: dict[str, str]
    refuses: set[str] = field(default_factory=set)
    halves: bool = False
    refuse_puts_after: int | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)

    def put(self, name: str, content: bytes) -> None:
        import fsspec

        fsspec.filesystem("s3", skip_instance_cache=True).pipe_file(f"{self.url}/{name}", content)

    def names(self) -> set[str]:
        import fsspec

        system = fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)
        return {path.partition("/")[2] for path in system.find(self.url)}

    def get(self, name: str) -> bytes:
        import fsspec

        return bytes(fsspec.filesystem("s3", skip_instance_cache=True).cat_file(f"{self.url}/{name}"))


class _Between(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bucket: Bucket
    upstream: str

    def _pass_on(self) -> None:
        bucket = self.bucket
        bucket.asked.append((self.command, self.path))
        body = self._body()
        refused = self.command in bucket.refuses
        if self.command == "PUT" and bucket.refuse_puts_after is not None:
            refused = bucket.refuse_puts_after <= 0
            bucket.refuse_puts_after -= 1
        if refused:
            said = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
            self._answer(403, {"Content-Type": "application/xml"}, said)
            return
        request = urllib.request.Request(self.upstream + self.path, data=body, method=self.command)
        # urllib would call it a form, and Flask would read it as one.
        request.add_header("Content-Type", "binary/octet-stream")
        for name, value in self.headers.items():
            if name.lower() not in {"host", "content-length", "transfer-encoding", "connection"}:
                request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                self._answer(answer.status, dict(answer.headers), answer.read(), halves=bucket.halves)
        except urllib.error.HTTPError as error:
            self._answer(error.code, dict(error.headers), error.read())

    def _body(self) -> bytes | None:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(pieces)
        length = int(self.headers.get("Content-Length") or 0)
        return self.rfile.read(length) if length or self.command in {"PUT", "POST"} else None

    def _answer(self, code: int, headers: dict[str, str], body: bytes, halves: bool = False) -> None:
        self.send_response(code)
        for name, value in headers.items():
            if name.lower() not in {"content-length", "transfer-encoding", "connection", "date", "server"}:
                self.send_header(name, value)
        length = headers.get("Content-Length", str(len(body))) if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command == "GET" and halves and len(body) > 1000:
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Gives its URL, which is bare of any signature's check; skips where moto is not installed."""
    for name in ("moto", "flask", "flask_cors"):
        pytest.importorskip(name, reason="no S3 server: pip install 'moto[s3]' flask flask-cors")
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(10)


@pytest.fixture(scope="module")
def _moto() -> Iterator[str]:
    pytest.importorskip("s3fs", reason="no s3fs: pip install 'headhunt-vad[ray]'")
    with s3_server() as url:
        yield url


@pytest.fixture
def bucket(_moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket of its own, and a way there that can be made to fail."""
    import fsspec

    name = f"bucket-{time.monotonic_ns()}"
    bucket = Bucket(f"s3://{name}", {})
    handler = type("Handler", (_Between,), {"bucket": bucket, "upstream": _moto})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    bucket.environment = _KEYS | {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_address[1]}",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    for key, value in bucket.environment.items():
        monkeypatch.setenv(key, value)
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(name)
    system = __import__("s3fs").S3FileSystem
    system.clear_instance_cache()
    bucket.asked.clear()
    yield bucket
    system.clear_instance_cache()
    with contextlib.suppress(OSError):
        server.shutdown()
        server.server_close()
