"""What reused tokens change: nothing where only identical pixels are reused, and all that they hide otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from clips import write_dataset_folder

from edge_runtime.inference.engine import FloatArray
from edge_runtime.stream.pixels import PixelSpec, UInt8Array
from edge_runtime.stream.segments import SegmentSpec
from offline.calibration.cost import of_the_graphs
from offline.calibration.fit import Fitted, score, striding
from offline.calibration.reuse import Reuse, ReuseCost, measure_reuse
from offline.data.cache import EntryStore
from offline.data.dataset import read_dataset
from offline.extraction.extract import ExpertFeatures, Extraction, extract

SAMPLED, VIDEOS = 16, 6


class Redness:
    """Graphs that anyone can compute: a frame's one token is how red it is, a segment's feature their mean."""

    provider = "table"

    def tokens(self, frames: UInt8Array) -> FloatArray:
        red = frames[..., 0].astype(np.float32) - frames[..., 1]
        return red.mean(axis=(2, 3))[..., None]

    def language(self, tokens: FloatArray) -> FloatArray:
        return tokens.mean(axis=1)

    def features(self, frames: UInt8Array) -> FloatArray:
        return self.language(self.tokens(frames))

    def abandon(self) -> None: ...

    def close(self) -> None: ...

    @staticmethod
    def probabilities(features: FloatArray) -> FloatArray:
        """The scorer."""
        return 1 / (1 + np.exp(-features[:, 0] / 4))


@pytest.fixture(scope="module")
def extraction(tmp_path_factory: pytest.TempPathFactory) -> Extraction:
    segment = SegmentSpec(frames=48, sampled=SAMPLED, fps=15.0)
    store = EntryStore(tmp_path_factory.mktemp("cache"))
    return Extraction(ExpertFeatures(Redness(), []), PixelSpec(size=64), segment, store)


@pytest.fixture(scope="module")
def fitted(extraction: Extraction, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    videos = read_dataset(write_dataset_folder(tmp_path_factory.mktemp("videos"), {"validation": VIDEOS}))
    units = tuple(extract(videos, dict.fromkeys((one.name for one in videos), "segment"), extraction))
    scored = {one.video.name: score(one, Redness()) for one in units}  # type: ignore[arg-type]
    return Fitted(None, None, None, 0.0, (), units, scored)  # type: ignore[arg-type]


def measured(fitted: Fitted, extraction: Extraction, threshold: float) -> ReuseCost:
    scorer: Any = SimpleNamespace(probabilities=Redness.probabilities)
    return measure_reuse(fitted, extraction, Reuse(Redness(), scorer, 1, threshold))


def groups(fitted: Fitted) -> int:
    return SAMPLED * sum(len(one.spans) for one in fitted.validation_units)


def test_identical_pixels_change_nothing(fitted: Fitted, extraction: Extraction) -> None:
    cost = measured(fitted, extraction, 0)
    assert cost.groups == groups(fitted)
    assert cost.score_change < 1e-6
    assert cost.auc.change == 0
    assert cost.auc.interval is not None
    assert cost.auc.interval.low == cost.auc.interval.high == 0


def test_reuse_that_hides_every_event_is_told(fitted: Fitted, extraction: Extraction) -> None:
    """At 255 a video's first frame stands for all of it, into its last segment."""
    cost = measured(fitted, extraction, 255)
    assert cost.share == pytest.approx(1 - VIDEOS / groups(fitted))
    assert cost.score_change > 0.1
    assert cost.auc.change is not None
    assert cost.auc.change < -0.2
    assert cost.auc.interval is not None
    assert cost.auc.interval.low <= cost.auc.change <= cost.auc.interval.high
    assert f"{100 * cost.share:.1f} % of {cost.groups} groups of frames reuse tokens" in str(cost)
    assert f"AUC by {cost.auc.change:+.4f}" in str(cost)


def test_what_overlapping_segments_share_anyway_is_not_counted_as_reuse(
    fitted: Fitted, extraction: Extraction
) -> None:
    videos = [one.video for one in fitted.validation_units]
    strided = striding(extraction, 24)
    units = tuple(extract(videos, dict.fromkeys((one.name for one in videos), "segment"), strided))
    scored = {one.video.name: score(one, Redness()) for one in units}  # type: ignore[arg-type]
    overlapping = replace(fitted, validation_units=units, scored=scored)
    nothing, everything = (measured(overlapping, strided, threshold) for threshold in (0, 255))
    assert nothing.share == 0
    assert nothing.score_change < 1e-6
    assert nothing.groups < SAMPLED * sum(len(one.spans) for one in units)
    assert everything.groups == nothing.groups
    assert everything.share == pytest.approx(1 - VIDEOS / everything.groups)


def test_the_share_grows_with_the_threshold(fitted: Fitted, extraction: Extraction) -> None:
    shares = [measured(fitted, extraction, threshold).share for threshold in (0, 20, 60, 255)]
    assert shares == sorted(shares)
    assert shares[0] < shares[1] < shares[-1]


def test_another_scorer_makes_what_was_measured_void(fitted: Fitted, extraction: Extraction, tmp_path: Path) -> None:
    stated = measured(fitted, extraction, 20).to_dict()
    assert stated["reuse_threshold"] == 20
    assert {"reuse_share", "reuse_score_change", "reuse_auc_change", "reuse_auc_change_low"} <= stated.keys()
    assert of_the_graphs(stated | {"relative": 1e-6, "score_change": 0.1}) == {"relative": 1e-6}
