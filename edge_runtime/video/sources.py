"""Reads what an operator writes as a source: a file, a camera's URL, a device's number, or a file that is played over
and over as if it were a camera. Opens none of them.

A password is in `Source.target` alone; logs, records and errors use `Source.shown`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, unquote, urlsplit

from edge_runtime.errors import SourceUnavailable, UsageError
from edge_runtime.files import printable, shown_path

SourceKind = Literal["file", "rtsp", "http", "device", "loop"]

_KIND_OF_SCHEME: dict[str, SourceKind] = {"rtsp": "rtsp", "rtsps": "rtsp", "http": "http", "https": "http"}
_NAMED = re.compile(r"([A-Za-z0-9_.-]+)=(.*)", re.DOTALL)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_DEVICE = re.compile(r"(?:/dev/video)?([0-9]{1,4})", re.ASCII)
_HIDDEN = "***"
_LOOP = "loop:"

# Parameters of a URL that are no secret. All others are hidden: makers have more names for a password (usr, pwd,
# loginpas, sig, …) than a list of forbidden ones could hold.
_HARMLESS = re.compile(
    "camera|channel|chn|codec|compression|fps|height|inst|profile|proto|quality|rate|real_stream|resolution|stream|"
    "streamtype|subtype|transport|transportmode|type|unicast|video|videocodec|width",
    re.IGNORECASE,
)
# Some recorders take the credentials inside the path: /user=admin&password=secret&channel=1&stream=0.sdp
_PATH_SETTING = re.compile(r"(?<![A-Za-z0-9])([A-Za-z][A-Za-z0-9]*)=([^/&;]*?)(?=_[A-Za-z]+=|[/&;]|$)")


@dataclass(frozen=True, slots=True)
class Source:
    """One file or camera.

    Attributes:
        name: What records and logs call it; printable and not empty.
        kind: How it is opened.
        target: What is opened: a path, a URL with its credentials, or a device's number in digits.
        shown: The same without user, password and query values that may be secret. Only this form may be logged,
            recorded or put into an error.

    Raises:
        UsageError: The name or target is empty, the name is not printable, or a device is no number.
    """

    name: str
    kind: SourceKind
    target: str = field(repr=False)
    shown: str

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable():
            raise UsageError(f"a camera's name must be printable and not empty, got {self.name!a}")
        if not self.target:
            raise UsageError(f"camera {self.name}: the source is empty")
        if self.kind == "device" and not self.target.isdecimal():
            raise UsageError(f"camera {self.name}: a device is a number, got {self.target!a}")

    @property
    def live(self) -> bool:
        """Whether the source has no end: everything but a file that is read once."""
        return self.kind != "file"


def parse_source(text: str) -> Source:
    """Read `SRC` or `name=SRC`: a file, an rtsp(s):// or http(s):// URL, a device number, or `loop:` and a file.

    A name is letters, digits, `_`, `.` and `-` before the first `=`; a file whose name is the whole text, with the
    `=`, is taken as that file. Without a name a file is called by its stem, a URL by its host, a device
    `camera<N>`. A folder or file whose name is a bare number is written as `./0`, one whose name begins with
    `loop:` as `./loop:…`. Whether a file is there is checked when it is opened: of many files the others are still
    scored, and one that is played over and over may come later.

    Args:
        text: What the operator wrote.

    Returns:
        The source.

    Raises:
        UsageError: The text is no source.
    """
    name, rest = None, text
    named = _NAMED.fullmatch(text)
    if named is not None and not _is_file(text):
        name, rest = named[1], named[2]
    if not rest.strip():
        raise UsageError(f"a source is empty: {text!a}; give a file, a URL or a device number")
    if rest.startswith(_LOOP):
        return _loop_source(name, rest.removeprefix(_LOOP))
    device = _DEVICE.fullmatch(rest)
    if device is not None:
        number = str(int(device[1]))
        return Source(name or f"camera{number}", "device", number, number)
    scheme = _SCHEME.match(rest)
    if scheme is not None:
        return _url_source(name, scheme[1].lower(), rest[scheme.end() :])
    return _file_source(name, rest)


def check_file(path: Path) -> None:
    """Check that a path is a file that can be read; a decoder would only say that it failed.

    Raises:
        SourceUnavailable: It is missing, a folder, empty, not a plain file, not permitted, or its name is not UTF-8.
    """
    shown = shown_path(path)
    try:
        # OpenCV hands the path on as UTF-8, and crashes the process where that is impossible.
        str(path).encode()
    except UnicodeEncodeError:
        raise SourceUnavailable(
            f"{shown}: the name is not UTF-8, which OpenCV cannot open; rename the file"
        ) from None
    try:
        if path.is_dir():
            raise SourceUnavailable(f"{shown}: is a folder; name a video file inside it")
        if not path.exists():
            raise SourceUnavailable(f"{shown}: no such file; check the path")
        if not path.is_file():
            raise SourceUnavailable(f"{shown}: is not a plain file; copy the video to one")
        with path.open("rb") as stream:
            if not stream.read(1):
                raise SourceUnavailable(f"{shown}: the file is empty; copy or record it again")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise SourceUnavailable(f"{shown}: cannot be read ({reason}); check the path and its permissions") from None


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _file_source(name: str | None, text: str) -> Source:
    path = Path(text)
    if not _is_file(text) and re.search(r":.*@", text):
        # A camera's address with its scheme forgotten or mistyped: naming it as a file would show the password.
        label = f"{name}={_HIDDEN}" if name else _HIDDEN
        raise UsageError(f"{label}: no such file, and no URL either; write rtsp://user:password@host/path")
    # `.` has no stem; that it is a folder is told when it is opened.
    return Source(name or printable(path.stem) or "file", "file", text, shown_path(text))


def _loop_source(name: str | None, text: str) -> Source:
    if not text.strip():
        raise UsageError("loop: names no file; write loop:clip.mp4")
    if _SCHEME.match(text) is not None:
        label = f"{name}={_LOOP}{_HIDDEN}" if name else f"{_LOOP}{_HIDDEN}"
        raise UsageError(f"{label}: only a file can be played over and over; leave {_LOOP} out for a camera")
    file = _file_source(name, text)
    return Source(file.name, "loop", file.target, f"{_LOOP}{file.shown}")


def file_at(source: Source, path: str) -> Source:
    """A file that is played over and over, or is read once, at another path."""
    prefix = _LOOP if source.kind == "loop" else ""
    return Source(source.name, source.kind, path, f"{prefix}{shown_path(path)}")


def _url_source(name: str | None, scheme: str, rest: str) -> Source:
    # Until the text has been understood it may hold a password anywhere: these errors quote none of it.
    label = f"{name}={scheme}://{_HIDDEN}" if name else f"{scheme}://{_HIDDEN}"
    if scheme not in _KIND_OF_SCHEME:
        raise UsageError(f"{label}: unknown kind of source; known are rtsp, rtsps, http, https, files and devices")
    if not rest.isprintable() or any(char.isspace() for char in rest):
        raise UsageError(f"{label}: the URL holds spaces or control characters; percent-encode them")
    parts, host = _split(label, f"{scheme}://{rest}")
    if "@" in parts.path + parts.query + parts.fragment:
        # `user:pa/ss@host` reads as the host `user`: guessing would show a password as a host or a path.
        raise UsageError(f"{label}: an @ follows the host; write / ? # in a password and @ in a path percent-encoded")
    return Source(
        name or re.sub(r"[^A-Za-z0-9_.-]", "-", host), _KIND_OF_SCHEME[scheme], parts.geturl(), _redact(parts)
    )


def _split(label: str, url: str) -> tuple[SplitResult, str]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise UsageError(
            f"{label}: host or port cannot be read; percent-encode / ? # [ ] in a password, a port is 1 to 65535"
        ) from None
    if not host or port == 0:
        raise UsageError(f"{label}: the URL names no host or port 0; write {parts.scheme}://host:port/path")
    return parts, host


def _redact(parts: SplitResult) -> str:
    user, at, host = parts.netloc.rpartition("@")
    netloc = f"{_HIDDEN}@{host}" if at or user else host
    query = "&".join(_redact_setting(setting) for setting in parts.query.split("&"))
    path = _PATH_SETTING.sub(lambda found: _redact_setting(found[0]), parts.path)
    fragment = _HIDDEN if parts.fragment else ""
    return parts._replace(netloc=netloc, path=path, query=query, fragment=fragment).geturl()


def _redact_setting(setting: str) -> str:
    key, equals, _ = setting.partition("=")
    if not setting or (equals and _HARMLESS.fullmatch(unquote(key))):
        return setting
    # A value without a key is hidden too: `?s3cret` is how some cameras take a token.
    return f"{key}={_HIDDEN}" if equals else _HIDDEN
