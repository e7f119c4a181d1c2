"""A run that learns while it goes on: marked over MQTT, agreed to with the command, used within seconds, undone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from broker import Broker, Listener, broker, until
from edge_command import STOP_S, hh_edge, start, with_manifest
from rtsp import RtspServer

__all__ = ["broker"]

LIMIT_S = 60.0
CONFIG = """
version: 1
bundle: {bundle}
output: {{path: {folder}/records.jsonl}}
spool: {{path: {folder}/spool}}
mqtt: {{host: 127.0.0.1, port: {mqtt}}}
feedback: {{}}
cameras:
  gate: {{source: {url}, locator: low_latency}}
  yard: {{source: {url}, bundle: {other}}}
"""


def test_marked_agreed_to_used_and_undone(
    bundle_dir: Path, tmp_path: Path, rtsp_server: Callable[..., RtspServer], broker: Broker
) -> None:
    """Each camera teaches the site of its own bundle; a scorer of another device is passed over."""
    short = with_manifest(bundle_dir, tmp_path / "bundle", segment={"frames": 8})
    other = with_manifest(bundle_dir, tmp_path / "other", segment={"frames": 16})
    config, log = tmp_path / "cameras.yaml", tmp_path / "log"
    url = rtsp_server(size=(320, 240), fps=15).url
    config.write_text(CONFIG.format(bundle=short, other=other, folder=tmp_path, mqtt=broker.port, url=url))
    mine, foreign = ({**os.environ, "STATE_DIRECTORY": str(tmp_path / name)} for name in ("state", "foreign"))
    listener = Listener(broker.port)

    def feedback(bundle: Path, *words: object, env: dict[str, str] = mine) -> dict[str, Any]:
        done = hh_edge("feedback", "--bundle", bundle, *words, "--json", env=env)
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def says(words: str) -> None:
        until(lambda: words in log.read_text(), LIMIT_S)

    def marked(camera: str) -> bool:
        """The last ten seconds, over and over until something of them is kept."""
        records = (tmp_path / "records.jsonl").read_text().splitlines()
        ends = [one["time"] for one in map(json.loads, records[:-1]) if one.get("camera") == camera and "time" in one]
        starts = [one["started"] for one in map(json.loads, records[:1])]
        if not ends:
            return False
        before = len(listener.on(f"headhunt/{camera}/feedback"))
        said = {"verdict": "missed", "start": starts[0], "end": ends[-1]}
        listener.say(f"headhunt/{camera}/feedback/set", json.dumps(said))
        until(lambda: len(listener.on(f"headhunt/{camera}/feedback")) > before, LIMIT_S)
        return listener.on(f"headhunt/{camera}/feedback")[-1].json["error"] is None

    with log.open("w") as errors:
        run = start("run", "--config", config, "--provider", "cpu", "--threads", 1, env=mine, stderr=errors)
        try:
            until((tmp_path / "records.jsonl").is_file, LIMIT_S)
            for camera in ("gate", "yard"):
                until(partial(marked, camera), LIMIT_S)
            assert len(feedback(short, "--list")["marks"]) == 1
            assert [mark["camera"] for mark in feedback(other, "--list")["marks"]] == ["yard"]
            # Of the wrong user, or with another state folder: refused by the run, and told.
            assert feedback(short, "--accept", env=foreign)["accepted"] == 1
            says("none of them is trusted here")
            assert feedback(short, "--undo")["scorer"] == 0
            assert feedback(short, "--accept")["accepted"] == 2
            says("the site's scorer 2 is used, of 1 marks")
            assert feedback(other, "--accept")["accepted"] == 1
            says(f"{other.name}.site: the site's scorer 1 is used, of 1 marks")
            assert feedback(short, "--undo")["scorer"] == 0
            says("the bundle's own scorer is used")
        finally:
            run.terminate()
            run.communicate(timeout=STOP_S + LIMIT_S)
    assert run.returncode == 0, log.read_text()
    listener.close()
