"""All that is served, as one ASGI application: the API, the probes, and the page from the package."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from edge_runtime.server import api_cameras, api_events, api_feedback, api_run, live
from edge_runtime.server.answers import Reply, send_reply
from edge_runtime.server.compressed import compressed, compressible, plain, takes_gzip
from edge_runtime.server.endpoint import Endpoint
from edge_runtime.server.guards import Careful, Known, OwnHost, Small, headers_of
from edge_runtime.server.limits import WrongTokens
from edge_runtime.server.openapi import document
from edge_runtime.server.operations import Desk, Operation
from edge_runtime.server.parts import Parts
from edge_runtime.server.sessions import Sessions
from edge_runtime.server.tokens import Tokens
from edge_runtime.server.workers import Workers

# What is computed for a second or two at once.
_SLOW = 2
_PAGE = "dashboard"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
_NO_PAGE = (
    b"<!doctype html><title>HeadHunt-VAD</title><p>This build holds no page; /api/openapi.json says what there is."
)

OPERATIONS: tuple[Operation, ...] = (
    *api_run.OPERATIONS,
    *api_cameras.OPERATIONS,
    *api_events.OPERATIONS,
    *api_feedback.OPERATIONS,
    *live.OPERATIONS,
)


def build_app(
    parts: Parts,
    *,
    tokens: Tokens,
    sessions: Sessions,
    needs_token: bool,
    workers: Workers,
    hosts: Sequence[str] = (),
    cookie: str = "hh_session",
    secure: bool = False,
    wrong: WrongTokens | None = None,
) -> ASGIApp:
    """The application.

    Args:
        parts: The run.
        tokens: Who is let in.
        sessions: Of browsers.
        needs_token: Whether a token is needed.
        workers: Threads for answers.
        hosts: Further names by which it is reached.
        cookie: Name of a session's cookie.
        secure: Whether browsers come by TLS.
        wrong: Counts wrong tokens.
    """
    router = Router(redirect_slashes=False)
    known = Known(_Routed(router), tokens, sessions, wrong or WrongTokens(), needs_token, cookie)
    desk = Desk(
        parts=parts,
        known=known,
        sessions=sessions,
        needs_token=needs_token,
        cookie=cookie,
        secure=secure,
        contract=document(OPERATIONS),
    )
    slow = asyncio.Semaphore(_SLOW)
    by_path = itertools.groupby(sorted(OPERATIONS, key=lambda one: one.path), key=lambda one: one.path)
    for path, operations in by_path:
        methods: dict[str, Operation] = {operation.method: operation for operation in operations}
        endpoint = Endpoint(methods, desk, workers, slow)
        router.routes.append(Route(path, endpoint, methods=sorted(methods), name=path))
    for path, reply in _page().items():
        router.routes.append(Route(path, _Static(reply), methods=["GET"], name=path))
    return Careful(OwnHost(Small(known), hosts))


class _Routed:
    """Lets the router raise where it finds nothing, instead of answering by itself."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self._router
        await self._router(scope, receive, send)


class _Static:
    """One file of the page, which is in memory: no path of a request leads to a disk."""

    def __init__(self, reply: Reply) -> None:
        self._plain = self._compressed = reply
        if compressible(reply):
            self._plain, self._compressed = plain(reply), compressed(reply)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = headers_of(scope)
        if self._plain.headers["etag"] in asked.get("if-none-match", ""):
            await send_reply(Reply(b"", "", 304, self._plain.headers), send)
        else:
            await send_reply(self._compressed if takes_gzip(asked) else self._plain, send)


def _page() -> dict[str, Reply]:
    """The files of the page by their paths."""
    found = {"/": _reply(_NO_PAGE, ".html")}
    folder = resources.files("edge_runtime.server") / _PAGE
    if folder.is_dir():
        waiting = [("", folder)]
        while waiting:
            prefix, place = waiting.pop()
            for item in place.iterdir():
                suffix = Path(item.name).suffix
                if item.is_dir():
                    waiting.append((f"{prefix}{item.name}/", item))
                elif f"{prefix}{item.name}" == "index.html":
                    found["/"] = _reply(item.read_bytes(), suffix)
                elif suffix in _TYPES:
                    found[f"/static/{prefix}{item.name}"] = _reply(item.read_bytes(), suffix)
    return found


def _reply(content: bytes, suffix: str) -> Reply:
    # Weak: the same for both forms.
    tag = f'W/"{hashlib.sha256(content).hexdigest()[:16]}"'
    # Asked about with every visit: after an upgrade no browser runs half of each version.
    return Reply(content, _TYPES[suffix], headers={"etag": tag, "cache-control": "no-cache"})
