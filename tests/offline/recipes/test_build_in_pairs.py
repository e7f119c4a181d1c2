"""From videos to events with a family that takes frames in pairs, not square, and adds to the decoder higher up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clips import write_dataset_folder
from qwen_checkpoints import write_qwen3_vl

from edge_runtime.bundle.manifest import REPORT
from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.records import SegmentRecord
from edge_runtime.video.file import VideoFile
from export.parity import require_parity
from offline.console import Console
from offline.data.cache import EntryStore
from offline.extraction.model import ModelUse
from offline.hunting.evidence import read_evidence
from offline.recipes.build import BuildOptions, build
from offline.recipes.verify import verify

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_qwen3_vl(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def bundle(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "videos").mkdir()
    options = BuildOptions(
        model=str(model),
        manifest=write_dataset_folder(folder / "videos", {"calibration": 4, "validation": 2}),
        output=folder / "bundle",
        segment_frames=24,
        sampled=4,
        depth_curve=False,
        frames_curve=True,
        # Layer by layer: the bundle is that of a machine with little memory.
        use=ModelUse(stream_layers=True),
    )
    return build(options, QUIET).bundle


def test_the_bundle_states_what_its_frames_are(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.pixels.height != manifest.pixels.width
    assert manifest.graphs.frames_per_group == 2
    assert (manifest.segment.frames, manifest.segment.sampled) == (24, 4)
    assert manifest.source_model.dtype == "float32"


def test_its_report_shows_what_fewer_frames_would_give_in_whole_pairs(bundle: Bundle) -> None:
    evidence = read_evidence(EntryStore(bundle.path.with_name("bundle.cache")), bundle.manifest)
    assert [point.sampled for point in evidence.sampling] == [2, 4]
    assert evidence.depth == ()
    page = (bundle.path / REPORT).read_text()
    assert "Frames against accuracy" in page
    assert "--frames-curve" not in page


def test_it_still_gives_what_its_source_model_gives(bundle: Bundle, model: Path) -> None:
    require_parity(verify(bundle.path, str(model)).parity)


def test_the_edge_scores_a_video_with_it(bundle: Bundle, clip_path: Path) -> None:
    with Detector(bundle, provider="cpu") as detector, VideoFile(clip_path) as video:
        stream = detector.stream("gate")
        records = [record for frame in video.frames() for record in stream.push(frame.retrieve(), frame.seconds)]
        records += stream.flush()
    scores = [record.score for record in records if isinstance(record, SegmentRecord)]
    assert len(scores) == 6
    assert np.isfinite(scores).all()
