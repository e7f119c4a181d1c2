"""A signature holds for one key, one purpose and exactly one payload."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.bundle.keys import PrivateKey
from edge_runtime.bundle.signature import (
    BUNDLE,
    SIGNATURES_LIMIT,
    Signed,
    check,
    claimed,
    scorer_purpose,
    sign,
    signed_bytes,
)
from edge_runtime.errors import BundleRefused

ONE, OTHER, STRANGER = (PrivateKey.generate(name) for name in ("one", "other", "stranger"))
purposes = st.from_regex(r"[a-z0-9:._-]{1,40}", fullmatch=True)


def refused(words: str, *arguments: object, **options: object) -> None:
    with pytest.raises(BundleRefused, match=words) as caught:
        check(*arguments, **options)  # type: ignore[arg-type]
    assert str(caught.value).isprintable()


@given(purposes, st.binary(max_size=200))
def test_what_was_signed_is_taken(purpose: str, payload: bytes) -> None:
    text = sign(ONE, purpose, payload)
    assert check([OTHER.public, ONE.public], purpose, payload, text) == (ONE.public,)
    assert check([ONE.public], purpose, payload, text.encode()) == (ONE.public,)


@given(purposes, st.binary(max_size=60), purposes, st.binary(max_size=60))
def test_nothing_else_is(purpose: str, payload: bytes, other: str, others: bytes) -> None:
    same = (purpose, payload) == (other, others)
    assert (signed_bytes(purpose, payload) == signed_bytes(other, others)) == same
    if not same:
        refused("is wrong", [ONE.public], other, others, sign(ONE, purpose, payload))


@given(st.text(max_size=300) | st.sampled_from(["a\0b", "A", "a b", "ä", "a\n", "x" * 201]))
def test_a_purpose_is_one_or_refused(purpose: str) -> None:
    try:
        signed_bytes(purpose, b"")
    except ValueError:
        return
    assert purpose.isascii()
    assert "\0" not in purpose


def test_keys_can_be_changed() -> None:
    first = sign(ONE, BUNDLE, b"x")
    both = sign(OTHER, BUNDLE, b"x", first)
    assert claimed(both) == [ONE.public.id, OTHER.public.id]
    for trusted in ([ONE.public], [OTHER.public]):
        assert check(trusted, BUNDLE, b"x", both) == tuple(trusted)
    assert set(check([OTHER.public, ONE.public], BUNDLE, b"x", both)) == {ONE.public, OTHER.public}
    # The same key again replaces what it signed before.
    again = sign(ONE, BUNDLE, b"y", both)
    assert claimed(again) == [OTHER.public.id, ONE.public.id]
    assert check([ONE.public], BUNDLE, b"y", again) == (ONE.public,)


def test_one_trusted_key_whose_signature_is_wrong_spoils_it() -> None:
    both = sign(OTHER, BUNDLE, b"x", sign(ONE, BUNDLE, b"other"))
    assert check([OTHER.public], BUNDLE, b"x", both) == (OTHER.public,)
    refused(f"key {ONE.public.id} is wrong", [ONE.public, OTHER.public], BUNDLE, b"x", both)


def test_a_stranger_is_refused_whatever_id_he_takes() -> None:
    text = sign(STRANGER, BUNDLE, b"x")
    refused(f"signed by {STRANGER.public.id}, and none", [ONE.public], BUNDLE, b"x", text)
    text = text.replace(STRANGER.public.id, ONE.public.id)
    refused("is wrong", [ONE.public], BUNDLE, b"x", text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        "\ufeff",
        '{"format": "headhunt-signature"}',
        '{"format": "headhunt-signature", "version": 1, "signatures": {}}',
        '{"format": "headhunt-signature", "version": 2, "signatures": []}',
        '{"format": "headhunt-signature", "version": true, "signatures": []}',
        '{"format": "headhunt-signature", "version": 1.0, "signatures": []}',
        '{"format": "headhunt-signature", "version": 1, "version": 1, "signatures": []}',
        '{"format": "headhunt-signature", "version": 1, "signatures": [], "more": 1}',
        '{"format": "headhunt-signature", "version": 1, "signatures": [{"key": "x", "signature": ""}]}',
        '{"format": "headhunt-signature", "version": 1, "signatures": [NaN]}',
        "{" * 100_000,
        "[" * 10_000,
        " " * (SIGNATURES_LIMIT + 1),
    ],
)
def test_what_is_no_signature_is_refused_in_one_line(text: str) -> None:
    refused("the signature: ", [ONE.public], BUNDLE, b"x", text)
    with pytest.raises(BundleRefused):
        sign(ONE, BUNDLE, b"x", text)


def test_no_signatures_and_the_same_key_twice() -> None:
    document = json.loads(sign(ONE, BUNDLE, b"x"))
    twice = document | {"signatures": document["signatures"] * 2}
    refused("twice", [ONE.public], BUNDLE, b"x", json.dumps(twice))
    refused("signed by nobody", [ONE.public], BUNDLE, b"x", json.dumps(document | {"signatures": []}))
    many = [{"key": f"{number:016x}", "signature": document["signatures"][0]["signature"]} for number in range(65)]
    refused("more than the 64", [ONE.public], BUNDLE, b"x", json.dumps(document | {"signatures": many}))
    with pytest.raises(BundleRefused, match="64 signatures already"):
        sign(ONE, BUNDLE, b"x", json.dumps(document | {"signatures": many[:64]}))


@given(st.binary(max_size=300))
def test_an_envelope_gives_back_what_was_put_in(payload: bytes) -> None:
    purpose = scorer_purpose("ab" * 32)
    opened = Signed.open([ONE.public], purpose, Signed.seal(ONE, purpose, payload))
    assert opened == Signed(purpose, payload, (ONE.public,))


def test_an_envelope_of_another_purpose_key_or_payload_is_refused() -> None:
    purpose, other = scorer_purpose("ab" * 32), scorer_purpose("cd" * 32)
    text = Signed.seal(ONE, purpose, b"scorer")
    for trusted, wanted, given_text, words in (
        (OTHER, purpose, text, "none of them is trusted"),
        (ONE, other, text, "was signed for"),
        (ONE, other, text.replace("ab" * 32, "cd" * 32), "is wrong"),
        (ONE, purpose, text.replace("c2NvcmVy", "c2NvcmVz"), "is wrong"),
        (ONE, purpose, text.replace("c2NvcmVy", "c2Nv_mVy"), "no base64"),
        (ONE, purpose, sign(ONE, purpose, b"scorer"), "is no signature"),
    ):
        with pytest.raises(BundleRefused, match=words):
            Signed.open([trusted.public], wanted, given_text)
    with pytest.raises(ValueError, match="up to"):
        Signed.seal(ONE, purpose, bytes(2**24 + 1))
