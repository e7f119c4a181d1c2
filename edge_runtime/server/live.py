"""`/api/live`: what changes, as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.types import Receive, Send

from edge_runtime.server import shapes
from edge_runtime.server.answers import Refused
from edge_runtime.server.api_run import is_signed_in
from edge_runtime.server.operations import Call, Operation

# Proxies and browsers take a silent connection for a dead one.
_COMMENT_S = 15.0
_FIRST = b"retry: 2000\n\n"
_COMMENT = b": still here\n\n"
_BEHIND = b"event: behind\ndata: {}\n\n"


async def _live(call: Call, receive: Receive, send: Send) -> None:
    state = call.parts.state
    query: shapes.LiveQuery = call.query
    if query.camera is not None and state.camera(query.camera) is None:
        raise Refused(404, f"there is no camera called {query.camera[:100]!a}; /api/cameras lists them")
    loop, ready = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        # The loop may have ended.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(ready.set)

    gone = asyncio.ensure_future(_gone(receive))
    subscription = state.subscribe(query.camera, wake)
    try:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if call.scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        await send({"type": "http.response.body", "body": _FIRST, "more_body": True})
        while not gone.done() and is_signed_in(call):
            waiting = asyncio.ensure_future(ready.wait())
            try:
                await asyncio.wait({gone, waiting}, timeout=_COMMENT_S, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
            ready.clear()
            if subscription.overflowed:
                await send({"type": "http.response.body", "body": _BEHIND})
                return
            message = subscription.take() or _COMMENT
            await send({"type": "http.response.body", "body": message, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        state.unsubscribe(subscription)
        gone.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


OPERATIONS = (
    Operation(
        method="GET",
        path="/api/live",
        does="What changes, as server-sent events: camera, score, event, gone.",
        tag="cameras",
        stream=_live,
        query=shapes.LiveQuery,
        gives="text/event-stream",
        refusals=(404,),
    ),
)
