"""The outputs that a configuration names, beside the one for records: each behind the spool; none can end the run."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import OutputFailed, UsageError
from edge_runtime.files import shown_path, state_folder
from edge_runtime.outputs.clips import Clips
from edge_runtime.outputs.frigate import Frigate
from edge_runtime.outputs.http_client import tls_context
from edge_runtime.outputs.mqtt import MqttSink, OnPause
from edge_runtime.outputs.mqtt_marks import Marks
from edge_runtime.outputs.mqtt_settings import MqttSettings as Broker
from edge_runtime.outputs.mqtt_settings import TlsSettings
from edge_runtime.outputs.mqtt_topics import camera_topics
from edge_runtime.outputs.notes import Notes
from edge_runtime.outputs.sink import Output
from edge_runtime.outputs.spool import Spool
from edge_runtime.outputs.spooled import SpooledSink
from edge_runtime.outputs.webhook import Webhook
from edge_runtime.records import EventRecord
from edge_runtime.video.camera import LiveCamera
from edge_runtime.watch.boards import Boards
from edge_runtime.watch.camera import OpenReader
from edge_runtime.watch.config_settings import (
    Configuration,
    FrigateSettings,
    MqttSettings,
    SpoolSettings,
    WebhookSettings,
)
from edge_runtime.watch.recording import Recording

_SPOOL = "spool.sqlite"


@dataclass(frozen=True, slots=True)
class OtherOutputs:
    """What is open.

    Attributes:
        outputs: For `Outputs`.
        board: What shows which cameras there are, and what they are like.
        unfinished: Events that an earlier run told these outputs of and did not end.
        open_reader: Makes the readers of live cameras, so that the outputs get of them what they need.
        spool: Where records wait; None where no output needs that.
        clips: Snapshots and clips; None where none are kept.
    """

    outputs: Sequence[Output]
    board: Boards
    unfinished: Sequence[EventRecord]
    open_reader: OpenReader = LiveCamera
    spool: Spool | None = None
    clips: Clips | None = None


def check_outputs(configuration: Configuration, cameras: Sequence[str] = ()) -> None:
    """Refuse outputs that could not be opened, without connecting to anything.

    Args:
        configuration: What an operator wants.
        cameras: Names of all cameras that are configured.

    Raises:
        UsageError: A secret, an address or a file cannot be used, or two cameras are one to a broker.
    """
    if configuration.mqtt is not None:
        camera_topics(broker_of(configuration.mqtt).prefix, cameras)
    for number in range(len(configuration.webhook)):
        _webhook(configuration, number)
    if configuration.frigate is not None:
        _frigate(configuration.frigate)


@contextmanager
def open_outputs(
    configuration: Configuration,
    cameras: Sequence[str],
    on_pause: OnPause | None = None,
    marks: Marks | None = None,
) -> Iterator[OtherOutputs]:
    """Open them; the spool is closed behind the context, and whatever uses it before.

    Args:
        configuration: What an operator wants.
        cameras: Names of all cameras that are configured.
        on_pause: Pauses and resumes a camera; None where that cannot be done.
        marks: Takes what somebody says of events; None where nobody can.

    Raises:
        MissingExtra: A library is not installed.
        OutputFailed: The spool cannot be opened.
        UsageError: See `check_outputs`.
    """
    recording = None if configuration.clips is None else Recording(configuration.clips)
    made = [] if recording is None else [Output(recording.clips)]
    open_reader = LiveCamera if recording is None else recording.open_reader
    clips = None if recording is None else recording.clips
    if not (configuration.mqtt or configuration.webhook or configuration.frigate):
        yield OtherOutputs(made, Boards(), [], open_reader, clips=clips)
        return
    check_outputs(configuration, cameras)
    with ExitStack() as stack:
        spool = stack.enter_context(_spool(configuration))
        unfinished = spool.unfinished_events()
        sinks: list[SpooledSink] = []
        boards: list[MqttSink] = []
        if configuration.mqtt is not None:
            mqtt = _mqtt(broker_of(configuration.mqtt), cameras, on_pause, marks, spool)
            boards.append(mqtt)
            if recording is not None:
                recording.clips.on_snapshot.append(mqtt.publish_snapshot)
            sinks.append(SpooledSink(mqtt, spool))
        for number in range(len(configuration.webhook)):
            webhook = _webhook(configuration, number)
            sinks.append(SpooledSink(webhook, spool, webhook.kinds))
        if configuration.frigate is not None:
            frigate = _frigate(configuration.frigate, Notes(spool, "frigate"))
            sinks.append(SpooledSink(frigate, spool, frigate.kinds, updates=False))
        outputs = [*made, *(Output(sink) for sink in sinks)]
        yield OtherOutputs(outputs, Boards(boards), unfinished, open_reader, spool, clips)


def spool_folder(configuration: Configuration) -> Path:
    """Where the spool lies."""
    return state_folder() if configuration.spool is None else Path(configuration.spool.path)


def _spool(configuration: Configuration) -> Spool:
    folder = spool_folder(configuration)
    settings = configuration.spool or SpoolSettings(path=str(folder))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFailed(
            f"{shown_path(folder)}: cannot be made ({error.strerror}); give `spool: {{path: …}}` a folder to write to"
        ) from error
    return Spool(folder / _SPOOL, round(settings.max_mb * 1e6), settings.max_days * 86_400)


def broker_of(settings: MqttSettings) -> Broker:
    """The broker of a configuration."""
    tls = None
    if settings.tls or settings.tls_ca or settings.tls_cert or settings.tls_insecure:
        tls = TlsSettings(
            ca=_path(settings.tls_ca),
            cert=_path(settings.tls_cert),
            key=_path(settings.tls_key),
            insecure=settings.tls_insecure,
        )
    return Broker(
        host=settings.host,
        port=settings.port,
        user=settings.user,
        password=settings.password,
        prefix=settings.prefix,
        client_id=settings.client_id,
        keepalive_s=settings.keepalive_s,
        tls=tls,
        discovery=settings.discovery,
        discovery_prefix=settings.discovery_prefix,
        onvif=settings.onvif,
    )


def _mqtt(
    broker: Broker, cameras: Sequence[str], on_pause: OnPause | None, marks: Marks | None, spool: Spool
) -> MqttSink:
    # Another broker, or another prefix, knows nothing of what this one was told.
    told = Notes(spool, f"{broker.shown} {broker.prefix} {broker.discovery_prefix}")
    return MqttSink(broker, cameras, on_pause=on_pause, marks=marks, published=told)


def tls_of(settings: WebhookSettings | FrigateSettings, place: str) -> ssl.SSLContext | None:
    """What decides whether a server is the right one; None where nothing is configured.

    Args:
        settings: Of the server.
        place: Where they stand in the configuration, for an error.

    Raises:
        UsageError: The file with certificates cannot be used.
    """
    if settings.tls_ca is None and not settings.tls_insecure:
        return None
    try:
        return tls_context(_path(settings.tls_ca), verify=not settings.tls_insecure)
    except UsageError as error:
        raise UsageError(f"{place}.tls_ca: {error}") from error


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _webhook(configuration: Configuration, number: int) -> Webhook:
    settings = configuration.webhook[number]
    # Two to one host have two places in the spool.
    tls = tls_of(settings, f"webhook[{number}]")
    webhook = Webhook(settings.url, settings.secret, settings.kinds, tls=tls)
    if number:
        webhook.name += f" {number + 1}"
    return webhook


def _frigate(settings: FrigateSettings, ids: Notes | None = None) -> Frigate:
    return Frigate(
        settings.url,
        settings.cameras,
        label=settings.label,
        pre_capture_s=settings.pre_capture,
        login=None if settings.user is None else (settings.user, settings.password or ""),
        ids=ids,
        tls=tls_of(settings, "frigate"),
    )
