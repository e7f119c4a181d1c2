"""Events in the JSON form in which ONVIF devices tell theirs over MQTT (ONVIF Core Specification, Event Broker).

Topic and payload follow that section; no conformance to a profile is claimed.
"""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import UNSET

from edge_runtime.outputs.mqtt_topics import CameraTopics, json_payload
from edge_runtime.records import DECIMALS, EventRecord

# A topic of a vendor below ONVIF's own root, as the specification asks for.
_TOPIC = "RuleEngine/headhunt:AnomalyDetector/Anomaly"
_RULE = "Anomaly"


def onvif_topic(topics: CameraTopics) -> str:
    """Retained: a camera's newest event that began or ended. The source stands behind `&`."""
    return f"{topics.prefix}/onvif-ej/{_TOPIC}/&{topics.level}/{_RULE}"


def onvif_message(record: EventRecord, topics: CameraTopics) -> tuple[str, str] | None:
    """Topic and payload of an event that begins or ends; None of one that goes on.

    A topic of its own has the broker keep the newest state of every camera.
    """
    if record.state == "update":
        return None
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    payload = {
        "UtcTime": now if record.time is UNSET else record.time,
        "Source": {"VideoSource": topics.level, "Rule": _RULE},
        "Data": {
            "State": record.state == "new",
            "EventId": record.id,
            "Peak": round(record.peak, DECIMALS),
            "Mean": round(record.mean, DECIMALS),
        },
    }
    return onvif_topic(topics), json_payload(payload)
