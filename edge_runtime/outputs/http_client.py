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
from edge_runtime.files import shown_path

# What is read of an answer.
_MOST_BYTES = 2**16
_LONGEST_PAUSE_S = 3600.0
# How OpenSSL calls a certificate that is trusted, and made out to another name or another address.
_OTHER_NAME = (62, 64)


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
        ca_file: Certificates to trust instead of the system's: of authorities, or of the server itself, which may
            then be made out to any name.
        verify: False trusts any server, such as one whose certificate it signed itself.

    Raises:
        UsageError: The file cannot be read or holds no certificates.
    """
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except ssl.SSLError as error:
        shown = shown_path(ca_file or "")
        raise UsageError(f"{shown}: holds no certificates that can be read ({one_line(error)})") from error
    except OSError as error:
        raise UsageError(f"{shown_path(ca_file or '')}: cannot be read ({error.strerror})") from error
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class _KnownServer(http.client.HTTPSConnection):
    """A connection to a server whose very certificate is trusted, whatever name that is made out to.

    Frigate makes itself one for `*`, which is nobody's name. Who shows it has its key, and that is what counts.
    """

    def __init__(self, host: str, port: int | None, timeout: float, trusted: ssl.SSLContext) -> None:
        self._certificates = trusted.get_ca_certs(binary_form=True)
        context = ssl.create_default_context(cadata=b"".join(self._certificates))
        context.check_hostname = False
        super().__init__(host, port, timeout=timeout, context=context)

    def connect(self) -> None:
        """Connect, and hang up on others before anything is sent."""
        super().connect()
        if self.sock.getpeercert(binary_form=True) not in self._certificates:
            self.close()
            raise ssl.SSLCertVerificationError("its certificate is not made out to this name")


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
        self._tls = None if parts.scheme == "http" else tls or tls_context()
        # Whether it was told by its very certificate.
        self._known = False
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
        sent = {"content-type": "application/json", "user-agent": f"headhunt-edge/{__version__}", **headers}
        if self._authorization is not None:
            sent["authorization"] = self._authorization
        try:
            try:
                return _exchange(self._connection(), method, path, body, sent)
            except ssl.SSLCertVerificationError as error:
                # One that has another certificate now may have a better one.
                was_known, self._known = self._known, False
                if was_known or error.verify_code not in _OTHER_NAME:
                    raise
                try:
                    answer = _exchange(self._connection(known=True), method, path, body, sent)
                except ssl.SSLCertVerificationError:
                    raise error from None
                self._known = True
                return answer
        except ssl.SSLCertVerificationError as error:
            why = getattr(error, "verify_message", None) or one_line(error)
            raise NotDelivered(
                f"{self.shown}: its certificate is not trusted ({why}); name a file with it, or with who signed it, "
                "as tls_ca"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise NotDelivered(f"{self.shown}: does not answer ({one_line(error)})") from error

    def _connection(self, *, known: bool = False) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        if known or self._known:
            return _KnownServer(self._host, self._port, self._timeout_s, self._tls)
        return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=self._tls)


def _exchange(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes, headers: Mapping[str, str]
) -> HttpAnswer:
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        received = {name.lower(): value for name, value in response.getheaders()}
        cookies = response.headers.get_all("set-cookie") or []
        return HttpAnswer(response.status, received, cookies, response.read(_MOST_BYTES))
    finally:
        connection.close()
