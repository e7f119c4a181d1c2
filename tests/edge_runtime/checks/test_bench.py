"""A bench asks an engine for segments one after another, and measures each stage."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from table_engine import TableEngine

from edge_runtime.checks.bench import STAGES, bench
from edge_runtime.errors import InferenceFailed
from edge_runtime.inference.scorer import ScorerGraph


@pytest.fixture
def detector(bundle):
    engine = TableEngine.of_golden(bundle.golden())
    scorer = ScorerGraph(bundle.file(bundle.manifest.scorer.file))
    return SimpleNamespace(bundle=bundle, engine=engine, probabilities=scorer.probabilities)


def test_at_least_three_segments_and_one_to_warm_up(detector):
    speed = bench(detector, detector.bundle.golden(), seconds=0)
    assert speed.segments == 3
    assert detector.engine.segments == 4
    assert [stage.stage for stage in speed.stages] == list(STAGES)
    assert speed.provider == "cpu"
    assert speed.live_cameras == pytest.approx(speed.segments_per_s * speed.segment_s)


def test_an_engine_that_fails_ends_it(detector):
    detector.engine.abandon()
    with pytest.raises(InferenceFailed):
        bench(detector, detector.bundle.golden(), seconds=0)
