"""Where a bundle lies: an HTTP(S) address, or a bucket that is read over HTTPS."""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from urllib.parse import quote, unquote, urljoin, urlsplit

from edge_runtime.errors import UsageError

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_REGION = re.compile(r"[a-z0-9-]{2,32}")


@dataclass(frozen=True, slots=True)
class Address:
    """A place on a web server. Only `shown` may be logged: user, password and query may be secret.

    Attributes:
        scheme: `http` or `https`.
        host: Name or IP address, without brackets.
        port: As given; None is the scheme's.
        path: Begins with `/`, escaped.
        query: Behind the `?`, escaped; goes along with every file.
        authorization: Value of the header, empty where none is needed.
        region: Of a bucket; empty where it is none.
    """

    scheme: str
    host: str
    port: int | None
    path: str
    query: str = ""
    authorization: str = ""
    region: str = ""

    @classmethod
    def parse(cls, url: str, endpoint: str | None = None) -> Address:
        """Read what an operator writes.

        Args:
            url: `https://…`, `http://…` or `s3://bucket/key`.
            endpoint: Of an S3 server other than Amazon's; `$AWS_ENDPOINT_URL_S3` and `$AWS_ENDPOINT_URL` by default.

        Raises:
            UsageError: It is none of these. The message does not quote it: it may hold a password anywhere.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            parts, host, port = urlsplit(""), None, None
        if not url.isascii() or not url.isprintable() or " " in url or not host:
            raise UsageError(
                "URL: cannot be read; write https://host/path or s3://bucket/key, other characters as %xx"
            )
        if parts.scheme == "s3":
            return _bucket(host, parts.path, endpoint)
        if parts.scheme not in {"http", "https"}:
            raise UsageError("URL: begins with none of https://, http:// and s3://")
        authorization = ""
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = f"Basic {base64.b64encode(pair.encode()).decode()}"
        return cls(parts.scheme, host, port, parts.path or "/", parts.query, authorization)

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port: who is talked to."""
        return self.scheme, self.host, self.port or (443 if self.scheme == "https" else 80)

    @property
    def netloc(self) -> str:
        """Host and port as in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def target(self) -> str:
        """What is asked for: path and query."""
        return f"{self.path}?{self.query}" if self.query else self.path

    @property
    def url(self) -> str:
        """All of it but user and password; may still be secret."""
        return f"{self.scheme}://{self.netloc}{self.target}"

    @property
    def shown(self) -> str:
        """For logs and errors."""
        return f"{self.scheme}://{self.netloc}{self.path}"

    def file(self, name: str, seal: str = "") -> Address:
        """A file in this folder.

        Args:
            name: Its path in the folder, with `/`.
            seal: Its content's hash. It goes along as the parameter `x-seal`, which static servers and S3 pass over,
                so that a cache never gives the file of an earlier bundle.
        """
        path = self.path.rstrip("/") + "/" + quote(str(PurePosixPath(name)))
        query = "&".join(part for part in (self.query, f"x-seal={seal}" if seal else "") if part)
        return replace(self, path=path, query=query)

    def redirected(self, location: str) -> Address:
        """Where a redirect leads; what is known to one server alone is not shown to another.

        Raises:
            ValueError: Not an address, or from https to http.
        """
        try:
            found = Address.parse(quote(urljoin(self.url, location), safe="%/:=&?~#+!$,;'@()*[]"))
        except (UsageError, ValueError):
            raise ValueError("it redirects to something that is no address") from None
        if self.scheme == "https" and found.scheme == "http":
            raise ValueError("it redirects from https to http")
        same = found.origin == self.origin
        return replace(found, authorization=self.authorization if same else "", region=self.region if same else "")


def _bucket(bucket: str, path: str, endpoint: str | None) -> Address:
    if _BUCKET.fullmatch(bucket) is None:
        raise UsageError(f"s3://{bucket[:64]}: is no name of a bucket; write s3://bucket/key")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    if _REGION.fullmatch(region) is None:
        raise UsageError("AWS_REGION: is no region; write it as eu-central-1")
    given = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if given:
        base = Address.parse(given)
        return replace(base, path=f"{base.path.rstrip('/')}/{bucket}{path or '/'}", region=region)
    if "." in bucket:
        # A certificate for *.s3.… is for no name with further dots.
        return Address("https", f"s3.{region}.amazonaws.com", None, f"/{bucket}{path or '/'}", region=region)
    return Address("https", f"{bucket}.s3.{region}.amazonaws.com", None, path or "/", region=region)
