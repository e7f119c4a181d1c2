"""Sessions of browsers: a cookie in a token's place, so that no script of a page can read what lets it in."""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge_runtime.errors import OutputFailed
from edge_runtime.files import shown_path, write_private
from edge_runtime.server.shapes import Role
from edge_runtime.server.tokens import Bearer, Tokens

log = logging.getLogger(__name__)

#: How long a browser stays signed in.
LASTS_S = 30 * 86_400
_MOST = 200


class _Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A session: the hash of its cookie, and of the token that it stands for and ends with."""

    cookie: str
    token: str
    name: str
    role: Role
    until: float


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: Literal[1]
    sessions: Annotated[list[_Kept], Meta(max_length=_MOST)]


class Sessions:
    """Those that are open. They outlive a restart, in a file that holds hashes. Any thread may call anything.

    Args:
        path: The file; None: they end with the process.
        tokens: What they stand for.
        now: Seconds since 1970.
    """

    def __init__(self, path: Path | None, tokens: Tokens, now: Callable[[], float] = time.time) -> None:
        self._path, self._tokens, self._now = path, tokens, now
        # Around the sessions, and around changing and writing them: who asks for one waits for no disk.
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._open: OrderedDict[str, _Kept] = OrderedDict()
        if path is not None:
            try:
                kept = msgspec.json.decode(path.read_bytes(), type=_File).sessions
            except FileNotFoundError:
                kept = []
            except (OSError, ValueError) as error:
                log.warning("%s: cannot be read (%s); browsers have to sign in again", shown_path(path), error)
                kept = []
            self._open.update((one.cookie, one) for one in kept)

    def open(self, bearer: Bearer) -> str:
        """Begin a session for who shows a token; returns its cookie."""
        cookie = secrets.token_urlsafe(32)
        digest = _hashed(cookie)
        with self._writing:
            with self._lock:
                self._open[digest] = _Kept(
                    cookie=digest,
                    token=bearer.sha256,
                    name=bearer.name,
                    role=bearer.role,
                    until=self._now() + LASTS_S,
                )
                while len(self._open) > _MOST:
                    self._open.popitem(last=False)
                kept = list(self._open.values())
            self._keep(kept)
        return cookie

    def bearer(self, cookie: str) -> Bearer | None:
        """Who shows a cookie; None where its session is over."""
        with self._lock:
            # A hash is looked up: how long that takes says nothing of the cookie.
            kept = self._open.get(_hashed(cookie))
        if kept is None or not 0 < kept.until - self._now() <= LASTS_S:
            return None
        bearer = Bearer(kept.name, kept.role, kept.token)
        return bearer if self._tokens.holds(bearer) else None

    def close(self, cookie: str) -> None:
        """End a session."""
        with self._writing:
            with self._lock:
                if self._open.pop(_hashed(cookie), None) is None:
                    return
                kept = list(self._open.values())
            self._keep(kept)

    def _keep(self, sessions: list[_Kept]) -> None:
        if self._path is None:
            return
        now = self._now()
        kept = [one for one in sessions if now < one.until]
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private(self._path, msgspec.json.encode(_File(version=1, sessions=kept)))
        except (OSError, OutputFailed) as error:
            log.warning("sessions end with this run: %s", error)


def _hashed(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "surrogatepass")).hexdigest()
