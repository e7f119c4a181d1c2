"""The demo, small: what it says is what lies in its folder, and a second run finds everything done."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from benchmarks.taught_demo import CAMERAS, taught
from edge_runtime.bundle.reader import Bundle
from edge_runtime.cli.exit_codes import run_command
from offline.cli import cli
from offline.data.dataset import read_dataset


# A machine that does other work takes minutes for it.
@pytest.mark.timeout(1200)
def test_the_whole_story(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "demo"
    arguments = ["demo", str(folder), "--videos", "8", "--seed", "1", "--quiet"]
    assert run_command(cli, arguments) == 0
    out = capfd.readouterr().out
    report = folder / "report.html"
    assert out.rstrip().endswith(f"report   {report.resolve()}")
    assert "<svg" in report.read_text(encoding="utf-8")
    manifest = Bundle.open(folder / "bundle").manifest
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    test = read_dataset(folder / "scenes" / "data.csv").split("test")
    # Every frame of every video that was shown lies in one segment.
    for camera in {record["camera"] for record in records if record["type"] != "run"}:
        (video,) = [video for video in test if Path(video.name).stem == camera]
        segments = [r for r in records if r["type"] == "segment" and r["camera"] == camera]
        ends = [segment["end_frame"] for segment in segments]
        assert [segment["start_frame"] for segment in segments] == [0, *ends[:-1]]
        assert ends[-1] == video.frames
    ended = [record for record in records if record["type"] == "event" and record["state"] == "end"]
    assert out.count("    event ") == len(ended)
    assert all(record["id"].startswith(manifest.bundle_id[:8]) for record in ended)
    described = [json.loads(line) for line in (folder / "descriptions.jsonl").read_text().splitlines()]
    assert [line["id"] for line in described] == [record["id"] for record in ended]
    assert all(line["description"] in out for line in described)
    check_cameras(folder, out)
    check_teaching(folder, tmp_path / "site")
    assert run_command(cli, arguments) == 0
    again = Bundle.open(folder / "bundle").manifest
    assert (again.experts, again.locators) == (manifest.experts, manifest.locators)


def check_cameras(folder: Path, out: str) -> None:
    """One command runs three cameras that play clips in a loop."""
    config = folder / "cameras.yaml"
    assert f"cameras  hh-edge run --config {config}\n" in out
    settings = yaml.safe_load(config.read_text("utf-8"))
    assert settings.keys() >= {"bundle", "http", "feedback", "clips", "alarm", "cameras"}
    assert Bundle.open(folder / settings["bundle"])
    assert list(settings["cameras"]) == list(CAMERAS)
    for name, camera in settings["cameras"].items():
        assert camera["source"] == f"loop:clips/{name}.mp4"
        assert (folder / "clips" / f"{name}.mp4").is_file()
    assert sorted(path.name for path in (folder / "clips").iterdir()) == [
        "events.json",
        *(f"{name}.mp4" for name in CAMERAS),
    ]


def check_teaching(folder: Path, site: Path) -> None:
    """What is marked and agreed to comes back less often, with this little bundle too."""
    told: list[str] = []
    rows = taught(folder, site, 2, 4, told.append)
    assert [row.loops for row in rows] == [2, *[4] * (len(rows) - 1)]
    assert len(told) == 2 * len(rows) - 1
    per_loop = [sum(row.false.values()) / row.loops for row in rows]
    assert per_loop[-1] < per_loop[0] or per_loop[0] == 0, told
