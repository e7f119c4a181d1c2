"""Records to an MQTT broker: what every camera is like, its events, and a description for Home Assistant.

docs/reference/mqtt.md lists the topics.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from typing import TYPE_CHECKING

from edge_runtime.errors import NotDelivered, UsageError, one_line
from edge_runtime.files import printable
from edge_runtime.outputs.mqtt_camera import MqttCamera
from edge_runtime.outputs.mqtt_discovery import birth_topic, device_description, discovery_topic
from edge_runtime.outputs.mqtt_link import BrokerLink, Hear
from edge_runtime.outputs.mqtt_marks import Marks, MarkTaker
from edge_runtime.outputs.mqtt_onvif import onvif_message, onvif_topic
from edge_runtime.outputs.mqtt_published import Published
from edge_runtime.outputs.mqtt_settings import MqttSettings, TlsSettings
from edge_runtime.outputs.mqtt_topics import (
    CameraTopics,
    available_topic,
    camera_level,
    camera_topics,
    device_id,
    json_payload,
)
from edge_runtime.records import CameraRecord, EventRecord, Record, RunRecord, SegmentRecord

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessageInfo

__all__ = ["MqttSettings", "MqttSink", "TlsSettings"]

log = logging.getLogger(__name__)

# Called with a camera's name and whether it shall be paused.
OnPause = Callable[[str, bool], None]

# Topic, payload, and whether the broker retains it.
_Message = tuple[str, str, bool]

_ON, _OFF = "ON", "OFF"
_SCORE_EVERY_S = 1.0


class MqttSink:
    """Publishes records; a sink. It connects in the background, and again whenever the connection is lost.

    Events wait for the broker's word, and so do changes of a camera's state. Everything else is a newest value, which
    the next one replaces: it is published if there is a connection, and the last of each with the next connection.

    Args:
        settings: The broker.
        cameras: Those that are known already; others are added with their first record.
        on_pause: Pauses or resumes a camera when somebody asks for it over MQTT; without it there is no switch. The
            connection's thread calls it, and waits for it; what it raises is logged, and the switch stays as it was.
            It may call `publish_pause` itself.
        marks: Takes what somebody says of events over MQTT; without it nobody can.
        published: Where the names of cameras that the broker was told of are kept, such as `Notes` of a spool. Those
            of earlier runs that are not among `cameras` are forgotten, as by `forget`.
        patience_s: Longest wait of a `write` for the broker, in seconds.

    Raises:
        MissingExtra: paho-mqtt is not installed; the message holds the pip command.
        UsageError: Two cameras are the same in a topic, or a file of the TLS settings cannot be used.
    """

    def __init__(
        self,
        settings: MqttSettings,
        cameras: Iterable[str] = (),
        *,
        on_pause: OnPause | None = None,
        marks: Marks | None = None,
        published: MutableMapping[str, str] | None = None,
        patience_s: float = 5.0,
    ) -> None:
        self._settings, self._on_pause, self._patience_s = settings, on_pause, patience_s
        self._lock = threading.RLock()
        self._cameras: dict[str, MqttCamera] = {}
        self._refused: set[str] = set()
        self._published = Published(published)
        # Cameras that were forgotten. What still comes of them tells of the past, and brings none back.
        self._gone: dict[str, CameraTopics] = {}
        self._available = available_topic(settings.prefix)
        # What was begun to be handed over of the record that `write` was last given.
        self._under_way: tuple[Record, list[MQTTMessageInfo]] | None = None
        known = list(dict.fromkeys(cameras))
        camera_topics(settings.prefix, known)
        hear: dict[str, Hear] = {f"{settings.prefix}/+/pause/set": self._asked_to_pause}
        self._marks = None if marks is None else MarkTaker(self.name, marks, self._answer_mark)
        if marks is not None:
            hear[f"{settings.prefix}/+/feedback/set"] = self._asked_to_mark
        if settings.discovery:
            hear[birth_topic(settings.discovery_prefix)] = self._home_assistant_says
        self._link = BrokerLink(settings, self._available, hear)
        for camera in known:
            self._camera(camera)
        for camera in self._published.names:
            if camera not in self._cameras:
                self._forget(camera)
        self._link.open()

    @property
    def name(self) -> str:
        """The broker, as logs call it."""
        return self._settings.shown

    def write(self, record: Record) -> None:
        """Publish one record. Events and camera states return when the broker has confirmed them.

        Called again with the same record after `NotDelivered`, it waits for what is under way instead of publishing
        it twice.

        Raises:
            NotDelivered: There is no connection, or no confirmation in time. The record may have arrived, though.
        """
        if isinstance(record, EventRecord):
            self._write_event(record)
        elif isinstance(record, CameraRecord):
            self._write_status(record)
        elif isinstance(record, SegmentRecord):
            self._write_score(record)
        elif isinstance(record, RunRecord):
            self._begin_run(record)

    def close(self) -> None:
        """Say that the program is offline, and disconnect."""
        if self._marks is not None:
            self._marks.close()
        with self._lock:
            for camera in self._cameras.values():
                if camera.late_score is not None:
                    self._link.keep(camera.topics.score, camera.late_score, qos=0)
        if self._link.close():
            with self._lock:
                for name in self._gone:
                    self._published.remove(name)

    def publish_snapshot(self, camera: str, jpeg: bytes) -> None:
        """Keep a picture as the camera's newest one. Any thread may call this; it does not wait.

        Args:
            camera: Its name.
            jpeg: The picture, as the bytes of a JPEG file.
        """
        with self._lock:
            if (known := self._camera(camera)) is not None:
                self._link.keep(known.topics.snapshot, jpeg)

    def publish_rate(self, camera: str, fps: float) -> None:
        """Keep the rate at which a camera's frames come, in frames a second. Any thread; it does not wait."""
        with self._lock:
            known = self._camera(camera)
            if known is not None and known.unwatched is None:
                self._link.keep(known.topics.rate, f"{fps:.1f}", qos=0)

    def publish_pause(self, camera: str, paused: bool) -> None:
        """Keep whether a camera is paused, whoever said so. Any thread; it does not wait."""
        with self._lock:
            if (known := self._camera(camera)) is not None:
                known.pauses_told += 1
                self._link.keep(known.topics.pause, _ON if paused else _OFF)

    def publish_unwatched(self, camera: str, why: str | None) -> None:
        """Keep that nobody watches a camera, which is offline then, or that somebody does again.

        Meanwhile what records say of its state is of the past, and not published. Any thread; it does not wait.

        Args:
            camera: Its name.
            why: In words, for people; None where it is watched.
        """
        with self._lock:
            known = self._camera(camera)
            if known is None or known.unwatched == why:
                return
            self._link.keep(known.topics.status, known.leave(why))
            if why is not None:
                self._link.keep(known.topics.rate, "0.0", qos=0)

    def announce(self, camera: str) -> None:
        """Make a camera known, also one that was forgotten. Any thread may call this; it does not wait."""
        with self._lock:
            self._gone.pop(camera, None)
            self._camera(camera)

    def forget(self, camera: str) -> None:
        """Have the broker forget a camera that was removed, and Home Assistant with it.

        What still comes of it does not bring it back, `announce` does. Any thread may call this; it does not wait.
        """
        with self._lock:
            self._refused.discard(camera)
            if camera in self._cameras:
                self._forget(camera)

    def _begin_run(self, record: RunRecord) -> None:
        with self._lock:
            for camera in self._cameras.values():
                # Of a run before this one, which ended without a word.
                if camera.open_events:
                    camera.open_events.clear()
                    self._link.keep(camera.topics.state, _OFF)
            for name in record.cameras:
                self._camera(name)

    def _write_event(self, record: EventRecord) -> None:
        # Home Assistant takes the kind of an event from this key.
        payload = json_payload({"event_type": record.state, **record.to_dict()})
        with self._lock:
            messages = self._event_messages(record, payload)
        self._hand_over(record, messages)

    def _event_messages(self, record: EventRecord, payload: str) -> list[_Message]:
        if (topics := self._gone.get(record.camera)) is not None:
            return [] if self._is_taken(topics.level) else [(topics.event, payload, False)]
        camera = self._camera(record.camera)
        if camera is None:
            return []
        was_open = bool(camera.open_events)
        if record.state == "end":
            camera.open_events.discard(record.id)
        else:
            camera.open_events.add(record.id)
            camera.newest_event = record.id
        # Before the event: whoever acts on the event finds the state as it is.
        if bool(camera.open_events) != was_open:
            self._link.keep(camera.topics.state, _OFF if was_open else _ON)
        self._seen(camera)
        messages = [(camera.topics.event, payload, False)]
        if self._settings.onvif and (message := onvif_message(record, camera.topics)) is not None:
            messages.append((*message, True))
        return messages

    def _write_status(self, record: CameraRecord) -> None:
        with self._lock:
            camera = self._camera(record.camera)
            if camera is None or camera.unwatched is not None:
                return
            payload = camera.take(record)
            self._link.keep_later(camera.topics.status, payload)
        self._hand_over(record, [(camera.topics.status, payload, True)])

    def _write_score(self, record: SegmentRecord) -> None:
        with self._lock:
            camera = self._camera(record.camera)
            if camera is None:
                return
            self._seen(camera)
            now_s, score = time.monotonic(), f"{record.smoothed:.4f}"
            if camera.scored_s is not None and now_s - camera.scored_s < _SCORE_EVERY_S:
                camera.late_score = score
                return
            camera.scored_s, camera.late_score = now_s, None
            self._link.keep(camera.topics.score, score, qos=0)

    def _hand_over(self, record: EventRecord | CameraRecord, messages: Sequence[_Message]) -> None:
        try:
            self._publish(record, messages)
        finally:
            with self._lock:
                self._correct(record.camera, [topic for topic, _, retained in messages if retained])

    def _correct(self, name: str, topics: Sequence[str]) -> None:
        """What is retained there was true when it was written; by now the camera may be gone, or unwatched."""
        gone, camera = self._gone.get(name), self._cameras.get(name)
        if gone is not None and not self._is_taken(gone.level):
            for topic in topics:
                self._link.keep(topic, b"")
        elif camera is not None and camera.unwatched is not None and camera.topics.status in topics:
            self._link.keep(camera.topics.status, camera.leave(camera.unwatched))

    def _publish(self, record: Record, messages: Sequence[_Message]) -> None:
        until_s = time.monotonic() + self._patience_s
        if self._under_way is None or self._under_way[0] != record:
            self._under_way = (record, [])
        begun = self._under_way[1]
        for topic, payload, retain in messages[len(begun) :]:
            connected = self._link.wait(max(0.0, until_s - time.monotonic()))
            info = self._link.hand_over(topic, payload, retain=retain) if connected else None
            if info is None:
                raise NotDelivered(f"{self.name}: takes no records now ({self._link.why}); is the broker running?")
            begun.append(info)
        if not self._link.confirmed(begun, max(0.0, until_s - time.monotonic())):
            raise NotDelivered(f"{self.name}: did not confirm a record within {self._patience_s:g} s")
        self._under_way = None

    def _camera(self, name: str) -> MqttCamera | None:
        """A camera, which is announced the first time; None of one that is forgotten, or another one in a topic."""
        with self._lock:
            if (known := self._cameras.get(name)) is not None or name in self._gone:
                return known
            try:
                topics = camera_topics(self._settings.prefix, [*self._cameras, name])[name]
            except UsageError as error:
                if name not in self._refused:
                    self._refused.add(name)
                    log.error("%s; nothing of %r is published", error, name)
                return None
            camera = self._cameras[name] = MqttCamera(name, topics)
            self._published.add(name, described=self._settings.discovery)
            self._link.keep(topics.status, camera.status("offline", "nothing was heard of it yet"))
            self._link.keep(topics.state, _OFF)
            if self._on_pause is not None:
                self._link.keep(topics.pause, _OFF)
            self._describe(camera)
            return camera

    def _forget(self, name: str) -> None:
        self._cameras.pop(name, None)
        topics = self._gone[name] = CameraTopics(self._settings.prefix, camera_level(name))
        if self._settings.discovery or self._published.is_described(name):
            self._link.keep(self._description_topic(name), b"")
        if self._is_taken(topics.level):
            return
        for topic in topics.retained:
            self._link.keep(topic, b"")
        if self._settings.onvif:
            self._link.keep(onvif_topic(topics), b"")

    def _is_taken(self, level: str) -> bool:
        """Whether a camera that is known has this level: names that differ may be one there."""
        return any(camera.topics.level == level for camera in self._cameras.values())

    def _seen(self, camera: MqttCamera) -> None:
        """A file never says that it is online, its segments do."""
        if not (camera.reports or camera.online or camera.unwatched):
            camera.online = True
            self._link.keep(camera.topics.status, camera.status("online", "segments are scored"))

    def _describe(self, camera: MqttCamera) -> None:
        if not self._settings.discovery:
            return
        description = device_description(
            camera.name,
            camera.topics,
            device_id(self._settings.prefix, camera.name),
            self._available,
            pause=self._on_pause is not None,
            feedback=self._marks is not None,
        )
        self._link.keep(self._description_topic(camera.name), description)

    def _description_topic(self, camera: str) -> str:
        return discovery_topic(self._settings.discovery_prefix, device_id(self._settings.prefix, camera))

    def _home_assistant_says(self, _topic: str, payload: bytes) -> None:
        if payload == b"online":
            with self._lock:
                for camera in self._cameras.values():
                    self._describe(camera)

    def _asked_to_mark(self, topic: str, payload: bytes) -> None:
        with self._lock:
            camera = next((one for one in self._cameras.values() if one.topics.feedback_set == topic), None)
            newest = None if camera is None else camera.newest_event
        if camera is None:
            log.warning("%s: %s: there is no camera of that name", self.name, printable(topic))
        elif self._marks is not None:
            self._marks.ask(camera.name, payload, newest)

    def _answer_mark(self, name: str, payload: str) -> None:
        with self._lock:
            camera = self._cameras.get(name)
        if camera is not None:
            self._link.hand_over(camera.topics.feedback, payload)

    def _asked_to_pause(self, topic: str, payload: bytes) -> None:
        wanted = payload.decode("utf-8", "replace").strip().upper()
        with self._lock:
            camera = next((one for one in self._cameras.values() if one.topics.pause_set == topic), None)
            told = 0 if camera is None else camera.pauses_told
        if self._on_pause is None:
            return
        if camera is None:
            log.warning("%s: %s: there is no camera of that name", self.name, printable(topic))
            return
        if wanted not in (_ON, _OFF):
            log.warning("%s: %s: %r is neither ON nor OFF", self.name, topic, wanted[:40])
            return
        try:
            self._on_pause(camera.name, wanted == _ON)
        except Exception as error:  # noqa: BLE001  whatever it is, the switch says what is
            log.error(
                "%s: %s: cannot be %s (%s)",
                self.name,
                camera.name,
                "paused" if wanted == _ON else "resumed",
                one_line(error),
            )
            return
        with self._lock:
            # Whoever paused it may have said so already, and something newer since.
            if camera.pauses_told == told:
                self.publish_pause(camera.name, wanted == _ON)
