"""What the API answers, on a real socket."""

from __future__ import annotations

import gzip
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from served import CLIP, JPEG, NOW, RUN, Served, served, told

from edge_runtime.errors import OutputFailed
from edge_runtime.server.answers import Reply
from edge_runtime.server.compressed import compressible
from edge_runtime.server.state import utc
from edge_runtime.site.history import PastScore
from edge_runtime.watch import added


def test_the_run_and_its_cameras(server: Served) -> None:
    run = server.get("/api/run").json
    assert (run["run"], run["role"], run["clips"], run["feedback"], run["days_of_scores"]) == (
        RUN,
        "act",
        True,
        True,
        7.0,
    )
    cameras = server.get("/api/cameras").json["cameras"]
    assert [camera["name"] for camera in cameras] == ["gate", "yard"]
    assert server.get("/api/cameras/gate").json == cameras[0]
    assert cameras[0]["alarm"] == server.get("/api/cameras/gate/alarm").json
    assert "secret" not in json.dumps(cameras)
    missing = server.get("/api/cameras/nowhere")
    assert missing.status == 404
    assert "'nowhere'" in missing.json["error"]


def test_probes_need_no_token_and_say_why_not(guarded: Served) -> None:
    assert guarded.get("/healthz", token=None).json == {"status": "ok"}
    assert guarded.get("/readyz", token=None).json["ready"]
    guarded.parts.state.publish_unwatched("yard", "is paused")
    guarded.parts.state.publish_unwatched("gate", None)
    guarded.parts.state.forget("gate")
    assert guarded.get("/readyz", token=None).json == {"ready": True, "reason": "no camera is to be watched now"}
    guarded.parts.state.announce("gate")
    down = guarded.get("/readyz", token=None)
    assert down.status == 503
    assert "gate is starting" in down.json["reason"]
    metrics = guarded.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain")
    assert guarded.get("/metrics", token=None).status == 401


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"name": "a b", "source": "rtsp://h/"}, "letters, digits, `_`, `.` and `-`, 64 at most (`name`)"),
        ({"name": "barn", "source": 1}, "Expected `str`, got `int` (`source`)"),
        ({"name": "barn", "source": "rtsp://h/", "colour": "red"}, "unknown field `colour`"),
        ({"name": "barn", "source": "loop:/etc/passwd"}, "is no address of a camera"),
        ({"name": "barn", "source": "/etc/passwd"}, "is no address of a camera"),
    ],
)
def test_what_is_wrong_with_a_camera_is_said_in_words(server: Served, wanted: dict[str, object], words: str) -> None:
    refused = server.ask("POST", "/api/cameras", wanted)
    assert refused.status == 400
    assert words in refused.json["error"]


def test_pausing_and_resuming(server: Served) -> None:
    assert server.ask("POST", "/api/cameras/gate/pause").json["paused"]
    assert server.supervisor.paused == {"gate"}
    deadline = time.monotonic() + 60
    while server.get("/api/cameras/gate").json["state"] != "unwatched":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not server.ask("POST", "/api/cameras/gate/resume").json["paused"]
    assert server.ask("POST", "/api/cameras/nowhere/pause").status == 404


