"""uvicorn's HTTP/1.1 with limits of time: on a request's header, its body, and whoever takes an answer too slowly."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from edge_runtime.server.limits import Connections

#: Seconds for a request's header, and again for its body, from their first byte to their last.
REQUEST_S = 10.0
#: Seconds in which one who is sent something has to take some of it: 48 KiB, or all there is.
TAKE_S = 20.0
#: Seconds that a connection may wait for its next request.
IDLE_S = 30.0
#: Bytes of a request's header, where it comes in pieces.
HEADER_BYTES = 16_384
# What a request may send in all. What is more than it may hold is read and left aside up to here: a connection that
# is closed while bytes come is reset, and the answer that says why is lost.
_MOST_BYTES = 2**20

_FULL = b'{"error":"too many connections are open; close some, or wait"}'
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(_FULL), _FULL)
)

# What strangers send is nothing for the log; what fails here is.
_log = logging.getLogger(f"{__name__}.requests")
_log.setLevel(logging.ERROR)
# Answers that are under way when the run ends are cancelled, which is no fault.
_log.addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError)))


class Wire(H11Protocol):
    """One connection.

    Args:
        config: uvicorn's.
        state: What all connections share.
        connections: Counts them.
        request_s: As REQUEST_S.
        take_s: As TAKE_S.
    """

    def __init__(
        self,
        config: Config,
        state: ServerState,
        connections: Connections,
        *,
        request_s: float = REQUEST_S,
        take_s: float = TAKE_S,
    ) -> None:
        super().__init__(config, state, {})
        self.logger = _log
        self._connections, self._request_s, self._take_s = connections, request_s, take_s
        self._address: str | None = None
        self._bytes = 0
        self._awaited: tuple[Any, asyncio.TimerHandle] | None = None
        self._stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As of asyncio.Protocol."""
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        if not self._connections.open(address):
            transport.write(_REFUSAL)
            transport.close()
            # Nothing of it is read.
            transport.set_protocol(asyncio.Protocol())
            return
        self._address = address
        super().connection_made(transport)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """As of asyncio.Protocol."""
        if self._address is not None:
            self._connections.close(self._address)
            self._address = None
        self._cancel()
        if self._stuck is not None:
            self._stuck.cancel()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """As of asyncio.Protocol."""
        self._bytes += len(data)
        if self._bytes > _MOST_BYTES:
            self.transport.abort()
            return
        super().data_received(data)
        if self.conn.their_state is not h11.SEND_BODY:
            self._bytes = 0
        if not self.transport.is_closing():
            self._await_request()

    def on_response_complete(self) -> None:
        """As of H11Protocol."""
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            # The next request has begun to come: this is no connection that waits for one.
            self._unset_keepalive_if_required()
        if self.timeout_keep_alive_task is None:
            self._await_request()

    def pause_writing(self) -> None:
        """As of asyncio.Protocol: what was sent is not taken."""
        super().pause_writing()
        self._stuck = self.loop.call_later(self._take_s, self.transport.abort)

    def resume_writing(self) -> None:
        """As of asyncio.Protocol."""
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None
        super().resume_writing()

    def _await_request(self) -> None:
        """Set a limit to what of a request is still to come: one for all of its header, one for its body."""
        state = self.conn.their_state
        if state not in (h11.IDLE, h11.SEND_BODY) or self.timeout_keep_alive_task is not None:
            self._cancel()
        elif self._awaited is None or self._awaited[0] is not state:
            self._cancel()
            self._awaited = (state, self.loop.call_later(self._request_s, self._too_late))

    def _cancel(self) -> None:
        if self._awaited is not None:
            self._awaited[1].cancel()
            self._awaited = None

    def _too_late(self) -> None:
        self.transport.abort()
