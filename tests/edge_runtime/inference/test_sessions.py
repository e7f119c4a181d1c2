"""Sessions: what was asked for is what runs, or an error says why not."""

from __future__ import annotations

import builtins
import subprocess
import sys
import types

import numpy as np
import pytest
from clips import ROOT
from onnx import TensorProto, helper

from edge_runtime.errors import BundleRefused, MissingExtra, ProviderUnavailable, UsageError, first_line
from edge_runtime.inference import sessions
from edge_runtime.inference.providers import PROVIDERS, find_provider
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


def fake_runtime(built, used=None, error=None, only=None):
    """An onnxruntime as installed elsewhere: what it was built with, and what it silently falls back to.

    error: what opening raises, with every provider or with `only` one.
    """

    class InferenceSession:
        def __init__(self, path, options, providers, enable_fallback):
            assert enable_fallback == 0
            names = [name for name, _ in providers]
            if error is not None and only in (None, *names):
                raise error
            self._providers = used or names

        def get_providers(self):
            return self._providers

    class SessionOptions:
        def add_session_config_entry(self, key, value):
            pass

    return types.SimpleNamespace(
        get_available_providers=lambda: [PROVIDERS[name].onnxruntime for name in built],
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
    [("cuda", "headhunt-edge[gpu]"), ("tensorrt", "headhunt-edge[gpu]"), ("openvino", "headhunt-edge[openvino]")],
)
def test_a_provider_that_is_not_built_in_says_what_to_install(monkeypatch, name, package):
    monkeypatch.setattr(sessions, "load_onnxruntime", lambda: fake_runtime(["cpu"]))
    with pytest.raises(ProviderUnavailable) as caught:
        choose_provider(name)
    assert package in str(caught.value)


def test_a_card_is_picked_by_its_number(monkeypatch, graph):
    runtime = fake_runtime(["cuda", "cpu"])
    monkeypatch.setattr(sessions, "load_onnxruntime", lambda: runtime)
    asked = []

    class Session(runtime.InferenceSession):
        def __init__(self, path, options, providers, enable_fallback):
            super().__init__(path, options, providers, enable_fallback)
            asked.extend(providers)

    runtime.InferenceSession = Session
    assert choose_provider("cuda:1") == "cuda:1"
    for name in ("cuda:1", "cuda"):
        open_session(graph, name)
    assert [options.get("device_id") for _, options in asked] == ["1", None]
    assert find_provider("cuda:1").tolerance == find_provider("cuda").tolerance


@pytest.mark.parametrize("name", ["cuda:", "cuda:x", "cuda:-1", "cuda:1:2", "cpu:0", "openvino:1", "cuda:\u0661"])
def test_a_card_that_is_none_is_wrong_usage(name):
    with pytest.raises(UsageError, match="as in cuda:1, tensorrt:1"):
        choose_provider(name)


def test_a_silent_fallback_is_an_error(monkeypatch, graph):
    fallen = fake_runtime(["cuda", "cpu"], used=["CPUExecutionProvider"])
    monkeypatch.setattr(sessions, "load_onnxruntime", lambda: fallen)
    with pytest.raises(ProviderUnavailable, match="cuda was asked for, but ONNX Runtime fell back to CPU"):
        open_session(graph, "cuda")


def test_a_provider_that_cannot_load_what_the_cpu_can_is_at_fault_itself(monkeypatch, graph):
    error = RuntimeError("CUDA failure 2: out of memory\nand more")
    broken = fake_runtime(["cuda", "cpu"], error=error, only="CUDAExecutionProvider")
    monkeypatch.setattr(sessions, "load_onnxruntime", lambda: broken)
    with pytest.raises(ProviderUnavailable, match=r"cannot load double\.onnx \(CUDA failure 2: out of memory\)"):
        open_session(graph, "cuda")
    broken = fake_runtime(["cuda", "cpu"], error=RuntimeError("no such operator"))
    monkeypatch.setattr(sessions, "load_onnxruntime", lambda: broken)
    with pytest.raises(BundleRefused, match=r"double\.onnx: ONNX Runtime cannot load it"):
        open_session(graph, "cuda")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA failure 2: out of memory\nand more")])
def test_want_of_memory_is_no_fault_of_a_graph(monkeypatch, graph, error):
    monkeypatch.setattr(sessions, "load_onnxruntime", lambda: fake_runtime(["cuda", "cpu"], error=error))
    for provider in ("cuda", "cpu"):
        with pytest.raises(
            ProviderUnavailable, match=rf"^{provider} has no memory for double\.onnx \(.*\); free some$"
        ):
            open_session(graph, provider)


def test_a_failing_load_leaves_the_hosts_stdout_alone(graph):
    """ONNX Runtime's Python side prints a failure and its fallback. An option that it refuses stands for a GPU's."""
    code = f"""
import sys, pathlib, onnxruntime
from edge_runtime.errors import BundleRefused
from edge_runtime.inference.sessions import open_session
class Options(onnxruntime.SessionOptions):
    def __init__(self):
        super().__init__()
        self.add_session_config_entry("session.intra_op_thread_affinities", "refused")
onnxruntime.SessionOptions = Options
try:
    open_session(pathlib.Path({str(graph)!r}), "cpu")
except BundleRefused as refused:
    sys.stderr.write(str(refused))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert "double.onnx: ONNX Runtime cannot load it" in done.stderr
    assert done.stdout == ""


def test_an_error_without_words_still_is_one_line(monkeypatch, graph):
    monkeypatch.setattr(sessions, "load_onnxruntime", lambda: fake_runtime(["cpu"], error=RuntimeError()))
    with pytest.raises(BundleRefused, match=r"double\.onnx: .*\(RuntimeError\)"):
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
