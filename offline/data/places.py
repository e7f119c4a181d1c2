"""Files on anything that fsspec reaches, as s3://, beside local ones, which never pass through it.

`place` turns what a person wrote into a path. A remote one is a `Remote`: a path by its parts, a URL as text. What
reads and writes them here says in one line what went wrong, and gives up after a while.
"""

from __future__ import annotations

import ftplib
import io
import os
import re
from collections.abc import Callable
from pathlib import Path, PosixPath
from typing import IO, Any, NamedTuple
from urllib.parse import unquote

from edge_runtime.errors import (
    HeadHuntError,
    MissingExtra,
    OutputFailed,
    SourceUnavailable,
    SourceUnreachable,
    UsageError,
    one_line,
)
from edge_runtime.files import printable, write_atomic

_URL = re.compile(r"([a-z][a-z0-9+.-]+)://(.*)", re.DOTALL)
# After `user:`, where that is no host and its port; also one with a `/` in it, which would be read as a path.
_PASSWORD = re.compile(r"(?!\[)[^/@:]*:(?!\d*(/|$))[^@]*@")
# Stores where an object appears when its last byte has arrived. Elsewhere a file gets its name at the end.
_OBJECTS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oci", "oss", "r2"}
# Where nothing takes the name of a file that is there: HDFS says nothing of it, SMB fails.
_NOTHING_OVER = {"hdfs", "webhdfs", "smb"}
# What fsspec's file systems say of a content, the surest first: digests, then times. None that a replaced content may
# keep, as the time when a name was made; nor the minute, which is all that an FTP server without MLSD says.
_TAGS = (
    *("ETag", "etag", "md5Hash", "content_md5", "Content-MD5", "Digest"),
    *("mtime", "LastModified", "Last-Modified", "last_modified", "modified", "modificationTime", "modify"),
)
_MINUTE = re.compile(r"[A-Za-z]{3} +\d+ +[\d:]+")
_WEB = {"http", "https"}
_CONNECT_S, _READ_S, _TRIES = 10, 60, 3
_PIECE = 4 * 2**20
# What a web server says of who asks, or of now.
_NOT_OF_THE_FILE = {401, 403, 407, 408, 429}
# What an FTP server answers, as of RFC 959: it has no word of its own for a file that is not there.
_NOT_THERE, _REFUSED = "550", {"530", "532", "550", "553"}


class Remote(PosixPath):
    """A file or folder that is not on this machine. Its text is its URL."""

    def __str__(self) -> str:
        scheme, _, rest = super().__str__().partition(":/")
        return f"{scheme}://{rest}"

    @property
    def scheme(self) -> str:
        """What stands before `://`."""
        return str(self).partition("://")[0]

    def absolute(self) -> Remote:
        """It is the same from everywhere."""
        return self


class Stamp(NamedTuple):
    """What tells one content of a remote file from another.

    Attributes:
        size: Bytes.
        tag: As the store gives it, an ETag or a time. Empty where it gives none: then nobody can tell whether the
            content was replaced.
    """

    size: int
    tag: str


def place(text: str) -> Path:
    """Give the path of what a person wrote: a local path, a `file://` URL, or a URL that fsspec knows.

    Raises:
        UsageError: A file:// URL names another machine, or a URL holds a password.
    """
    found = _URL.fullmatch(text)
    if found is None:
        return Path(text)
    scheme, rest = found[1], found[2]
    if scheme in {"file", "local"}:
        if not rest.startswith("/"):
            raise UsageError(f"{printable(text)}: names no file of this machine; write file:///folder/file")
        return Path(unquote(rest))
    if _PASSWORD.match(rest):
        way = f"FSSPEC_{scheme.upper()}_PASSWORD"
        if scheme in _WEB:
            way = 'FSSPEC_HTTP=\'{"headers": {"Authorization": "…"}}\''
        raise UsageError(
            f"{scheme}://…@{printable(rest.rpartition('@')[2])}: a password in an address would stand in every table "
            f"and message; leave it out, and set {way}"
        )
    return Remote(text)


