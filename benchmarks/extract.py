"""Features of all heads under five prompts on one shared prefix, against five passes with one prompt each.

    python -m benchmarks extract --model internvl3-1b --frames 16

Offline extraction as `hh-offline extract` runs it, all layers, in `--dtype`; both take turns. `at most` is what the
number of positions would allow: five whole sequences for one prefix and five questions.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import click
import torch

from benchmarks.commanding import FRAMES, JSON, MODEL, THREADS, WORK, Figures, hand_over, rounds
from benchmarks.deployed import Asked, open_model, some_segments
from benchmarks.measuring import in_turn, median_ratio
from models.precision import DTYPES
from models.prompts import PROMPTS


@click.command()
@MODEL
@FRAMES
@click.option("--dtype", type=click.Choice(list(DTYPES)), default="bfloat16", show_default=True, help="Of the model.")
@click.option("--provider", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@rounds(3)
@THREADS
@WORK
@JSON
def extract(
    model: str, frames: int, dtype: str, provider: str, rounds: int, threads: int, work: Path, as_json: bool
) -> None:
    """Five prompts on one prefix, against five passes.

    \b
    Example:
      python -m benchmarks extract --model smolvlm2-256m --frames 4
    """
    torch.set_num_threads(threads)
    asked = Asked(model, frames, None, "fp32", provider)
    mllm = open_model(asked, work, dtype)
    one, segment = some_segments(mllm, frames)[0], asked.segment
    layouts = [mllm.layout(prompt, segment) for prompt in PROMPTS]
    prefix, questions = layouts[0].prefix_length, [len(layout.after) for layout in layouts]

    def shared() -> None:
        mllm.head_features([one], PROMPTS, segment)

    def passes() -> None:
        for prompt in PROMPTS:
            mllm.head_features([one], [prompt], segment)

    # The first pass reads the weights, and is not timed.
    mllm.head_features([one], PROMPTS[:1], segment)
    taken = in_turn({"shared": shared, "passes": passes}, rounds, provider)
    at_most = (len(PROMPTS) * prefix + sum(questions)) / (prefix + sum(questions))
    figures: Figures = {
        "model": Path(model).name,
        "frames": frames,
        "dtype": dtype,
        "rounds": rounds,
        "threads": threads,
        "shared_s": statistics.median(taken["shared"]),
        "passes_s": statistics.median(taken["passes"]),
        "ratio": median_ratio(taken["passes"], taken["shared"]),
        "at_most": at_most,
        "prefix": prefix,
        "questions": questions,
    }
    text = (
        f"{figures['model']}, {frames} frames, {dtype}: {len(PROMPTS)} prompts on one prefix in "
        f"{figures['shared_s']:.2f} s, in {len(PROMPTS)} passes in {figures['passes_s']:.2f} s\n"
        f"ratio {figures['ratio']:.2f}, at most {at_most:.2f} by positions: {prefix} of the prefix, "
        f"{' + '.join(map(str, questions))} of the questions"
    )
    hand_over(figures, text, as_json)
