"""Requests to one HTTP server, with the standard library. Follows no redirects, and knows no records.

Only `HttpServer.shown` may be logged: user, password, path and query of a URL may be secret.
"""

from __future__ import annotations

import base64
import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from edge_runtime._version import __version__
from edge_runtime.errors import NotDelivered, UsageError, one_line

# What is read of an answer.
_MOST_BYTES = 2**16
_LONGEST_PAUSE_S = 3600.0


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What a server answered.

    Attributes:
        status: Such as 200.
        headers: By name, in lower case; of several of one name the last.
        cookies: The values of all `Set-Cookie` headers.
        body: At most 64 KiB of it.
    """

    status: int
    headers: Mapping[str, str]
    cookies: list[str]
    body: bytes

    @property
    def is_success(self) -> bool:
        """Whether the server took what it was sent."""
        return 200 <= self.status < 300

    @property
    def is_refusal(self) -> bool:
        """Whether the server would answer the same again: 4xx other than 408, 425 and 429."""
        return 400 <= self.status < 500 and self.status not in {408, 425, 429}

    @property
    def retry_after_s(self) -> float | None:
        """Seconds that it asks to be left alone for, at most an hour; None where it does not ask."""
        text = self.headers.get("retry-after", "").strip()
        try:
            seconds = (
                float(text)
                if text.isascii() and text.isdigit()
                else (parsedate_to_datetime(text).astimezone(UTC) - datetime.now(UTC)).total_seconds()
            )
        except (ValueError, TypeError, OverflowError):
            return None
        return min(max(seconds, 0.0), _LONGEST_PAUSE_S)


def tls_context(ca_file: Path | None = None, *, verify: bool = True) -> ssl.SSLContext:
    """What decides whether a server of an `https://` URL is the right one.

    Args:
        ca_file: Certificates to trust instead of the system's.
        verify: False trusts any server, such as one whose certificate it signed itself.

    Raises:
        UsageError: The file cannot be read or holds no certificates.
    """
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as error:
        raise UsageError(f"{ca_file}: holds no certificates that can be read ({one_line(error)})") from error
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class HttpServer:
    """One server. Every request has a connection of its own: one that was cut meanwhile costs none.

    Args:
        url: `http://` or `https://`, may hold user and password.
        what: Begins the text of an error about the URL, such as `webhook`.
        timeout_s: Longest wait for the connection, and for each part of the answer, in seconds.
        tls: See `tls_context`; by default the system's certificates are trusted.

    Attributes:
        shown: Host and port, for logs.
        path: Path and query of the URL.

    Raises:
        UsageError: The URL is none of these. The error does not quote it: it may hold a password anywhere.
    """

    def __init__(self, url: str, what: str, timeout_s: float = 15.0, tls: ssl.SSLContext | None = None) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not url.isascii() or not url.isprintable() or " " in url or not host:
            raise UsageError(
                f"{what}: the URL cannot be read; write it as https://host/path, other characters as %xx"
            )
        if parts.scheme not in {"http", "https"}:
            raise UsageError(f"{what}: the URL begins with neither http:// nor https://")
        self._host, self._port = host, port
        self._secure = parts.scheme == "https"
        self._tls = tls or (tls_context() if self._secure else None)
        self._timeout_s = timeout_s
        self._authorization: str | None = None
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
        bracketed = f"[{host}]" if ":" in host else host
        self.shown = bracketed if port is None else f"{bracketed}:{port}"
        self.path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> HttpAnswer:
        """Send JSON and wait for the answer, whatever it is.

        Raises:
            NotDelivered: No answer came.
        """
        connection: http.client.HTTPConnection
        if self._secure:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=self._timeout_s, context=self._tls
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        sent = {"content-type": "application/json", "user-agent": f"headhunt-edge/{__version__}", **headers}
        if self._authorization is not None:
            sent["authorization"] = self._authorization
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            received = {name.lower(): value for name, value in response.getheaders()}
            cookies = response.headers.get_all("set-cookie") or []
            return HttpAnswer(response.status, received, cookies, response.read(_MOST_BYTES))
        except (OSError, http.client.HTTPException) as error:
            raise NotDelivered(f"{self.shown}: does not answer ({one_line(error)})") from error
        finally:
            connection.close()
