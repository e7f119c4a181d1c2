"""The graphs on the golden frames give the golden values; what is not a number never leaves them."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from edge_runtime.errors import InferenceFailed, UsageError
from edge_runtime.inference import onnx_engine
from edge_runtime.inference.engine import Engine
from edge_runtime.inference.onnx_engine import OnnxEngine
from edge_runtime.inference.scorer import ScorerGraph


@pytest.fixture(scope="module")
def graphs(bundle):
    files = bundle.manifest.graphs
    return OnnxEngine(bundle.file(files.vision.file), bundle.file(files.language.file), "cpu", threads=1)


@pytest.fixture(scope="module")
def scorer(bundle):
    return ScorerGraph(bundle.file(bundle.manifest.scorer.file))


def test_golden_frames_give_golden_values(bundle, graphs, scorer):
    golden = bundle.golden()
    tokens = graphs.tokens(golden.frames)
    features = graphs.features(golden.frames)
    np.testing.assert_allclose(tokens, golden.tokens, rtol=1e-4, atol=1e-5 * np.abs(golden.tokens).max())
    np.testing.assert_allclose(features, golden.features, rtol=1e-4, atol=1e-5 * np.abs(golden.features).max())
    np.testing.assert_allclose(scorer.probabilities(features), golden.probabilities, atol=1e-5)
    # They were chosen to differ: a graph that ignores its input would pass otherwise.
    assert np.abs(golden.features[0] - golden.features[1]).max() > 1e-3


def test_a_batch_is_its_segments_one_by_one(bundle, graphs):
    frames = bundle.golden().frames
    together = graphs.features(np.concatenate([frames, frames[:1]]))
    alone = np.concatenate([graphs.features(frames[i : i + 1]) for i in (0, 1, 0)])
    assert together.shape == (3, bundle.manifest.feature_size)
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5 * np.abs(alone).max())


def test_giving_the_workspace_back_changes_no_bit(bundle, graphs, monkeypatch):
    monkeypatch.setattr(onnx_engine, "_LARGE", 0)
    files, frames = bundle.manifest.graphs, bundle.golden().frames
    giving = OnnxEngine(bundle.file(files.vision.file), bundle.file(files.language.file), "cpu", threads=1)
    for _ in range(2):
        assert np.array_equal(giving.features(frames), graphs.features(frames))


def test_the_order_of_frames_matters(bundle, graphs):
    frames = bundle.golden().frames[:1]
    assert not np.allclose(graphs.features(frames), graphs.features(frames[:, ::-1]), atol=1e-6)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda frames: frames[:, :, :-1],
        lambda frames: frames.astype(np.float32),
        lambda frames: frames[:, :3],
        lambda frames: frames[0],
    ],
    ids=["size", "dtype", "too few", "no batch"],
)
def test_what_the_graphs_do_not_take_fails_by_name(bundle, graphs, spoil):
    with pytest.raises(InferenceFailed, match="the graphs failed: "):
        graphs.features(spoil(bundle.golden().frames))


class Gives:
    """A session that gives one value, or raises."""

    def __init__(self, value):
        self._value = value

    def run(self, names, inputs, options=None):
        if isinstance(self._value, BaseException):
            raise self._value
        return [self._value]


@pytest.mark.parametrize(
    "value", [np.full((1, 4), np.nan), np.array([[0, 1, np.inf, 0]]), RuntimeError("out of memory"), MemoryError()]
)
def test_features_that_are_not_finite_or_fail(bundle, graphs, monkeypatch, value):
    monkeypatch.setattr(graphs, "_language", Gives(value))
    with pytest.raises(InferenceFailed) as caught:
        graphs.features(bundle.golden().frames[:1])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        np.array([[0.1, np.nan]]),
        np.array([[0.1, 1.5]]),
        np.array([[0.1, -0.5]]),
        np.array([0.5]),
        np.zeros((2, 2)),
        np.zeros((1, 3)),
        [{0: 0.1, 1: 0.9}],
        MemoryError(),
    ],
    ids=str,
)
def test_a_probability_that_is_none(scorer, monkeypatch, value):
    monkeypatch.setattr(scorer, "_session", Gives(value))
    with pytest.raises(InferenceFailed, match="the scorer"):
        scorer.probabilities(np.zeros((1, 4), np.float32))


def test_probabilities_at_the_very_ends(scorer, monkeypatch):
    monkeypatch.setattr(scorer, "_session", Gives(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)))
    assert scorer.probabilities(np.zeros((2, 4), np.float32)).tolist() == [0.0, 1.0]


def test_abandoning_fails_every_run(bundle):
    files = bundle.manifest.graphs
    graphs = OnnxEngine(bundle.file(files.vision.file), bundle.file(files.language.file), "cpu", threads=1)
    graphs.abandon()
    with pytest.raises(InferenceFailed, match="the graphs failed"):
        graphs.features(bundle.golden().frames[:1])


def test_a_closed_engine_gives_its_memory_back_and_says_so(bundle):
    files = bundle.manifest.graphs
    engine = OnnxEngine(bundle.file(files.vision.file), bundle.file(files.language.file), "cpu", threads=1)
    assert isinstance(engine, Engine)
    golden = bundle.golden()
    sessions = [weakref.ref(engine._vision), weakref.ref(engine._language)]
    engine.close()
    engine.close()
    gc.collect()
    assert [session() for session in sessions] == [None, None]
    for call in (
        lambda: engine.tokens(golden.frames),
        lambda: engine.language(golden.tokens),
        lambda: engine.features(golden.frames),
    ):
        with pytest.raises(UsageError, match="the engine was closed; open a new one"):
            call()
    engine.abandon()
