"""How to reach an MQTT broker, and what to tell it. Knows no MQTT library."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.errors import UsageError

_TCP, _TLS = 1883, 8883
# Wildcards, and `$` in front, which brokers keep for themselves.
_PREFIX = re.compile(r"[^/+#$\x00-\x1f\x7f-\x9f][^+#\x00-\x1f\x7f-\x9f]*(?<!/)")
# Of what MQTT writes with a length of 16 bits.
_LONGEST = 65_535


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """Encryption, and by whom the broker and this client are vouched for.

    Attributes:
        ca: PEM file of the authority that signed the broker's certificate; None takes those of the system.
        cert: PEM file of this client's certificate, where the broker asks for one; together with `key`.
        key: PEM file of its private key, without a passphrase.
        insecure: Neither the broker's certificate nor its name is checked: whoever sits in between reads along.

    Raises:
        UsageError: One of `cert` and `key` is given without the other.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    insecure: bool = False

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise UsageError("mqtt: a client certificate needs both, cert and key; give the other file, too")


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """A broker and how to speak to it. The password is in no `repr`.

    Attributes:
        host: Name or address.
        port: None is 1883, or 8883 with TLS.
        user: Name to log in with; None logs in without.
        password: Of `user`.
        prefix: What all topics begin with; two programs on one broker need two of them.
        client_id: Names this client to the broker, which knows each name once; None makes one up.
        keepalive_s: Seconds without a word after which a side takes the connection for dead, 1 to 65,535.
        tls: None is without encryption.
        discovery: Whether to describe every camera to Home Assistant.
        discovery_prefix: Where Home Assistant looks for descriptions.
        onvif: Whether to tell events in ONVIF's JSON form, too.

    Raises:
        UsageError: A value that no broker takes.
    """

    host: str
    port: int | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    prefix: str = "headhunt"
    client_id: str | None = None
    keepalive_s: int = 30
    tls: TlsSettings | None = None
    discovery: bool = True
    discovery_prefix: str = "homeassistant"
    onvif: bool = False

    def __post_init__(self) -> None:
        if not _is_host(self.host):
            raise UsageError(f"mqtt: host {self.host!r} is neither a name nor an address; give one, without mqtt://")
        if self.port is not None and not 0 < self.port <= _LONGEST:
            raise UsageError(f"mqtt: port {self.port} is none; use 1 to 65535, usually {_TCP}, or {_TLS} with TLS")
        if not 0 < self.keepalive_s <= _LONGEST:
            raise UsageError(f"mqtt: keepalive of {self.keepalive_s} s; use 1 to 65535")
        if self.password is not None and self.user is None:
            raise UsageError("mqtt: a password without a user; give the user, too")
        for name, prefix in (("prefix", self.prefix), ("discovery_prefix", self.discovery_prefix)):
            if not _PREFIX.fullmatch(prefix) or not _is_text(prefix):
                raise UsageError(f"mqtt: {name} {prefix!r} begins no topic; leave out +, #, and / at its ends")
        for name, text in (("user", self.user), ("client_id", self.client_id), ("password", self.password)):
            if text is not None and not _is_text(text):
                # The password's own text is not for a message.
                raise UsageError(f"mqtt: {name} is not text that MQTT can carry; use UTF-8 without a zero character")

    @property
    def to_port(self) -> int:
        """The port that is connected to."""
        return self.port or (_TCP if self.tls is None else _TLS)

    @property
    def shown(self) -> str:
        """What logs call the broker."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtt{'s' if self.tls else ''}://{host}:{self.to_port}"


def _is_host(text: str) -> bool:
    try:
        encoded = text.encode("idna")
    except UnicodeError:
        return False
    return re.fullmatch(rb"[A-Za-z0-9._:%-]+", encoded) is not None


def _is_text(text: str) -> bool:
    try:
        return len(text.encode()) <= _LONGEST and "\0" not in text
    except UnicodeEncodeError:
        return False
