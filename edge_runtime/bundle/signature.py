"""Detached signatures: over a bundle's manifest, and over any small payload such as a site's scorer.

What is signed is a prefix, the purpose, and the payload's exact bytes. A signature made for one purpose is none for
another. Whoever checks names the keys that are trusted; the id in a signature only says which of them to try.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from edge_runtime.bundle.keys import PrivateKey, PublicKey
from edge_runtime.errors import BundleRefused
from edge_runtime.files import printable
from edge_runtime.strict_json import parse_object

#: What a bundle's manifest is signed for.
BUNDLE = "bundle-manifest"
#: The version of the file that is written today.
VERSION = 1
#: No file of signatures is larger, in bytes.
SIGNATURES_LIMIT = 64 * 1024

_Kind = TypeVar("_Kind")
_FORMAT = "headhunt-signature"
_PREFIX = b"headhunt-signature-v1\0"
_PURPOSE = re.compile(r"[a-z0-9:._-]{1,200}")
_MOST = 64
# A scorer has kilobytes: an envelope is held in memory several times over.
_PAYLOAD_LIMIT = 16 * 2**20


class _One(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    key: str
    signature: str

    def __post_init__(self) -> None:
        if re.fullmatch("[0-9a-f]{16}", self.key) is None:
            raise ValueError("a key id is 16 hexadecimal digits")
        if re.fullmatch("[A-Za-z0-9+/]{86}==", self.signature) is None:
            raise ValueError("a signature is 64 bytes in base64")


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: str
    version: int
    signatures: list[_One]


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    format: str
    version: int
    purpose: str
    payload: str
    signatures: list[_One]


def scorer_purpose(bundle_id: str) -> str:
    """What a site's scorer is signed for: the bundle of this id, and no other."""
    return f"site-scorer:{bundle_id}"


def signed_bytes(purpose: str, payload: bytes) -> bytes:
    """What a signature is over.

    Args:
        purpose: 1 to 200 characters of a-z, 0-9, `:`, `.`, `_` and `-`, so that nothing else comes to the same bytes.
        payload: Any bytes.

    Raises:
        ValueError: The purpose is something else.
    """
    if _PURPOSE.fullmatch(purpose) is None:
        raise ValueError(f"a purpose is 1 to 200 of a-z, 0-9 and :._-, got {purpose!r}")
    return b"".join((_PREFIX, purpose.encode(), b"\0", payload))


def sign(private: PrivateKey, purpose: str, payload: bytes, others: bytes | str | None = None) -> str:
    """Sign a payload.

    Args:
        private: With this key.
        purpose: What for; whoever checks has to say the same.
        payload: What to sign.
        others: Signatures that are there already and stay, but for one of the same key, which is replaced.

    Returns:
        The file of signatures, as text.

    Raises:
        BundleRefused: `others` is no file of signatures, or full.
    """
    key = private.public.id
    kept = [] if others is None else [one for one in _read(others, "the old signatures") if one.key != key]
    if len(kept) >= _MOST:
        raise BundleRefused(f"there are {_MOST} signatures already; remove the file and sign again")
    made = base64.b64encode(private.sign(signed_bytes(purpose, payload))).decode()
    document = _Document(format=_FORMAT, version=VERSION, signatures=[*kept, _One(key=key, signature=made)])
    return json.dumps(msgspec.to_builtins(document), indent=2) + "\n"


def check(
    trusted: Iterable[PublicKey], purpose: str, payload: bytes, signatures: bytes | str, what: str = "the signature"
) -> tuple[PublicKey, ...]:
    """Check that one of the trusted keys has signed a payload; keys that are not trusted are passed over.

    Args:
        trusted: Whose word counts.
        purpose: What the signature has to be for.
        payload: The very bytes that are going to be used.
        signatures: The file of signatures.
        what: What that file is called in messages.

    Returns:
        Those of the trusted keys that signed; at least one.

    Raises:
        BundleRefused: None did, the signature of one that is trusted is wrong, or it is no file of signatures.
        MissingExtra: `cryptography` is not installed.
    """
    keys, found = tuple(trusted), _read(signatures, what)
    return _check(keys, signed_bytes(purpose, payload), found, what)


def claimed(signatures: bytes | str, what: str = "the signature") -> list[str]:
    """Ids of the keys that a file of signatures names. Nothing is checked.

    Raises:
        BundleRefused: It is no file of signatures.
    """
    return [one.key for one in _read(signatures, what)]


