"""Descriptions of cameras against the rules by which Home Assistant takes or refuses them, as written down here."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from edge_runtime.outputs.mqtt_discovery import birth_topic, device_description, discovery_topic
from edge_runtime.outputs.mqtt_topics import available_topic, camera_topics, device_id

# From Home Assistant's MQTT schemas: what it refuses a device for when it is unknown, or missing.
TOP = {"device", "origin", "components", "availability", "availability_mode", "state_topic", "command_topic", "qos"}
DEVICE = {"identifiers", "connections", "name", "manufacturer", "model", "model_id", "hw_version", "sw_version"}
ORIGIN = {"name", "sw_version", "support_url"}
COMMON = {"platform", "unique_id", "name", "icon", "entity_category", "availability", "availability_mode"}
COMMON |= {"json_attributes_topic", "enabled_by_default"}
# Of each platform: what it needs, and what it may have besides.
PLATFORMS: dict[str, tuple[set[str], set[str]]] = {
    "binary_sensor": ({"state_topic"}, {"device_class", "payload_on", "payload_off", "value_template"}),
    "event": ({"state_topic", "event_types"}, {"device_class", "value_template"}),
    "image": ({"image_topic"}, {"content_type", "image_encoding"}),
    "sensor": (
        {"state_topic"},
        {"device_class", "state_class", "unit_of_measurement", "value_template", "options"}
        | {"suggested_display_precision"},
    ),
    "button": ({"command_topic"}, {"payload_press", "device_class"}),
    "switch": ({"command_topic"}, {"state_topic", "payload_on", "payload_off"}),
}
AVAILABILITY = {"topic", "payload_available", "payload_not_available", "value_template"}


def check_topic(topic: str) -> None:
    assert topic
    assert not set(topic) & set("+#\0"), topic
    topic.encode()


def check_availability(entries: list[dict[str, str]]) -> None:
    assert entries
    for entry in entries:
        assert entry.keys() <= AVAILABILITY
        check_topic(entry["topic"])


def check(description: dict[str, Any]) -> None:
    """As strict as Home Assistant, and stricter: no key that it would silently leave out."""
    assert description.keys() <= TOP
    assert {"device", "origin", "components"} <= description.keys()
    device, origin = description["device"], description["origin"]
    assert device.keys() <= DEVICE
    assert device["identifiers"]
    assert all(isinstance(value, str) for key, value in device.items() if key != "identifiers")
    assert "name" in origin
    assert origin.keys() <= ORIGIN
    check_availability(description["availability"])
    assert description["availability_mode"] in {"all", "any", "latest"}
    assert description["qos"] in {0, 1, 2}
    ids = [part["unique_id"] for part in description["components"].values()]
    assert len(set(ids)) == len(ids)
    for key, part in description["components"].items():
        assert re.fullmatch(r"[a-zA-Z0-9_-]+", key)
        needs, may = PLATFORMS[part["platform"]]
        assert needs <= part.keys() <= needs | may | COMMON, part.keys()
        for name, value in part.items():
            if name.endswith("_topic"):
                check_topic(value)
        if "availability" in part:
            check_availability(part["availability"])
        if part.get("device_class") == "enum":
            assert part["options"]
            assert not part.keys() & {"state_class", "unit_of_measurement"}


def described(camera: str, *, pause: bool = True, feedback: bool = False) -> dict[str, Any]:
    topics = camera_topics("headhunt", [camera])[camera]
    device = device_id("headhunt", camera)
    text = device_description(camera, topics, device, available_topic("headhunt"), pause=pause, feedback=feedback)
    values: dict[str, Any] = json.loads(text)
    return values


@pytest.mark.parametrize("camera", ["gate", "front door", "a/b", "前門", "clip\udcff.mp4", "x" * 300])
@pytest.mark.parametrize("pause", [True, False])
def test_home_assistant_takes_every_description(camera: str, pause: bool) -> None:
    description = described(camera, pause=pause, feedback=pause)
    check(description)
    device = description["device"]["identifiers"][0]
    assert re.fullmatch(r"ha/device/[a-zA-Z0-9_-]+/config", discovery_topic("ha", device))


def test_an_alarm_that_was_false_is_a_button_where_somebody_takes_marks() -> None:
    assert "false_alarm" not in described("gate")["components"]
    button = described("gate", feedback=True)["components"]["false_alarm"]
    assert (button["platform"], button["payload_press"]) == ("button", "false_alarm")
    assert button["command_topic"] == "headhunt/gate/feedback/set"


def test_what_a_camera_consists_of() -> None:
    parts = described("gate")["components"]
    assert {key: part["platform"] for key, part in parts.items()} == {
        "anomaly": "binary_sensor",
        "event": "event",
        "snapshot": "image",
        "score": "sensor",
        "fps": "sensor",
        "status": "sensor",
        "pause": "switch",
    }
    assert parts["anomaly"]["device_class"] == "problem"
    assert "pause" not in described("gate", pause=False)["components"]


def test_a_camera_that_is_gone_can_still_be_asked_why_and_resumed() -> None:
    description = described("gate")
    assert [entry["topic"] for entry in description["availability"]] == ["headhunt/available", "headhunt/gate/status"]
    for key in ("status", "pause"):
        assert description["components"][key]["availability"] == [{"topic": "headhunt/available"}]


def test_a_wrong_description_is_found() -> None:
    for wrong in ({"surprise": 1}, {"origin": {}}, {"device": {"identifiers": []}}):
        with pytest.raises(AssertionError):
            check(described("gate") | wrong)


def test_where_home_assistant_says_that_it_started() -> None:
    assert birth_topic("homeassistant") == "homeassistant/status"
