"""Providers and precisions stand in one table each: whoever lists them reads it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import onnxruntime
import pytest
from clips import ROOT
from table_engine import TableEngine

from edge_runtime.bundle.manifest import Precision
from edge_runtime.checks import doctor
from edge_runtime.checks.doctor import examine, identity_graph
from edge_runtime.errors import UsageError
from edge_runtime.inference.precisions import PRECISIONS, parity_tolerance
from edge_runtime.inference.providers import PROVIDERS, Provider, automatic, provider_choices
from edge_runtime.inference.selftest import tolerance
from edge_runtime.inference.sessions import available_providers, choose_provider, open_session

# Another provider that this ONNX Runtime really has, under a name of ours.
AZURE = Provider("azure", "AzureExecutionProvider", "onnxruntime-azure", 0.125, -1, "ask the cloud", {"key": "value"})


@pytest.fixture
def azure(monkeypatch) -> Provider:
    if AZURE.onnxruntime not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has the CPU alone")
    monkeypatch.setitem(PROVIDERS, AZURE.name, AZURE)
    return AZURE


def test_a_new_row_is_all_that_a_provider_takes(azure, tmp_path):
    assert provider_choices()[-1] == "azure"
    assert "azure" in available_providers()
    assert choose_provider("azure") == "azure"
    (tmp_path / "identity.onnx").write_bytes(identity_graph())
    session = open_session(tmp_path / "identity.onnx", "azure")
    assert session.get_providers()[0] == azure.onnxruntime
    assert tolerance(("fp32", "fp32"), TableEngine.constant(np.zeros(1, np.float32), "azure").provider) == 0.125
    with pytest.raises(UsageError, match="azure"):
        choose_provider("abacus")


def test_its_rank_decides_what_auto_takes(azure):
    assert choose_provider("auto") == "azure"
    assert [row.name for row in automatic()] == ["azure", "cuda", "openvino", "cpu"]


def test_the_doctor_tries_it(azure, monkeypatch):
    found = {finding.subject: finding for finding in examine()}
    assert found["provider azure"].found == "loads and runs"
    monkeypatch.setattr(doctor, "installed", lambda: ["cpu"])
    found = {finding.subject: finding for finding in examine()}
    assert found["provider azure"].found == "not in this ONNX Runtime"
    assert "pip install onnxruntime-azure" in found["provider azure"].advice
    assert found["provider openvino"].found == "not installed"


def test_the_doctor_tries_openvino_itself():
    found = {finding.subject: finding for finding in examine()}
    assert found["provider openvino"].found == "loads and runs"


@pytest.mark.parametrize(
    ("module", "command", "added"),
    [
        ("edge_runtime.cli", "run", "provider"),
        ("edge_runtime.cli", "verify", "provider"),
        ("edge_runtime.cli", "bench", "provider"),
        ("offline.cli", "evaluate", "provider"),
        ("offline.cli", "report", "provider"),
        ("offline.cli", "recalibrate", "provider"),
        ("offline.cli", "build", "precision"),
    ],
)
def test_the_command_lines_offer_it(module, command, added):
    code = f"""
from edge_runtime.inference.precisions import PRECISIONS, PrecisionSpec
from edge_runtime.inference.providers import PROVIDERS, Provider
PROVIDERS["npu"] = Provider("npu", "NpuExecutionProvider", "onnxruntime-npu", 0.1, None, "")
PRECISIONS["int2"] = PrecisionSpec("int2", 0.5, 0.5, "f32")
from {module} import cli
option = next(one for one in cli.commands["{command}"].params if one.name == "{added}")
print(*option.type.choices)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    wanted = ["auto", *PROVIDERS, "npu"] if added == "provider" else [*PRECISIONS, "int2"]
    assert done.stdout.split() == wanted


def test_the_precisions_are_those_of_the_format():
    assert sorted(PRECISIONS) == sorted(get_args(Precision))
    assert all(name == row.name for name, row in PRECISIONS.items())
    assert all(name == row.name for name, row in PROVIDERS.items())


def test_of_two_graphs_the_more_rounded_one_says_how_near_they_must_be():
    assert parity_tolerance(["fp32", "fp32"]) == 1e-4
    assert parity_tolerance(["int8", "bf16"]) == parity_tolerance(["bf16", "int8"]) == parity_tolerance(["int8"])


@pytest.mark.parametrize("row", PRECISIONS.values(), ids=lambda row: row.name)
def test_what_builds_a_precision_is_in_the_table_of_providers(row):
    assert set(row.builders) <= set(PROVIDERS)
    assert row.builders[-1] == "cpu"


def test_no_other_module_of_the_edge_names_a_provider():
    """The names of the table, as strings of their own: a list elsewhere would not follow it."""
    names = [f'"{row.name}"' for row in PROVIDERS.values() if row.name != "cpu"]
    names += [f'"{row.onnxruntime}"' for row in PROVIDERS.values() if row.onnxruntime]
    table = Path("inference/providers.py")
    for path in sorted((ROOT / "edge_runtime").rglob("*.py")):
        if path.relative_to(ROOT / "edge_runtime") != table:
            text = path.read_text(encoding="utf-8")
            assert [name for name in names if name in text] == [], path
