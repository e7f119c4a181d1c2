"""Sessions: what was asked for is what runs, or an error says why not."""

from __future__ import annotations

import builtins
import types

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_runtime.errors import BundleRefused, MissingExtra, ProviderUnavailable, UsageError, first_line
from edge_runtime.inference import sessions
from edge_runtime.inference.sessions import available_providers, choose_provider, open_session


@pytest.fixture
def graph(tmp_path):
    """y = x + x."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in "xy")
    model = helper.make_model(
        helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", [x], [y]),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
    (tmp_path / "double.onnx").write_bytes(model.SerializeToString())
    return tmp_path / "double.onnx"


def fake_runtime(built, used=None, error=None):
    """An onnxruntime as installed elsewhere: what it was built with, and what it silently falls back to."""

    class InferenceSession:
        def __init__(self, path, options, providers):
            if error is not None:
                raise error
            self._providers = used or providers

        def get_providers(self):
            return self._providers

    class SessionOptions:
        def add_session_config_entry(self, key, value):
            pass

    return types.SimpleNamespace(
        get_available_providers=lambda: [sessions.PROVIDERS[name] for name in built],
        InferenceSession=InferenceSession,
        SessionOptions=SessionOptions,
    )


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_a_graph_runs(graph, threads):
    session = open_session(graph, "cpu", threads)
    (y,) = session.run(["y"], {"x": np.array([1, 2], np.float32)})
    assert y.tolist() == [2, 4]


@pytest.mark.parametrize("threads", [0, -1])
def test_a_number_of_threads_that_is_none_is_not_the_bundles_fault(graph, threads):
    with pytest.raises(UsageError, match="threads starts at 1"):
        open_session(graph, "cpu", threads)


def test_what_is_no_graph_is_named(tmp_path):
    (tmp_path / "vision.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleRefused, match=r"vision\.onnx: ONNX Runtime cannot load it"):
        open_session(tmp_path / "vision.onnx", "cpu")


def test_cpu_is_always_there():
    assert "cpu" in available_providers()
    assert choose_provider("cpu") == "cpu"
    assert choose_provider("auto") in available_providers()


@pytest.mark.parametrize(
    ("built", "chosen"),
    [
        (["cpu"], "cpu"),
        (["openvino", "cpu"], "openvino"),
        (["tensorrt", "cuda", "cpu"], "cuda"),
        # TensorRT compiles for minutes: only when asked for.
        (["tensorrt", "cpu"], "cpu"),
    ],
)
def test_auto_takes_the_best(monkeypatch, built, chosen):
    monkeypatch.setattr(sessions, "load_onnxruntime", lambda: fake_runtime(built))
    assert choose_provider("auto") == chosen
    for name in built:
        assert choose_provider(name) == name


@pytest.mark.parametrize("name", ["CPU", "CUDAExecutionProvider", "", "gpu"])
def test_an_unknown_provider_is_wrong_usage(name):
    with pytest.raises(UsageError, match="choose from auto, cpu, cuda"):
        choose_provider(name)


@pytest.mark.parametrize(
    ("name", "package"),
    [("cuda", "headhunt-edge[gpu]"), ("tensorrt", "headhunt-edge[gpu]"), ("openvino", "onnxruntime-openvino")],
)
def test_a_provider_that_is_not_built_in_says_what_to_install(monkeypatch, name, package):
    monkeypatch.setattr(sessions, "load_onnxruntime", lambda: fake_runtime(["cpu"]))
    with pytest.raises(ProviderUnavailable) as caught:
        choose_provider(name)
    assert package in str(caught.value)


def test_a_silent_fallback_is_an_error(monkeypatch, graph):
    fallen = fake_runtime(["cuda", "cpu"], used=["CPUExecutionProvider"])
    monkeypatch.setattr(sessions, "load_onnxruntime", lambda: fallen)
    with pytest.raises(ProviderUnavailable, match="cuda was asked for, but ONNX Runtime fell back to CPU"):
        open_session(graph, "cuda")


def test_an_error_without_words_still_is_one_line(monkeypatch, graph):
    monkeypatch.setattr(sessions, "load_onnxruntime", lambda: fake_runtime(["cpu"], error=MemoryError()))
    with pytest.raises(BundleRefused, match=r"double\.onnx: .*\(MemoryError\)"):
        open_session(graph, "cpu")
    assert first_line(RuntimeError("\nfirst\nsecond")) == "first"
    assert first_line(RuntimeError()) == "RuntimeError"


def test_without_onnxruntime_the_pip_command_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "onnxruntime":
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r'pip install "headhunt-edge\[cpu\]"') as caught:
        choose_provider("auto")
    assert caught.value.exit_code == 2
