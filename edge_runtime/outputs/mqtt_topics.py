"""Which topic says what, and what a camera is called there."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edge_runtime.errors import UsageError

# Levels, wildcards and characters that a broker may close the connection for (MQTT 3.1.1, 1.5.3), half surrogates of
# names that are not UTF-8 among them.
_NOT_IN_A_LEVEL = re.compile("[/+#\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_NAME = 256


@dataclass(frozen=True, slots=True)
class CameraTopics:
    """The topics of one camera.

    Attributes:
        prefix: What all topics begin with.
        level: The camera, as one level of a topic.
    """

    prefix: str
    level: str

    @property
    def status(self) -> str:
        """Retained: what the connection to the camera is like, JSON."""
        return self._topic("status")

    @property
    def state(self) -> str:
        """Retained: ON while an event is open, else OFF."""
        return self._topic("state")

    @property
    def score(self) -> str:
        """Retained: the newest smoothed score."""
        return self._topic("score")

    @property
    def rate(self) -> str:
        """Retained: frames a second."""
        return self._topic("fps")

    @property
    def event(self) -> str:
        """Not retained: every record of an event, JSON."""
        return self._topic("event")

    @property
    def snapshot(self) -> str:
        """Retained: a picture, JPEG."""
        return self._topic("snapshot")

    @property
    def pause(self) -> str:
        """Retained: ON while the camera is not scored because somebody said so, else OFF."""
        return self._topic("pause")

    @property
    def pause_set(self) -> str:
        """ON or OFF, from others."""
        return self._topic("pause/set")

    @property
    def feedback(self) -> str:
        """Not retained: what became of what somebody said of an event, JSON."""
        return self._topic("feedback")

    @property
    def feedback_set(self) -> str:
        """What somebody says of an event, from others."""
        return self._topic("feedback/set")

    @property
    def retained(self) -> tuple[str, ...]:
        """All that a broker keeps of this camera."""
        return self.status, self.state, self.score, self.rate, self.snapshot, self.pause

    def _topic(self, what: str) -> str:
        return f"{self.prefix}/{self.level}/{what}"


def available_topic(prefix: str) -> str:
    """Retained: whether the program runs, `online` or `offline`."""
    return f"{prefix}/available"


def camera_level(camera: str) -> str:
    """A camera's name as one level of a topic: what may not stand there becomes `_`."""
    return _NOT_IN_A_LEVEL.sub("_", camera[:_LONGEST_NAME]) or "_"


def device_id(prefix: str, camera: str) -> str:
    """A camera's id for Home Assistant: letters, digits, `_` and `-`; of two names never the same."""
    plain = f"{prefix}_{camera}"
    slug = _NOT_IN_AN_ID.sub("_", plain)
    if slug == plain and "_" not in camera and len(plain) <= _LONGEST_NAME:
        return slug
    digest = hashlib.sha256(f"{prefix}\0{camera}".encode("utf-8", "surrogatepass")).hexdigest()
    return f"{slug[:64]}_{digest[:8]}"


def camera_topics(prefix: str, cameras: Iterable[str]) -> dict[str, CameraTopics]:
    """The topics of each camera, by name.

    Raises:
        UsageError: Two names are the same in a topic.
    """
    found: dict[str, CameraTopics] = {}
    taken: dict[str, str] = {}
    for camera in cameras:
        level = camera_level(camera)
        other = taken.setdefault(level, camera)
        if other != camera:
            raise UsageError(f"mqtt: cameras {other!r} and {camera!r} are both {level!r} in a topic; rename one")
        found[camera] = CameraTopics(prefix, level)
    return found


def json_payload(values: Mapping[str, object]) -> str:
    """Values as the JSON of a message.

    Raises:
        ValueError: A number is not finite.
    """
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    # As in the lines of the records: a name that is not UTF-8 holds half surrogates, which MQTT does not carry.
    return text.encode("utf-8", "backslashreplace").decode()
