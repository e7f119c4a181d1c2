"""What OpenVINO's engine holds in memory of weights that are stored in 16 bits, and that it keeps to itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from clips import ROOT
from onnx import TensorProto, helper

WIDTH, LAYERS = 2048, 8

OPENED = """
import sys
from pathlib import Path

from edge_runtime.inference.openvino_engine import OpenVinoEngine, load_openvino

def held():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024

load_openvino()
graph = Path(sys.argv[1])
before = held()
engine = OpenVinoEngine(graph, graph, threads=1, precisions=(sys.argv[2], sys.argv[2]))
print((held() - before) / 2 / graph.with_name(graph.name + ".data").stat().st_size)
"""


def test_openvino_reports_to_nobody(tmp_path: Path) -> None:
    program = "import sys; from edge_runtime.inference.openvino_engine import load_openvino; load_openvino()"
    program += "; assert 'openvino_telemetry' not in sys.modules"
    # Not as in a CI job, where it would keep still by itself.
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="asks Linux for the memory of a process")
@pytest.mark.parametrize(("stored", "computed"), [("BFLOAT16", "bf16"), ("BFLOAT16", "fp32"), ("FLOAT16", "fp32")])
def test_narrow_weights_are_held_once_beside_the_file(tmp_path, stored, computed):
    path = _chain(tmp_path / "graph.onnx", getattr(TensorProto, stored))
    ran = subprocess.run(
        [sys.executable, "-c", OPENED, str(path), computed], capture_output=True, text=True, check=True
    )
    # Once as the kernels want them, which is float32 where the processor has no bfloat16. Four where they are widened
    # before, and kept.
    assert float(ran.stdout) < 2.8


def _chain(path: Path, stored: int) -> Path:
    """Products one behind the other, their weights in a file beside the graph."""
    shape, narrow = (WIDTH, WIDTH), helper.tensor_dtype_to_np_dtype(stored)
    values = np.random.default_rng(0).normal(scale=0.02, size=shape).astype(narrow).tobytes()
    weights = [helper.make_tensor(f"weight{layer}", stored, shape, values, raw=True) for layer in range(LAYERS)]
    nodes, last = [], "given"
    for layer in range(LAYERS):
        nodes += [
            helper.make_node("Cast", [f"weight{layer}"], [f"wide{layer}"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", [last, f"wide{layer}"], [f"made{layer}"]),
            helper.make_node("Tanh", [f"made{layer}"], [f"bent{layer}"]),
        ]
        last = f"bent{layer}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 64, WIDTH]) for name in ("given", last)]
    model = helper.make_model(
        helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights), opset_imports=[helper.make_opsetid("", 20)]
    )
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")
    return path
