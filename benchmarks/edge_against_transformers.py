"""One segment at the edge against one forward pass of the whole model in transformers, paired in one run.

Both see the same frames and prompt; the features agree (the build's parity gate). The edge runs the truncated
graphs on a provider, the competitor the model's own `forward` in transformers (SDPA, one logit kept, no cache), in
`--dtype`. The reference model is small; `--model` takes any supported checkpoint.

    python -m benchmarks.edge_against_transformers --bundle bundle --model reference --rounds 30
    python -m benchmarks.edge_against_transformers --bundle 1b --model ./InternVL3-1B-hf --provider openvino \\
        --dtype bfloat16 --rounds 3
"""

from __future__ import annotations

import statistics
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch

from benchmarks.competitor import Competitor
from benchmarks.measuring import Works, in_turn
from edge_runtime.bundle.reader import Bundle
from edge_runtime.detector import Detector
from edge_runtime.inference.providers import CPU, provider_choices
from models.loading import load
from models.precision import DTYPES
from models.prompts import Prompt
from models.transformers_mllm import TransformersMllm


@click.command()
@click.option("--bundle", "bundle_path", type=click.Path(path_type=Path), required=True)
@click.option("--model", default="reference", show_default=True, help="The bundle's source model.")
@click.option("--rounds", type=click.IntRange(min=1), default=30, show_default=True)
@click.option("--provider", type=click.Choice(provider_choices()), default=CPU, show_default=True)
@click.option(
    "--dtype", type=click.Choice(list(DTYPES)), default="float32", show_default=True, help="Of transformers."
)
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True, help="For both.")
def main(bundle_path: Path, model: str, rounds: int, provider: str, dtype: str, threads: int) -> None:
    """Print both medians and the ratio, pair by pair."""
    torch.set_num_threads(threads)
    bundle = Bundle.open(bundle_path)
    mllm = load(model, "cpu", dtype)
    assert isinstance(mllm, TransformersMllm)
    mllm.use_pixels(bundle.manifest.pixels)
    stated = bundle.manifest
    prompt = Prompt(stated.prompt.name, stated.prompt.text)
    frames = np.ascontiguousarray(bundle.golden().frames[:1])
    with Detector(bundle, provider=provider, threads=threads) as detector:
        assert detector.engine is not None
        provider = detector.engine.provider

        competitor = Competitor(mllm, frames, prompt, stated.segment)
        works: Works = {"edge": partial(detector.score, frames), "whole": competitor.whole}
        in_turn(works, 1)
        taken = in_turn(works, rounds)
    ours, theirs = (statistics.median(taken[name]) for name in works)
    ratios = sorted(other / own for own, other in zip(taken["edge"], taken["whole"], strict=True))
    depth = max(expert.layer for expert in stated.experts) + 1
    click.echo(
        f"{stated.source_model.name}, {depth} of {stated.geometry.layers} layers, {rounds} pairs, {threads} threads\n"
        f"edge on {provider + ', pixels to probability':<30} median {1e3 * ours:8.1f} ms a segment\n"
        f"transformers {dtype + ', whole forward':<25} median {1e3 * theirs:8.1f} ms a segment\n"
        f"{'ratio transformers / edge':<38} median {statistics.median(ratios):8.2f}   "
        f"min {ratios[0]:.2f}   max {ratios[-1]:.2f}"
    )


if __name__ == "__main__":
    main()
