"""Events in ONVIF's JSON form: topic and payload by the grammar of its Core Specification."""

from __future__ import annotations

import json
import re
from datetime import datetime

from edge_runtime.outputs.mqtt_onvif import onvif_message
from edge_runtime.outputs.mqtt_topics import camera_topics
from edge_runtime.records import EventRecord, EventState


def message(state: EventState, camera: str = "front door", **more: str) -> tuple[str, dict[str, object]] | None:
    record = EventRecord(state, "e", camera, 0.0, 1.0, 0, 30, 0.9, 0.8, **more)  # type: ignore[arg-type]
    made = onvif_message(record, camera_topics("site", [camera])[camera])
    return made and (made[0], json.loads(made[1]))


def test_a_beginning_and_an_end_are_one_property_that_changes() -> None:
    begun, ended = message("new"), message("end")
    assert begun is not None
    assert ended is not None
    assert begun[0] == ended[0] == "site/onvif-ej/RuleEngine/headhunt:AnomalyDetector/Anomaly/&front door/Anomaly"
    assert [payload["Data"]["State"] for _, payload in (begun, ended)] == [True, False]  # type: ignore[index]
    assert message("update") is None


def test_the_payload_follows_the_grammar() -> None:
    made = message("new", time="2026-11-29T06:46:22.117Z")
    assert made is not None
    topic, payload = made
    assert list(payload) == ["UtcTime", "Source", "Data"]
    assert payload["UtcTime"] == "2026-11-29T06:46:22.117Z"
    source = payload["Source"]
    assert isinstance(source, dict)
    # Behind `&` are the values of the source, in its order.
    assert topic.rpartition("/&")[2] == "/".join(source.values())


def test_a_file_has_no_time_so_it_is_now() -> None:
    made = message("new", camera="a/b+c#")
    assert made is not None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(made[1]["UtcTime"]))
    age = datetime.now().astimezone() - datetime.fromisoformat(str(made[1]["UtcTime"]))
    assert abs(age.total_seconds()) < 60
    assert not set(made[0]) & set("+#")
