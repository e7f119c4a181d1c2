"""Answers to requests: JSON, bytes, a file or part of one, or why there is none."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import msgspec
from starlette.types import Receive, Send

from edge_runtime.server.shapes import Problem

JSON = "application/json"
_CHUNK = 256 * 1024
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")

# read(descriptor, bytes, offset), in a thread that may wait for a disk
ReadPart = Callable[[int, int, int], Awaitable[bytes]]


class Refused(Exception):
    """A request is not carried out.

    Args:
        status: Of HTTP.
        why: One sentence that says what to do.
        headers: In addition.
    """

    def __init__(self, status: int, why: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(why)
        self.status, self.why, self.headers = status, why, headers or {}


@dataclass(frozen=True, slots=True)
class Reply:
    """Bytes of some type."""

    content: bytes
    media: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file that is open for reading; whoever sends it closes it."""

    descriptor: int
    media: str


def json_reply(shape: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A shape as JSON."""
    return Reply(msgspec.json.encode(shape), JSON, status, headers or {})


def problem(status: int, why: str, headers: Mapping[str, str] | None = None) -> Reply:
    """Why a request was not carried out."""
    return json_reply(Problem(error=why), status, headers)


async def send_reply(reply: Reply, send: Send) -> None:
    """Send bytes."""
    headers = {"content-type": reply.media, "content-length": str(len(reply.content)), **reply.headers}
    if reply.status in (204, 304):
        del headers["content-length"], headers["content-type"]
    await _start(send, reply.status, headers)
    await send({"type": "http.response.body", "body": reply.content})


async def send_file(
    file: OpenFile, asked: Mapping[str, str], head: bool, read: ReadPart, receive: Receive, send: Send
) -> None:
    """Send a file, or the range of it that was asked for, and close it; no more of it once nobody listens.

    Args:
        file: The file.
        asked: Headers of the request, by lower-case names.
        head: Whether only headers are wanted.
        read: Reads a part.
        receive: As of ASGI; the whole request has been read.
        send: As of ASGI.
    """
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        status = os.fstat(file.descriptor)
        size, tag = status.st_size, f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        headers = {
            "content-type": file.media,
            "accept-ranges": "bytes",
            "etag": tag,
            "last-modified": formatdate(status.st_mtime, usegmt=True),
        }
        if tag in asked.get("if-none-match", ""):
            await _start(send, 304, {"etag": tag})
            await send({"type": "http.response.body", "body": b""})
            return
        wanted = _range(asked.get("range"), size) if asked.get("if-range", tag) == tag else (0, size, False)
        if wanted is None:
            reply = problem(416, f"the file has {size} bytes; ask for a range of them")
            await send_reply(Reply(reply.content, JSON, 416, {"content-range": f"bytes */{size}"}), send)
            return
        at, end, part = wanted
        headers["content-length"] = str(end - at)
        if part:
            headers["content-range"] = f"bytes {at}-{end - 1}/{size}"
        await _start(send, 206 if part else 200, headers)
        while at < end and not head and not gone.done():
            content = await read(file.descriptor, min(_CHUNK, end - at), at)
            if not content:
                # It was cut short meanwhile: the connection ends without what was promised.
                return
            at += len(content)
            await send({"type": "http.response.body", "body": content, "more_body": at < end})
        if head or size == 0:
            await send({"type": "http.response.body", "body": b""})
    finally:
        gone.cancel()
        os.close(file.descriptor)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _range(text: str | None, size: int) -> tuple[int, int, bool] | None:
    """First byte, the byte behind the last, and whether that is a part; None where there is no such part."""
    found = None if text is None else _RANGE.fullmatch(text.replace(" ", ""))
    # Several ranges at once need not be understood.
    if found is None or found.groups() == ("", ""):
        return 0, size, False
    first, last = found.groups()
    if not first:
        length = min(int(last), size)
        return (size - length, size, True) if length else None
    begin, end = int(first), min(int(last) + 1 if last else size, size)
    if last and int(last) < int(first):
        return 0, size, False
    return (begin, end, True) if begin < size else None


async def _start(send: Send, status: int, headers: Mapping[str, str]) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
