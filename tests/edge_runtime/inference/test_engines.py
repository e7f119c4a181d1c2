"""Every engine gives the golden values on the golden frames; what is not a number never leaves it."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edge_runtime.errors import BundleRefused, InferenceFailed, MissingExtra, UsageError
from edge_runtime.inference import onnx_engine
from edge_runtime.inference.engine import Engine
from edge_runtime.inference.engines import open_engine
from edge_runtime.inference.openvino_engine import OpenVinoEngine
from edge_runtime.inference.scorer import ScorerGraph


@pytest.fixture(scope="module", params=["cpu", "openvino"])
def provider(request):
    return request.param


@pytest.fixture(scope="module")
def graphs(bundle, provider):
    return open_engine(bundle, provider, threads=1)


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


def test_giving_the_workspace_back_changes_no_bit(bundle, monkeypatch):
    frames, keeping = bundle.golden().frames, open_engine(bundle, "cpu", threads=1)
    monkeypatch.setattr(onnx_engine, "_LARGE", 0)
    giving = open_engine(bundle, "cpu", threads=1)
    for _ in range(2):
        assert np.array_equal(giving.features(frames), keeping.features(frames))


def test_the_growing_form_is_as_large_as_the_weights_that_it_shares(bundle):
    language, growing = (bundle.file(name) for name in ("language.onnx", "growing.onnx"))
    shared = bundle.file("language.onnx.data").stat().st_size
    assert onnx_engine._weights_size(language) == shared
    assert shared < onnx_engine._weights_size(growing) < 1.1 * shared


def test_tokens_that_stay_where_the_vision_graph_put_them_change_no_bit(bundle, monkeypatch):
    # What a GPU's tokens do; here they stay in the processor's memory, bound all the same.
    frames, engine = bundle.golden().frames, open_engine(bundle, "cpu", threads=1)
    plain = engine.features(frames)
    monkeypatch.setattr(engine, "_device", ("cpu", 0))
    monkeypatch.setattr(engine, "tokens", lambda _frames: pytest.fail("tokens came back"))
    assert np.array_equal(engine.features(frames), plain)
    with pytest.raises(InferenceFailed, match="the graphs failed: "):
        engine.features(frames[:, :, :-1])
    engine.abandon()
    with pytest.raises(InferenceFailed, match="the graphs failed: "):
        engine.features(frames)


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
    """A session of ONNX Runtime, or a graph of OpenVINO's engine, that gives one value, or raises."""

    def __init__(self, value):
        self._value = value

    def run(self, *_arguments):
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


def test_abandoning_fails_every_run(bundle, provider):
    graphs = open_engine(bundle, provider, threads=1)
    graphs.abandon()
    with pytest.raises(InferenceFailed, match="the graphs failed"):
        graphs.features(bundle.golden().frames[:1])


def test_abandoning_ends_the_calls_in_progress(bundle, provider):
    graphs = open_engine(bundle, provider, threads=1)
    many = np.repeat(bundle.golden().frames[:1], 200, axis=0)
    began, ended = threading.Event(), []

    def call():
        began.set()
        try:
            for _ in range(50):
                graphs.features(many)
        except InferenceFailed as error:
            ended.append(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    assert began.wait(10)
    time.sleep(0.05)
    graphs.abandon()
    thread.join(20)
    assert not thread.is_alive()
    assert len(ended) == 1
    assert "the graphs failed" in ended[0]


def test_calls_of_several_threads_do_not_mix(bundle, graphs):
    golden = bundle.golden()
    wanted = [graphs.features(golden.frames[i : i + 1]) for i in (0, 1)]

    def call(number):
        return all(
            np.array_equal(graphs.features(golden.frames[number : number + 1]), wanted[number]) for _ in range(10)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(call, [0, 1, 0, 1, 1, 0]))


def test_a_closed_engine_gives_its_memory_back_and_says_so(bundle, provider):
    engine = open_engine(bundle, provider, threads=1)
    assert isinstance(engine, Engine)
    assert engine.provider == provider
    golden = bundle.golden()
    engine.features(golden.frames)
    held = [weakref.ref(engine._vision), weakref.ref(engine._language)]
    engine.close()
    engine.close()
    gc.collect()
    assert [one() for one in held] == [None, None]
    for call in (
        lambda: engine.tokens(golden.frames),
        lambda: engine.language(golden.tokens),
        lambda: engine.features(golden.frames),
    ):
        with pytest.raises(UsageError, match="the engine was closed; open a new one"):
            call()
    engine.abandon()


def test_what_is_no_graph_is_refused_by_name(tmp_path):
    for name in ("vision.onnx", "language.onnx"):
        (tmp_path / name).write_bytes(b"no graph")
    with pytest.raises(BundleRefused, match=r"vision\.onnx: OpenVINO cannot load it") as caught:
        OpenVinoEngine(tmp_path / "vision.onnx", tmp_path / "language.onnx")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("threads", [0, -1])
def test_less_than_a_thread_is_wrong_usage(bundle, provider, threads):
    with pytest.raises(UsageError, match="threads starts at 1"):
        open_engine(bundle, provider, threads)


def test_without_openvino_the_way_to_it_is_told(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtra, match=r'pip install "headhunt-edge\[openvino\]"'):
        open_engine(bundle, "openvino")


WITHOUT_MEMORY = """
import resource, sys
import numpy as np
from edge_runtime.bundle.reader import Bundle
from edge_runtime.errors import OutOfMemory
from edge_runtime.inference.engines import open_engine

bundle = Bundle.open(sys.argv[1])
engine, frames = open_engine(bundle, sys.argv[2], 1), bundle.golden().frames
engine.features(frames)
many = np.repeat(frames[:1], 100, 0)
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**20, resource.RLIM_INFINITY))
try:
    engine.features(many)
except OutOfMemory as error:
    print("told", "\\n" in str(error))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux does it")
def test_want_of_memory_is_told_from_other_failures(bundle_dir, provider):
    command = [sys.executable, "-c", WITHOUT_MEMORY, str(bundle_dir), provider]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.split() == ["told", "False"], done.stderr
