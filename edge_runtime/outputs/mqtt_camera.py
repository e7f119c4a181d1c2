"""What is known of one camera, and how its status is told."""

from __future__ import annotations

from dataclasses import dataclass, field

from msgspec import UNSET

from edge_runtime.outputs.mqtt_topics import CameraTopics, json_payload
from edge_runtime.records import CameraRecord, Quality


@dataclass(slots=True)
class MqttCamera:
    """One camera that the broker knows.

    Attributes:
        name: Its name.
        topics: Its topics.
        open_events: Ids of its events that are not over.
        reports: Whether it says by itself what its connection is like; a file does not.
        online: Whether it gives frames.
        unwatched: Why nobody watches it; None where somebody does.
        scored_s: When its newest score was published.
        late_score: A newer one that was not.
        pauses_told: How often it was said whether it is paused.
        newest_event: Id of the event of this run that began last.
    """

    name: str
    topics: CameraTopics
    open_events: set[str] = field(default_factory=set)
    reports: bool = False
    online: bool = False
    unwatched: str | None = None
    scored_s: float | None = None
    late_score: str | None = None
    pauses_told: int = 0
    newest_event: str | None = None
    _quality: list[Quality] = field(default_factory=list)

    def take(self, record: CameraRecord) -> str:
        """Take what a record says of it; returns its status as the payload of a message."""
        # A camera that came back is online for whoever asks later.
        state = "online" if record.state == "reconnected" else record.state
        self.reports, self.online = True, state == "online"
        if record.quality is not UNSET:
            self._quality = [one for one in record.quality if one != "ok"]
        elif state == "offline":
            self._quality = []
        return self.status(state, record.detail, record)

    def leave(self, why: str | None) -> str:
        """Note why it is not watched, or that it is again (None); returns its status as the payload of a message."""
        self.unwatched, self.online, self._quality = why, False, []
        return self.status("offline", why or "is watched; nothing was heard of it yet")

    def status(self, state: str, detail: str, record: CameraRecord | None = None) -> str:
        """The payload of a message that says what it is like; reason and time are those of a record."""
        reason = UNSET if record is None else record.reason
        moment = UNSET if record is None else record.time
        return json_payload(
            {
                "state": state,
                "detail": detail,
                "reason": None if reason is UNSET else reason,
                "quality": self._quality,
                "time": None if moment is UNSET else moment,
            }
        )
