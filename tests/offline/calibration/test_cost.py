"""What a precision costs: nothing where nothing changed, and a loss that is seen is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import ParityError
from offline.calibration.cost import AucChange, Cost, ModelFeatures, measure_cost, require_bearable
from offline.calibration.fit import Fitted
from offline.calibration.rules import ScorerRule
from offline.data.dataset import Video
from offline.extraction.extract import Extracted

HEADS, WIDTH, SEGMENT, SEGMENTS = 2, 4, 10, 6
RULE = ScorerRule(WIDTH)


def extracted(number: int, random: np.random.Generator) -> Extracted:
    """A video whose anomalous third segment shows in its features."""
    anomalous = number % 2 == 1
    features = random.normal(size=(SEGMENTS, HEADS * WIDTH)).astype(np.float32)
    features[2] += 1.5 * anomalous
    spans = np.array([(SEGMENT * i, SEGMENT * (i + 1)) for i in range(SEGMENTS)])
    video = Video(
        name=f"video{number}.mp4",
        path=Path(f"video{number}.mp4"),
        label="anomalous" if anomalous else "normal",
        split="validation",
        events=((20, 30),) if anomalous else (),
        frames=SEGMENT * SEGMENTS,
    )
    return Extracted(video, "segment", SEGMENT * SEGMENTS, 25.0, spans, features)


def fitted(seed: int = 0) -> Fitted:
    random = np.random.default_rng(seed)
    units = tuple(extracted(number, random) for number in range(24))
    return Fitted(None, None, None, 0.0, units[:12], units[12:], {})  # type: ignore[arg-type]


def model_of(found: Fitted) -> ModelFeatures:
    return ModelFeatures(
        [one.features for one in found.calibration_units], [one.features for one in found.validation_units]
    )


def test_equal_features_cost_nothing():
    found = fitted()
    cost = measure_cost(model_of(found), found, HEADS, RULE)
    assert cost.centred_cosine == cost.worst_head == pytest.approx(1)
    assert cost.score_change == cost.auc.change == 0
    assert cost.auc.interval is not None
    assert cost.auc.interval.low == cost.auc.interval.high == 0
    assert cost.segments == 12 * SEGMENTS
    require_bearable(cost, "bf16", force=False)


def test_features_that_lost_one_head_are_told_by_that_head_and_refused():
    found = fitted()
    model = model_of(found)
    random = np.random.default_rng(1)

    def without(one: Extracted) -> Extracted:
        features = one.features.copy()
        features[:, WIDTH:] = random.normal(size=(SEGMENTS, WIDTH))
        features[:, :WIDTH] += random.normal(scale=0.2, size=(SEGMENTS, WIDTH))
        return replace(one, features=features)

    rounded = replace(
        found,
        calibration_units=tuple(map(without, found.calibration_units)),
        validation_units=tuple(map(without, found.validation_units)),
    )
    cost = measure_cost(model, rounded, HEADS, RULE)
    assert cost.worst_head < 0.2 < 0.4 < cost.centred_cosine
    assert cost.auc.change is not None
    assert cost.auc.change < -0.005
    with pytest.raises(ParityError, match=r"precision int8 changes the validation AUC by -0\.\d+.*or say --force"):
        require_bearable(cost, "int8", force=False)
    require_bearable(cost, "int8", force=True)
    stated = cost.to_dict()
    assert stated["auc_change_low"] <= stated["auc_change"] <= stated["auc_change_high"]


def test_without_validation_videos_there_is_no_auc_and_nothing_to_refuse():
    found = replace(fitted(), validation_units=())
    cost = measure_cost(model_of(found), found, HEADS, RULE)
    assert cost.auc == AucChange()
    assert cost.segments == 12 * SEGMENTS
    assert "auc_change" not in cost.to_dict()
    require_bearable(cost, "int8", force=False)


def test_a_change_that_is_not_a_number_is_refused():
    with pytest.raises(ParityError):
        require_bearable(Cost(1, 1, 0, AucChange(float("nan")), 1), "int8", force=False)