@dataclass(frozen=True, slots=True)
class Signed:
    """A payload with its signature in one file, made by `seal`; what `open` gives back was checked.

    Attributes:
        purpose: What it was signed for.
        payload: What was signed.
        signers: Those of the trusted keys that signed.
    """

    purpose: str
    payload: bytes
    signers: tuple[PublicKey, ...]

    @staticmethod
    def seal(private: PrivateKey, purpose: str, payload: bytes) -> str:
        """Put a payload and a signature over it into one text.

        Raises:
            ValueError: The payload is larger than 16 MiB, or the purpose is none.
        """
        if len(payload) > _PAYLOAD_LIMIT:
            raise ValueError(f"a payload has up to {_PAYLOAD_LIMIT} bytes, got {len(payload)}")
        made = base64.b64encode(private.sign(signed_bytes(purpose, payload))).decode()
        envelope = _Envelope(
            format=_FORMAT,
            version=VERSION,
            purpose=purpose,
            payload=base64.b64encode(payload).decode(),
            signatures=[_One(key=private.public.id, signature=made)],
        )
        return json.dumps(msgspec.to_builtins(envelope), indent=2) + "\n"

    @classmethod
    def open(
        cls, trusted: Iterable[PublicKey], purpose: str, text: bytes | str, what: str = "the signed file"
    ) -> Signed:
        """Check what `seal` made, and only then hand the payload out.

        Args:
            trusted: Whose word counts.
            purpose: What it has to be signed for, whatever it says itself.
            text: What `seal` made.
            what: What the file is called in messages.

        Raises:
            BundleRefused: As of `check`.
            MissingExtra: `cryptography` is not installed.
        """
        document = _parse(text, 2 * _PAYLOAD_LIMIT, what)
        envelope = _convert(document, _Envelope, what)
        try:
            payload = base64.b64decode(envelope.payload, validate=True)
        except ValueError:
            raise BundleRefused(f"{what}: its payload is no base64; copy it again") from None
        if envelope.purpose != purpose:
            raise BundleRefused(f"{what}: was signed for {printable(envelope.purpose)[:80]!r}, not for {purpose!r}")
        signers = _check(tuple(trusted), signed_bytes(purpose, payload), envelope.signatures, what)
        return cls(purpose, payload, signers)


def _check(
    trusted: Sequence[PublicKey], signed: bytes, signatures: Sequence[_One], what: str
) -> tuple[PublicKey, ...]:
    signers: list[PublicKey] = []
    for one in signatures:
        # Ids are short: of two keys with one id either may have signed.
        named = [key for key in trusted if key.id == one.key]
        made = base64.b64decode(one.signature)
        good = [key for key in named if key.verifies(made, signed)]
        if named and not good:
            raise BundleRefused(
                f"{what}: the signature of key {one.key} is wrong: what it signed was changed, or is something else; "
                "do not use it, get it again from whoever made it"
            )
        signers += good
    if not signers:
        ids = ", ".join(one.key for one in signatures[:4]) or "nobody"
        raise BundleRefused(
            f"{what}: signed by {ids}, and none of them is trusted here "
            f"({', '.join(key.id for key in trusted[:4])} would be); trust that key, or do not use it"
        )
    return tuple(signers)


def _read(signatures: bytes | str, what: str) -> list[_One]:
    found = _convert(_parse(signatures, SIGNATURES_LIMIT, what), _Document, what).signatures
    if len(found) > _MOST:
        raise BundleRefused(f"{what}: has {len(found)} signatures, more than the {_MOST} allowed")
    if len({one.key for one in found}) != len(found):
        raise BundleRefused(f"{what}: names a key twice; remove one of its signatures")
    return found


def _parse(text: bytes | str, limit: int, what: str) -> dict[str, object]:
    if len(text) > limit:
        raise BundleRefused(f"{what}: has {len(text)} bytes, more than the {limit} allowed")
    try:
        document = parse_object(text)
    except ValueError as error:
        raise BundleRefused(f"{what}: is no signature ({printable(str(error))}); copy it again") from None
    if document.get("format") != _FORMAT:
        raise BundleRefused(f"{what}: is no signature (its format is not {_FORMAT}); copy it again")
    if type(version := document.get("version")) is not int or version != VERSION:
        raise BundleRefused(
            f"{what}: is of version {printable(str(version)[:20])}, this headhunt-edge reads {VERSION}; upgrade it"
        )
    return document


def _convert(document: dict[str, object], kind: type[_Kind], what: str) -> _Kind:
    try:
        return msgspec.convert(document, kind)
    except (msgspec.ValidationError, ValueError) as error:
        raise BundleRefused(f"{what}: is no signature ({printable(str(error))}); copy it again") from None
