"""A static web server on localhost, in a process of its own or a thread, that can be told to fail in many ways."""

from __future__ import annotations

import hashlib
import re
import shutil
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from edge_runtime.bundle.keys import PrivateKey
from edge_runtime.bundle.manifest import MANIFEST, seal
from export.signing import sign_bundle


@dataclass
class Bucket:
    """What is served, and how.

    Attributes:
        folder: The files.
        port: On 127.0.0.1.
        status: Answered instead, by the end of the path.
        cut: Bytes of a body after which the connection is closed, by the end of the path; as often as it says.
        endless: Ends of paths whose body never ends.
        redirect: Where ends of paths lead.
        drip_s: Seconds between two bytes of headers (`header`) or of a body.
        rate: Bytes a second of every body; 0 is as fast as it goes.
        ranges: Whether parts are served.
        asked: Paths, ranges and what was answered.
        bytes: Of all bodies.
        scheme: `http` or `https`.
    """

    folder: Path
    port: int = 0
    status: dict[str, int] = field(default_factory=dict)
    cut: dict[str, tuple[int, int]] = field(default_factory=dict)
    endless: set[str] = field(default_factory=set)
    redirect: dict[str, str] = field(default_factory=dict)
    drip_s: dict[str, float] = field(default_factory=dict)
    rate: float = 0.0
    ranges: bool = True
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    bytes: int = 0
    scheme: str = "http"

    @property
    def url(self) -> str:
        """Of the folder."""
        return f"{self.scheme}://127.0.0.1:{self.port}/fleet/gates"

    def heal(self) -> None:
        """Serve as one should."""
        for faults in (self.status, self.cut, self.endless, self.redirect, self.drip_s):
            faults.clear()
        self.ranges, self.rate = True, 0.0

    def publish(self, bundle: Path) -> None:
        """Copy a bundle there, as `rsync` or `aws s3 sync` do it in two steps: manifest and signature last."""
        seals = {"manifest.json", "manifest.sig"}
        for path in sorted(bundle.rglob("*"), key=lambda path: (path.name in seals, path)):
            if path.is_file():
                target = self.folder / path.relative_to(bundle)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        for left in [one for one in self.folder.rglob("*") if not (bundle / one.relative_to(self.folder)).exists()]:
            left.unlink()


def _of(faults: dict[str, object] | dict[str, int] | dict[str, float] | dict[str, str], path: str) -> object:
    return next((value for end, value in faults.items() if path.endswith(end)), None)


@contextmanager
def serving(folder: Path, port: int = 0, certificate: tuple[Path, Path] | None = None) -> Iterator[Bucket]:
    """Serve a folder; with a certificate and its key, encrypted."""
    folder.mkdir(parents=True, exist_ok=True)
    bucket = Bucket(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve(unquote(urlsplit(self.path).path), self.headers.get("range", ""))

        def send_response(self, code: int, message: str | None = None) -> None:
            # Before the answer is out: whoever has it may look at once.
            bucket.asked.append((unquote(urlsplit(self.path).path), self.headers.get("range", ""), code))
            super().send_response(code, message)

        def _serve(self, path: str, asked: str) -> None:
            if (location := _of(bucket.redirect, path)) is not None:
                return self._reply(302, {"location": str(location)})
            if (status := _of(bucket.status, path)) is not None:
                return self._reply(int(str(status)))
            if (pause := bucket.drip_s.get("header")) is not None:
                self.close_connection = True
                for byte in b"HTTP/1.1 200 OK\r\nx: " + b"y" * 10_000:
                    self.wfile.write(bytes([byte]))
                    time.sleep(pause)
            file = bucket.folder / path.removeprefix("/fleet/gates/")
            if not file.is_file():
                return self._reply(404)
            data = file.read_bytes()
            etag = f'"{hashlib.md5(data).hexdigest()}"'
            if self.headers.get("if-none-match") == etag:
                return self._reply(304, {"etag": etag})
            found = re.fullmatch(r"bytes=(\d+)-", asked) if bucket.ranges else None
            if found is None:
                return self._body(path, 200, data, {"etag": etag})
            if (start := int(found[1])) >= len(data):
                return self._reply(416, {"content-range": f"bytes */{len(data)}"})
            said = f"bytes {start}-{len(data) - 1}/{len(data)}"
            return self._body(path, 206, data[start:], {"etag": etag, "content-range": said})

        def _body(self, path: str, status: int, data: bytes, headers: dict[str, str]) -> None:
            endless = any(path.endswith(end) for end in bucket.endless)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if not endless:
                self.send_header("content-length", str(len(data)))
            self.end_headers()
            most = len(data)
            for end, (after, times) in list(bucket.cut.items()):
                if path.endswith(end) and times > 0:
                    most, bucket.cut[end] = min(most, after), (after, times - 1)
                    self.close_connection = True
            self._pace(data[:most], bucket.drip_s.get("body"))
            if endless:
                self.close_connection = True
                while True:
                    self.wfile.write(bytes(2**16))

        def _pace(self, data: bytes, drip_s: float | None) -> None:
            if drip_s is not None:
                for byte in data:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(drip_s)
            step = len(data) if not bucket.rate else max(1, int(bucket.rate / 100))
            for start in range(0, len(data), step or 1):
                piece = data[start : start + step]
                bucket.bytes += len(piece)
                self.wfile.write(piece)
                if bucket.rate:
                    time.sleep(len(piece) / bucket.rate)

        def _reply(self, status: int, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that has enough hangs up."""

    server = Server(("127.0.0.1", port), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        bucket.scheme = "https"
    bucket.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield bucket
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def signed_copy(
    bundle: Path, target: Path, key: PrivateKey, *, created: str | None = None, **changes: dict[str, object]
) -> Path:
    """A copy of a bundle with other values in its manifest, sealed and signed."""
    import json

    shutil.copytree(bundle, target)
    document = json.loads((target / MANIFEST).read_text())
    if created is not None:
        document["created"] = created
    for name, values in changes.items():
        document[name] |= values
    (target / MANIFEST).write_bytes(seal(document))
    sign_bundle(target, key)
    return target


def spoiled_copy(bundle: Path, target: Path, key: PrivateKey, created: str) -> Path:
    """A signed bundle that does not compute what its golden segments say: somebody's mistake in the build."""
    import numpy as np
    from resealed import edit

    shutil.copytree(bundle, target)
    with np.load(target / "golden.npz") as data:
        arrays = {name: data[name] for name in data.files}
    arrays["features"] = arrays["features"] + 0.5 * np.abs(arrays["features"]).max()
    np.savez(target / "golden.npz", **arrays)
    edit(target, lambda document: document.update(created=created))
    sign_bundle(target, key)
    return target
