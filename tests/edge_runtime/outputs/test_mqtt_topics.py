"""Whatever a camera is called, its topics are topics, and its id is one that Home Assistant takes."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import UsageError
from edge_runtime.outputs.mqtt_topics import camera_level, camera_topics, device_id, json_payload

# Half surrogates included: names of files that are not UTF-8.
NAMES = st.text(st.characters(codec=None), max_size=300)


@given(NAMES)
def test_any_name_becomes_one_level_of_a_topic(name: str) -> None:
    level = camera_level(name)
    assert 0 < len(level.encode()) <= 1024
    assert not set(level) & set("/+#\0")
    topics = camera_topics("p", [name])[name]
    assert len(set(topics.retained)) == len(topics.retained)
    assert all(topic.startswith(f"p/{level}/") for topic in (*topics.retained, topics.event, topics.pause_set))


@given(NAMES, NAMES, st.sampled_from(["p", "p_q", "a/b"]), st.sampled_from(["p", "p_q", "a/b"]))
def test_no_two_cameras_have_one_id(first: str, second: str, prefix: str, other: str) -> None:
    ids = [device_id(prefix, first), device_id(other, second)]
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]+", one) for one in ids)
    assert (ids[0] == ids[1]) == ((prefix, first) == (other, second))


def test_ids_of_plain_names_are_plain_and_others_are_told_apart() -> None:
    assert device_id("headhunt", "gate") == "headhunt_gate"
    assert device_id("a", "b_c") != device_id("a_b", "c")
    assert device_id("headhunt", "前門") != device_id("headhunt", "後門")


@pytest.mark.parametrize(("first", "second"), [("a/b", "a_b"), ("a\n", "a#"), ("", "_")])
def test_names_that_are_the_same_in_a_topic_are_refused(first: str, second: str) -> None:
    with pytest.raises(UsageError, match="rename one"):
        camera_topics("p", [first, second])


@given(NAMES)
def test_json_is_text_that_mqtt_carries(name: str) -> None:
    text = json_payload({"camera": name})
    text.encode()
    assert json.loads(text) == {"camera": name}


def test_what_is_not_finite_is_no_json() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_payload({"peak": float("nan")})
