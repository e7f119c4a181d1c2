"""What Home Assistant is told of a camera, so that it appears there as a device: MQTT device discovery.

Keys are written in full. Home Assistant refuses a whole device for one key that it does not know at the top, or in
`device` and `origin`.
"""

from __future__ import annotations

from typing import Any

from edge_runtime._version import __version__
from edge_runtime.outputs.mqtt_topics import CameraTopics, json_payload

NAME = "HeadHunt-VAD"


def discovery_topic(prefix: str, device: str) -> str:
    """Where a device's description is kept, retained."""
    return f"{prefix}/device/{device}/config"


def birth_topic(prefix: str) -> str:
    """Where Home Assistant says `online` when it has started."""
    return f"{prefix}/status"


def device_description(
    camera: str, topics: CameraTopics, device: str, available: str, *, pause: bool, feedback: bool = False
) -> str:
    """The description of one camera.

    Args:
        camera: Its name, shown to people.
        topics: Its topics.
        device: Its id, of letters, digits, `_` and `-`.
        available: Topic that says whether the program runs.
        pause: Whether it can be paused, for which there is a switch then.
        feedback: Whether its events can be marked, for which there is a button then.
    """
    running = {"topic": available}
    parts: dict[str, dict[str, Any]] = {
        "anomaly": {
            "platform": "binary_sensor",
            "name": "Anomaly",
            "device_class": "problem",
            "state_topic": topics.state,
            "payload_on": "ON",
            "payload_off": "OFF",
        },
        "event": {
            "platform": "event",
            "name": "Event",
            "icon": "mdi:alert-outline",
            "state_topic": topics.event,
            "event_types": ["new", "update", "end"],
        },
        "snapshot": {
            "platform": "image",
            "name": "Snapshot",
            "image_topic": topics.snapshot,
            "content_type": "image/jpeg",
        },
        "score": {
            "platform": "sensor",
            "name": "Score",
            "icon": "mdi:gauge",
            "state_topic": topics.score,
            "state_class": "measurement",
            "suggested_display_precision": 2,
        },
        "fps": {
            "platform": "sensor",
            "name": "Frame rate",
            "icon": "mdi:speedometer",
            "state_topic": topics.rate,
            "state_class": "measurement",
            "unit_of_measurement": "fps",
            "suggested_display_precision": 1,
            "entity_category": "diagnostic",
        },
        # Says why a camera gives nothing, so it has to be there when the camera is not.
        "status": {
            "platform": "sensor",
            "name": "Status",
            "device_class": "enum",
            "options": ["online", "stalled", "offline"],
            "state_topic": topics.status,
            "value_template": "{{ value_json.state }}",
            "json_attributes_topic": topics.status,
            "entity_category": "diagnostic",
            "availability": [running],
        },
    }
    if pause:
        # A paused camera may be offline, and has to be resumed all the same.
        parts["pause"] = {
            "platform": "switch",
            "name": "Pause",
            "icon": "mdi:pause",
            "command_topic": topics.pause_set,
            "state_topic": topics.pause,
            "payload_on": "ON",
            "payload_off": "OFF",
            "availability": [running],
        }
    if feedback:
        # A camera that has gone since may have given a false alarm.
        parts["false_alarm"] = {
            "platform": "button",
            "name": "Last alarm was false",
            "icon": "mdi:bell-off-outline",
            "command_topic": topics.feedback_set,
            "payload_press": "false_alarm",
            "availability": [running],
        }
    description: dict[str, Any] = {
        "device": {
            "identifiers": [device],
            # Home Assistant reads no half surrogates, not even escaped ones.
            "name": camera.encode("utf-8", "replace").decode(),
            "manufacturer": NAME,
            "model": "hh-edge camera",
            "sw_version": __version__,
        },
        "origin": {"name": NAME, "sw_version": __version__},
        "components": {key: {**part, "unique_id": f"{device}_{key}"} for key, part in parts.items()},
        "availability": [running, {"topic": topics.status, "value_template": "{{ value_json.state }}"}],
        "availability_mode": "all",
        "qos": 1,
    }
    return json_payload(description)
