"""A connection to an MQTT broker that comes back by itself. Knows topics and payloads; nothing of cameras or records.

What is kept on a topic is told again with every connection, so that a broker that forgot everything knows it again.
What is handed over once waits for the broker's word, and is never handed over a second time by this program while the
first is under way: paho sends it again itself, marked as a duplicate, until the broker has answered.
"""

from __future__ import annotations

import logging
import ssl
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edge_runtime.errors import MissingExtra, NotDelivered, UsageError, one_line
from edge_runtime.files import shown_path
from edge_runtime.outputs.mqtt_settings import MqttSettings, TlsSettings
from edge_runtime.repeats import RepeatedTrouble

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage, MQTTMessageInfo

log = logging.getLogger(__name__)

Payload = str | bytes
# Called with topic and payload.
Hear = Callable[[str, bytes], None]

_ONLINE, _OFFLINE = "online", "offline"
# Seconds between two attempts, doubling from the first to the second.
_SOON_S = (1, 30)
# A wrong password does not become right by itself, and brokers lock out who tries it often.
_RARELY_S = (60, 600)
# Refused for who we are: bad user name or password, not authorized (CONNACK of MQTT 3.1.1 in the words of 5).
_CREDENTIALS = (0x86, 0x87)
_CLOSE_S = 0.4


