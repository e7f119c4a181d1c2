"""What every request passes before it is looked at: its host, its origin, its size, and who sends it. Pure ASGI."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_runtime.errors import Conflict, HeadHuntError, OutputFailed, UsageError, one_line
from edge_runtime.files import printable
from edge_runtime.server.answers import Refused, Reply, problem, send_reply
from edge_runtime.server.limits import WrongTokens
from edge_runtime.server.sessions import Sessions
from edge_runtime.server.shapes import Role
from edge_runtime.server.tokens import Bearer, Tokens

log = logging.getLogger(__name__)

#: Bytes that a request may send.
BODY_BYTES = 65_536
#: Seconds that one waits for the answer that it was too much: 64 connections of an address get so few of them.
TOO_MANY_S = 0.2
_READING = ("GET", "HEAD", "OPTIONS", "TRACE")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::([0-9]{1,5}))?")
_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; style-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_STORED = (b"cache-control", b"no-store")
# Where the guards leave who asks.
WHO = "headhunt.who"


@dataclass(frozen=True, slots=True)
class Who:
    """Who asks: the role, and what shows it (a token or a cookie), where one was shown and needed."""

    role: Role | None
    bearer: Bearer | None = None
    cookie: str | None = None


def headers_of(scope: Scope) -> dict[str, str]:
    """Headers of a request by lower-case names; of one that is there twice the last."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


class Careful:
    """Turns whatever goes wrong into one sentence of JSON, and adds the headers that browsers are told with.

    A traceback goes to the log, never to a client.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As of ASGI."""
        started = False

        async def sent(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = message.setdefault("headers", [])
                headers += _HEADERS
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append(_STORED)
            await send(message)

        try:
            await self._app(scope, receive, sent)
        except Exception as error:  # noqa: BLE001  told to the client in words, and to the log in full
            reply = _told(error, scope)
            if reply.status == 429:
                await asyncio.sleep(TOO_MANY_S)
            if started:
                # What was begun cannot be taken back: the connection ends without what was promised.
                log.error("%s: broke off: %s", printable(scope["path"]), one_line(error))
            else:
                await send_reply(reply, sent)


def _told(error: Exception, scope: Scope) -> Reply:
    if isinstance(error, Refused):
        return problem(error.status, error.why, error.headers)
    if isinstance(error, HTTPException):
        if error.status_code == 405:
            allowed = (error.headers or {}).get("Allow", "")
            return problem(405, f"only {allowed} can be asked of this address", {"allow": allowed})
        return problem(404, "there is nothing at this address; /api/openapi.json says what there is")
    if isinstance(error, sqlite3.Error | OutputFailed):
        log.error("http: %s: %s", printable(scope["path"]), one_line(error))
        return problem(
            503,
            f"what is kept cannot be read or written now ({printable(one_line(error))}); try again",
            {"retry-after": "5"},
        )
    if isinstance(error, HeadHuntError):
        status = 400 if isinstance(error, UsageError) and not isinstance(error, Conflict) else 409
        return problem(status, printable(one_line(error)))
    log.error("http: %s: unexpected %s", printable(scope["path"]), type(error).__name__, exc_info=error)
    return problem(500, "something is wrong here, and the log says what; please report it")


class OwnHost:
    """Refuses requests for another host, and changes that another site's page asks for.

    A page of a stranger can have its name point to this computer; its requests then carry that name.

    Args:
        app: What is asked.
        hosts: Names by which the server is reached, beside localhost and the address that was connected to.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = {host.lower().strip("[]") for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As of ASGI."""
        named = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        found = _HOST.fullmatch(named[0]) if len(named) == 1 else None
        if found is None or not self._is_own(found[1].lower().strip("[]"), scope):
            shown = printable(named[0][:100]) if named else "no host"
            raise Refused(421, f"{shown}: is not this server; write its name under `http: {{hosts: […]}}`")
        if scope["method"] not in _READING:
            origin = headers_of(scope).get("origin")
            if origin is not None and origin.lower() not in (
                f"http://{found[0].lower()}",
                f"https://{found[0].lower()}",
            ):
                raise Refused(
                    403, f"a page of {printable(origin[:100])} may not change anything here; open its own page"
                )
        await self._app(scope, receive, send)

    def _is_own(self, host: str, scope: Scope) -> bool:
        if host == "localhost" or host in self._hosts:
            return True
        server = scope.get("server")
        try:
            asked = ipaddress.ip_address(host)
            reached = ipaddress.ip_address(str(server[0]).partition("%")[0]) if server else None
        except ValueError:
            return False
        return _plain(asked) == _plain(reached) or (
            reached is not None and _plain(reached).is_loopback and _plain(asked).is_loopback
        )


def _plain(address: Any) -> Any:
    return getattr(address, "ipv4_mapped", None) or address


class Small:
    """Refuses requests that announce too much."""

    def __init__(self, app: ASGIApp, most: int = BODY_BYTES) -> None:
        self._app, self._most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As of ASGI."""
        length = headers_of(scope).get("content-length", "0")
        if not length.isdecimal() or len(length) > 18 or int(length) > self._most:
            raise Refused(413, f"a request holds {self._most} bytes at most")
        await self._app(scope, receive, send)


class Known:
    """Finds out who asks, by a token or the cookie of a session.

    Args:
        app: What is asked; it finds `Who` in the scope, under WHO.
        tokens: Those that let in.
        sessions: Those that are open.
        wrong: Counts wrong tokens.
        needed: Whether a token is needed at all; otherwise everybody acts.
        cookie: Name of the cookie.
    """

    def __init__(
        self, app: ASGIApp, tokens: Tokens, sessions: Sessions, wrong: WrongTokens, needed: bool, cookie: str
    ) -> None:
        self._app = app
        self._tokens, self._sessions, self._wrong = tokens, sessions, wrong
        self._needed, self._cookie = needed, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As of ASGI."""
        scope[WHO] = self._who(scope)
        await self._app(scope, receive, send)

    def holds(self, bearer: Bearer) -> bool:
        """Whether a token still lets in."""
        return self._tokens.holds(bearer)

    def _who(self, scope: Scope) -> Who:
        headers = headers_of(scope)
        cookie = _cookie(headers.get("cookie", ""), self._cookie)
        if not self._needed:
            return Who("act", cookie=cookie)
        given = headers.get("authorization")
        if given is not None:
            kind, _, token = given.partition(" ")
            if kind.lower() != "bearer":
                raise Refused(401, "send a token as `Authorization: Bearer hh_…`", {"www-authenticate": "Bearer"})
            bearer = self.checked(token.strip(), scope)
            return Who(bearer.role, bearer)
        bearer_of = None if cookie is None else self._sessions.bearer(cookie)
        return Who(None if bearer_of is None else bearer_of.role, bearer_of, cookie)

    def checked(self, token: str, scope: Scope) -> Bearer:
        """Who shows a token.

        Raises:
            Refused: It is none, or its address has shown too many that were none: then this one is not looked at.
        """
        client = scope.get("client")
        address = str(client[0]) if client else ""
        if wait_s := self._wrong.wait_s(address):
            raise Refused(429, f"too many wrong tokens; try again in {wait_s} s", {"retry-after": str(wait_s)})
        bearer = self._tokens.bearer(token)
        if bearer is None:
            self._wrong.failed(address)
            raise Refused(
                401,
                "this token is not known here; hh-edge token add makes one",
                {"www-authenticate": 'Bearer error="invalid_token"'},
            )
        return bearer


def _cookie(header: str, name: str) -> str | None:
    for part in header.split(";"):
        key, equals, value = part.strip().partition("=")
        if equals and key == name:
            return value
    return None
