"""JSON that means one thing only; everything else is a ValueError, whatever is wrong with it."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.strict_json import parse_json, parse_object

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(plain)
def test_what_is_written_is_read_back(document: object) -> None:
    text = json.dumps(document)
    assert parse_json(text) == parse_json(text.encode()) == parse_json("\ufeff".encode() + text.encode()) == document


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting"),
        (b'{"a": 1, "b": {"c": 1, "c": 1}}', "c: is there twice"),
        (b"[NaN]", "NaN is not a JSON number"),
        (b"[-Infinity]", "-Infinity is not a JSON number"),
        (b"[1e999]", "1e999 is not finite"),
        (b'"\xff"', "utf-8"),
        (json.dumps("a").encode("utf-16"), "utf-8"),
        (b"[" * 200_000, "nested too deeply"),
    ],
)
def test_what_means_nothing_or_two_things_is_refused(text: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_json(text)


@pytest.mark.parametrize(("text", "kind"), [("[]", "list"), ("1", "int"), ("null", "NoneType")])
def test_an_object_is_an_object(text: str, kind: str) -> None:
    assert parse_object("{}") == {}
    with pytest.raises(ValueError, match=f"{kind} instead of an object"):
        parse_object(text)


def test_a_repeated_key_among_many_is_found_at_once() -> None:
    """Linear in the number of keys: a manifest of megabytes must not take hours to refuse."""
    many = ",".join(f'"k{number}":0' for number in range(200_000))
    begun = time.monotonic()
    with pytest.raises(ValueError, match="k7: is there twice"):
        parse_json("{" + many + ',"k7":1}')
    assert time.monotonic() - begun < 30
