"""The OpenAPI 3.1 document, from the table of operations and their types; `docs/openapi.json` is written from it."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from edge_runtime._version import __version__
from edge_runtime.server import shapes
from edge_runtime.server.answers import JSON
from edge_runtime.server.operations import Operation

_REFERENCE = "#/components/schemas/{name}"
_WORDS = {
    200: "As asked.",
    201: "Made.",
    204: "Done.",
    206: "The part that was asked for.",
    304: "Not changed.",
    400: "Something of the request is wrong.",
    401: "A token is needed, or the one that was sent is not known.",
    403: "This token may not do that, or a page of another site asked.",
    404: "There is no such thing, or the run does not have that part.",
    408: "The request took too long.",
    409: "It does not go with how things are now.",
    413: "The request holds too much.",
    415: "The request holds no JSON.",
    416: "The file has no such part.",
    421: "The request is for another host.",
    429: "Too many wrong tokens came from this address.",
    503: "It cannot be done at this moment.",
}
_NAMES = {
    "name": {"type": "string", "description": "Name of a camera."},
    "id": {"type": "string", "description": "Id of an event."},
    "mark": {"type": "integer", "minimum": 0, "description": "Id of a mark."},
}


def openapi(operations: Sequence[Operation]) -> dict[str, Any]:
    """The document as plain values.

    Args:
        operations: All of them.
    """
    types = {shapes.Problem: None} | {
        kind: None
        for operation in operations
        for kind in (operation.gives, operation.body, operation.query)
        if kind is not None and not isinstance(kind, str)
    }
    schemas, components = msgspec.json.schema_components(list(types), ref_template=_REFERENCE)
    by_type = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, by_type, components)
    queries = {operation.query.__name__ for operation in operations if operation.query is not None}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "HeadHunt-VAD at the edge",
            "version": __version__,
            "description": "Cameras, events, alarms and feedback of one run of `hh-edge run --http`.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {"session": []}, {}],
        "paths": paths,
        "components": {
            "schemas": {name: _clean(schema) for name, schema in sorted(components.items()) if name not in queries},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "Made by `hh-edge token add`."},
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "hh_session_8480",
                    "description": "Set by `POST /api/session`; its name ends with the server's port.",
                },
            },
        },
    }


def document(operations: Sequence[Operation]) -> bytes:
    """The document as JSON text."""
    return json.dumps(openapi(operations), indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _operation(operation: Operation, types: dict[Any, Any], components: dict[str, Any]) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _NAMES[name]}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    if operation.query is not None:
        parameters += _query(components[operation.query.__name__])
    found: dict[str, Any] = {
        "operationId": _identifier(operation),
        "summary": operation.does,
        "tags": [operation.tag],
    }
    if parameters:
        found["parameters"] = parameters
    if operation.body is not None:
        found["requestBody"] = {"required": True, "content": {JSON: {"schema": types[operation.body]}}}
    if operation.role is None:
        found["security"] = [{}]
    found["responses"] = {str(status): _response(operation, status, types) for status in sorted(_statuses(operation))}
    return found


def _statuses(operation: Operation) -> Iterable[int]:
    always = {operation.status, *operation.refusals, 401, 413, 421, 429}
    if operation.query is not None or operation.body is not None:
        always.add(400)
    if operation.body is not None:
        always |= {408, 415}
    if operation.role == "act" or operation.method != "GET":
        always.add(403)
    if operation.gives in ("image/jpeg", "video/mp4") and "{id}" in operation.path:
        always |= {206, 304, 416}
    return always


def _response(operation: Operation, status: int, types: dict[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"description": _WORDS[status]}
    if status in (204, 304):
        return found
    if status < 300:
        gives = operation.gives
        if isinstance(gives, str):
            binary = {} if gives == JSON else {"schema": {"type": "string"}}
            found["content"] = {gives: binary if gives.startswith(("text/", JSON)) else {}}
        else:
            found["content"] = {JSON: {"schema": types[gives]}}
    elif operation.path == "/readyz":
        found["content"] = {JSON: {"schema": types[operation.gives]}}
    else:
        found["content"] = {JSON: {"schema": types[shapes.Problem]}}
    if status in (429, 503):
        found["headers"] = {
            "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string"}},
        }
    return found


def _query(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Parameters of a query; one without a value is left out, not null."""
    found = []
    for name, value in schema["properties"].items():
        inner = dict(value)
        options = [option for option in inner.get("anyOf", ()) if option.get("type") != "null"]
        if "anyOf" in inner:
            inner = options[0] if len(options) == 1 else {"anyOf": options}
        if "enum" in inner:
            inner["enum"] = [choice for choice in inner["enum"] if choice is not None]
        if inner.get("default", 0) is None:
            del inner["default"]
        found.append({"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": inner})
    return found


def _identifier(operation: Operation) -> str:
    words = [word.strip("{}") for word in operation.path.split("/") if word and word != "api"]
    return "_".join([operation.method.lower(), *words]).replace(".", "_")


def _clean(value: Any) -> Any:
    """Python 3.13 takes the indentation out of docstrings, which are the descriptions; earlier ones leave it in."""
    if isinstance(value, dict):
        return {
            key: " ".join(inspect.cleandoc(inner).split())
            if key == "description" and isinstance(inner, str)
            else _clean(inner)
            for key, inner in value.items()
        }
    return [_clean(inner) for inner in value] if isinstance(value, list) else value


if __name__ == "__main__":
    import sys

    from edge_runtime.server.app import OPERATIONS

    sys.stdout.buffer.write(document(OPERATIONS))
