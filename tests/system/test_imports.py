"""What `import edge_runtime` costs a recorder: no training library, no inference library, no time."""

from __future__ import annotations

import json
import subprocess
import sys

PROBE = """
import json, sys, time
import numpy  # a recorder has it already; its import is not ours
begun = time.process_time()
import edge_runtime
print(json.dumps([time.process_time() - begun, sorted(sys.modules)]))
"""
HEAVY = {
    "torch",
    "transformers",
    "onnx",
    "onnxscript",
    "sklearn",
    "skl2onnx",
    "onnxruntime",
    "cv2",
    "av",
    "click",
    "scipy",
}


def probe() -> tuple[float, list[str]]:
    # Away from the repository: what is imported is what is installed.
    out = subprocess.run([sys.executable, "-c", PROBE], check=True, capture_output=True, text=True, cwd="/")
    seconds, modules = json.loads(out.stdout)
    return seconds, modules


def test_the_import_is_light():
    runs = [probe() for _ in range(3)]
    modules = set(runs[0][1])
    assert "edge_runtime.detector" in modules
    assert HEAVY & {name.split(".")[0] for name in modules} == set()
    assert {"models", "export", "offline"} & modules == set()
    # The one figure that is promised: half a second of a processor, which others on the machine do not change.
    assert min(seconds for seconds, _ in runs) < 0.5
