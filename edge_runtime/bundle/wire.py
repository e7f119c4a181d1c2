"""Protobuf's wire format, as far as ONNX uses it: a message to its fields, without the onnx package."""

from __future__ import annotations

from collections.abc import Iterator


def fields(data: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """The fields of one message in their order, as (number, value).

    A value of a length is a part of `data`, so that skipping it costs nothing; a varint is an unsigned number. Fields
    of a fixed width are passed over.

    Raises:
        ValueError: The bytes are not a message, or one that other parsers would read differently.
    """
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        if not 8 <= key < 2**32:
            # Other parsers drop the bits above 32, and so would see a field that is passed over here.
            raise ValueError("a field number is out of range")
        wire = key & 7
        if wire == 0:
            number, at = _varint(data, at)
            yield key >> 3, number
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        elif wire == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("a field is longer than the file")
            yield key >> 3, data[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {wire} is not used in ONNX")
        if at > len(data):
            raise ValueError("the file ends inside a field")


def messages(data: memoryview, number: int) -> Iterator[memoryview]:
    """Every value of one field that has a length: texts and messages."""
    return (value for found, value in fields(data) if found == number and isinstance(value, memoryview))


def message(data: memoryview, number: int) -> memoryview:
    """One message that may stand once. Where it stands several times they are merged, by joining their bytes."""
    found = list(messages(data, number))
    return found[0] if len(found) == 1 else memoryview(b"".join(found))


def text(data: memoryview, number: int) -> str:
    """A text that may stand once: the last one counts, none is empty. What is not UTF-8 becomes surrogates."""
    last = b""
    for value in messages(data, number):
        last = bytes(value)
    return last.decode("utf-8", "surrogateescape")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("the file ends inside a number")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if byte < 0x80:
            return value, at
