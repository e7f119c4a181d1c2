"""JSON without its ambiguities: finite numbers only, every key once, UTF-8."""

from __future__ import annotations

import json
import math
from typing import Any


def parse_json(data: bytes | str) -> Any:
    """Parse one JSON document; a byte order mark before it is passed over.

    Args:
        data: The document; bytes are decoded as UTF-8.

    Returns:
        What the document holds, as plain Python values.

    Raises:
        ValueError: It is not UTF-8, not JSON, nested too deeply, names a key twice in one object, or holds NaN,
            Infinity or a number too large to be finite.
    """
    text = data.decode("utf-8-sig") if isinstance(data, bytes) else data.removeprefix("\ufeff")
    try:
        return json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_refuse_repeats
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse_object(data: bytes | str) -> dict[str, Any]:
    """Parse one JSON document that is an object.

    Raises:
        ValueError: As `parse_json`, or the document is something else than an object.
    """
    document = parse_json(data)
    if not isinstance(document, dict):
        raise ValueError(f"{type(document).__name__} instead of an object")  # noqa: TRY004 - a value, not a type
    return document


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is not finite")
    return value


def _refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"{key}: is there twice; remove one")
            seen.add(key)
    return document