class BrokerLink:
    """One client of one broker. Any thread may call anything; `hear` is called by the connection's own thread.

    Args:
        settings: The broker.
        available: Topic that says `online` while this is connected and `offline` when it is not, by the last will.
        hear: What to call with messages of others, by the filter to subscribe to. Retained ones are passed over.

    Raises:
        MissingExtra: paho-mqtt is not installed; the message holds the pip command.
        UsageError: A file of the TLS settings cannot be used.
    """

    def __init__(self, settings: MqttSettings, available: str, hear: Mapping[str, Hear]) -> None:
        paho = load_paho()
        self._settings, self._available, self._hear = settings, available, dict(hear)
        self._kept: dict[str, tuple[Payload, int]] = {}
        # Around every change of what is kept and its publication, so that the newest is told last.
        self._telling = threading.RLock()
        self._ready, self._ended = threading.Event(), threading.Event()
        self._closing = False
        self._rarely = self._was_refused = False
        self._why = "no connection yet"
        self._told: str | None = None
        self._lost = RepeatedTrouble(log, logging.WARNING, self._more)
        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, settings.client_id or f"headhunt-{uuid.uuid4().hex[:12]}"
        )
        client.username_pw_set(settings.user, settings.password)
        if settings.tls is not None:
            client.tls_set_context(_tls_context(settings.tls))
        client.will_set(available, _OFFLINE, qos=1, retain=True)
        client.reconnect_delay_set(*_SOON_S)
        client.on_connect, client.on_connect_fail = self._on_connect, self._on_connect_fail
        client.on_disconnect, client.on_subscribe = self._on_disconnect, self._on_subscribe
        client.on_message = self._on_message
        self._client: Client = client

    def open(self) -> None:
        """Begin to connect, in the background. What was kept until then is told before `online`."""
        self._client.connect_async(self._settings.host, self._settings.to_port, self._settings.keepalive_s)
        self._client.loop_start()

    @property
    def why(self) -> str:
        """Why nothing can be handed over, where that is so."""
        return self._why

    def wait(self, limit_s: float) -> bool:
        """Wait for the connection; returns whether it is there."""
        return self._ready.wait(limit_s)

    def keep(self, topic: str, payload: Payload, *, qos: int = 1) -> None:
        """Keep this on a topic, retained by the broker; told now if there is a connection, and with each further one.

        Args:
            topic: The topic.
            payload: What to keep; empty to have the broker forget the topic.
            qos: 1 until the broker has confirmed it, 0 for what the next one replaces anyhow.
        """
        with self._telling:
            self.keep_later(topic, payload, qos=qos)
            if self._ready.is_set():
                self._client.publish(topic, payload, qos=qos, retain=True)

    def keep_later(self, topic: str, payload: Payload, *, qos: int = 1) -> None:
        """As `keep`, but told with further connections alone: for what is handed over now."""
        with self._telling:
            self._kept[topic] = (payload, qos)

    def hand_over(self, topic: str, payload: Payload, *, retain: bool = False) -> MQTTMessageInfo | None:
        """Begin to hand one message over, at least once; None where there is no connection."""
        from paho.mqtt.enums import MQTTErrorCode

        with self._telling:
            if not self._ready.is_set():
                return None
            info = self._client.publish(topic, payload, qos=1, retain=retain)
        if info.rc == MQTTErrorCode.MQTT_ERR_NO_CONN:
            # Lost at this very moment: paho holds the message and sends it with the next connection.
            info.rc = MQTTErrorCode.MQTT_ERR_SUCCESS
        return None if info.rc else info

    @staticmethod
    def confirmed(infos: Sequence[MQTTMessageInfo], limit_s: float) -> bool:
        """Wait until the broker has confirmed all of them; returns whether it has."""
        until_s = time.monotonic() + limit_s
        for info in infos:
            left_s = until_s - time.monotonic()
            if left_s > 0 and not info.is_published():
                info.wait_for_publish(left_s)
        return all(info.is_published() for info in infos)

    def close(self) -> bool:
        """Say `offline` and end the connection; without one nothing is waited for.

        Returns:
            Whether the broker has confirmed that, and with it all that was said before with QoS 1.
        """
        self._closing = True
        told = False
        if self._ready.is_set():
            told = self.confirmed([self._client.publish(self._available, _OFFLINE, qos=1, retain=True)], _CLOSE_S)
            self._client.disconnect()
            self._ended.wait(_CLOSE_S)
        else:
            self._client.disconnect()
        self._lost.sum_up(at_once=True)
        return told

    def _on_connect(self, client: Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        if self._closing:
            client.disconnect()
        elif code.is_failure:
            self._refused(code)
        else:
            self._try_again(rarely=False)
            client.subscribe([(topic, 1) for topic in self._hear])

    def _on_subscribe(self, client: Client, _data: Any, _mid: int, codes: list[Any], _properties: Any) -> None:
        """The broker answers in order: by now paho has sent again what was under way when the last connection broke.

        Only then what is kept is told, which is newer.
        """
        if any(code.is_failure for code in codes):
            log.warning("%s: lets us not subscribe to %s; check its access rules", self._name, ", ".join(self._hear))
        with self._telling:
            for topic, (payload, qos) in self._kept.items():
                client.publish(topic, payload, qos=qos, retain=True)
            client.publish(self._available, _ONLINE, qos=1, retain=True)
            self._told = None
            log.info("%s: connected", self._name)
            self._ready.set()

    def _on_disconnect(self, _client: Client, _data: Any, _flags: Any, _code: Any, _properties: Any) -> None:
        was_ready = self._ready.is_set()
        self._ready.clear()
        if self._closing:
            self._ended.set()
        elif was_ready:
            self._why = "the connection was lost"
            self._lost.happened(f"{self._name}: the connection was lost; connecting again")
        elif not self._was_refused:
            self._why = "it closed the connection"
            self._trouble(
                "closes the connection without an answer (does it want TLS, or a certificate?); trying again"
            )
        self._was_refused = False

    def _on_connect_fail(self, _client: Client, _data: Any) -> None:
        # paho calls this where it handles the error, and does not hand it over.
        error = sys.exc_info()[1]
        reason = one_line(error) if error is not None else "no connection"
        if isinstance(error, ssl.SSLCertVerificationError):
            reason = f"its certificate is not trusted: {error.verify_message}"
        elif isinstance(error, OSError) and error.strerror and not isinstance(error, ssl.SSLError):
            reason = error.strerror
        self._try_again(rarely=False)
        self._trouble(f"cannot be reached ({reason}); trying again")
        self._why = reason

    def _refused(self, code: Any) -> None:
        # The broker closes the connection after this.
        self._was_refused = True
        rarely = code.value in _CREDENTIALS
        self._try_again(rarely=rarely)
        self._why = f"refused: {code}"
        if rarely:
            user = f"user {self._settings.user!r}" if self._settings.user is not None else "a client without a user"
            self._trouble(f"refuses {user} ({code}); check user and password (next attempt in {_RARELY_S[0]} s)")
        else:
            self._trouble(f"refuses the connection ({code}); trying again")

    def _try_again(self, *, rarely: bool) -> None:
        # Only where it changes: paho begins with the first delay again.
        if rarely != self._rarely:
            self._rarely = rarely
            self._client.reconnect_delay_set(*(_RARELY_S if rarely else _SOON_S))

    def _trouble(self, text: str) -> None:
        if text != self._told:
            self._told = text
            log.warning("%s: %s", self._name, text)

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        from paho.mqtt.client import topic_matches_sub

        # What was said once and kept would be followed again with every connection.
        if message.retain:
            return
        try:
            for topic, hear in self._hear.items():
                if topic_matches_sub(topic, message.topic):
                    hear(message.topic, bytes(message.payload))
        except Exception as error:  # noqa: BLE001  paho's thread would end with it, and the connection with that
            log.error("%s: a message could not be followed (%s)", self._name, one_line(error))

    @property
    def _name(self) -> str:
        return self._settings.shown

    def _more(self, count: int, seconds: int) -> str:
        return f"{self._name}: the connection was lost {count} more times in the last {seconds} s"


def load_paho() -> Any:
    """The paho.mqtt.client module.

    Raises:
        MissingExtra: It is not installed; the message holds the pip command.
    """
    try:
        import paho.mqtt.client
    except ImportError as error:
        raise MissingExtra('paho-mqtt is not installed; run: pip install "headhunt-edge[mqtt]"') from error
    return paho.mqtt.client


def try_broker(settings: MqttSettings, limit_s: float) -> None:
    """Log in to a broker once, and out again. Nothing is published.

    Args:
        settings: The broker.
        limit_s: How long to wait for its answer.

    Raises:
        NotDelivered: It does not answer, or lets this client not in.
        MissingExtra: paho-mqtt is not installed.
        UsageError: A file of the TLS settings cannot be used.
    """
    paho = load_paho()
    client: Client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    client.username_pw_set(settings.user, settings.password)
    if settings.tls is not None:
        client.tls_set_context(_tls_context(settings.tls))
    answered, codes = threading.Event(), []

    def on_connect(_client: Client, _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        codes.append(code)
        answered.set()

    client.on_connect = on_connect
    client.connect_timeout = limit_s
    try:
        client.connect(settings.host, settings.to_port)
        client.loop_start()
        answered.wait(limit_s)
        if not codes:
            raise NotDelivered(f"{settings.shown}: connects, and does not answer; check that MQTT is spoken there")
        if codes[0].is_failure:
            raise NotDelivered(f"{settings.shown}: lets us not in ({codes[0]}); check user and password")
    except (OSError, ValueError) as error:
        raise NotDelivered(f"{settings.shown}: cannot be reached ({_reason(error)}); check host and port") from error
    finally:
        client.disconnect()
        client.loop_stop()


def _tls_context(tls: TlsSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except (OSError, ValueError) as error:
        raise UsageError(f"{shown_path(tls.ca or '')}: no certificates of an authority ({_reason(error)})") from error
    if tls.insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if tls.cert is not None and tls.key is not None:
        try:
            # A passphrase would be asked for on the terminal of a service.
            context.load_cert_chain(tls.cert, tls.key, password="")
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{shown_path(tls.cert)}, {shown_path(tls.key)}: no certificate and its private key without a "
                f"passphrase ({_reason(error)})"
            ) from error
    return context


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or one_line(error)
