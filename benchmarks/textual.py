"""One segment scored by a model's deployed graphs, against asking the same model in words and waiting for the answer.

    python -m benchmarks textual --model internvl3-1b --frames 16 --depth 15 --precision int8

The answer is transformers' own `generate` with its cache, the likeliest token every time. Both take turns.
"""

from __future__ import annotations

import statistics
from functools import partial
from pathlib import Path

import click
import torch

from benchmarks.commanding import (
    DEPTH,
    FRAMES,
    JSON,
    MODEL,
    PRECISION,
    PROVIDER,
    THREADS,
    WORK,
    Figures,
    hand_over,
    rounds,
)
from benchmarks.competitor import Competitor
from benchmarks.deployed import PROMPT, Asked, open_deployed, open_model, some_segments
from benchmarks.measuring import Works, device_of, in_turn, median_ratio
from edge_runtime.bundle.manifest import Precision
from edge_runtime.errors import HeadHuntError


@click.command()
@MODEL
@FRAMES
@DEPTH
@PRECISION
@PROVIDER
@click.option("--tokens", type=click.IntRange(min=1), default=64, show_default=True, help="Of the answer.")
@rounds(2)
@THREADS
@WORK
@JSON
def textual(
    model: str,
    frames: int,
    depth: int | None,
    precision: Precision,
    provider: str | None,
    tokens: int,
    rounds: int,
    threads: int,
    work: Path,
    as_json: bool,
) -> None:
    """One segment by the graphs, against the model's answer in words.

    \b
    Example:
      python -m benchmarks textual --model smolvlm2-256m --frames 4 --tokens 16
    """
    torch.set_num_threads(threads)
    asked = Asked(model, frames, depth, precision, provider)
    mllm = open_model(asked, work, "bfloat16")
    graphs = open_deployed(asked, mllm, work, threads)
    one = some_segments(mllm, frames)[:1]
    asking = Competitor(mllm, one, PROMPT, asked.segment)
    graphs.engine.features(one)
    if not asking.answer(tokens).cut:
        raise HeadHuntError(f"{model}: its answer ended before {tokens} tokens; ask for fewer with --tokens")
    works: Works = {"scored": partial(graphs.engine.features, one), "answered": partial(asking.answer, tokens)}
    taken = in_turn(works, rounds, device_of(asked.runs_on))
    figures: Figures = {
        "model": Path(model).name,
        "frames": frames,
        "depth": graphs.depth,
        "precision": "/".join(graphs.precisions),
        "provider": asked.runs_on,
        "tokens": tokens,
        "rounds": rounds,
        "threads": threads,
        "scored_s": statistics.median(taken["scored"]),
        "answered_s": statistics.median(taken["answered"]),
        "ratio": median_ratio(taken["answered"], taken["scored"]),
    }
    text = (
        f"{figures['model']}, {frames} frames, {figures['depth']} layers, {figures['precision']} on {asked.runs_on}: "
        f"scored in {figures['scored_s']:.2f} s, answered with {tokens} tokens in {figures['answered_s']:.2f} s, "
        f"ratio {figures['ratio']:.2f}"
    )
    hand_over(figures, text, as_json)
