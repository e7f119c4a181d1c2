"""Records at a real broker: what it keeps, what it passes on, and what is left when the program is killed."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from broker import Broker, Listener, broker, kept_by, listener, until

from edge_runtime.errors import NotDelivered, UsageError
from edge_runtime.outputs import mqtt_link
from edge_runtime.outputs.mqtt import MqttSettings, MqttSink
from edge_runtime.outputs.mqtt_marks import Marks
from edge_runtime.records import CameraRecord, EventRecord, EventState, GapRecord, Record, RunRecord, SegmentRecord

__all__ = ["broker", "listener"]

MakeSink = Callable[..., MqttSink]

CHILD = """
import sys, time
from edge_runtime.outputs.mqtt import MqttSettings, MqttSink
from edge_runtime.records import EventRecord, RunRecord
sink = MqttSink(MqttSettings("127.0.0.1", int(sys.argv[1])))
sink.write(RunRecord("r", "2026-01-01T00:00:00Z", "b", "0.1.0", ["gate"]))
sink.write(EventRecord("new", "e", "gate", 0.0, 1.0, 0, 30, 0.9, 0.9))
print("ready", flush=True)
time.sleep(60)
"""


def run(*cameras: str) -> RunRecord:
    return RunRecord("r", "2026-01-01T00:00:00Z", "b", "0.1.0", list(cameras))


def event(state: EventState, number: int, camera: str = "gate") -> EventRecord:
    return EventRecord(state, f"e-{number}", camera, float(number), number + 1.0, number, number + 1, 0.9, 0.8)


def segment(smoothed: float, camera: str = "gate") -> SegmentRecord:
    return SegmentRecord(camera, 0, 0, 48, 0.0, 1.6, smoothed, smoothed, smoothed > 0.5)


@pytest.fixture
def make_sink(broker: Broker) -> Iterator[MakeSink]:
    made: list[MqttSink] = []

    def make(
        *cameras: str,
        on_pause: Callable[[str, bool], None] | None = None,
        marks: Marks | None = None,
        published: dict[str, str] | None = None,
        **settings: object,
    ) -> MqttSink:
        patience_s = settings.pop("patience_s", 10.0)
        sink = MqttSink(
            MqttSettings("127.0.0.1", broker.port, **settings),  # type: ignore[arg-type]
            cameras,
            on_pause=on_pause,
            marks=marks,
            published=published,
            patience_s=patience_s,  # type: ignore[arg-type]
        )
        made.append(sink)
        return sink

    yield make
    for sink in made:
        sink.close()


def deliver(sink: MqttSink, record: Record) -> bool:
    """What a spool does: the same record until it is taken. Returns whether that took more than one attempt."""
    again = False
    while True:
        try:
            sink.write(record)
        except NotDelivered:
            again = True
            time.sleep(0.05)
        else:
            return again


def test_a_newest_value_is_retained_and_an_event_is_not(broker: Broker, make_sink: MakeSink) -> None:
    sink = make_sink()
    sink.write(run("gate"))
    sink.write(CameraRecord("gate", "offline", "rtsp://gate: refused", reason="refused"))
    sink.write(
        CameraRecord("gate", "reconnected", "rtsp://gate: 640x480", quality=["covered"], time="2026-01-01T00:00:01Z")
    )
    sink.write(GapRecord("gate", 0.0, 1.0, "lost"))
    sink.write(segment(0.25))
    sink.write(event("new", 1))
    sink.publish_snapshot("gate", b"\xff\xd8\x00\xff\xd9")
    sink.publish_rate("gate", 14.96)
    until(lambda: "headhunt/gate/fps" in kept_by(broker.port))
    kept = kept_by(broker.port, "headhunt/#")
    assert json.loads(kept.pop("headhunt/gate/status")) == {
        "state": "online",
        "detail": "rtsp://gate: 640x480",
        "reason": None,
        "quality": ["covered"],
        "time": "2026-01-01T00:00:01Z",
    }
    assert kept == {
        "headhunt/available": b"online",
        "headhunt/gate/state": b"ON",
        "headhunt/gate/score": b"0.2500",
        "headhunt/gate/snapshot": b"\xff\xd8\x00\xff\xd9",
        "headhunt/gate/fps": b"15.0",
    }
    sink.write(event("end", 1))
    sink.close()
    kept = kept_by(broker.port, "headhunt/#")
    assert (kept["headhunt/available"], kept["headhunt/gate/state"]) == (b"offline", b"OFF")


def test_an_event_arrives_as_its_record_and_behind_the_state_it_makes(
    listener: Listener, make_sink: MakeSink
) -> None:
    sink = make_sink()
    records = [event("new", 1), event("update", 1), event("new", 2), event("end", 1), event("end", 2)]
    for record in records:
        sink.write(record)
    until(lambda: len(listener.on("headhunt/gate/event")) == len(records))
    assert [one.json for one in listener.on("headhunt/gate/event")] == [
        {"event_type": record.state} | record.to_dict() for record in records
    ]
    told = [one.text for one in listener.heard if one.topic in {"headhunt/gate/state", "headhunt/gate/event"}]
    states = [text for text in told if text in {"ON", "OFF"}]
    assert states[-2:] == ["ON", "OFF"]
    assert told.index("ON") < told.index(listener.on("headhunt/gate/event")[0].text)


def test_kill_9_leaves_offline_behind_and_the_next_run_closes_the_event(broker: Broker, make_sink: MakeSink) -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(broker.port)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    assert kept_by(broker.port)["headhunt/available"] == b"online"
    child.kill()
    child.wait()
    child.stdout.close()
    until(lambda: kept_by(broker.port)["headhunt/available"] == b"offline")
    assert kept_by(broker.port)["headhunt/gate/state"] == b"ON"
    make_sink().write(run("gate"))
    until(lambda: kept_by(broker.port)["headhunt/available"] == b"online")
    assert kept_by(broker.port)["headhunt/gate/state"] == b"OFF"


def test_every_event_survives_brokers_that_are_killed_and_only_what_was_under_way_comes_twice(
    broker: Broker, listener: Listener, make_sink: MakeSink
) -> None:
    broker.save()
    sink = make_sink(patience_s=0.5)
    records = [event("new", number) for number in range(400)]
    taken: list[str] = []
    unsure: set[str] = set()

    def write() -> None:
        for record in records:
            if deliver(sink, record):
                unsure.add(record.id)
            taken.append(record.id)
            time.sleep(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    for paused in (True, False, True):
        begun = len(taken)
        until(lambda enough=begun + 50: len(taken) >= enough)
        if paused:
            # It dies with a record that it has not read.
            broker.pause()
            time.sleep(0.1)
        broker.kill()
        until(lambda: not listener.connected.is_set())
        broker.start()
        until(listener.connected.is_set)
    writer.join(60)
    names = [record.id for record in records]
    assert taken == names
    until(lambda: len({one.json["id"] for one in listener.on("headhunt/gate/event")}) == len(names))
    got = [one.json["id"] for one in listener.on("headhunt/gate/event")]
    assert list(dict.fromkeys(got)) == names
    assert {name for name in got if got.count(name) > 1} <= unsure
    assert 1 <= len(unsure) <= 3


def test_a_broker_that_forgot_everything_is_told_everything_again(broker: Broker, make_sink: MakeSink) -> None:
    sink = make_sink()
    sink.write(run("gate"))
    sink.write(event("new", 1))
    before = until(lambda: len(kept := kept_by(broker.port)) >= 4 and kept)
    broker.kill()
    for file in broker.folder.glob("*.db"):
        file.unlink()
    broker.start()
    assert until(lambda: kept_by(broker.port) == before)


def test_a_record_under_way_is_not_published_again_while_a_broker_hangs(
    broker: Broker, listener: Listener, make_sink: MakeSink
) -> None:
    sink = make_sink(patience_s=0.2, onvif=True)
    deliver(sink, event("new", 0))
    broker.pause()
    for _ in range(5):
        with pytest.raises(NotDelivered, match=r"did not confirm a record within 0\.2 s"):
            sink.write(event("new", 1))
    broker.resume()
    deliver(sink, event("new", 1))
    deliver(sink, event("new", 2))
    until(lambda: len(listener.on("headhunt/gate/event")) >= 3)
    assert [one.json["id"] for one in listener.on("headhunt/gate/event")] == ["e-0", "e-1", "e-2"]
    until(lambda: len([one for one in listener.heard if "onvif-ej" in one.topic]) == 3)


def test_without_a_broker_only_events_and_states_are_refused(
    broker: Broker, make_sink: MakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_link, "_CLOSE_S", 60.0)
    broker.kill()
    sink = make_sink(patience_s=0.1)
    sink.write(run("gate"))
    sink.write(segment(0.5))
    for record in (event("new", 1), CameraRecord("gate", "online", "")):
        with pytest.raises(NotDelivered, match=r"127\.0\.0\.1:\d+: takes no records now"):
            sink.write(record)
    begun_s = time.monotonic()
    sink.close()
    assert time.monotonic() - begun_s < 30  # nothing is waited for


def test_a_score_is_published_once_a_second_and_the_last_one_at_the_end(
    broker: Broker, listener: Listener, make_sink: MakeSink
) -> None:
    sink = make_sink("gate")
    until(lambda: listener.last("headhunt/available") == "online")
    for number in range(1000):
        sink.write(segment(number / 1000))
    sink.close()
    until(lambda: listener.last("headhunt/available") == "offline")
    scores = [one.text for one in listener.on("headhunt/gate/score")]
    assert len(scores) <= 4
    assert (scores[0], scores[-1]) == ("0.0000", "0.9990")


def test_a_file_is_online_with_its_first_segment_and_a_camera_says_so_itself(
    broker: Broker, make_sink: MakeSink
) -> None:
    sink = make_sink("clip", "gate")

    def states() -> list[str]:
        kept = kept_by(broker.port)
        return [json.loads(kept[f"headhunt/{name}/status"])["state"] for name in ("clip", "gate")]

    sink.write(CameraRecord("gate", "offline", "refused", reason="refused"))
    assert states() == ["offline", "offline"]
    sink.write(segment(0.1, "clip"))
    # What was in the queue when the camera went.
    sink.write(segment(0.1, "gate"))
    until(lambda: states() == ["online", "offline"])


def test_pause_goes_there_and_back(listener: Listener, make_sink: MakeSink, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[tuple[str, bool]] = []

    def on_pause(camera: str, paused: bool) -> None:
        if camera == "stuck":
            raise RuntimeError("it is stuck")
        asked.append((camera, paused))

    make_sink("front door", "stuck", on_pause=on_pause)
    until(lambda: listener.last("headhunt/available") == "online")
    assert listener.last("headhunt/front door/pause") == "OFF"
    listener.say("headhunt/front door/pause/set", "ON")
    until(lambda: listener.last("headhunt/front door/pause") == "ON")
    listener.say("headhunt/stuck/pause/set", "ON")
    listener.say("headhunt/front door/pause/set", "maybe")
    listener.say("headhunt/nobody/pause/set", "ON")
    listener.say("headhunt/front door/pause/set", "off")
    until(lambda: listener.last("headhunt/front door/pause") == "OFF")
    assert asked == [("front door", True), ("front door", False)]
    assert listener.last("headhunt/stuck/pause") == "OFF"
    assert "stuck: cannot be paused (it is stuck)" in caplog.text
    assert "headhunt/nobody/pause/set: there is no camera of that name" in caplog.text
    assert "'MAYBE' is neither ON nor OFF" in caplog.text


def test_a_command_that_the_broker_kept_pauses_nothing(listener: Listener, make_sink: MakeSink) -> None:
    listener.say("headhunt/gate/pause/set", "ON", retain=True)
    asked: list[bool] = []
    make_sink("gate", on_pause=lambda _camera, paused: asked.append(paused))
    until(lambda: listener.last("headhunt/available") == "online")
    listener.say("headhunt/gate/pause/set", "OFF")
    until(lambda: asked)
    assert asked == [False]


class Marked:
    """Keeps what is marked; knows the events that it is told to know."""

    def __init__(self, *known: str) -> None:
        self.known, self.said = list(known), list[tuple[object, ...]]()

    def mark_event(self, event_id: str, verdict: str | None, camera: str | None = None) -> Marked:
        if event_id not in self.known:
            raise UsageError(f"event {event_id}: is not known here")
        self.said.append((event_id, verdict, camera))
        return self

    def mark_stretch(self, verdict: str, camera: str, start: float, end: float) -> Marked:
        self.said.append((verdict, camera, start, end))
        return self

    def newest_event(self, camera: str) -> str | None:
        return self.known[0] if self.known else None

    @property
    def id(self) -> int:
        return len(self.said)


def test_an_event_is_marked_and_answered(listener: Listener, make_sink: MakeSink) -> None:
    marks = Marked("old-gate-1")
    sink = make_sink("gate", marks=marks)
    until(lambda: listener.last("headhunt/available") == "online")
    answers = "headhunt/gate/feedback"

    def said(payload: str) -> dict[str, object]:
        before = len(listener.on(answers))
        listener.say("headhunt/gate/feedback/set", payload)
        until(lambda: len(listener.on(answers)) > before)
        return listener.on(answers)[-1].json

    # Of a run before this one.
    assert said("false_alarm") == {"event": "old-gate-1", "verdict": "false_alarm", "mark": 1, "error": None}
    # One that is not kept yet when somebody presses the button.
    sink.write(event("new", 7))
    threading.Timer(0.3, marks.known.append, ["e-7"]).start()
    assert said("false_alarm")["event"] == "e-7"
    assert said('{"event": "e-7", "verdict": "missed"}')["mark"] == 3
    assert said("e-7 none")["verdict"] is None
    stretch = '{"verdict": "missed", "start": "2026-01-31T12:00:00Z", "end": "2026-01-31T13:00:10+01:00"}'
    assert said(stretch)["error"] is None
    assert marks.said[-1] == ("missed", "gate", 1769860800.0, 1769860810.0)
    assert marks.said[:-1] == [
        ("old-gate-1", "false_alarm", "gate"),
        ("e-7", "false_alarm", "gate"),
        ("e-7", "missed", "gate"),
        ("e-7", None, "gate"),
    ]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("", "the verdict is false_alarm or missed"),
        ("e-7 maybe", "the verdict is false_alarm or missed"),
        ("{", "Expecting"),
        ('{"event": "e-7"}', "there is no verdict in it"),
        ('{"event": 7, "verdict": "missed"}', "event is not the id of an event"),
        ('{"verdict": ["missed"]}', "the verdict is false_alarm or missed"),
        ('{"verdict": "missed", "start": "yesterday", "end": "now"}', "start is a time with its zone"),
        ('{"verdict": "missed", "start": "2026-01-31T12:00:00", "end": 1}', "start is a time with its zone"),
        ('{"verdict": null, "start": "2026-01-31T12:00:00Z", "end": "2026-01-31T12:00:01Z"}', "leave out event"),
        ('{"verdict": "missed", "more": 1}', "unknown key 'more'"),
        ("unknown-1 false_alarm", "event unknown-1: is not known here"),
    ],
)
def test_what_cannot_be_marked_is_said_on_the_topic(
    listener: Listener, make_sink: MakeSink, payload: str, reason: str
) -> None:
    marks = Marked("e-7")
    make_sink("gate", marks=marks)
    until(lambda: listener.last("headhunt/available") == "online")
    listener.say("headhunt/gate/feedback/set", payload)
    until(lambda: listener.on("headhunt/gate/feedback"))
    (answer,) = listener.on("headhunt/gate/feedback")
    assert answer.json["mark"] is None
    assert reason in answer.json["error"]
    assert marks.said == []


def test_a_mark_that_the_broker_kept_is_passed_over(listener: Listener, make_sink: MakeSink) -> None:
    listener.say("headhunt/gate/feedback/set", "e-7 false_alarm", retain=True)
    marks = Marked("e-7")
    make_sink("gate", marks=marks)
    until(lambda: listener.last("headhunt/available") == "online")
    listener.say("headhunt/gate/feedback/set", "e-7 missed")
    until(lambda: marks.said)
    assert marks.said == [("e-7", "missed", "gate")]


@pytest.mark.parametrize("onvif", [False, True])
def test_a_camera_that_is_forgotten_leaves_nothing_behind(
    broker: Broker, listener: Listener, make_sink: MakeSink, onvif: bool
) -> None:
    sink = make_sink("gate", "yard", on_pause=lambda _camera, _paused: None, onvif=onvif)
    sink.write(event("new", 1))
    sink.write(segment(0.5))
    sink.publish_snapshot("gate", b"jpeg")
    sink.forget("gate")
    sink.write(event("new", 1, "yard"))
    assert [topic for topic in kept_by(broker.port) if "gate" in topic] == []
    # Its rest is told to who listens, and brings nothing back.
    sink.write(run("gate", "yard"))
    sink.write(event("end", 1))
    sink.write(CameraRecord("gate", "online", ""))
    sink.write(segment(0.5))
    sink.publish_rate("gate", 10.0)
    sink.publish_pause("gate", paused=True)
    sink.write(event("end", 1, "yard"))
    until(lambda: [one.json["state"] for one in listener.on("headhunt/gate/event")] == ["new", "end"])
    assert [topic for topic in kept_by(broker.port) if "gate" in topic] == []
    # It may come back, as itself.
    sink.announce("gate")
    sink.write(event("new", 2))
    kept = kept_by(broker.port)
    assert (kept["headhunt/gate/state"], kept["headhunt/gate/pause"]) == (b"ON", b"OFF")
    assert "homeassistant/device/headhunt_gate/config" in kept


def about(name: str, kept: dict[str, bytes]) -> list[str]:
    return [topic for topic in kept if name in topic]


def test_a_camera_of_an_earlier_run_that_is_configured_no_more_is_forgotten(
    broker: Broker, make_sink: MakeSink
) -> None:
    notes: dict[str, str] = {}
    first = make_sink("gate", "yard", "b\udcffcam", published=notes)
    until(lambda: about("gate", kept_by(broker.port)) and about("yard", kept_by(broker.port)))
    first.close()
    assert len(notes) == 3
    # What waited in a spool is of the time before.
    second = make_sink("gate", published=notes, discovery=False)
    second.write(run("gate", "yard"))
    second.write(event("end", 1, "yard"))
    until(lambda: kept_by(broker.port)["headhunt/available"] == b"online")
    kept = kept_by(broker.port)
    assert about("yard", kept) == about("_cam", kept) == []
    assert about("gate", kept)
    second.close()

    def they_are_noted_no_more() -> bool:
        sink = make_sink("gate", published=notes)
        sink.write(event("end", 1))
        sink.close()
        return list(notes) == ['"gate"']

    # As soon as a broker has confirmed in time, at the end of a run, that it forgot the others.
    until(they_are_noted_no_more)


def test_a_camera_that_no_broker_could_forget_is_forgotten_by_a_later_run(
    broker: Broker, make_sink: MakeSink
) -> None:
    notes: dict[str, str] = {}
    first = make_sink("gate", "yard", published=notes)
    first.write(event("end", 1))
    first.close()
    broker.pause()
    make_sink("gate", published=notes).close()
    assert list(notes) == ['"gate"', '"yard"']
    broker.resume()
    assert about("yard", kept_by(broker.port))
    make_sink("gate", published=notes).write(event("end", 1))
    assert about("yard", kept_by(broker.port)) == []


def test_a_name_that_is_another_one_in_a_topic_takes_nothing_from_it(broker: Broker, make_sink: MakeSink) -> None:
    notes: dict[str, str] = {}
    make_sink("a/b", published=notes).write(event("end", 1, "a/b"))
    before = kept_by(broker.port, "homeassistant/#")
    make_sink("a#b", published=notes).write(event("new", 1, "a#b"))
    kept = kept_by(broker.port)
    assert kept["headhunt/a_b/state"] == b"ON"
    assert not before.keys() & kept.keys()
    assert len([topic for topic in kept if topic.startswith("homeassistant/")]) == 1


def test_a_camera_that_nobody_watches_is_offline_for_a_reason_whatever_still_comes_of_it(
    broker: Broker, make_sink: MakeSink
) -> None:
    def status() -> dict[str, object]:
        values: dict[str, object] = json.loads(kept_by(broker.port)["headhunt/gate/status"])
        return values

    sink = make_sink("gate", on_pause=lambda _camera, _paused: None)
    sink.write(CameraRecord("gate", "online", "", quality=["covered"]))
    sink.publish_rate("gate", 10.0)
    sink.write(event("new", 1))
    sink.publish_unwatched("gate", "is paused")
    # Of the time before.
    sink.write(CameraRecord("gate", "reconnected", ""))
    sink.publish_rate("gate", 10.0)
    sink.write(segment(0.5))
    sink.write(event("end", 1))
    kept = kept_by(broker.port)
    assert (kept["headhunt/gate/fps"], kept["headhunt/gate/state"]) == (b"0.0", b"OFF")
    assert "homeassistant/device/headhunt_gate/config" in kept
    assert status() == {"state": "offline", "detail": "is paused", "reason": None, "quality": [], "time": None}
    sink.publish_unwatched("gate", None)
    until(lambda: status()["detail"] != "is paused")
    assert status()["state"] == "offline"
    sink.write(CameraRecord("gate", "online", "320x240"))
    assert (status()["state"], status()["detail"]) == ("online", "320x240")


def test_what_was_under_way_when_nobody_watched_any_more_does_not_stay(broker: Broker, make_sink: MakeSink) -> None:
    """The broker hangs with the record of a camera that has gone, or is paused, before it answers."""
    sink = make_sink("gate", "yard", patience_s=0.3, onvif=True)
    deliver(sink, CameraRecord("gate", "offline", ""))
    broker.pause()
    for record in (CameraRecord("gate", "online", ""), CameraRecord("yard", "online", ""), event("new", 1, "yard")):
        with pytest.raises(NotDelivered):
            sink.write(record)
    sink.publish_unwatched("gate", "is paused")
    sink.forget("yard")
    broker.resume()
    deliver(sink, event("new", 1))
    kept = kept_by(broker.port)
    assert json.loads(kept["headhunt/gate/status"])["detail"] == "is paused"
    assert about("yard", kept) == []


def test_a_switch_that_was_turned_twice_shows_what_is(listener: Listener, make_sink: MakeSink) -> None:
    """Somebody else resumes the camera while the request to pause it is being followed."""

    def on_pause(camera: str, paused: bool) -> None:
        sink.publish_pause(camera, paused)
        sink.publish_pause(camera, paused=False)

    sink = make_sink("gate", on_pause=on_pause)
    until(lambda: listener.last("headhunt/available") == "online")
    listener.say("headhunt/gate/pause/set", "ON")
    sink.write(event("new", 1))
    until(lambda: len(listener.on("headhunt/gate/pause")) == 3)
    sink.write(event("end", 1))
    until(lambda: len(listener.on("headhunt/gate/event")) == 2)
    assert [one.text for one in listener.on("headhunt/gate/pause")] == ["OFF", "ON", "OFF"]


def test_eight_cameras_are_eight_devices_with_events_of_their_own(
    broker: Broker, listener: Listener, make_sink: MakeSink
) -> None:
    names = [f"cam {number}" for number in range(8)]
    sink = make_sink(*names)
    for number in range(10):
        for name in names:
            sink.write(event("new", number, name))
            sink.write(segment(0.5, name))
    for name in names:
        until(lambda topic=f"headhunt/{name}/event": len(listener.on(topic)) == 10)
        assert [one.json["id"] for one in listener.on(f"headhunt/{name}/event")] == [f"e-{n}" for n in range(10)]
    devices = [topic for topic in kept_by(broker.port) if topic.startswith("homeassistant/device/")]
    assert len(devices) == 8


def test_descriptions_are_told_again_when_home_assistant_starts(listener: Listener, make_sink: MakeSink) -> None:
    make_sink("gate", "yard", discovery_prefix="ha")
    until(lambda: listener.last("headhunt/available") == "online")
    topics = ["ha/device/headhunt_gate/config", "ha/device/headhunt_yard/config"]
    told = [len(listener.on(topic)) for topic in topics]
    assert told == [1, 1]
    listener.say("ha/status", "offline")
    listener.say("ha/status", "online")
    until(lambda: [len(listener.on(topic)) for topic in topics] == [2, 2])


def test_without_discovery_home_assistant_is_told_nothing(broker: Broker, make_sink: MakeSink) -> None:
    make_sink("gate", discovery=False, prefix="site/a").write(event("new", 1))
    assert {topic.rpartition("/")[0] for topic in kept_by(broker.port)} == {"site/a", "site/a/gate"}


def test_cameras_that_share_a_topic_are_refused(
    broker: Broker, make_sink: MakeSink, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UsageError, match="cameras 'a/b' and 'a#b' are both 'a_b' in a topic; rename one"):
        make_sink("a/b", "a#b")
    sink = make_sink("a/b")
    with caplog.at_level(logging.ERROR):
        for number in range(3):
            sink.write(event("new", number, "a#b"))
    assert [one.levelname for one in caplog.records].count("ERROR") == 1
    sink.write(event("new", 9, "a/b"))
    assert kept_by(broker.port)["headhunt/a_b/state"] == b"ON"
