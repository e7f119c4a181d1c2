"""`auto` takes the fastest provider that gives the golden features, once for a machine, and says it."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from table_engine import TableEngine

from edge_runtime.bundle.reader import Bundle
from edge_runtime.errors import BundleRefused, InferenceFailed, ProviderUnavailable
from edge_runtime.inference import choice, engines
from edge_runtime.inference.choice import choose
from edge_runtime.inference.engine import Engine
from edge_runtime.inference.engines import open_engine
from edge_runtime.inference.providers import CPU, PROVIDERS, Provider, automatic


class Sleepy(TableEngine):
    """Takes its time over every segment."""

    seconds = 0.0

    def tokens(self, frames):
        time.sleep(self.seconds)
        return super().tokens(frames)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("slow", "fast", "wrong", "gone", "nan", "fails", "first", "second", "third", "more"):
        monkeypatch.setitem(PROVIDERS, name, Provider(name, None, name, 1e-3, None, ""))
    return tmp_path / "headhunt-edge" / "providers.json"


@pytest.fixture
def openers(bundle: Bundle):
    """Opens named engines of given speeds; a golden one is right, `wrong` is not, `gone` does not load."""
    opened: list[Engine] = []
    golden = bundle.golden()

    def make(**seconds: float) -> Callable[[str], Engine]:
        def open_one(name: str) -> Engine:
            if name == "gone":
                raise ProviderUnavailable("its libraries did not load")
            engine = Sleepy.of_golden(golden, name)
            assert isinstance(engine, Sleepy)
            if name == "wrong":
                engine = Sleepy.constant(golden.features[0] + 1, name)
                engine._otherwise = (golden.tokens[0], golden.features[0] * 1.01)
            engine.seconds = seconds.get(name, 0.0)
            assert all(one.closed for one in opened), "two engines in memory at once"
            opened.append(engine)
            return engine

        return open_one

    make.opened = opened
    return make


def test_the_fastest_wins_whatever_its_place(bundle, openers, caplog):
    with caplog.at_level(logging.INFO):
        assert choose(bundle, ["slow", "fast", CPU], None, openers(slow=0.05, fast=0.001, cpu=0.03)) == "fast"
    record = caplog.records[-1]
    for name in ("slow", "fast", "cpu"):
        assert re.search(rf"{name} \d+\.\d+", record.getMessage())
    assert all(engine.closed for engine in openers.opened)


def test_what_does_not_compute_the_golden_features_is_out_however_fast(bundle, openers, caplog):
    with caplog.at_level(logging.INFO):
        assert choose(bundle, ["wrong", "gone", CPU], None, openers(cpu=0.02)) == CPU
    said = caplog.records[-1].getMessage()
    assert "wrong its features differ by 0.01 of their scale, allowed are 0.001" in said
    assert "gone does not load (its libraries did not load)" in said


def test_one_that_fails_or_gives_no_numbers_is_out(bundle, monkeypatch):
    golden = bundle.golden()

    def open_one(name):
        engine = TableEngine.of_golden(golden, name)
        if name == "nan":
            monkeypatch.setattr(engine, "language", lambda _tokens: np.full_like(golden.features[:1], np.nan))
        if name == "fails":
            engine.abandon()
        return engine

    trials = choice._measure(bundle, golden, ["nan", "fails", CPU], open_one)
    assert [trial.seconds is None for trial in trials] == [True, True, False]
    assert "differ by nan" in trials[0].said
    assert "fails" in trials[1].said


def test_where_none_passes_it_is_the_cpu_and_said(bundle, openers, caplog, cache):
    assert choose(bundle, ["wrong", "gone"], None, openers()) == CPU
    assert "no other gives the golden features" in caplog.text
    assert not cache.exists()


def test_a_choice_is_remembered_for_this_machine_and_these_graphs(bundle, openers, caplog, cache):
    candidates, speeds = ["slow", "fast"], openers(slow=0.05)
    assert choose(bundle, candidates, None, speeds) == "fast"
    count = len(openers.opened)
    with caplog.at_level(logging.INFO):
        assert choose(bundle, candidates, None, speeds) == "fast"
    assert len(openers.opened) == count
    assert re.search(r"fast, as measured on this machine: slow \d+\.\d+", caplog.records[-1].getMessage())
    # Other threads, another library: measured anew, and both are kept.
    assert choose(bundle, candidates, 1, speeds) == "fast"
    assert choose(bundle, [*candidates, "more"], None, openers(slow=0.05, fast=0.01)) == "more"
    assert len(json.loads(cache.read_text())) == 3


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"key": 3}', b"\xff"])
def test_a_memory_that_is_damaged_is_none(content, bundle, openers, cache):
    cache.parent.mkdir()
    cache.write_bytes(content)
    for _ in range(2):
        assert choose(bundle, ["slow", "fast"], None, openers(slow=0.05)) == "fast"
    assert len(openers.opened) == 2


def test_a_remembered_provider_that_is_gone_is_measured_again(bundle, openers, cache):
    choose(bundle, ["slow", "fast"], None, openers(slow=0.05))
    (key,) = json.loads(cache.read_text())
    cache.write_text(json.dumps({key: {"provider": "npu"}}))
    assert choose(bundle, ["slow", "fast"], None, openers(slow=0.05)) == "fast"


def test_a_memory_that_cannot_be_written_is_a_warning(bundle, openers, cache, caplog):
    cache.parent.write_text("in the way")
    assert choose(bundle, ["slow", "fast"], None, openers(slow=0.05)) == "fast"
    assert "the choice of the provider is not remembered" in caplog.text


def test_without_a_home_nothing_is_remembered(bundle, openers, monkeypatch):
    def homeless():
        raise RuntimeError("no home")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(choice.Path, "home", homeless)
    assert choose(bundle, ["slow", "fast"], None, openers(slow=0.05)) == "fast"


def test_the_time_is_bounded(bundle, openers, monkeypatch, caplog):
    monkeypatch.setattr(choice, "BUDGET_S", 0.1)
    with caplog.at_level(logging.INFO):
        assert choose(bundle, ["first", "second", "third"], None, openers(first=0.06, second=0.09)) == "first"
    assert "third not tried, there was no time" in caplog.text


def test_what_would_not_fit_into_the_memory_is_not_even_opened(bundle, openers, monkeypatch, caplog):
    weights = sum(entry.bytes for entry in bundle.manifest.files if entry.path.endswith(".data"))
    monkeypatch.setitem(PROVIDERS, "fast", Provider("fast", None, "fast", 1e-3, None, "", memory=3.0))
    monkeypatch.setattr(choice, "available_memory", lambda: 2 * weights)
    with caplog.at_level(logging.INFO):
        assert choose(bundle, ["fast", "slow", CPU], None, openers(slow=0.001, cpu=0.02)) == "slow"
        assert "provider fast is not tried: it takes" in caplog.text
        assert [engine.provider for engine in openers.opened] == ["slow", CPU]
        # One that is left is taken as it is, and the CPU is always left.
        monkeypatch.setattr(choice, "available_memory", lambda: 0)
        assert choose(bundle, ["fast", "slow", CPU], None, openers()) == CPU
    assert len(openers.opened) == 2
    monkeypatch.setattr(choice, "available_memory", lambda: None)
    assert choose(bundle, ["fast", CPU], None, openers(cpu=0.02)) == "fast"


def test_one_candidate_is_taken_unmeasured(bundle, openers, cache):
    assert choose(bundle, [CPU], None, openers()) == CPU
    assert openers.opened == []
    assert not cache.exists()


def test_a_bundle_without_golden_segments_runs_on_the_cpu(bundle, openers, monkeypatch):
    def none(_self):
        raise BundleRefused("golden.npz is missing")

    monkeypatch.setattr(Bundle, "golden", none)
    assert choose(bundle, ["slow", "fast"], None, openers()) == CPU


def test_it_measures_the_real_engines(bundle, cache):
    engine = open_engine(bundle, "auto", threads=1)
    assert engine.provider in [row.name for row in automatic()]
    (found,) = json.loads(cache.read_text()).values()
    assert found["provider"] == engine.provider
    assert "openvino" in found["said"]
    assert "cpu" in found["said"]


def test_a_remembered_provider_that_does_not_load_any_more_is_replaced(bundle, monkeypatch, caplog):
    monkeypatch.setattr(engines, "installed", lambda: ["openvino", CPU])
    monkeypatch.setattr(choice, "_measure", lambda *_arguments: [choice.Trial("openvino", 0.01, "fast")])
    assert open_engine(bundle, "auto").provider == "openvino"

    def gone(*_arguments):
        raise ProviderUnavailable("its driver is gone")

    monkeypatch.setitem(engines._OPENERS, engines.Library.OPENVINO, gone)
    monkeypatch.setattr(choice, "_measure", lambda *_arguments: [choice.Trial(CPU, 0.02, "slow")])
    assert open_engine(bundle, "auto").provider == CPU
    assert "provider openvino does not load any more, another one is looked for (its driver is gone)" in caplog.text
    # That is what is remembered now.
    monkeypatch.setattr(choice, "_measure", gone)
    assert open_engine(bundle, "auto").provider == CPU


def test_a_provider_that_is_asked_for_is_never_replaced(bundle, monkeypatch):
    def broken(*_arguments):
        raise InferenceFailed("broken")

    monkeypatch.setattr(engines, "choose", broken)
    assert open_engine(bundle, CPU, threads=1).provider == CPU
