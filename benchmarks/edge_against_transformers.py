"""One segment at the edge against one forward pass of the whole model in transformers, paired in one run.

Both see the same frames and prompt; the features agree (the build's parity gate). The edge runs the truncated
graphs in ONNX Runtime, the competitor `InternVLForConditionalGeneration.forward` in float32 with one logit kept.
The reference model is small; `--model` takes any supported checkpoint, `--max-layer` another depth.

    python benchmarks/edge_against_transformers.py --bundle bundle --model reference --rounds 30
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch

from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from models.families.internvl import InternVL
from models.loading import load
from models.prompts import Prompt


def timed(work: Callable[[], object]) -> float:
    """Measure the seconds of one call."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


@click.command()
@click.option("--bundle", "bundle_path", type=click.Path(path_type=Path), required=True)
@click.option("--model", default="reference", show_default=True, help="The bundle's source model.")
@click.option("--rounds", type=click.IntRange(min=1), default=30, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True, help="For both.")
def main(bundle_path: Path, model: str, rounds: int, threads: int) -> None:
    """Print both medians and the ratio, pair by pair."""
    torch.set_num_threads(threads)
    bundle = Bundle.open(bundle_path)
    mllm = load(model, "cpu")
    assert isinstance(mllm, InternVL)
    stated = bundle.manifest
    prompt = Prompt(stated.prompt.name, stated.prompt.text)
    frames = np.ascontiguousarray(bundle.golden().frames[:1])
    with Detector(bundle, provider="cpu", threads=threads) as detector:

        def edge() -> None:
            detector.score(frames)

        @torch.inference_mode()
        def whole() -> None:
            mllm.plain(**mllm.plain_inputs(frames, prompt, stated.segment), logits_to_keep=1)

        for warm in (edge, whole):
            warm()
        pairs = [(timed(edge), timed(whole)) for _ in range(rounds)]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = sorted(other / own for own, other in pairs)
    depth = max(expert.layer for expert in stated.experts) + 1
    click.echo(
        f"{stated.source_model.name}, {depth} of {stated.geometry.layers} layers, {rounds} pairs, {threads} threads\n"
        f"edge (pixels to probability)     median {1e3 * ours:8.1f} ms a segment\n"
        f"transformers (whole forward)     median {1e3 * theirs:8.1f} ms a segment\n"
        f"ratio transformers / edge        median {statistics.median(ratios):8.2f}   "
        f"min {ratios[0]:.2f}   max {ratios[-1]:.2f}"
    )


if __name__ == "__main__":
    main()
