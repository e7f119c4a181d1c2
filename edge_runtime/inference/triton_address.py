"""Where Triton servers are and how they are spoken to, in the one text that `--provider` and cameras.yaml take.

`triton[+tls]://HOST:PORT[,HOST:PORT…][/NAME][?option=value&…]`
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args
from urllib.parse import parse_qsl, unquote

from edge_runtime.errors import UsageError
from edge_runtime.files import printable

Wire = Literal["raw", "jpeg"]

#: What a scheme ends with where the connection is encrypted.
TLS = "+tls"
#: The environment variable that a token is read from.
TOKEN_VARIABLE = "HEADHUNT_TRITON_TOKEN"  # noqa: S105  the name of one
#: Seconds that one call may take in all, with its retries.
DEADLINE_S = 10.0

# The header of a bearer's token.
_BEARER = "authorization"
_EXAMPLE = "triton://host:8001"
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_HEADER = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")
_LOOPBACK = re.compile(r"(127\.[0-9.]+|localhost|\[::1\]):[0-9]+")
_OPTIONS = ("wire", "deadline_s", "ca", "cert", "key", "token_file", "token_header")


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonAddress:
    """Servers with the same models, and how they are spoken to.

    Attributes:
        replicas: HOST:PORT of each; any of them can answer any call.
        name: What the models' names begin with; None for that of the bundle's id.
        tls: Whether the connection is encrypted.
        wire: How frames travel: as they are, or as JPEG.
        deadline_s: Seconds that one call may take in all.
        ca: A file with the authority that signed the servers' certificates; by default the system's.
        cert: A file with this client's certificate, where servers ask for one.
        key: A file with its key.
        token_file: A file with a token; by default HEADHUNT_TRITON_TOKEN holds it, if there is one.
        token_header: What the token is sent as. `authorization` sends it as a bearer's; any other header as it is.

    Raises:
        UsageError: Values that exclude each other.
    """

    replicas: tuple[str, ...]
    name: str | None = None
    tls: bool = False
    wire: Wire = "raw"
    deadline_s: float = DEADLINE_S
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    token_file: str | None = None
    token_header: str = _BEARER

    def __post_init__(self) -> None:
        if not self.replicas:
            raise UsageError(f"a Triton server's address is missing; give it as {_EXAMPLE}")
        if not 0 < self.deadline_s <= 600:
            raise UsageError(f"deadline_s is a time above 0 and up to 600 seconds, got {self.deadline_s:g}")
        if (self.cert is None) != (self.key is None):
            raise UsageError("cert and key of a Triton address go together")
        if not self.tls and (self.ca or self.cert):
            raise UsageError("ca, cert and key are for encrypted connections; write triton+tls://")

    def headers(self) -> dict[str, str]:
        """What every call carries: the token, where there is one.

        Raises:
            UsageError: Its file cannot be read, it holds no token, or the token would travel in the clear.
        """
        token = _token(self.token_file)
        if token is None:
            return {}
        if not self.tls and not all(_LOOPBACK.fullmatch(one) for one in self.replicas):
            raise UsageError("a token would travel in the clear; write triton+tls:// (or leave the token out)")
        return {self.token_header: f"Bearer {token}" if self.token_header == _BEARER else token}


def parse_address(text: str) -> TritonAddress:
    """Read an address.

    Args:
        text: As this module's first lines show it.

    Raises:
        UsageError: It is none. The message does not quote what may be a password.
    """
    scheme, there, rest = text.partition("://")
    if not there:
        raise UsageError(f"provider {printable(scheme)} needs the address of a server, as in {_EXAMPLE}")
    place, _, query = rest.partition("?")
    if "@" in place:
        raise UsageError(f"a Triton address takes no user or password; put a token into {TOKEN_VARIABLE}")
    hosts, _, name = place.partition("/")
    replicas = tuple(hosts.split(","))
    for one in replicas:
        match = _HOST.fullmatch(one)
        if match is None or not 0 < int(match[2]) < 65_536:
            raise UsageError(f"{printable(one)!r} is no address of a server; write host:port, as in {_EXAMPLE}")
    if len(set(replicas)) != len(replicas):
        raise UsageError(f"{printable(hosts)} names a server twice")
    name = unquote(name.removesuffix("/"))
    if name:
        check_name(name)
    given = _options(query)
    return TritonAddress(
        replicas=replicas,
        name=name or None,
        tls=scheme.endswith(TLS),
        wire=_wire(given.get("wire", "raw")),
        deadline_s=_seconds(given.get("deadline_s", str(DEADLINE_S))),
        ca=given.get("ca"),
        cert=given.get("cert"),
        key=given.get("key"),
        token_file=given.get("token_file"),
        token_header=given.get("token_header", _BEARER),
    )


def check_name(name: str) -> str:
    """Pass on what names of models may begin with.

    Raises:
        UsageError: They may not.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{printable(name)!r} is no name of models; take letters, digits, _ and -, as `hh-offline triton --name`"
        )
    return name


def _options(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise UsageError("options of a Triton address are written ?wire=jpeg&deadline_s=5") from None
    given = dict(pairs)
    for key in given:
        if key in ("token", "password"):
            raise UsageError(
                f"a {key} on a command line can be read by everybody here; put it into {TOKEN_VARIABLE}, or into a "
                "file and write ?token_file=FILE"
            )
        if key not in _OPTIONS:
            raise UsageError(
                f"unknown option {printable(key)!r} of a Triton address; choose from {', '.join(_OPTIONS)}"
            )
    if "token_header" in given and not _HEADER.fullmatch(given["token_header"]):
        raise UsageError("token_header is a header's name in small letters, as authorization")
    return given


def _wire(text: str) -> Wire:
    if text not in get_args(Wire):
        raise UsageError(f"unknown wire {printable(text)!r}; choose from {', '.join(get_args(Wire))}")
    return cast(Wire, text)


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"deadline_s is a number of seconds, got {printable(text)!r}") from None


def _token(file: str | None) -> str | None:
    if file is None:
        token, where = os.environ.get(TOKEN_VARIABLE), TOKEN_VARIABLE
        if token is None:
            return None
    else:
        where = printable(file)
        try:
            token = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "no text"
            raise UsageError(f"{where}: the token cannot be read ({reason})") from error
    token = token.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(f"{where}: holds no token: letters, digits and signs without blanks, in one line")
    return token