def test_a_camera_that_is_added_is_watched_and_kept_and_its_password_is_shown_nowhere(
    server: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = {
        "name": "barn",
        "source": "rtsp://admin:hunter2@192.0.2.7/1?token=hunter3",
        "schedule": "mon-fri 22:00-06:00",
        "mask": "0,0,1,0,1,0.5",
    }
    added = server.ask("POST", "/api/cameras", wanted)
    assert added.status == 201
    assert (added.json["name"], added.json["added"]) == ("barn", True)
    everything = added.content + server.get("/api/cameras").content + caplog.text.encode()
    assert b"hunter" not in everything
    kept = tmp_path / "added-cameras.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert "hunter2" in kept.read_text()
    assert server.ask("POST", "/api/cameras", wanted).status == 409
    assert server.ask("POST", "/api/cameras", wanted | {"name": "gate"}).status == 409
    refused = server.ask("DELETE", "/api/cameras/gate")
    assert refused.status == 409
    assert "remove it there" in refused.json["error"]
    assert server.ask("DELETE", "/api/cameras/barn").status == 204
    assert server.get("/api/cameras/barn").status == 404
    assert "hunter2" not in kept.read_text()


def test_a_camera_that_could_not_be_removed_can_be_removed_again(
    server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert server.ask("POST", "/api/cameras", {"name": "barn", "source": "http://192.0.2.7/mjpg"}).status == 201

    def full(*_: object) -> None:
        raise OutputFailed("added-cameras.json: no space left on device; free some")

    with monkeypatch.context() as disk:
        disk.setattr(added, "write_private", full)
        refused = server.ask("DELETE", "/api/cameras/barn")
    assert (refused.status, refused.headers["retry-after"]) == (503, "5")
    assert server.get("/api/cameras/barn").json["added"]
    assert server.ask("DELETE", "/api/cameras/barn").status == 204
    assert server.get("/api/cameras/barn").status == 404


def test_added_cameras_are_there_after_a_restart(tmp_path: Path) -> None:
    with served(tmp_path) as first:
        assert first.ask("POST", "/api/cameras", {"name": "barn", "source": "http://192.0.2.7/mjpg"}).status == 201
    with served(tmp_path) as second:
        assert [one["name"] for one in second.get("/api/cameras").json["cameras"]] == ["gate", "yard", "barn"]
        assert second.get("/api/cameras/barn").json["added"]
        assert second.ask("DELETE", "/api/cameras/barn").status == 204
    with served(tmp_path) as third:
        assert third.get("/api/cameras/barn").status == 404


@pytest.mark.parametrize(
    "change",
    [
        {"source": "/etc/passwd"},
        {"source": "loop:/etc/passwd"},
        {"source": "ftp://user:hunter2@192.0.2.1/x"},
        {"source": "rtsp://user:hun/ter2@192.0.2.1/x"},
        {"source": "file:///etc/passwd"},
        {"source": "rtsp://192.0.2.1/ x"},
        {"source": ""},
        {"name": "../gate"},
        {"name": ""},
        {"name": "a" * 65},
        {"schedule": "never"},
        {"mask": "0,0,2,2"},
        {"locator": "best"},
        {"unknown": 1},
        {"name": None},
    ],
)
def test_a_camera_that_cannot_be_is_refused_in_words_without_a_password(
    server: Served, tmp_path: Path, change: dict[str, Any]
) -> None:
    wanted = {"name": "barn", "source": "rtsp://192.0.2.7/1"} | change
    refused = server.ask("POST", "/api/cameras", wanted)
    assert refused.status == 400, refused.content
    assert "hunter2" not in refused.json["error"]
    assert "ter2" not in refused.json["error"]
    assert "\n" not in refused.json["error"]
    assert not (tmp_path / "added-cameras.json").exists()


def test_scores_are_the_highest_of_each_step_with_gaps(server: Served) -> None:
    answer = server.get(f"/api/cameras/gate/scores?from={utc(NOW - 3600)}&to={utc(NOW)}&points=10").json
    assert answer["step_s"] == 360.0
    assert [value for _, value in answer["scores"]] == [0.99] * 10
    fine = server.get(f"/api/cameras/gate/scores?from={utc(NOW - 32)}&to={utc(NOW + 3600)}&points=5000").json
    assert all(value is not None for _, value in fine["scores"])
    server.parts.history.forget("gate", NOW - 1800, NOW - 900)  # type: ignore[union-attr]
    gap = server.get(f"/api/cameras/gate/scores?from={utc(NOW - 3600)}&to={utc(NOW)}&points=100").json["scores"]
    assert sum(value is None for _, value in gap) == 1
    assert server.get("/api/cameras/yard/scores").json["scores"] == []
    for wrong in (
        "points=0",
        "from=yesterday",
        "points=x",
        "nonsense=1",
        f"from={utc(NOW)}&to={utc(NOW)}",
        "points=1&points=2",
    ):
        assert server.get(f"/api/cameras/gate/scores?{wrong}").status == 400, wrong


def test_events_page_and_filter(server: Served) -> None:
    first = server.get("/api/events?limit=5").json
    assert [event["id"] for event in first["events"]] == server.events[:5]
    second = server.get(f"/api/events?limit=50&after={first['next']}").json
    assert [event["id"] for event in second["events"]] == server.events[5:]
    assert second["next"] is None
    assert {event["p"] for event in first["events"]} == {0.0025, None}
    assert server.get("/api/events?camera=yard").json["events"] == []
    assert len(server.get("/api/events?min_peak=0.75").json["events"]) == 6
    assert server.get("/api/events?state=open").json["events"] == []
    assert server.get(f"/api/events?to={utc(NOW - 1100)}").json["events"][0]["id"] == server.events[-1]
    assert server.get("/api/events?after=nonsense").status == 400


def test_an_event_that_has_just_begun_is_there_at_once(server: Served) -> None:
    server.parts.state.write(told("new", 99))
    event = server.get(f"/api/events/{RUN}-gate-99").json
    assert (event["state"], event["start"], event["peak"]) == ("open", utc(NOW + 5), 0.9)
    assert server.ask("PUT", f"/api/events/{RUN}-gate-99/description", {"text": "x"}).status == 409


def test_files_of_events_whole_and_in_parts(server: Served) -> None:
    event = server.get(f"/api/events/{server.event}").json
    assert (event["snapshot"], event["clip"], event["seen"]) == (True, True, False)
    snapshot = server.get(f"/api/events/{server.event}/snapshot")
    assert (snapshot.content, snapshot.headers["content-type"]) == (JPEG, "image/jpeg")
    path = f"/api/events/{server.event}/clip"
    whole = server.get(path)
    assert (whole.content, whole.headers["accept-ranges"]) == (CLIP, "bytes")
    size = len(CLIP)
    for asked, status, part in (
        ("bytes=0-0", 206, CLIP[:1]),
        ("bytes=100-199", 206, CLIP[100:200]),
        (f"bytes={size - 5}-", 206, CLIP[-5:]),
        ("bytes=-7", 206, CLIP[-7:]),
        (f"bytes=5-{size * 2}", 206, CLIP[5:]),
        (f"bytes={size}-", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=9-3", 200, CLIP),
        ("bytes=0-1,3-4", 200, CLIP),
        ("lines=0-1", 200, CLIP),
        ("bytes=" + "9" * 40 + "-", 200, CLIP),
    ):
        answer = server.get(path, headers={"Range": asked})
        assert answer.status == status, asked
        if part is not None:
            assert answer.content == part
    tag = whole.headers["etag"]
    assert server.get(path, headers={"If-None-Match": tag}).status == 304
    assert server.get(path, headers={"Range": "bytes=0-9", "If-Range": '"other"'}).status == 200
    head = server.ask("HEAD", path)
    assert (head.content, head.headers["content-length"]) == (b"", str(size))
    assert server.get(f"/api/events/{server.event}/seen").status == 404
    assert server.get(f"/api/events/{server.events[0]}/clip").status == 404


def test_a_clip_whose_reader_has_gone_is_read_no_further(server: Served) -> None:
    assert server.parts.clips is not None
    (clip,) = server.parts.clips.rglob("*.mp4")
    # Takes minutes to read.
    os.truncate(clip, 10**12)

    def is_open() -> bool:
        return any(os.path.exists(link) and os.path.samefile(link, clip) for link in Path("/proc/self/fd").iterdir())

    with socket.create_connection(("127.0.0.1", server.port)) as reader:
        reader.sendall(
            f"GET /api/events/{server.event}/clip HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: Bearer {server.token}\r\n\r\n".encode()
        )
        assert reader.recv(12) == b"HTTP/1.1 200"
        assert is_open()
    until = time.monotonic() + 30
    while is_open():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("gzip, deflate, br", True),
        ("GZIP;q=0.5", True),
        ("*", True),
        ("br, gzip; q=0", False),
        ("gzip;q=0.000, *", False),
        ("identity", False),
        ("", False),
    ],
)
def test_text_is_compressed_for_who_takes_it(server: Served, asked: str, given: bool) -> None:
    for path in ("/", "/static/app.js", "/api/openapi.json", "/api/events?limit=12"):
        plain = server.get(path, headers={"Accept-Encoding": "identity"})
        answer = server.get(path, headers={"Accept-Encoding": asked})
        assert answer.headers["vary"] == plain.headers["vary"] == "accept-encoding", path
        assert "content-encoding" not in plain.headers
        assert answer.headers.get("content-encoding") == ("gzip" if given else None)
        assert answer.headers["content-length"] == str(len(answer.content))
        if given:
            assert len(answer.content) < 0.6 * len(plain.content)
            assert gzip.decompress(answer.content) == plain.content


def test_metrics_are_compressed_in_either_form() -> None:
    for media in ("text/plain; version=0.0.4", "application/openmetrics-text; version=1.0.0; charset=utf-8"):
        assert compressible(Reply(b"x" * 2000, media))
    assert not compressible(Reply(b"x" * 2000, "video/mp4"))
    assert not compressible(Reply(b"x" * 1000, "application/json"))


def test_what_is_short_or_compressed_already_is_left_alone(server: Served) -> None:
    for path in (f"/api/events/{server.event}/snapshot", f"/api/events/{server.event}/clip", "/healthz"):
        answer = server.get(path, headers={"Accept-Encoding": "gzip"})
        assert answer.status == 200
        assert not {"content-encoding", "vary"} & set(answer.headers)


def test_a_page_that_is_known_is_not_sent_again_in_either_form(server: Served) -> None:
    tag = server.get("/static/app.js").headers["etag"]
    for encoding in ("gzip", "identity"):
        again = server.get("/static/app.js", headers={"Accept-Encoding": encoding, "If-None-Match": tag})
        assert (again.status, again.content) == (304, b"")
        assert again.headers["vary"] == "accept-encoding"


def test_descriptions_and_marks(server: Served) -> None:
    path = f"/api/events/{server.event}"
    text = "a fall <b>ü</b>"
    assert server.ask("PUT", f"{path}/description", {"text": text}).json["description"] == text
    assert server.ask("POST", f"{path}/feedback", {"verdict": "false_alarm"}).json["mark"] == "false_alarm"
    assert server.get("/api/events?mark=false_alarm").json["events"][0]["description"] == text
    assert len(server.get("/api/events?mark=none").json["events"]) == 11
    assert server.get("/api/events?mark=missed").json["events"] == []
    feedback = server.get("/api/feedback").json
    assert feedback["marks"][0]["event"] == server.event
    proposal = server.get("/api/feedback/proposal").json
    assert server.ask("POST", "/api/feedback/accept", {"proposal": "of-[77]"}).status == 409
    accepted = server.ask("POST", "/api/feedback/accept", {"proposal": proposal["proposal"]})
    assert accepted.json["scorer"]["number"] == 1
    assert not server.ask("POST", "/api/feedback/undo").json["can_undo"]
    assert server.ask("POST", "/api/feedback/undo").status == 409
    missed = {"camera": "gate", "start": utc(NOW - 100), "end": utc(NOW - 90)}
    mark = server.ask("POST", "/api/feedback/missed", missed)
    assert mark.status == 201
    assert server.ask("DELETE", f"/api/feedback/marks/{mark.json['id']}").status == 204
    assert server.ask("DELETE", f"/api/feedback/marks/{mark.json['id']}").status == 404
    assert server.ask("POST", f"{path}/feedback", {"verdict": None}).json["mark"] is None
    backwards = {"camera": "gate", "start": utc(NOW), "end": utc(NOW - 90)}
    assert server.ask("POST", "/api/feedback/missed", backwards).status == 400


def test_alarms_are_tried_set_and_reset(server: Served) -> None:
    path = "/api/cameras/gate/alarm"
    tried = server.get(f"{path}/try?threshold=0.71&min_duration=5&days=3").json
    # What is kept is older than three days.
    assert (tried["now"]["alarms"], tried["gone_count"], tried["gone"]) == (0, 0, [])
    now = time.time()
    server.parts.history.remember(  # type: ignore[union-attr]
        [PastScore("gate", now - 100 + place, now - 99 + place, place / 50, False) for place in range(50)]
    )
    tried = server.get(f"{path}/try?threshold=0.71&min_duration=5&days=3").json
    assert (tried["now"]["alarms"], tried["then"]["alarms"], len(tried["gone"])) == (24, 14, 1)
    assert server.get(f"{path}/try").status == 400
    assert server.get(f"{path}/try?threshold=nan").status == 400
    assert server.ask("PUT", path, {"threshold": 0.71, "cooldown": 30}).json["by"] == "page"
    assert server.get("/api/cameras/gate").json["alarm"]["threshold"] == 0.71
    assert server.get("/api/cameras/gate").json["alarm"]["on_page"]
    assert server.ask("PUT", path, {"min_duration": 3}).json["min_duration"] == 3
    assert server.ask("PUT", path, {"threshold": 0.5, "budget_per_day": 2}).status == 400
    assert server.ask("DELETE", path).json["by"] == "bundle"


def test_forgetting_takes_scores_events_and_files(server: Served, tmp_path: Path) -> None:
    server.parts.state.write(told("new", 99))
    stretch = {"camera": "gate", "start": utc(NOW - 4000), "end": utc(NOW + 100)}
    counts = server.ask("POST", "/api/forget", stretch).json
    assert counts["events"] == 12
    assert counts["files"] == 2
    assert counts["segments"] > 1000
    assert server.get("/api/events").json["events"] == []
    assert server.get(f"/api/events/{RUN}-gate-99").status == 404
    assert not list((tmp_path / "clips").rglob("*.*"))
    assert server.ask("POST", "/api/forget", stretch).json["events"] == 0


def test_parts_that_are_not_there_say_what_to_configure(tmp_path: Path) -> None:
    with served(tmp_path, others=False) as bare:
        for method, path, body, word in (
            ("GET", f"/api/events/{bare.event}/clip", None, "clips:"),
            ("POST", f"/api/events/{bare.event}/feedback", {"verdict": None}, "feedback:"),
            ("GET", "/api/feedback", None, "feedback:"),
            ("GET", "/api/cameras/gate/alarm/try?threshold=0.5", None, "site:"),
            ("GET", "/api/cameras/gate/picture", None, "pictures"),
            ("GET", "/metrics", None, "metrics"),
        ):
            answer = bare.ask(method, path, body)
            assert answer.status == 404, path
            assert word in answer.json["error"]
        assert bare.get("/api/cameras/gate/alarm").json["by"] == "bundle"


def test_a_picture_is_given_or_comes_soon(server: Served) -> None:
    assert server.get("/api/cameras/gate/picture").content == JPEG
    soon = server.get("/api/cameras/yard/picture")
    assert (soon.status, soon.headers["retry-after"]) == (503, "1")


def test_a_history_that_cannot_be_read_is_told_and_the_rest_answers(server: Served, tmp_path: Path) -> None:
    history = server.parts.history
    assert history is not None
    history.close()
    history.path = tmp_path / "state"  # a folder
    history.path.mkdir(exist_ok=True)
    answer = server.get("/api/events")
    assert answer.status == 503
    assert "Traceback" not in answer.json["error"]
    assert server.get("/api/cameras").status == 200
