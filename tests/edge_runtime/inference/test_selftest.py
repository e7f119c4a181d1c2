"""The self-test knows engines and golden segments, no model: what the builder computed passes, all else fails."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from table_engine import TableEngine

from edge_runtime.bundle.reader import Golden
from edge_runtime.errors import BundleRefused, InferenceFailed
from edge_runtime.inference.engine import Engine
from edge_runtime.inference.selftest import check_engine, self_test, tolerance

RANDOM = np.random.default_rng(0)
FP32 = ("fp32", "fp32")


def probabilities(features):
    """A scorer that anyone can compute."""
    return (1 / (1 + np.exp(-features[:, 0]))).astype(np.float32)


@pytest.fixture(scope="module")
def golden() -> Golden:
    features = RANDOM.normal(size=(2, 8)).astype(np.float32)
    return Golden(
        frames=RANDOM.integers(0, 256, (2, 4, 6, 6, 3), dtype=np.uint8),
        tokens=RANDOM.normal(size=(2, 12, 5)).astype(np.float32),
        features=features,
        probabilities=probabilities(features),
    )


def shifted(golden: Golden, stage: str, by: float, segment: slice = slice(None)) -> Golden:
    """The same with one stage moved by a share of its scale."""
    values = getattr(golden, stage).copy()
    values[segment] += np.float32(by * np.abs(values).max())
    return dataclasses.replace(golden, **{stage: values})


def test_a_table_is_an_engine(golden):
    assert isinstance(TableEngine.of_golden(golden), Engine)


def test_what_answers_as_the_builder_did_passes(golden):
    engine = TableEngine.of_golden(golden)
    found = self_test(engine, golden, FP32, probabilities)
    assert [item.stage for item in found] == ["tokens", "features", "probabilities"]
    assert all(item.passed and item.max_abs == 0 for item in found)
    assert engine.segments == 2


@pytest.mark.parametrize(
    ("provider", "by", "passes"), [("cpu", 5e-4, True), ("cpu", 5e-3, False), ("cuda", 5e-3, True)]
)
@pytest.mark.parametrize("stage", ["tokens", "features"])
def test_other_values_pass_only_within_the_tolerance(golden, stage, provider, by, passes):
    engine = TableEngine.of_golden(golden, provider)
    by_stage = {item.stage: item for item in self_test(engine, shifted(golden, stage, by), FP32, probabilities)}
    assert by_stage[stage].passed == passes
    assert by_stage[stage].relative == pytest.approx(by, rel=0.01)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_never_passes(golden, value):
    engine = TableEngine({}, {}, (golden.tokens[0], np.full(8, value, np.float32)))
    by_stage = {item.stage: item for item in self_test(engine, golden, FP32, probabilities)}
    assert not by_stage["features"].passed
    with pytest.raises(InferenceFailed):
        check_engine(
            TableEngine({}, {}, (golden.tokens[0], np.full(8, value, np.float32))), golden, FP32, probabilities
        )


def test_other_shapes_are_the_bundles_fault(golden):
    engine = TableEngine({}, {}, (golden.tokens[0], np.zeros(7, np.float32)))
    with pytest.raises(
        BundleRefused, match=r"golden\.npz: features have the shape \(2, 8\), the graphs give \(2, 7\)"
    ):
        self_test(engine, golden, FP32, probabilities)


def test_the_tolerance_is_the_wider_of_precision_and_provider():
    assert tolerance(("fp32", "fp32"), "cpu") == 1e-3
    assert tolerance(("fp32", "fp16"), "cpu") == 2e-2
    assert tolerance(("fp32", "fp32"), "tensorrt") == 2e-2


class TestAtOpening:
    def test_one_segment_is_enough(self, golden):
        engine = TableEngine.of_golden(golden)
        assert all(item.passed for item in check_engine(engine, golden, FP32, probabilities))
        assert engine.segments == 1
        # The second is for `verify`.
        check_engine(engine, shifted(golden, "features", 0.5, slice(1, 2)), FP32, probabilities)

    @pytest.mark.parametrize("stage", ["tokens", "features"])
    def test_a_difference_says_what_where_how_much_and_the_ways_out(self, golden, stage):
        engine = TableEngine.of_golden(golden, "cpu")
        with pytest.raises(InferenceFailed) as caught:
            check_engine(engine, shifted(golden, stage, 0.25, slice(0, 1)), FP32, probabilities)
        said = str(caught.value)
        words = [f"the {stage} of", "cpu", "allowed are 0.001", "hh-edge verify", "--provider", "--no-self-test"]
        assert [word for word in words if word not in said] == []
        stored, given = getattr(shifted(golden, stage, 0.25, slice(0, 1)), stage)[0], getattr(golden, stage)[0]
        assert f"by {np.abs(stored - given).max() / np.abs(stored).max():.3g} of their scale" in said
        assert "\n" not in said
        assert caught.value.exit_code == 1

    def test_the_first_stage_that_differs_is_named(self, golden):
        engine = TableEngine.constant(golden.features[1])
        engine._otherwise = (golden.tokens[1], golden.features[1])
        engine._tokens = engine._features = {}
        with pytest.raises(InferenceFailed, match="the tokens of"):
            check_engine(engine, golden, FP32, probabilities)

    def test_an_engine_that_fails(self, golden):
        engine = TableEngine.of_golden(golden)
        engine.abandon()
        with pytest.raises(InferenceFailed, match="abandoned"):
            check_engine(engine, golden, FP32, probabilities)
