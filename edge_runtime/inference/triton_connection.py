"""The connection to one Triton server, which is made anew where nothing comes back on it."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_runtime.errors import InferenceFailed, MissingExtra
from edge_runtime.inference.triton_address import TritonAddress

log = logging.getLogger(__name__)

# So many calls in a row without an answer end a connection. The second asks only what is served, which takes no time.
_SILENT_CALLS = 2
# A connection is given so many seconds, however short the deadline of a call is.
_LEAST_S = 5.0
# gRPC allows 4 MB by default, and waits minutes before it tries an address again.
_CHANNEL = [
    ("grpc.max_send_message_length", 2**31 - 1),
    ("grpc.max_receive_message_length", 2**31 - 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # The channels of a process would share one connection to an address otherwise, with the state of its failures.
    ("grpc.use_local_subchannel_pool", 1),
    # Triton ends connections that are pinged more often than every 5 minutes. On Linux this also bounds how long sent
    # bytes may stay unacknowledged.
    ("grpc.keepalive_time_ms", 360_000),
    ("grpc.keepalive_timeout_ms", 20_000),
]


def load_tritonclient() -> Any:
    """The module tritonclient.grpc.

    Raises:
        MissingExtra: It is not installed, or without gRPC; the message holds the pip command.
    """
    # gRPC's own lines on stderr would stand between ours; what fails is raised with the same text.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        import tritonclient.grpc
    except (ImportError, RuntimeError) as error:
        # It raises RuntimeError where it was installed without gRPC.
        missing = "is not installed" if isinstance(error, ImportError) else "is installed without gRPC"
        raise MissingExtra(f'tritonclient {missing}; run: pip install "headhunt-edge[triton]"') from error
    return tritonclient.grpc


def open_client(place: str, address: TritonAddress) -> Any:
    """A client of tritonclient's; it connects with the first call.

    Args:
        place: HOST:PORT.
        address: How it is spoken to.

    Raises:
        MissingExtra: tritonclient is not installed.
        OSError: A certificate or key cannot be read.
    """
    triton = load_tritonclient()
    # Before tritonclient does: a half-made client of its would leave a traceback when it is collected.
    for file in filter(None, (address.ca, address.cert, address.key)):
        Path(file).read_bytes()
    return triton.InferenceServerClient(
        place,
        ssl=address.tls,
        root_certificates=address.ca,
        private_key=address.key,
        certificate_chain=address.cert,
        channel_args=_CHANNEL,
    )


class ServerFailed(InferenceFailed):
    """One server failed.

    Attributes:
        passing: Whether another try at the same server may do better.
        silent: Whether nothing came from it at all.
    """

    def __init__(self, message: str, passing: bool, silent: bool = False) -> None:
        super().__init__(message)
        self.passing, self.silent = passing, silent


class NotServed(ServerFailed):
    """One server has nothing of the bundle for this client, or not yet."""

    def __init__(self, message: str) -> None:
        super().__init__(message, passing=False)


@dataclass(slots=True, eq=False)
class Link:
    """What calls are made with.

    Attributes:
        client: tritonclient's.
        since_s: When it was made, on the monotonic clock.
        calls: How many are under way.
        silent: How many in a row got no answer.
        told: Whether it was said that it cannot be replaced.
        sending: To be held while an asynchronous call is begun: the client keeps it in an attribute on the way, and
            of two at once one would get the other's answer.
    """

    client: Any
    since_s: float = field(default_factory=time.monotonic)
    calls: int = 0
    silent: int = 0
    told: bool = False
    sending: threading.Lock = field(default_factory=threading.Lock)


class Connection:
    """Gives what calls to one server are made with; any thread may ask.

    Packets may vanish while TCP stays up, behind a load balancer or NAT that has forgotten the connection: then each
    call on it would end without an answer for ever. So after a few of those the next calls get a new one, with
    certificates as they are by then. Calls under way keep the one that they have, which is closed behind the last.

    Args:
        place: HOST:PORT.
        make: Makes a client of tritonclient's.

    Raises:
        OSError: A certificate or key cannot be read.
    """

    def __init__(self, place: str, make: Callable[[], Any]) -> None:
        self._place, self._make = place, make
        self._lock = threading.Lock()
        self._closed = False
        self._link = Link(make())

    @contextmanager
    def link(self) -> Iterator[Link]:
        """What one call is made with; the body raises ServerFailed where that fails."""
        with self._lock:
            link = self._link
            link.calls += 1
        silent = False
        try:
            yield link
        except ServerFailed as error:
            silent = error.silent
            raise
        finally:
            self._done(link, silent)

    def close(self) -> None:
        """End the connection, and calls that are under way on it."""
        with self._lock:
            self._closed = True
            link = self._link
        _close(link)

    def _done(self, link: Link, silent: bool) -> None:
        with self._lock:
            link.calls -= 1
            link.silent = link.silent + 1 if silent else 0
            if link is self._link and not self._closed and link.silent >= _SILENT_CALLS:
                self._renew(link)
            left = link is not self._link and not link.calls
        if left:
            _close(link)

    def _renew(self, link: Link) -> None:
        if time.monotonic() - link.since_s < _LEAST_S:
            return
        try:
            self._link = Link(self._make())
        except OSError as error:
            # Certificates that are just being exchanged: the next failure tries again.
            level = logging.DEBUG if link.told else logging.WARNING
            log.log(level, "%s: no new connection can be made (%s: %s)", self._place, error.filename, error.strerror)
            link.told = True
            return
        # Every few seconds while a server is down, which the replicas tell once.
        log.debug("Triton server %s: nothing came back; the next call takes a new connection", self._place)


def _close(link: Link) -> None:
    with suppress(Exception):
        link.client.close()
