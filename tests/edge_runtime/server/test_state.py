"""What a camera is like now follows from what was told of it, and listeners hear of it without anybody waiting."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from served import NOW, RUN, told

from edge_runtime.records import CameraRecord, RunRecord, SegmentRecord
from edge_runtime.server.shapes import Alarm
from edge_runtime.server.state import RunState, utc


def state_of(*cameras: str) -> RunState:
    clock = datetime.fromtimestamp(NOW, UTC)
    return RunState(cameras, lambda _: Alarm(threshold=0.7, by="bundle"), lambda: clock)


def camera(state: str, at_s: float = 0.0, **more: Any) -> CameraRecord:
    return CameraRecord(camera="gate", state=state, detail=more.pop("detail", state), time=utc(NOW + at_s), **more)


def segment(at_s: float, smoothed: float = 0.2) -> SegmentRecord:
    return SegmentRecord(
        camera="gate",
        index=0,
        start_frame=0,
        end_frame=48,
        start_s=0.0,
        end_s=3.2,
        score=0.123456789,
        smoothed=smoothed,
        anomalous=smoothed > 0.7,
        time=utc(NOW + at_s),
    )


def test_a_camera_starts_comes_goes_and_returns() -> None:
    state = state_of("gate")
    first = state.camera("gate")
    assert first is not None
    assert (first.state, first.since, first.alarm.threshold) == ("starting", utc(NOW), 0.7)
    state.write(camera("online", 1))
    state.write(camera("offline", 2, reason="unauthorized", detail="refuses the password"))
    state.write(camera("offline", 9, reason="unauthorized", detail="refuses the password still"))
    seen = state.camera("gate")
    assert seen is not None
    assert (seen.state, seen.reason, seen.since) == ("offline", "unauthorized", utc(NOW + 2))
    assert seen.detail == "refuses the password still"
    state.write(camera("reconnected", 10))
    seen = state.camera("gate")
    assert seen is not None
    assert (seen.state, seen.reason, seen.since) == ("online", None, utc(NOW + 10))
    assert state.camera("nowhere") is None


def test_qualities_have_their_own_since_and_do_not_change_the_states() -> None:
    state = state_of("gate")
    state.write(camera("online", 1))
    state.write(camera("online", 5, quality=["frozen"], detail="the picture stands still"))
    state.write(camera("online", 7, quality=["frozen", "drifted"], detail="looks elsewhere"))
    seen = state.camera("gate")
    assert seen is not None
    assert seen.quality == ["frozen", "drifted"]
    assert seen.quality_since == {"frozen": utc(NOW + 5), "drifted": utc(NOW + 7)}
    assert (seen.since, seen.detail) == (utc(NOW + 1), "looks elsewhere")
    state.write(camera("online", 9, quality=["ok"]))
    seen = state.camera("gate")
    assert seen is not None
    assert (seen.quality, seen.quality_since) == ([], {})


def test_pauses_and_schedules_are_told_in_words() -> None:
    state = state_of("gate")
    state.write(camera("online", 1))
    state.write(segment(2))
    state.publish_rate("gate", 24.98765)
    state.publish_pause("gate", True)
    state.publish_unwatched("gate", "is paused, and not watched until it is resumed")
    seen = state.camera("gate")
    assert seen is not None
    assert (seen.state, seen.paused, seen.fps, seen.score) == ("unwatched", True, None, None)
    assert "paused" in seen.detail
    state.publish_pause("gate", False)
    state.publish_unwatched("gate", None)
    seen = state.camera("gate")
    assert seen is not None
    assert (seen.state, seen.paused) == ("starting", False)


def test_an_open_event_is_the_cameras_until_it_ends() -> None:
    state = state_of("gate")
    state.write(told("new", 1))
    seen = state.camera("gate")
    assert seen is not None
    assert seen.open_event == f"{RUN}-gate-1"
    # The end of another one, which the run before left open.
    state.write(told("end", 7))
    seen = state.camera("gate")
    assert seen is not None
    assert seen.open_event == f"{RUN}-gate-1"
    state.write(told("end", 1, end_s=20.0))
    seen, event = state.camera("gate"), state.event(f"{RUN}-gate-1")
    assert seen is not None
    assert event is not None
    assert seen.open_event is None
    assert (event.state, event.seconds, event.start, event.end) == ("ended", 15.0, utc(NOW + 5), utc(NOW + 20))


def test_memory_is_bounded_however_long_a_run_lasts() -> None:
    state = state_of("gate")
    for number in range(2000):
        state.write(told("new", number))
        state.write(told("end", number))
        state.write(camera("online", number, quality=["frozen" if number % 2 else "ok"]))
    assert len(state._events) <= 200
    for number in range(500):
        state.announce(f"camera{number}")
        state.forget(f"camera{number}")
    assert state.names() == ["gate"]


def parsed(messages: bytes) -> list[tuple[str, Any]]:
    found = []
    for message in messages.decode().strip().split("\n\n"):
        kind, data = message.split("\n")
        found.append((kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_who_listens_hears_what_is_and_what_changes() -> None:
    state, woken = state_of("gate", "yard"), []
    listener = state.subscribe(None, lambda: woken.append(1))
    only = state.subscribe("yard", lambda: None)
    assert [kind for kind, _ in parsed(listener.take())] == ["camera", "camera"]
    assert [data["name"] for _, data in parsed(only.take())] == ["yard"]
    woken.clear()
    state.write(segment(1, 0.9))
    state.write(told("new"))
    state.publish_pause("gate", True)
    assert len(woken) == 1
    kinds = parsed(listener.take())
    assert [kind for kind, _ in kinds] == ["score", "camera", "event", "camera"]
    assert kinds[0][1] == {
        "camera": "gate",
        "time": utc(NOW + 1),
        "score": 0.123457,
        "smoothed": 0.9,
        "anomalous": True,
    }
    assert kinds[2][1]["id"] == f"{RUN}-gate-1"
    assert only.take() == b""
    state.forget("yard")
    assert parsed(only.take()) == [("gone", {"name": "yard"})]
    listener.take()
    state.unsubscribe(listener)
    state.write(segment(2))
    assert listener.take() == b""


def test_who_listens_too_slowly_is_told_so_and_holds_no_memory() -> None:
    state = state_of("gate")
    listener = state.subscribe(None, lambda: None)
    for number in range(5000):
        state.write(segment(number))
    assert listener.overflowed
    assert len(listener.take()) == 0


def test_readiness_says_why_not() -> None:
    now = [0.0]
    state = RunState(["gate"], monotonic=lambda: now[0])
    assert "loaded" in state.readiness().reason
    state.write(RunRecord(run=RUN, started=utc(NOW), bundle_id="a", version="0", cameras=["gate"]))
    state.beat()
    waiting = state.readiness()
    assert (waiting.ready, "no camera gives pictures" in waiting.reason) == (False, True)
    state.write(camera("online"))
    assert state.readiness().ready
    now[0] = 31.0
    assert "nothing was scored for 31 seconds" in state.readiness().reason
    state.beat()
    state.publish_unwatched("gate", "is outside its schedule")
    assert state.readiness().ready


def test_a_fault_of_what_others_say_is_logged_and_costs_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: str) -> Alarm:
        raise RuntimeError("a fault")

    state = state_of("gate")
    state.alarm_of = broken
    listener = state.subscribe(None, lambda: None)
    state.announce("yard")
    state.publish_pause("gate", True)
    state.write(camera("online", 1))
    assert [kind for kind, _ in parsed(listener.take())] == ["camera"] * 4
    seen = state.camera("gate")
    assert seen is not None
    assert seen.state == "online"
    assert "a fault" in caplog.text
