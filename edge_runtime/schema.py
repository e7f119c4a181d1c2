"""JSON schemas of what the edge reads and writes, generated from its types."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec


def schema_of(kind: Any, title: str) -> dict[str, Any]:
    """Generate the JSON schema of a type.

    Args:
        kind: A msgspec struct, or a union of some.
        title: Of the schema.

    Returns:
        The schema as plain values, the same on every version of Python.
    """
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title} | msgspec.json.schema(kind)
    return {key: _clean(value) for key, value in schema.items()}


def _clean(value: Any) -> Any:
    """Python 3.13 takes the indentation out of docstrings, which are the descriptions; earlier ones leave it in."""
    if isinstance(value, dict):
        return {
            key: inspect.cleandoc(inner) if key == "description" and isinstance(inner, str) else _clean(inner)
            for key, inner in value.items()
        }
    return [_clean(inner) for inner in value] if isinstance(value, list) else value
