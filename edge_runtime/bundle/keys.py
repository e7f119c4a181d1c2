"""Keys that sign bundles and scorers: ed25519, made, written, read, and shown as one line that people can paste.

A public key is checked and compared here without the `cryptography` package; only what signs or checks imports it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_runtime.errors import MissingExtra, OutputFailed, UsageError
from edge_runtime.files import make_folder, printable, shown_path

#: What the public half is called beside its private key.
PUBLIC_SUFFIX = ".pub"
#: The key of this device, in its state folder.
DEVICE_KEY = "device.key"

_LINE = re.compile(r"([0-9a-f]{16})[ \t]+([A-Za-z0-9+/]{43}=)(?:[ \t]+(.*))?")
_BARE = re.compile(r"[A-Za-z0-9+/]{43}=")
_FILE_LIMIT = 64 * 1024
_COMMENT_LIMIT = 200
# Points of small order, without the sign of x: with one of them as the key anybody can sign. All zeros, which is what
# a placeholder decodes to, is one.
_P = 2**255 - 19
_EIGHTH = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_WEAK = frozenset({0, 1, _P - 1, _P, _P + 1, _EIGHTH, _P - _EIGHTH})


def load_ed25519() -> Any:
    """The module of `cryptography` that signs and checks.

    Raises:
        MissingExtra: It is not installed; the message holds the pip command.
    """
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise MissingExtra('cryptography is not installed; run: pip install "headhunt-edge[sign]"') from error
    return ed25519


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Who may have signed. Keys are equal where their bytes are, whatever the comment.

    Attributes:
        raw: 32 bytes, as of RFC 8032.
        comment: Whose it is, in words; it proves nothing.
    """

    raw: bytes
    comment: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if len(self.raw) != 32:
            raise ValueError(f"a public key has 32 bytes, got {len(self.raw)}")
        if int.from_bytes(self.raw, "little") & (2**255 - 1) in _WEAK:
            raise ValueError("the key is one with which anybody can sign; make another with hh-offline keygen")
        if not self.comment.isprintable() or len(self.comment) > _COMMENT_LIMIT:
            raise ValueError(f"a key's comment is one line of up to {_COMMENT_LIMIT} printable characters")

    @property
    def id(self) -> str:
        """The first 16 hexadecimal digits of the sha256 of its bytes: a name for people, never a proof."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    @property
    def line(self) -> str:
        """Key id, base64 and comment: what `parse` reads."""
        return f"{self.id} {base64.b64encode(self.raw).decode()} {self.comment}".rstrip()

    @classmethod
    def parse(cls, line: str) -> PublicKey:
        """Read one line.

        Raises:
            ValueError: It is no such line, or its id is not that of the key.
        """
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise ValueError("a public key is a line of 16 hexadecimal digits, 44 characters of base64 and a comment")
        raw = base64.b64decode(found[2])
        if base64.b64encode(raw).decode() != found[2]:
            raise ValueError("its base64 is damaged; copy the line again")
        key = cls(raw, (found[3] or "").strip())
        if key.id != found[1]:
            raise ValueError(f"the key's id is {key.id}, the line says {found[1]}; copy the line again")
        return key

    def verifies(self, signature: bytes, signed: bytes) -> bool:
        """Whether a signature over these bytes was made with the private half.

        Raises:
            MissingExtra: `cryptography` is not installed.
        """
        ed25519 = load_ed25519()
        from cryptography.exceptions import InvalidSignature

        try:
            ed25519.Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, signed)
        except (InvalidSignature, ValueError):
            return False
        return True


class PrivateKey:
    """What signs. No repr shows it.

    Args:
        seed: 32 bytes, as of RFC 8032.
        comment: Goes into its public half.
    """

    def __init__(self, seed: bytes, comment: str = "") -> None:
        self._key = load_ed25519().Ed25519PrivateKey.from_private_bytes(seed)
        self.public = PublicKey(self._key.public_key().public_bytes_raw(), comment)

    @classmethod
    def generate(cls, comment: str = "") -> PrivateKey:
        """Make a key that nobody has."""
        return cls(secrets.token_bytes(32), comment)

    def __repr__(self) -> str:
        return f"PrivateKey({self.public.id})"

    def sign(self, data: bytes) -> bytes:
        """64 bytes: a signature over exactly these. `signature.sign` says what for, too, and is what to use."""
        return bytes(self._key.sign(data))

    def _pem(self) -> bytes:
        from cryptography.hazmat.primitives import serialization as forms

        return bytes(self._key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption()))


def write_key_pair(path: Path, key: PrivateKey) -> Path:
    """Write a private key as PEM, for its owner's eyes, and its public half beside it as a line of text.

    Args:
        path: Of the private key; nothing may be there.
        key: What to write.

    Returns:
        Where the public half is.

    Raises:
        UsageError: A file is there already; keys are never overwritten.
        OutputFailed: They cannot be written.
    """
    public = path.with_name(path.name + PUBLIC_SUFFIX)
    for there in (path, public):
        if os.path.lexists(there):
            raise UsageError(
                f"{shown_path(there)}: is there already; a key is never overwritten, choose another name"
            )
    # The public half first: a private key whose file is there is whole.
    _write_new(public, f"{key.public.line}\n".encode(), 0o644)
    try:
        _write_new(path, key._pem(), 0o600)
    except BaseException:
        with contextlib.suppress(OSError):
            public.unlink()
        raise
    return public


def read_private(path: Path) -> PrivateKey:
    """Read a private key that `write_key_pair` wrote; its comment comes from the public half, where that is there.

    Raises:
        UsageError: It cannot be read, is no ed25519 key, or others than its owner may read it.
        MissingExtra: `cryptography` is not installed.
    """
    ed25519, shown = load_ed25519(), shown_path(path)
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _read(path, private=True)
    try:
        key = load_pem_private_key(data, None)
    except TypeError:
        raise UsageError(f"{shown}: is encrypted; decrypt it with openssl pkey, or make one with keygen") from None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise UsageError(f"{shown}: holds no ed25519 private key in PEM; make one with hh-offline keygen")
    read = PrivateKey(key.private_bytes_raw())
    with contextlib.suppress(UsageError):
        for public in _read_public(path.with_name(path.name + PUBLIC_SUFFIX)):
            if public == read.public:
                read.public = public
    return read


def device_key(folder: Path) -> PrivateKey:
    """The key of this device, made where there is none yet. Of several that ask at once all get the same.

    Args:
        folder: What this program alone writes to, such as its state folder.

    Raises:
        OutputFailed: It cannot be written.
        UsageError: What is there is no key, or others may read it.
        MissingExtra: `cryptography` is not installed.
    """
    path = folder / DEVICE_KEY
    if not path.exists():
        make_folder(folder)
        key = PrivateKey.generate("device")
        with contextlib.suppress(FileExistsError):
            _link_new(path, key._pem(), 0o600)
    return read_private(path)


def is_key_line(text: str) -> bool:
    """Whether a text is a public key itself, or meant as one, and not the name of a file."""
    return _LINE.fullmatch(text.strip()) is not None or _BARE.search(text) is not None


def trusted_keys(given: Iterable[str | os.PathLike[str] | PublicKey]) -> tuple[PublicKey, ...]:
    """Public keys, as people name them.

    Args:
        given: Each a key, its line, or a file with such lines; lines that begin with `#` are passed over.

    Returns:
        Each key once.

    Raises:
        UsageError: One cannot be read, or none is there: nothing would be trusted.
    """
    keys: dict[bytes, PublicKey] = {}
    for one in given:
        for key in [one] if isinstance(one, PublicKey) else _named(one):
            keys.setdefault(key.raw, key)
    if not keys:
        raise UsageError("no trusted key is named; name one, or leave the option out and trust every bundle")
    return tuple(keys.values())


def _named(given: str | os.PathLike[str]) -> list[PublicKey]:
    text = os.fspath(given)
    if not is_key_line(text):
        return _read_public(Path(text))
    try:
        return [PublicKey.parse(text)]
    except ValueError as error:
        raise UsageError(f"trusted key {printable(text[:24])}…: {error}") from None


def _read_public(path: Path) -> list[PublicKey]:
    data, keys = _read(path), []
    if b"PRIVATE KEY" in data:
        raise UsageError(
            f"{shown_path(path)}: is a private key, which belongs on no other machine; name the file {path.name}.pub"
        )
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            keys.append(PublicKey.parse(line))
        except ValueError as error:
            raise UsageError(f"{shown_path(path)}: line {number}: {error}") from None
    if not keys:
        raise UsageError(f"{shown_path(path)}: holds no public key; name the .pub file of hh-offline keygen")
    return keys


def _read(path: Path, private: bool = False) -> bytes:
    """A small regular file; one that is private is refused where others than its owner may read it."""
    shown = shown_path(path)
    try:
        # A pipe in its place is not waited for.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UsageError(f"{shown}: is no file; name a key file")
            if private and os.name == "posix" and status.st_mode & 0o077:
                raise UsageError(f"{shown}: others than its owner can read this private key; run chmod 600 on it")
            data = file.read(_FILE_LIMIT + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"{shown}: cannot be read ({reason}); name a key, or a file with keys") from None
    if len(data) > _FILE_LIMIT:
        raise UsageError(f"{shown}: has more than {_FILE_LIMIT} bytes; name a key file")
    return data


def _write_new(path: Path, data: bytes, mode: int) -> None:
    try:
        _link_new(path, data, mode)
    except FileExistsError:
        raise UsageError(
            f"{shown_path(path)}: is there already; a key is never overwritten, choose another name"
        ) from None


def _link_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file whole, in one step, and only where none is; FileExistsError otherwise."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError as error:
        raise OutputFailed(
            f"{shown_path(path)}: cannot be written ({error.strerror or error}); choose another place"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
