"""Tokens: who may read, and who may act. Only their hashes are kept, in a file that its owner alone can read.

A token holds 256 random bits. Nobody can try so many, so a fast hash without salt gives nothing away; a slow one
would only let strangers make this computer work (docs/adr/0023).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge_runtime.errors import OutputFailed, UsageError
from edge_runtime.files import FileStamp, file_stamp, printable, shown_path, state_folder, write_private
from edge_runtime.server.shapes import Role
from edge_runtime.stream.clock import rfc3339

PREFIX = "hh_"
#: Tokens that a file may hold.
MOST = 100
_BITS = 256
_FILE = "tokens.json"


class Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept of a token.

    Attributes:
        name: What its owner calls it.
        role: What it may do.
        sha256: Of the token, in hexadecimal.
        made: When, in UTC.
    """

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    role: Role
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    made: str


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: Literal[1]
    tokens: Annotated[list[Kept], Meta(max_length=MOST)]


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who shows a token: its name and role, and the hash that tells it from one of the same name later."""

    name: str
    role: Role
    sha256: str


def tokens_path() -> Path:
    """Where tokens are kept: in the state folder."""
    return state_folder() / _FILE


def hashed(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def read_tokens(path: Path) -> list[Kept]:
    """The tokens of a file; none where there is no file.

    Raises:
        UsageError: It cannot be read, others than its owner can, or it holds something else.
    """
    shown = shown_path(path)
    try:
        with path.open("rb") as file:
            if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077:
                raise UsageError(f"{shown}: others than its owner can read it; run chmod 600 {shown}")
            kept = msgspec.json.decode(file.read(2**20), type=_File)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"{shown}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UsageError(f"{shown}: is no file of tokens ({error}); move it away and make new ones") from None
    return kept.tokens


def add_token(
    path: Path, role: Role, name: str | None, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> str:
    """Make a token, keep its hash, and return it: nobody can show it again.

    Args:
        path: The file.
        role: What it may do.
        name: What to call it; by default its role and a number.
        now: The time.

    Raises:
        UsageError: There is one of that name, or there are too many.
        OutputFailed: The file cannot be written.
    """
    kept = read_tokens(path)
    names = {one.name for one in kept}
    if name is None:
        name = next(free for number in range(1, MOST + 2) if (free := f"{role}-{number}") not in names)
    if not (1 <= len(name) <= 64 and name.isprintable() and name.strip() == name):
        raise UsageError(f"{printable(name[:80])!r}: a token's name is 1 to 64 printable characters")
    if name in names:
        raise UsageError(f"there is a token called {name}; choose another name, or hh-edge token remove {name}")
    if len(kept) >= MOST:
        raise UsageError(f"there are {MOST} tokens; hh-edge token list shows them, hh-edge token remove deletes one")
    token = PREFIX + secrets.token_urlsafe(_BITS // 8)
    _write(path, [*kept, Kept(name=name, role=role, sha256=hashed(token), made=rfc3339(now()))])
    return token


def remove_token(path: Path, name: str) -> None:
    """Delete a token; whoever has it is refused from then on.

    Raises:
        UsageError: There is none of that name.
        OutputFailed: The file cannot be written.
    """
    kept = read_tokens(path)
    left = [one for one in kept if one.name != name]
    if len(left) == len(kept):
        known = ", ".join(one.name for one in kept) or "none"
        raise UsageError(f"there is no token called {printable(name)}; there are {known}")
    _write(path, left)


def _write(path: Path, tokens: Sequence[Kept]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise OutputFailed(f"{shown_path(path.parent)}: cannot be made ({error.strerror})") from error
    write_private(path, msgspec.json.format(msgspec.json.encode(_File(version=1, tokens=list(tokens)))))


class Tokens:
    """The tokens of a file, read again when it changes. Any thread may call anything.

    A file that cannot be read any more lets nobody in.

    Args:
        path: The file.
        trouble: Told once what is wrong with it.
    """

    def __init__(self, path: Path, trouble: Callable[[str], None] = lambda _: None) -> None:
        self._path, self._trouble = path, trouble
        self._lock = threading.Lock()
        self._stamp: FileStamp | None = None
        self._kept: tuple[Kept, ...] = ()
        self._known: frozenset[str] = frozenset()

    def bearer(self, token: str) -> Bearer | None:
        """Who shows a token; None where it is none. How long that takes says nothing of the tokens."""
        digest, found = hashed(token), None
        for kept in self._current():
            if hmac.compare_digest(kept.sha256, digest):
                found = kept
        return None if found is None else Bearer(found.name, found.role, found.sha256)

    def holds(self, bearer: Bearer) -> bool:
        """Whether a token is still kept."""
        self._current()
        return bearer.sha256 in self._known

    def __len__(self) -> int:
        return len(self._current())

    def _current(self) -> tuple[Kept, ...]:
        stamp = file_stamp(self._path)
        with self._lock:
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._kept = tuple(read_tokens(self._path))
                except UsageError as error:
                    self._kept = ()
                    self._trouble(f"{error}; nobody is let in by a token")
                self._known = frozenset(kept.sha256 for kept in self._kept)
            return self._kept
