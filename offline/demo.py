"""The whole story in one folder: scenes, bundle, figures, and a run of the edge. Knows only the order."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from edge_runtime.errors import HeadHuntError
from models.checkpoint import REFERENCE
from offline.build import BuildOptions, build
from offline.console import Console
from offline.dataset import Video, read_dataset
from offline.evaluate import evaluate_bundle
from offline.scenes import SceneSet, generate

SHOWN = 3


def run_demo(folder: Path, videos: int, seed: int, console: Console) -> str:
    """Make scenes, build a bundle, judge it on the test split, run `hh-edge` on a few test videos.

    Everything lies in `folder` afterwards, and what an earlier demo left there is used again. Returns what to
    tell the person. Raises HeadHuntError.
    """
    console.say("1/4 Making labelled street scenes")
    with console.bar("Scenes", "clip") as progress:
        manifest = generate(folder / "scenes", seed=seed, scenes=SceneSet.of_videos(videos), progress=progress)
    console.say("2/4 Building a bundle")
    bundle = folder / "bundle"
    built = build(BuildOptions(model=REFERENCE, manifest=manifest, output=bundle, seed=seed, overwrite=True), console)
    console.say("3/4 Judging it on the test split")
    dataset = read_dataset(manifest)
    test = dataset.split("test")
    result = evaluate_bundle(bundle, test, console, provider="cpu", calibration=dataset.split("calibration"))
    (folder / "evaluation.json").write_text(json.dumps(result.to_dict(), indent=2, allow_nan=False) + "\n")
    console.say("4/4 Running hh-edge on test videos")
    lines = [result.to_text(), "", "What hh-edge said about test videos that it was not built on:"]
    records = folder / "records.jsonl"
    records.unlink(missing_ok=True)
    for video in _shown(list(test)):
        lines += _run_edge(bundle, video, records, built.bundle.manifest.segment.fps)
    lines += ["", f"records  {records}", f"bundle   {bundle}", f"report   {(bundle / 'report.html').resolve()}"]
    return "\n".join(lines)


def _shown(test: list[Video]) -> list[Video]:
    """A few anomalous videos and a normal one."""
    return [*[v for v in test if v.anomalous][:SHOWN], *[v for v in test if not v.anomalous][:1]]


def _run_edge(bundle: Path, video: Video, records: Path, fps: float) -> list[str]:
    """Run the real command on one video, append its records, and say which events it found."""
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
    truth = ", ".join(f"{start / fps:.1f}-{end / fps:.1f} s" for start, end in video.events)
    lines = [f"  {name} ({'really ' + truth if truth else 'normal'})"]
    events = [record for record in said if record["type"] == "event" and record["state"] == "end"]
    lines += [f"    event {e['start_s']:.1f}-{e['end_s']:.1f} s, peak {e['peak']:.2f}" for e in events]
    return lines if events else [*lines, "    no event"]
