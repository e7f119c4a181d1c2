"""One report from its parts: what cannot be measured is a remark, what contradicts the manifest an error."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from report_parts import a_hunt, a_manifest

from edge_runtime.errors import DatasetError
from offline.console import Console
from offline.data.cache import EntryStore
from offline.data.dataset import Dataset, read_dataset
from offline.data.scores import VideoScores
from offline.evaluation.baselines import FEW_SHOT, MEASURES
from offline.evaluation.figures import Evaluation
from offline.hunting.evidence import Evidence
from offline.report.compose import Material, compose
from offline.report.videos import Scored

QUIET = Console(quiet=True)


@pytest.fixture
def material(dataset_csv: Path) -> Material:
    dataset, manifest = read_dataset(dataset_csv), a_manifest(a_hunt())
    scored = [
        Scored.of(video, 15.0, VideoScores.of_segments(video.name, video.frames or 0, [], []), manifest.locators.full)
        for video in dataset.split("test")
    ]
    return Material(
        title="t", manifest=manifest, scored=scored, calibration=dataset.split("calibration"), evidence=Evidence()
    )


def evaluation(material: Material, store: Path) -> Evaluation:
    found = compose(material, EntryStore(store), QUIET).evaluations["test"]
    assert isinstance(found, Evaluation)
    return found


def test_a_calibration_video_that_cannot_be_read_costs_the_few_shot_baseline_only(
    material: Material, tmp_path: Path
) -> None:
    whole = evaluation(material, tmp_path).beside
    assert whole is not None
    assert (set(whole.baselines), whole.remarks) == ({*MEASURES, FEW_SHOT}, ())
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    first, *others = material.calibration.videos
    damaged = Dataset(material.calibration.path, (replace(first, path=broken), *others))
    found = evaluation(replace(material, calibration=damaged), tmp_path).beside
    assert found is not None
    assert set(found.baselines) == set(MEASURES)
    (remark,) = found.remarks
    assert "broken.mp4" in remark


def test_a_calibration_video_that_contradicts_the_manifest_is_an_error(material: Material, tmp_path: Path) -> None:
    first, *others = material.calibration.videos
    wrong = Dataset(material.calibration.path, (replace(first, frames=9000), *others))
    with pytest.raises(DatasetError, match="the manifest says 9000 frames"):
        evaluation(replace(material, calibration=wrong), tmp_path)
