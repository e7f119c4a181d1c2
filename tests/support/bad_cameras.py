"""Cameras that go wrong in one way each: real servers on the loopback, in threads of the test."""

from __future__ import annotations

import contextlib
import http.server
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def tcp_server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port whose every connection is handed to `serve`, in a thread of its own, and closed after it."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        open_ones: list[socket.socket] = []

        def handle(client: socket.socket) -> None:
            with client, contextlib.suppress(OSError):
                serve(client)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    open_ones.append(client)
                    threading.Thread(target=handle, args=(client,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        for client in open_ones:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@contextlib.contextmanager
def unanswered() -> Iterator[int]:
    """A port where, as at a host without power, no attempt to connect is ever answered: its queue is full (Linux)."""
    with socket.socket() as server, contextlib.ExitStack() as waiting:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(2):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield server.getsockname()[1]


@contextlib.contextmanager
def rtsp_answers(status: str, sdp: str = "") -> Iterator[int]:
    """An RTSP server that answers OPTIONS, and DESCRIBE with a status and perhaps a description; then nothing."""

    def serve(client: socket.socket) -> None:
        while request := client.recv(4096).decode():
            number = re.search(r"CSeq: *(\d+)", request)
            head = f"CSeq: {number[1] if number else 0}\r\n"
            if request.startswith("DESCRIBE"):
                body = f"Content-Type: application/sdp\r\nContent-Length: {len(sdp)}\r\n\r\n{sdp}" if sdp else "\r\n"
                client.sendall(f"RTSP/1.0 {status}\r\n{head}{body}".encode())
            elif request.startswith("SETUP"):
                head += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
                client.sendall(f"RTSP/1.0 200 OK\r\n{head}\r\n".encode())
            elif request.startswith("PLAY"):
                client.sendall(f"RTSP/1.0 200 OK\r\n{head}Session: 1\r\n\r\n".encode())
            else:
                client.sendall(f"RTSP/1.0 200 OK\r\n{head}Public: OPTIONS, DESCRIBE, SETUP, PLAY\r\n\r\n".encode())

    with tcp_server(serve) as port:
        yield port


class _Pages(http.server.BaseHTTPRequestHandler):
    """`/401` and other numbers answer that status, `/page` with HTML, `/to?URL` with a redirect to a URL."""

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        name = self.path[1:]
        if name.startswith("to?"):
            self.send_response(302)
            self.send_header("Location", name[3:])
            self.end_headers()
        elif name.isdecimal():
            self.send_response(int(name))
            self.end_headers()
        else:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html><body><form>user, password</form></body></html>" * 50)


@contextlib.contextmanager
def web_server(certificate: tuple[Path, Path] | None = None) -> Iterator[int]:
    """A camera's web pages; with a certificate and its key, encrypted."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Pages)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who does not trust it hangs up
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that no authority signed, and its key."""
    certificate, key = folder / "camera.pem", folder / "camera.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=camera"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(certificate), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key
