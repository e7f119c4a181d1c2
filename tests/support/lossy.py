"""A network that loses or damages RTP packets between an RTSP camera and whoever watches it over TCP."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

from bad_cameras import tcp_server

# Takes a packet's number and its bytes; returns what arrives, None where it is lost.
Fate = Callable[[int, bytes], bytes | None]


@contextlib.contextmanager
def lossy(camera_port: int, fate: Fate) -> Iterator[int]:
    """A port that leads to the camera; every RTP packet of its video (channel 0) meets its fate on the way."""

    def serve(client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", camera_port)) as camera:
            ports = [str(name[1]).encode() for name in (client.getsockname(), camera.getpeername())]
            asking = threading.Thread(target=_pass_on, args=(client, camera, *ports), daemon=True)
            asking.start()
            _answer(camera, client, fate)

    with tcp_server(serve) as port:
        yield port


def _pass_on(client: socket.socket, camera: socket.socket, port: bytes, camera_port: bytes) -> None:
    with contextlib.suppress(OSError):
        while data := client.recv(65536):
            # A stream that is shared is so by its whole URL.
            camera.sendall(data.replace(b":" + port + b"/", b":" + camera_port + b"/"))
        camera.shutdown(socket.SHUT_RDWR)


def _answer(camera: socket.socket, client: socket.socket, fate: Fate) -> None:
    number = 0
    stream = camera.makefile("rb")
    while first := stream.read(1):
        if first != b"$":
            # A line of an RTSP answer. The lengths of descriptions are no matter: no line of one begins with `$`.
            client.sendall(first + stream.readline())
            continue
        head = stream.read(3)
        packet: bytes | None = stream.read(int.from_bytes(head[1:], "big"))
        assert packet is not None
        if head[0] == 0:
            packet, number = fate(number, packet), number + 1
        if packet is not None:
            client.sendall(b"$" + head[:1] + len(packet).to_bytes(2, "big") + packet)
