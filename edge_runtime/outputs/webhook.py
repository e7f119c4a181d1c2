"""Records to a URL, one POST each, signed as in the Standard Webhooks specification (standardwebhooks.com).

The body is the record's line. `webhook-id` is the same in every attempt, so that a receiver can tell what it got
twice; `webhook-timestamp` is the attempt's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import ssl
import time
from collections.abc import Callable, Collection

from edge_runtime.errors import NotDelivered, OutputFailed, UsageError
from edge_runtime.files import printable
from edge_runtime.outputs.http_client import HttpAnswer, HttpServer
from edge_runtime.records import Record

log = logging.getLogger(__name__)

_PREFIX = "whsec_"
_LEAST_BYTES = 24
_GONE = 410


class Webhook:
    """Posts records to a URL; a sink, which is meant to stand behind a spool.

    An answer of 2xx takes the record. 410 ends the output: what comes later is left out, which is logged. Any other
    4xx but 408, 425 and 429 refuses the one record. Everything else, a redirect too, means to try again later, after
    what `Retry-After` asks for.

    Args:
        url: `http://` or `https://`, may hold user and password. Redirects are not followed.
        secret: `whsec_` and at least 24 bytes in base64; several, separated by blanks, all sign while one replaces
            another. Without one nothing is signed, and a receiver cannot tell who posts.
        kinds: Types of records that are sent; others are passed over.
        name: What logs and the spool call it; by default `webhook` and the host.
        timeout_s: Longest wait for the connection, and for each part of the answer, in seconds.
        tls: See `http_client.tls_context`.
        now: Gives seconds since 1970. For tests.

    Raises:
        UsageError: The URL or a secret cannot be read. Neither is quoted.
    """

    def __init__(
        self,
        url: str,
        secret: str | None = None,
        kinds: Collection[str] = ("event", "camera"),
        *,
        name: str | None = None,
        timeout_s: float = 15.0,
        tls: ssl.SSLContext | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._server = HttpServer(url, "webhook", timeout_s, tls)
        self._keys = [] if secret is None else read_secrets(secret)
        self.kinds = frozenset(kinds)
        self.name = f"webhook {self._server.shown}" if name is None else name
        self._now = now
        self._left_out: int | None = None

    def write(self, record: Record) -> None:
        """Send one record.

        Raises:
            NotDelivered: The server does not answer, or not with a verdict.
            OutputFailed: The server refuses this record.
        """
        if record.type not in self.kinds:
            return
        if self._left_out is not None:
            self._left_out += 1
            return
        body = record.to_json().encode()
        message_id, timestamp = f"msg_{hashlib.sha256(body).hexdigest()[:32]}", int(self._now())
        headers = {"webhook-id": message_id, "webhook-timestamp": str(timestamp)}
        if self._keys:
            headers["webhook-signature"] = signature(self._keys, message_id, timestamp, body)
        answer = self._server.send("POST", self._server.path, body, headers)
        if answer.is_success:
            return
        if answer.status == _GONE:
            log.error("%s: wants no records any more (410 Gone); none are sent until the next run", self.name)
            self._left_out = 1
        elif answer.is_refusal:
            raise OutputFailed(f"{self.name}: refuses a record ({_told(answer)})")
        elif 300 <= answer.status < 400:
            raise NotDelivered(f"{self.name}: redirects ({answer.status}); give the URL that it redirects to")
        else:
            raise NotDelivered(f"{self.name}: answers with {_told(answer)}", answer.retry_after_s)

    def close(self) -> None:
        """Say what was left out after a 410."""
        if self._left_out is not None:
            log.warning("%s: %d records were left out", self.name, self._left_out)


def read_secrets(text: str) -> list[bytes]:
    """The keys of one or more secrets.

    Raises:
        UsageError: One cannot be read, or is too short.
    """
    keys = []
    for secret in text.split():
        try:
            key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not secret.startswith(_PREFIX) or len(key) < _LEAST_BYTES:
            raise UsageError(
                f"webhook: the secret is not {_PREFIX} and at least {_LEAST_BYTES} bytes in base64; "
                'make one: echo "whsec_$(openssl rand -base64 24)"'
            )
        keys.append(key)
    if not keys:
        raise UsageError("webhook: there is no secret to sign with")
    return keys


def signature(keys: Collection[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: HMAC-SHA256 over id, time and body, once with each key."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}" for key in keys)


def _told(answer: HttpAnswer) -> str:
    """What a server says, as one short line."""
    text = printable(" ".join(answer.body[:200].decode("utf-8", "replace").split()))[:100]
    return f"{answer.status}: {text}" if text else str(answer.status)
