"""What `hh-edge verify` finds: whether an engine gives what the builder's gave, as text and as plain values."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from table_engine import TableEngine

from edge_runtime.checks.verify import verify
from edge_runtime.errors import InferenceFailed
from edge_runtime.inference.scorer import ScorerGraph


@pytest.fixture(scope="module")
def scorer(bundle) -> ScorerGraph:
    return ScorerGraph(bundle.file(bundle.manifest.scorer.file))


def detector(bundle, scorer, engine):
    return SimpleNamespace(bundle=bundle, engine=engine, probabilities=scorer.probabilities)


def test_an_engine_that_computes_as_the_builder_did(bundle, scorer):
    found = verify(detector(bundle, scorer, TableEngine.of_golden(bundle.golden(), "cuda")))
    assert found.passed
    document = found.to_dict()
    assert (document["bundle_id"], document["provider"], document["passed"]) == (
        bundle.manifest.bundle_id,
        "cuda",
        True,
    )
    assert document["features"] == {"max_abs": 0.0, "relative": 0.0, "tolerance": 1e-2}
    lines = found.lines()
    assert [line.split()[0] for line in lines] == ["files", "tokens", "features", "probabilities", "verified"]
    assert f"{len(bundle.manifest.files)} as the manifest says" in lines[0]
    assert lines[-1] == f"verified on cuda: {bundle.manifest.bundle_id}"


def test_one_that_does_not(bundle, scorer):
    golden = bundle.golden()
    other = dataclasses.replace(golden, features=golden.features * np.float32(1.01))
    found = verify(detector(bundle, scorer, TableEngine.of_golden(other)))
    assert not found.passed
    assert next(item.stage for item in found.differences if not item.passed) == "features"
    assert "tokens         ok" in "\n".join(found.lines())
    assert "features       DIFFER" in "\n".join(found.lines())
    assert found.lines()[-1].startswith("NOT verified on cpu")
    assert found.to_dict()["passed"] is False


def test_a_detector_that_was_closed(bundle, scorer):
    with pytest.raises(InferenceFailed, match="closed"):
        verify(detector(bundle, scorer, None))
