"""The whole story in one folder: scenes, bundle, figures, a run of the edge, events in words, and a page."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from edge_runtime.bundle.reader import Bundle
from edge_runtime.errors import HeadHuntError
from models.reference.architecture import REFERENCE
from offline.console import Console
from offline.data.dataset import Video, read_dataset
from offline.evaluation.table import evaluation_text
from offline.explain.explain import ExplainOptions, explain
from offline.extraction.model import ModelUse
from offline.recipes.build import BuildOptions, build
from offline.recipes.evaluate import EvaluateOptions, evaluate
from offline.recipes.live_demo import LEFT_OUT, make_cameras
from offline.recipes.report import ReportOptions, report_bundle
from offline.scenes import SceneSet, generate

SHOWN = 3

# Two dozen calibration videos hold two or three of each; of all ten kinds that can be staged, some would be missing.
SHOWN_KINDS = ("fall", "fight", "panic", "crash", "fire")


def run_demo(folder: Path, videos: int, seed: int, console: Console) -> str:
    """Make scenes, build a bundle, judge it on the test split, run `hh-edge` on a few test videos, and show it all.

    At last three cameras are made up that play clips in a loop, for the page and for marking false alarms.

    Everything lies in `folder` afterwards, and what an earlier demo left there is used again.

    Args:
        folder: Where everything goes.
        videos: How many clips to make.
        seed: Of the scenes and the build.
        console: Told of every step.

    Returns:
        What to tell the person.

    Raises:
        HeadHuntError: A step failed.
    """
    console.say("1/7 Making labelled street scenes")
    with console.bar("Scenes", "clip") as progress:
        plan = SceneSet.of_videos(videos, kinds=SHOWN_KINDS, without=(LEFT_OUT,))
        manifest = generate(folder / "scenes", seed=seed, scenes=plan, progress=progress)
    console.say("2/7 Building a bundle")
    bundle = folder / "bundle"
    building = BuildOptions(
        model=REFERENCE, manifest=manifest, output=bundle, seed=seed, overwrite=True, frames_curve=True
    )
    built = build(building, console)
    console.say("3/7 Judging it on the test split")
    # The report finds there what is measured here.
    judging = EvaluateOptions(bundle=bundle, manifest=manifest, provider="cpu", cache=building.cache_folder)
    result = evaluate(judging, console)
    (folder / "evaluation.json").write_text(json.dumps(result.to_dict(), indent=2, allow_nan=False) + "\n")
    console.say("4/7 Running hh-edge on test videos")
    records = folder / "records.jsonl"
    records.unlink(missing_ok=True)
    shown = _shown(list(read_dataset(manifest).split("test")))
    fps = built.bundle.manifest.segment.fps
    said = [_run_edge(bundle, video, records) for video in shown]
    console.say("5/7 Asking the whole model what happened in the events")
    words = _explain(records, shown, folder / "descriptions.jsonl", console)
    console.say("6/7 Drawing the report")
    report = folder / "report.html"
    report_bundle(ReportOptions(bundle=bundle, manifest=manifest, output=report, provider="cpu"), console)
    console.say("7/7 Making three cameras that play clips in a loop")
    cameras = make_cameras(folder, Bundle.open(bundle), SHOWN_KINDS, seed, console)
    lines = [evaluation_text(result), "", "What hh-edge said about test videos that it was not built on:"]
    for video, events in zip(shown, said, strict=True):
        lines += _told(video, events, words, fps)
    lines += ["", f"records  {records}", f"bundle   {bundle}"]
    lines += [f"cameras  {shlex.join(['hh-edge', 'run', '--config', str(cameras)])}", f"report   {report.resolve()}"]
    return "\n".join(lines)


def _shown(test: list[Video]) -> list[Video]:
    """A few anomalous videos and a normal one."""
    return [*[v for v in test if v.anomalous][:SHOWN], *[v for v in test if not v.anomalous][:1]]


def _run_edge(bundle: Path, video: Video, records: Path) -> list[dict[str, Any]]:
    """Run the real command on one video and append its records; returns the events that it found."""
    name = Path(video.name).stem
    command = [sys.executable, "-m", "edge_runtime.cli", "run", "--provider", "cpu", "--quiet"]
    command += ["--bundle", str(bundle), "--camera", f"{name}={video.path}"]
    done = subprocess.run(  # noqa: S603 - our own command on our own files
        command,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise HeadHuntError(f"hh-edge run failed on {video.name}: {done.stderr.strip()}")
    with records.open("a", encoding="utf-8") as file:
        file.write(done.stdout)
    said: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    if not any(record["type"] == "segment" for record in said):
        raise HeadHuntError(f"hh-edge run said nothing about {video.name}; run it by hand: {shlex.join(command)}")
    return [record for record in said if record["type"] == "event" and record["state"] == "end"]


def _explain(records: Path, videos: list[Video], output: Path, console: Console) -> dict[str, str]:
    """What the whole model says about every event of the records, by the event's id."""
    output.unlink(missing_ok=True)
    paths = tuple(str(video.path) for video in videos)
    explain(
        ExplainOptions(records=records, model=REFERENCE, videos=paths, output=output, use=ModelUse(device="cpu")),
        console,
    )
    lines = output.read_text(encoding="utf-8").splitlines() if output.is_file() else []
    return {line["id"]: line["description"] for line in map(json.loads, lines)}


def _told(video: Video, events: list[dict[str, Any]], words: dict[str, str], fps: float) -> list[str]:
    truth = ", ".join(f"{start / fps:.1f}-{end / fps:.1f} s" for start, end in video.events)
    lines = [f"  {Path(video.name).stem} ({'really ' + truth if truth else 'normal'})"]
    for event in events:
        lines.append(f"    event {event['start_s']:.1f}-{event['end_s']:.1f} s, peak {event['peak']:.2f}")
        lines.append(f"      {words[event['id']]}")
    return lines if events else [*lines, "    no event"]
