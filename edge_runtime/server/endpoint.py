"""One address: reads a request, asks the operation of its method, sends what that gives."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import msgspec.inspect
from starlette.types import Receive, Scope, Send

from edge_runtime.server.answers import OpenFile, Refused, Reply, json_reply, send_file, send_reply
from edge_runtime.server.compressed import compressed, compressible, plain, takes_gzip
from edge_runtime.server.guards import BODY_BYTES, WHO, Who, headers_of
from edge_runtime.server.operations import Call, Desk, Operation
from edge_runtime.server.wire import REQUEST_S
from edge_runtime.server.workers import Workers

_PAIRS = 32
# As in JSON, and not endless.
_PATTERN = re.compile(r"Expected `str` matching regex '[^']*'")
_PLACE = re.compile(r" - at `\$\.([^`]*)`")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,308})(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,3})?")


class Endpoint:
    """All operations of one path.

    Args:
        operations: By method.
        desk: What answers need.
        workers: Threads for answers.
        slow: Held while an answer takes a second of computing.
    """

    def __init__(
        self, operations: Mapping[str, Operation], desk: Desk, workers: Workers, slow: asyncio.Semaphore
    ) -> None:
        self._operations, self._desk, self._workers, self._slow = operations, desk, workers, slow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As of ASGI."""
        method = scope["method"]
        operation = self._operations["GET" if method == "HEAD" else method]
        who: Who = scope[WHO]
        _check_role(operation, who)
        headers = headers_of(scope)
        body = None if operation.body is None else await _body(operation, headers, receive)
        call = Call(
            desk=self._desk,
            who=who,
            path=scope.get("path_params", {}),
            query=_query(operation, scope["query_string"]),
            body=body,
            scope=scope,
        )
        if operation.stream is not None:
            await operation.stream(call, receive, send)
            return
        assert operation.answer is not None
        if operation.quick:
            given = operation.answer(call)
        elif operation.slow:
            async with self._slow:
                given = await self._workers.do(operation.answer, call)
        else:
            given = await self._workers.do(operation.answer, call)
        if isinstance(given, OpenFile):
            await send_file(given, headers, method == "HEAD", self._read, receive, send)
            return
        reply = given if isinstance(given, Reply) else json_reply(given, operation.status)
        # Those that are quick are given where every worker waits for a disk, too.
        if compressible(reply) and not operation.quick:
            reply = await self._workers.do(compressed, reply) if takes_gzip(headers) else plain(reply)
        await send_reply(reply, send)

    async def _read(self, descriptor: int, size: int, at: int) -> bytes:
        return await self._workers.do(os.pread, descriptor, size, at)


def _check_role(operation: Operation, who: Who) -> None:
    if operation.role is None:
        return
    if who.role is None:
        raise Refused(401, "a token is needed; hh-edge token add makes one", {"www-authenticate": "Bearer"})
    if operation.role == "act" and who.role != "act":
        raise Refused(403, "this token may only read; hh-edge token add --role act makes one that may change things")


def _query(operation: Operation, text: bytes) -> Any:
    if operation.query is None:
        return None
    try:
        pairs = parse_qsl(
            text.decode("ascii"), keep_blank_values=True, strict_parsing=False, errors="strict", max_num_fields=_PAIRS
        )
    except ValueError:
        raise Refused(400, "what stands behind the ? cannot be read; percent-encode it as UTF-8") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Refused(400, "one name stands behind the ? twice; write it once")
    return _converted(found, operation.query, "behind the ?")


async def _body(operation: Operation, headers: Mapping[str, str], receive: Receive) -> Any:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(415, "send JSON, with `Content-Type: application/json`")
    try:
        text = await asyncio.wait_for(_received(receive), REQUEST_S)
    except TimeoutError:
        raise Refused(408, "the request took too long", {"connection": "close"}) from None
    try:
        return msgspec.json.decode(text, type=operation.body)
    except msgspec.ValidationError as error:
        raise Refused(400, f"{_plain(str(error))}") from None
    except (ValueError, RecursionError):
        raise Refused(400, "this is no JSON in UTF-8; send an object") from None


async def _received(receive: Receive) -> bytes:
    text = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused(400, "the request was cut off", {"connection": "close"})
        text += message.get("body", b"")
        if len(text) > BODY_BYTES:
            raise Refused(413, f"a request holds {BODY_BYTES} bytes at most")
        if not message.get("more_body", False):
            return bytes(text)


def _converted(values: dict[str, str], kind: Any, where: str) -> Any:
    """Texts as the fields of a type: a number is written as in JSON, everything else is the text itself."""
    given: dict[str, Any] = dict(values)
    for name in _numbers(kind) & values.keys():
        if not _NUMBER.fullmatch(values[name]):
            raise Refused(400, f"{where}: {name} must be a number")
        given[name] = json.loads(values[name])
    try:
        return msgspec.convert(given, kind)
    except (msgspec.ValidationError, OverflowError) as error:
        raise Refused(400, f"{where}: {_plain(str(error))}") from None


@functools.cache
def _numbers(kind: Any) -> frozenset[str]:
    """Names of the fields of a type that are numbers."""
    found = msgspec.inspect.type_info(kind)
    assert isinstance(found, msgspec.inspect.StructType)
    numbers = msgspec.inspect.IntType | msgspec.inspect.FloatType
    return frozenset(
        field.encode_name
        for field in found.fields
        if isinstance(field.type, numbers)
        or (
            isinstance(field.type, msgspec.inspect.UnionType)
            and any(isinstance(option, numbers) for option in field.type.types)
        )
    )


def _plain(message: str) -> str:
    """msgspec's words, with the place in ours. Its one pattern is that of names."""
    message = _PATTERN.sub("A camera's name has letters, digits, `_`, `.` and `-`, 64 at most", message)
    message = _PLACE.sub(r" (`\1`)", message)
    return message.replace(" - at `$`", "").replace("Object ", "the object ")
