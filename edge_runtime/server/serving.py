"""The server in a thread of its own: it has its own loop and its own socket, and ends within a second.

What goes wrong in it is logged; the run goes on, and does not wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edge_runtime.errors import MissingExtra, OutputFailed, UsageError, one_line
from edge_runtime.files import FileStamp, file_stamp, shown_path, state_folder
from edge_runtime.server.limits import Connections
from edge_runtime.server.parts import Parts
from edge_runtime.server.sessions import Sessions
from edge_runtime.server.tokens import Tokens, read_tokens, tokens_path
from edge_runtime.server.workers import Workers
from edge_runtime.watch.config_settings import HttpSettings, parse_listen

log = logging.getLogger(__name__)

_BACKLOG = 128
_HANDSHAKE_S = 10.0
_STOP_S = 0.9
_TICK_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """A socket that is bound, and how it is served.

    Attributes:
        socket: Nothing is accepted on it yet.
        address: Where it listens.
        port: The same.
        tls: How connections are encrypted; None: they are not.
        certificate: The files of `tls`.
        needs_token: Whether a token is needed.
        hosts: Further names by which it is reached.
    """

    socket: socket.socket
    address: str
    port: int
    tls: ssl.SSLContext | None
    certificate: tuple[Path, Path] | None
    needs_token: bool
    hosts: tuple[str, ...]

    @property
    def url(self) -> str:
        """What to open in a browser."""
        host = self.address
        if ipaddress.ip_address(host).is_unspecified:
            host = self.hosts[0].strip("[]") if self.hosts else socket.gethostname()
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}/"


def check_http(settings: HttpSettings) -> None:
    """Refuse what could not be served, without listening.

    Raises:
        MissingExtra: Its libraries are not installed.
        UsageError: There is no token where one is needed, or the certificate cannot be used.
    """
    try:
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            'starlette, uvicorn and prometheus-client are not all installed; run: pip install "headhunt-edge[http]"'
        ) from error
    _needs_token(settings, _addresses(settings)[0][4][0])
    _tls(settings)


def listen(settings: HttpSettings) -> Listening:
    """Bind the socket, so that what is wrong with it is known before a run starts.

    Raises:
        MissingExtra: As of `check_http`.
        UsageError: As of `check_http`, or there is no such address.
        OutputFailed: The address is taken, or may not be used.
    """
    check_http(settings)
    family, kind, protocol, _, address = _addresses(settings)[0]
    needs_token = _needs_token(settings, address[0])
    tls = _tls(settings)
    bound = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and hasattr(socket, "IPV6_V6ONLY"):
            # `::` is all addresses, those of IPv4 too.
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind(address)
        bound.listen(_BACKLOG)
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise OutputFailed(
            f"http: cannot listen on {settings.listen} ({error.strerror or error}); "
            "another run or program may have that port: end it, or choose another with --http HOST:PORT"
        ) from error
    certificate = None
    if settings.tls_cert is not None and settings.tls_key is not None:
        certificate = Path(settings.tls_cert), Path(settings.tls_key)
    found, port = bound.getsockname()[:2]
    return Listening(
        socket=bound,
        address=str(found),
        port=int(port),
        tls=tls,
        certificate=certificate,
        needs_token=needs_token,
        hosts=tuple(settings.hosts),
    )


def _addresses(settings: HttpSettings) -> Sequence[Any]:
    host, port = parse_listen(settings.listen)
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"http.listen: {host}: is no address of this computer ({one_line(error)})") from error


def _needs_token(settings: HttpSettings, address: str) -> bool:
    alone = ipaddress.ip_address(address.partition("%")[0]).is_loopback
    needed = settings.require_token or not alone
    if needed and not read_tokens(tokens_path()):
        why = "require_token is set" if alone else f"{settings.listen} can be reached by others"
        raise UsageError(f"http: {why}, and there is no token; make one with: hh-edge token add --role act")
    return needed


def _tls(settings: HttpSettings) -> ssl.SSLContext | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # A key with a password would be asked for on a terminal that nobody sits at.
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password=lambda: b"")
    except (OSError, ssl.SSLError) as error:
        files = f"{shown_path(settings.tls_cert)} and {shown_path(settings.tls_key)}"
        raise UsageError(
            f"http: {files}: cannot be used as certificate and key ({one_line(error)}); "
            "give PEM files that belong together, the key without a password"
        ) from error
    return context


class HttpServer:
    """A context manager that serves in a daemon thread.

    Args:
        listening: Where.
        parts: The run.
        sessions_path: Where sessions of browsers are kept; by default in the state folder.
        connections: Counts connections.
    """

    def __init__(
        self,
        listening: Listening,
        parts: Parts,
        *,
        sessions_path: Path | None = None,
        connections: Connections | None = None,
    ) -> None:
        self._listening = listening
        self._parts = parts
        # Of each port, as cookies are: two runs would write over each other's.
        self._sessions_path = sessions_path or state_folder() / f"sessions-{listening.port}.json"
        self._connections = Connections() if connections is None else connections
        self._workers = Workers()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._stopped = False
        self._stamps: tuple[FileStamp | None, ...] = ()
        self._thread = threading.Thread(target=self._work, name="http", daemon=True)

    def __enter__(self) -> Self:
        token = "a token is needed" if self._listening.needs_token else "without a token, from this computer alone"
        # Before the thread starts: where that fails at once, the socket is closed.
        log.info("page and API: %s (%s)", self._listening.url, token)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        if self._loop is not None and self._stop is not None:
            # The loop may have ended.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            log.warning("http: blocks, left behind")

    def _work(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception:
            log.exception("http: the server has ended; detection goes on")
        finally:
            self._listening.socket.close()
            self._workers.close()

    async def _serve(self) -> None:
        from uvicorn.config import Config
        from uvicorn.server import ServerState

        from edge_runtime.server.app import build_app
        from edge_runtime.server.wire import HEADER_BYTES, IDLE_S, Wire

        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(_broken)
        listening = self._listening
        tokens = Tokens(tokens_path(), lambda text: log.error("%s", text))
        app = build_app(
            self._parts,
            tokens=tokens,
            sessions=Sessions(self._sessions_path, tokens),
            needs_token=listening.needs_token,
            workers=self._workers,
            hosts=listening.hosts,
            # Cookies do not know ports: two runs on one computer would take each other's.
            cookie=f"hh_session_{listening.port}",
            secure=listening.tls is not None,
        )
        config = Config(
            app,
            http=Wire,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=int(IDLE_S),
            h11_max_incomplete_event_size=HEADER_BYTES,
        )
        config.load()
        state = ServerState()
        server = await self._loop.create_server(
            lambda: Wire(config, state, self._connections),
            sock=listening.socket,
            ssl=listening.tls,
            backlog=_BACKLOG,
            ssl_handshake_timeout=None if listening.tls is None else _HANDSHAKE_S,
        )
        self._stamps = self._certificate()
        try:
            while not (self._stopped or self._stop.is_set()):
                state.default_headers = [(b"date", formatdate(time.time(), usegmt=True).encode())]
                self._renew()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), _TICK_S)
        finally:
            server.close()
            for connection in list(state.connections):
                connection.transport.abort()
            for task in list(state.tasks):
                task.cancel()

    def _certificate(self) -> tuple[FileStamp | None, ...]:
        return tuple(file_stamp(path) for path in self._listening.certificate or ())

    def _renew(self) -> None:
        """Take a certificate that was renewed: new connections get it."""
        tls, files = self._listening.tls, self._listening.certificate
        if tls is None or files is None or (stamps := self._certificate()) == self._stamps:
            return
        self._stamps = stamps
        try:
            tls.load_cert_chain(*files, password=lambda: b"")
        except (OSError, ssl.SSLError) as error:
            log.error("http: %s: cannot be used (%s); the one before stays", shown_path(files[0]), one_line(error))
        else:
            log.info("http: %s: was renewed", shown_path(files[0]))


def _broken(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What fails in the loop beside answers: connections that break off are none of the log's business."""
    error = context.get("exception")
    if error is None or isinstance(error, OSError | ssl.SSLError):
        log.debug("http: %s", context.get("message"))
    else:
        log.error("http: %s", context.get("message"), exc_info=error)
