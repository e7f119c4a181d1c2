"""Graphs of a trained language model through all of its layers, beside hooks on the untouched model.

    PYTHONPATH=tests/support python benchmarks/smollm_parity.py

SmolLM2-135M-Instruct behind a small random vision tower, as a SmolVLM2 and as an InternVL checkpoint; see
tests/support/smollm.py for where it comes from. From layer 12 on its first position is an outlier of 25,000 beside
values of a few hundred. tests/models/test_smollm.py does the same with few layers: an export takes seconds a layer.
"""

from __future__ import annotations

import platform
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import onnxruntime
import torch
import transformers
from oracle import plain_head_features, seeing, some_frames
from smollm import SIZE, smollm_checkpoints

from edge_runtime.inference.onnx_engine import OnnxEngine
from edge_runtime.inference.precisions import parity_tolerance
from export.graphs import export_language, export_vision
from export.parity import measure_parity
from export.publish import LANGUAGE, VISION
from models.heads import HeadRef
from models.loading import load
from models.prompts import PROMPTS
from models.transformers_mllm import TransformersMllm

FRAMES = 2
SEGMENTS = 4


@click.command()
@click.option("--deepest", default=29, show_default=True, help="The layer of the deepest expert.")
def main(deepest: int) -> None:
    """Print how far the exported features of both checkpoints are from the model's."""
    click.echo(
        f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}, "
        f"onnxruntime {onnxruntime.__version__}"
    )
    experts = [HeadRef(deepest, 4), HeadRef(min(12, deepest), 1), HeadRef(2, 8), HeadRef(deepest, 0)]
    click.echo(
        f"experts {', '.join(f'({expert.layer}, {expert.head})' for expert in experts)}, {SEGMENTS} segments\n"
    )
    click.echo("checkpoint   export     relative   min cosine   allowed")
    frames = some_frames(SEGMENTS, FRAMES, SIZE)
    for name, checkpoint in smollm_checkpoints().items():
        mllm = load(str(checkpoint), "cpu", "float32")
        assert isinstance(mllm, TransformersMllm)
        wanted = [plain_head_features(mllm, unit[None], PROMPTS[0])[0] for unit in frames]
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            export_vision(mllm, Path(folder))
            export_language(mllm, PROMPTS[0], experts, seeing(FRAMES), Path(folder))
            took = time.perf_counter() - began
            graphs = OnnxEngine(Path(folder) / VISION, Path(folder) / LANGUAGE, provider="cpu")
            chosen = [np.concatenate([every[expert.layer, expert.head] for expert in experts]) for every in wanted]
            parity = measure_parity(np.stack(chosen), graphs, frames, parity_tolerance(["fp32"]))
        click.echo(
            f"{name:10} {took:6.0f} s   {parity.relative:10.2e}   {parity.min_cosine:10.7f}   {parity.tolerance:7.0e}"
        )


if __name__ == "__main__":
    main()
