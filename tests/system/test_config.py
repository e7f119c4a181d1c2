"""`hh-edge run --config` as an operator runs it: checked, read again on a signal, and told in JSON."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clips import ROOT
from edge_command import STOP_S, hh_edge, of_type, parsed, start
from rtsp import RtspServer, free_port

EXAMPLE = ROOT / "docs" / "cameras.example.yaml"
LIMIT_S = 60.0


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def nobody(path: str = "s") -> str:
    return f"rtsp://operator:s3cret@127.0.0.1:{free_port()}/{path}"


def one_error(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


# ---- checked


def test_the_example_can_be_run(bundle_dir: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "cameras.yaml", EXAMPLE.read_text())
    done = hh_edge("run", "--config", path, "--check-config", "--bundle", bundle_dir)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "rtsp://***@192.0.2.7/stream, full, priority 10" in done.stdout
    assert "2 masked, " in done.stdout
    assert f"snapshots and clips in {tmp_path}/clips, 10000 MB and 14 days at most" in done.stdout
    assert "http://192.0.2.9/video, full, disabled" in done.stdout
    # What its comments show is right as well.
    text = EXAMPLE.read_text()
    head, _, rest = text.partition("# Passwords can lie")
    shown = "\n".join(line.removeprefix("#").removeprefix(" ") for line in rest.splitlines()[2:])
    write(tmp_path / "secrets.yaml", "mqtt_password: s3cret-1\nhook_secret: whsec_czNjcmV0czNjcmV0czNjcmV0czNjcmV0\n")
    write(path, head + shown)
    done = hh_edge("run", "--config", path, "--check-config", "--bundle", bundle_dir)
    assert done.returncode == 0, done.stderr
    assert "mqtt, webhook, frigate, spool" in done.stdout
    assert "alarm at least 6 s, cooldown 60 s" in done.stdout
    assert re.search(r"^site +\S+\.site$", done.stdout, re.MULTILINE)
    assert "s3cret" not in done.stdout + done.stderr
    assert sorted(os.listdir(tmp_path)) == ["cameras.yaml", "secrets.yaml"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cameras: {gate: {soruce: rtsp://h/s}}\n", "cameras.gate.soruce: unknown; did you mean source?"),
        (
            "cameras: {gate: {source: rtsp://u:s3cret@h:x/}}\n",
            "line 2: cameras.gate.source: gate=rtsp://***: host or",
        ),
        ("cameras: {}\n", "holds no camera"),
        ("cameras: {a: {source: a.mp4}, b: {source: rtsp://h/s}}\n", "files end and live cameras do not"),
        ("cameras: {a: {source: no.mp4}}\n", "no.mp4: no such file"),
        ("stride: 7\ncameras: {a: {source: rtsp://h/s}}\n", "must divide the 48 frames"),
        ("cameras: {a: {source: rtsp://h/s, bundle: other}}\n", "other: no such folder"),
    ],
)
def test_a_wrong_configuration_is_one_line_and_exit_code_2(
    bundle_dir: Path, tmp_path: Path, text: str, words: str
) -> None:
    path = write(tmp_path / "cameras.yaml", "version: 1\n" + text)
    done = hh_edge("run", "--config", path, "--check-config", "--bundle", bundle_dir)
    assert done.returncode == 2
    assert words in one_error(done)
    assert done.stdout == ""
    assert "s3cret" not in done.stderr


def test_a_bundle_that_is_none(tmp_path: Path) -> None:
    path = write(tmp_path / "cameras.yaml", "version: 1\nbundle: none\ncameras: {a: {source: rtsp://h/s}}\n")
    checked = hh_edge("run", "--config", path, "--check-config")
    assert checked.returncode == 2
    assert f"{tmp_path}/none: no such folder" in one_error(checked)
    assert hh_edge("run", "--config", path).returncode == 3
    write(path, "version: 1\ncameras: {a: {source: rtsp://h/s}}\n")
    assert "write `bundle:` into" in one_error(hh_edge("run", "--config", path))


@pytest.mark.parametrize("option", ["--check-config", "--watch"])
def test_options_that_need_a_configuration(option: str) -> None:
    assert f"{option} needs --config FILE" in one_error(hh_edge("run", "--camera", "x.mp4", option))


def test_one_name_in_the_file_and_on_the_command_line(bundle_dir: Path, tmp_path: Path) -> None:
    path = write(
        tmp_path / "cameras.yaml", f"version: 1\nbundle: {bundle_dir}\ncameras: {{a: {{source: rtsp://h/s}}}}\n"
    )
    for more in ((), ("--check-config",)):
        done = hh_edge("run", "--config", path, "--camera", "a=rtsp://u:s3cret@h/2", *more)
        assert done.returncode == 2
        assert "--camera a=…: " in (line := one_error(done))
        assert line.endswith("cameras.yaml has a camera of that name; give one of them another")
    done = hh_edge("run", "--config", path, "--camera", "b=rtsp://u:s3cret@h/2", "--check-config")
    assert done.returncode == 0
    assert "s3cret" not in done.stdout


def test_two_names_that_are_one_to_a_broker(bundle_dir: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "cameras.yaml", f"version: 1\nbundle: {bundle_dir}\nmqtt: {{host: h}}\n")
    files = [tmp_path / "a+b.mp4", tmp_path / "a#b.mp4"]
    for file in files:
        file.write_bytes(b"film")
    done = hh_edge("run", "--config", path, "--camera", files[0], "--camera", files[1], "--check-config")
    assert done.returncode == 2
    assert re.search(r"mqtt: cameras 'a\+b.*' and 'a#b.*' are both 'a_b.*' in a topic; rename one", one_error(done))


# ---- run


def test_files_of_a_configuration_and_of_the_command_line(bundle_dir: Path, clip_path: Path, tmp_path: Path) -> None:
    text = f"version: 1\nbundle: {bundle_dir}\nlocator: low_latency\noutput: {{path: out.jsonl}}\n"
    path = write(
        tmp_path / "cameras.yaml", text + f"cameras: {{gate: {{source: {clip_path}, mask: '0,0,1,0,1,1,0,1'}}}}"
    )
    done = hh_edge("run", "--config", path, "--camera", f"yard={clip_path}", "--provider", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    records = parsed((tmp_path / "out.jsonl").read_text())
    assert records[0]["cameras"] == ["gate", "yard"]
    gate, yard = (
        [item["score"] for item in of_type(records, "segment") if item["camera"] == name] for name in ("gate", "yard")
    )
    assert len(gate) == len(yard) == 3
    assert gate[0] == gate[1]
    assert gate != yard
    plain = hh_edge("run", "--bundle", bundle_dir, "--camera", clip_path, "--provider", "cpu")
    assert yard == [item["score"] for item in of_type(parsed(plain.stdout), "segment")]


class Run:
    """A running `hh-edge run --config` that logs JSON."""

    def __init__(self, *arguments: object) -> None:
        self.child = start("run", "--threads", 1, "--provider", "cpu", "--log-format", "json", *arguments)
        self.records: list[dict[str, Any]] = []
        self.logs: list[dict[str, Any]] = []
        pairs = ((self.child.stdout, self.records), (self.child.stderr, self.logs))
        self.threads = [threading.Thread(target=self._read, args=pair, daemon=True) for pair in pairs]
        for thread in self.threads:
            thread.start()

    def _read(self, pipe: Any, kept: list[dict[str, Any]]) -> None:
        for line in pipe:
            kept.append(json.loads(line))

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            assert self.child.poll() is None, self.logs
            assert time.monotonic() < deadline, (self.logs, self.records)
            time.sleep(0.05)

    def states(self, camera: str) -> list[str]:
        return [
            record["state"] for record in self.records if record["type"] == "camera" and record["camera"] == camera
        ]

    def said(self, words: str) -> bool:
        return any(words in line["message"] for line in self.logs)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.child.send_signal(number)
        code = self.child.wait(timeout=STOP_S)
        for thread in self.threads:
            thread.join(10)
        assert "s3cret" not in json.dumps(self.logs + self.records)
        return code


@pytest.mark.parametrize("way", ["--watch", "SIGHUP"])
def test_a_configuration_is_read_again(bundle_dir: Path, tmp_path: Path, way: str) -> None:
    """Cameras that do not answer: the run goes on, and so do the others when one comes and goes."""
    head = f"version: 1\nbundle: {bundle_dir}\ncameras:\n  gate: {{source: {nobody()}}}\n"
    path = write(tmp_path / "cameras.yaml", head)
    run = Run("--config", path, *([way] if way == "--watch" else []))

    def changed(text: str) -> None:
        write(path, text)
        if way == "SIGHUP":
            run.child.send_signal(signal.SIGHUP)

    run.wait_for(lambda: run.states("gate") == ["offline"])
    changed(head + f"  yard: {{source: {nobody()}}}\n")
    run.wait_for(lambda: run.states("yard") == ["offline"])
    changed(head + "  yard: {source: }\n")
    run.wait_for(lambda: run.said("cameras.yard.source: is missing"))
    changed(head)
    run.wait_for(lambda: run.said("camera yard: is no longer configured"))
    assert run.end() == 0
    assert run.states("gate") == ["offline"]
    for line in run.logs:
        assert list(line)[:2] == ["time", "level"]
        assert line["time"].endswith("Z")
        assert line["level"] in ("debug", "info", "warning", "error")
    assert {line["camera"] for line in run.logs if "camera" in line} == {"gate", "yard"}


def test_a_camera_that_runs_is_not_touched_when_another_comes(
    bundle_dir: Path, tmp_path: Path, rtsp_server: Callable[..., RtspServer]
) -> None:
    server = rtsp_server(size=(320, 240), fps=10)
    head = f"version: 1\nbundle: {bundle_dir}\ncameras:\n  gate: {{source: {server.url}, mask: '0,0,1,0,1,0.3'}}\n"
    run = Run("--config", write(tmp_path / "cameras.yaml", head))
    run.wait_for(lambda: run.states("gate") == ["online"])
    write(tmp_path / "cameras.yaml", head + f"  yard: {{source: {nobody()}}}\n")
    run.child.send_signal(signal.SIGHUP)
    run.wait_for(lambda: run.states("yard") == ["offline"])
    run.wait_for(lambda: len(of_type(run.records, "segment")) >= 2)
    assert run.end(signal.SIGINT) == 130
    assert run.states("gate") == ["online"]


def test_an_alarm_changes_while_its_camera_goes_on_and_what_was_learned_is_kept(
    bundle_dir: Path, tmp_path: Path, rtsp_server: Callable[..., RtspServer]
) -> None:
    server = rtsp_server(size=(320, 240), fps=15)
    path = tmp_path / "cameras.yaml"
    head = f"version: 1\nbundle: {bundle_dir}\nsite: {{path: learned}}\n"
    camera = f"cameras: {{gate: {{source: {server.url}}}}}\n"
    run = Run("--config", write(path, f"{head}alarm: {{threshold: 1}}\n{camera}"))
    run.wait_for(lambda: len(of_type(run.records, "segment")) >= 1)
    write(path, f"{head}alarm: {{threshold: 0, min_duration: 4}}\n{camera}")
    run.child.send_signal(signal.SIGHUP)
    run.wait_for(lambda: len(of_type(run.records, "event")) >= 1)
    assert run.end() == 0
    segments, events = of_type(run.records, "segment"), of_type(run.records, "event")
    assert [one["index"] for one in segments] == list(range(len(segments)))
    assert segments[0]["anomalous"] is False
    assert all(0 < one["p"] <= 1 for one in segments)
    # Told with its second segment, of both.
    assert events[0]["state"] == "new"
    assert events[0]["end_s"] - events[0]["start_s"] > 4
    assert run.states("gate") == ["online"]
    assert [one.suffix for one in (tmp_path / "learned").iterdir()] == [".npz"]


def test_an_error_is_json_too(bundle_dir: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "cameras.yaml", "version: 1\nbundel: x\n")
    done = hh_edge("run", "--config", path, "--log-format", "json")
    assert done.returncode == 2
    (line,) = map(json.loads, done.stderr.splitlines())
    assert line["level"] == "error"
    assert line["message"].endswith("bundel: unknown; did you mean bundle?")
    missing = hh_edge(
        "run", "--bundle", bundle_dir, "--camera", tmp_path / "no.mp4", "--log-format", "json", "--debug"
    )
    assert missing.returncode == 4
    assert "traceback" in json.loads(missing.stderr.splitlines()[-1])


@pytest.mark.skipif(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN, reason="started by nohup, which ignores it")
def test_without_a_configuration_a_hangup_still_ends_a_run(bundle_dir: Path) -> None:
    # It accepts and never answers: a camera that is told to be away would end the run.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        run = Run("--bundle", bundle_dir, "--camera", f"gate=rtsp://127.0.0.1:{silent.getsockname()[1]}/s")
        run.wait_for(lambda: run.said("started at"))
        run.child.send_signal(signal.SIGHUP)
        assert run.child.wait(timeout=STOP_S) == -signal.SIGHUP
