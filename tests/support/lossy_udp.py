"""A camera that sends over UDP alone, through a network that loses, doubles and disorders its RTP packets."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator

from bad_cameras import tcp_server

# Takes a packet's number and its bytes; returns what arrives for it, in this order: nothing where it is lost.
Arrivals = Callable[[int, bytes], list[bytes]]
_LOCAL = "127.0.0.1"


@contextlib.contextmanager
def lossy_udp(camera_port: int, arrivals: Arrivals) -> Iterator[int]:
    """A port that leads to the camera and refuses TCP for video, as some cameras do (461)."""

    def serve(client: socket.socket) -> None:
        with contextlib.ExitStack() as stack:
            camera = stack.enter_context(socket.create_connection((_LOCAL, camera_port)))
            relay = _Relay(stack, arrivals)
            answers = threading.Thread(target=_answer, args=(camera, client, relay), daemon=True)
            answers.start()
            with contextlib.suppress(OSError):
                _ask(client, camera, relay)
            with contextlib.suppress(OSError):
                camera.shutdown(socket.SHUT_RDWR)
            answers.join(5)

    with tcp_server(serve) as port:
        yield port


class _Relay:
    """The way of RTP and RTCP from the camera to the client, each by a socket on both sides."""

    def __init__(self, stack: contextlib.ExitStack, arrivals: Arrivals) -> None:
        self.to_camera, self.to_client = [_pair(stack) for _ in range(2)]
        self._arrivals = arrivals
        self._client_port = 0

    def begin(self, client_port: int) -> None:
        """Pass on what the camera sends, to the client's pair of ports."""
        self._client_port = client_port
        for which in range(2):
            threading.Thread(target=self._pass_on, args=(which,), daemon=True).start()

    def _pass_on(self, which: int) -> None:
        number = 0
        # Closed by whoever made them.
        with contextlib.suppress(OSError):
            while True:
                packet = self.to_camera[which].recv(65536)
                arriving = [packet] if which else self._arrivals(number, packet)
                number += 1
                for one in arriving:
                    self.to_client[which].sendto(one, (_LOCAL, self._client_port + which))


def _pair(stack: contextlib.ExitStack) -> list[socket.socket]:
    """Two ports that follow each other, the first one even, as RTP wants them."""
    for _ in range(1000):
        with contextlib.ExitStack() as attempt:
            pair = [attempt.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2)]
            pair[0].bind((_LOCAL, 0))
            port = pair[0].getsockname()[1]
            if port % 2 == 0:
                with contextlib.suppress(OSError):
                    pair[1].bind((_LOCAL, port + 1))
                    for one in pair:
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
                    stack.push(attempt.pop_all())
                    # A close alone does not wake a reader.
                    stack.callback(_wake, pair)
                    return pair
    raise AssertionError("no two free ports side by side")


def _wake(pair: list[socket.socket]) -> None:
    for one in pair:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


def _port(one: socket.socket) -> int:
    return int(one.getsockname()[1])


def _ask(client: socket.socket, camera: socket.socket, relay: _Relay) -> None:
    """Pass requests on, with other ports; one that asks for TCP is refused."""
    own, theirs = f":{client.getsockname()[1]}/".encode(), f":{camera.getpeername()[1]}/".encode()
    stream = client.makefile("rb")
    while line := stream.readline():
        request = [line]
        while (line := stream.readline()).strip():
            request.append(line)
        text = b"".join(request)
        if b"interleaved" in text:
            number = re.search(rb"CSeq: *(\d+)", text)
            assert number is not None
            client.sendall(b"RTSP/1.0 461 Unsupported Transport\r\nCSeq: " + number[1] + b"\r\n\r\n")
            continue
        if (asked := re.search(rb"client_port=(\d+)-\d+", text)) is not None:
            relay.begin(int(asked[1]))
            first = _port(relay.to_camera[0])
            text = text.replace(asked[0], f"client_port={first}-{first + 1}".encode())
        # A stream that is shared is so by its whole URL.
        camera.sendall(text.replace(own, theirs) + b"\r\n")


def _answer(camera: socket.socket, client: socket.socket, relay: _Relay) -> None:
    first = _port(relay.to_client[0])
    with contextlib.suppress(OSError, ValueError):
        stream = camera.makefile("rb")
        while line := stream.readline():
            client.sendall(re.sub(rb"server_port=\d+-\d+", f"server_port={first}-{first + 1}".encode(), line))
