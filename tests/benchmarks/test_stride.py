"""What a stride costs is what the edge does with it, and its figures are those of `evaluate`."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from segmenting import feed, numbers, picture

from benchmarks.stride import encoded_frames, judged, table
from edge_runtime.bundle.reader import Bundle
from edge_runtime.stream.by_count import FrameSegmenter
from edge_runtime.stream.segments import SegmentSpec
from offline.console import Console
from offline.data.dataset import read_dataset
from offline.evaluation.run import Running, run_videos
from offline.recipes.evaluate import EvaluateOptions, evaluate

QUIET = Console(quiet=True)


@given(frames=st.integers(1, 150), stride=st.sampled_from([6, 12, 16, 24, 48]), sampled=st.integers(1, 20))
@settings(max_examples=40)
def test_frames_that_are_encoded_are_those_that_segments_hold(frames: int, stride: int, sampled: int) -> None:
    spec = SegmentSpec(frames=48, sampled=sampled, fps=15.0).striding(stride)
    segmenter = FrameSegmenter(spec)
    segments = feed(segmenter, [i / spec.fps for i in range(frames)])
    segments += segmenter.flush(lambda indices: {index: picture(index) for index in indices})
    assert encoded_frames(frames, spec) == len({number for segment in segments for number in numbers(segment)})


def test_figures_are_those_of_evaluate(bundle_dir: Path, dataset_csv: Path) -> None:
    bundle, videos = Bundle.open(bundle_dir), read_dataset(dataset_csv).split("validation")
    runs = run_videos(bundle, videos, Running(), QUIET)
    smoothed = {run.video.name: run.smoothed for run in runs}
    one = judged(bundle, "full", runs, 1.0, None)
    same = judged(bundle, "full", runs, 1.0, smoothed)
    found = evaluate(
        EvaluateOptions(manifest=dataset_csv, bundle=bundle_dir, split="validation", baselines=False), QUIET
    )
    assert (one.raw, one.smoothed) == (found.series["raw"], found.series["smoothed"])
    assert found.beside is not None
    assert one.ceiling.auc == pytest.approx(found.beside.ceilings["perfect segments"].auc)
    assert one.shares_auc == pytest.approx(found.beside.ceilings["perfect shares"].auc)
    assert one.minus is None
    assert same.minus == 0
    of_video = sum(run.raw.frames / run.fps for run in runs)
    assert one.segments * of_video == pytest.approx(sum(len(run.raw.segments) for run in runs))
    lines = table([one, same], videos)
    assert f"{one.ceiling.auc:.3f}" in lines[-4]
    assert "+0.000 [+0.000, +0.000]" in lines[4]