def user_folder(name: str) -> Path:
    """A folder of this user's for what can be had again, as XDG says; not made."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "headhunt-vad" / name


def stamp(path: Remote) -> Stamp:
    """Look at a remote file. SourceUnavailable where there is none or it cannot be looked at."""
    try:
        system, name = _reach(path)
        found = system.info(name)
    except Exception as error:
        raise _unread(path, error) from error
    if found.get("size") is None:
        raise SourceUnavailable(f"{path}: its server does not say how long it is; copy it to this machine")
    tags = (str(found[key]) for key in _TAGS if found.get(key))
    return Stamp(int(found["size"]), next((tag for tag in tags if not _MINUTE.fullmatch(tag)), ""))


def download(path: Remote, target: IO[bytes], expected: Stamp) -> None:
    """Write a remote file's content into an open local one.

    Raises:
        SourceUnavailable: It cannot be read, or fewer or more bytes arrived than there are.
        OSError: The local file cannot be written.
    """
    given = 0
    try:
        system, name = _reach(path)
        # Many a web server gives no pieces, and all of them a file from its beginning on.
        block = 0 if path.scheme in _WEB else _PIECE
        source = system.open(name, "rb", cache_type="readahead", block_size=block)
    except Exception as error:
        raise _unread(path, error) from error
    with source:
        while True:
            try:
                piece = source.read(_PIECE)
            except Exception as error:
                raise _unread(path, error) from error
            if not piece:
                break
            given += len(piece)
            if given > expected.size:
                # Nobody has made room for it.
                break
            target.write(piece)
    if given != expected.size:
        raise SourceUnavailable(
            f"{path}: {'more than' if given > expected.size else f'{given} of'} its {expected.size} bytes arrived; "
            "run it again, or copy it anew"
        )


def read_bytes(path: Remote) -> bytes | None:
    """Read a whole remote file; None where there is none.

    Raises:
        SourceUnavailable: It cannot be read.
    """
    try:
        system, name = _reach(path)
        return bytes(system.cat_file(name))
    except FileNotFoundError as error:
        if _said_by_ftp(error.__cause__) in {None, _NOT_THERE}:
            return None
        # To fsspec whatever an FTP server refuses is not there.
        raise _unread(path, error.__cause__ or error) from error
    except Exception as error:
        raise _unread(path, error) from error


def write_file(path: Path, write: bytes | Callable[[IO[bytes]], object]) -> None:
    """Write a file whole or not at all, wherever it is.

    Raises:
        OutputFailed: It cannot be written.
    """
    if not isinstance(path, Remote):
        write_atomic(path, write)
        return
    if not isinstance(write, bytes):
        content = io.BytesIO()
        write(content)
        write = content.getvalue()
    try:
        system, name = _reach(path)
        if path.scheme in _OBJECTS:
            system.pipe_file(name, write)
        else:
            folder, _, last = name.rpartition("/")
            system.makedirs(folder or "/", exist_ok=True)
            unfinished = f"{folder}/.{last}.unfinished"
            system.pipe_file(unfinished, write)
            if path.scheme in _NOTHING_OVER and system.exists(name):
                system.rm_file(name)
            system.mv(unfinished, name)
    except Exception as error:
        raise OutputFailed(_trouble(path, error, "be written")) from error


def remove(path: Path) -> None:
    """Remove a file, if it is there.

    Raises:
        OutputFailed: It is there and cannot be removed.
    """
    if not isinstance(path, Remote):
        path.unlink(missing_ok=True)
        return
    try:
        system, name = _reach(path)
        if path.scheme == "ftp":
            # It would say of a file that is not there and of one that it may not remove the same.
            system.info(name)
        system.rm_file(name)
    except FileNotFoundError:
        return
    except Exception as error:
        raise OutputFailed(_trouble(path, error, "be removed")) from error


def _reach(path: Remote) -> tuple[Any, str]:
    """Give the file system of fsspec that an address leads to, with deadlines, and what that calls the file.

    Raises:
        MissingExtra: What reaches it is not installed.
        UsageError: Nobody knows such addresses, or there is none like it.
    """
    url = str(path)
    try:
        import fsspec
        from fsspec.config import conf

        kind = fsspec.get_filesystem_class(path.scheme)
    except ImportError as error:
        raise MissingExtra(
            f"{path.scheme}:// needs a package that is not installed ({one_line(error)}); for s3:// run: pip install "
            '"headhunt-vad[ray]"'
        ) from error
    except ValueError as error:
        raise UsageError(
            f"{path}: {path.scheme}:// is not known ({one_line(error)}); use s3:// or a local path"
        ) from error
    try:
        # As url_to_fs does, which takes a name with `::` in it for two addresses.
        options = kind._get_kwargs_from_urls(url)
        name = str(kind._strip_protocol(url))
    except ValueError as error:
        raise UsageError(f"{path}: no such address ({one_line(error)}); check host and port") from error
    known = (kind.protocol,) if isinstance(kind.protocol, str) else kind.protocol
    told = {key: value for scheme in known for key, value in conf.get(scheme, {}).items()}
    for key, value in _deadlines(path.scheme).items():
        # What somebody told fsspec holds.
        options[key] = {**value, **told.get(key, {})} if isinstance(value, dict) else told.get(key, value)
    system = kind(**options)
    # Others change what is there. Not every file system can be told to remember no listing.
    system.invalidate_cache()
    return system, name


def _deadlines(scheme: str) -> dict[str, Any]:
    if scheme in {"s3", "s3a"}:
        retries = {"max_attempts": _TRIES}
        return {"config_kwargs": {"connect_timeout": _CONNECT_S, "read_timeout": _READ_S, "retries": retries}}
    if scheme in _WEB:
        from aiohttp import ClientTimeout

        # For each piece that arrives: a video of gigabytes may take its time.
        return {"client_kwargs": {"timeout": ClientTimeout(None, sock_connect=_CONNECT_S, sock_read=_READ_S)}}
    if scheme == "ftp":
        return {"timeout": _READ_S}
    if scheme in {"sftp", "ssh"}:
        return dict.fromkeys(("timeout", "banner_timeout", "auth_timeout"), _CONNECT_S)
    return {}


def _unread(path: Remote, error: BaseException) -> SourceUnavailable:
    """What a file that was not read is: one that cannot be, or a good one behind a network that fails."""
    if path.scheme in _WEB and isinstance(error, FileNotFoundError):
        # To fsspec nothing is there whatever a web server answers, and also where none does.
        error = error.__cause__ or error
    said = getattr(error, "status", None)
    if isinstance(said, int):
        of_the_file = 400 <= said < 500 and said not in _NOT_OF_THE_FILE
    else:
        of_the_file = isinstance(error, FileNotFoundError) or _said_by_ftp(error) == _NOT_THERE
    return (SourceUnavailable if of_the_file else SourceUnreachable)(_trouble(path, error, "be read"))


def _trouble(path: Remote, error: BaseException, what: str) -> str:
    if isinstance(error, HeadHuntError):
        raise error
    if isinstance(error, PermissionError) or _said_by_ftp(error) in _REFUSED:
        return f"{path}: cannot {what} (access denied: {one_line(error)}); check the credentials and what they allow"
    if isinstance(error, FileNotFoundError):
        return f"{path}: no such file"
    return (
        f"{path}: cannot {what} ({type(error).__name__}: {one_line(error)[:200]}); check the address and the network"
    )


def _said_by_ftp(error: BaseException | None) -> str | None:
    """The code of what an FTP server answered; None where an error is no answer."""
    return str(error)[:3] if isinstance(error, ftplib.Error) else None
