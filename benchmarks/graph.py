"""One segment through a model's deployed graphs, against one forward pass in transformers: engine by precision.

    python -m benchmarks graph --model internvl3-1b --frames 16 --depth 15 --precision int8

The graphs are those that a build would write (experts in the last of `--depth` layers and below). The competitor is
the model's own `forward` in transformers in `--dtype` (SDPA, one logit kept, no cache), whole, and cut at the same
depth. All are run in turn, round by round, in one process. FLOPs are counted by PyTorch on the cut model; the ceiling
is what a product of 4096 x 4096 in bfloat16 reaches here.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray

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
from benchmarks.deployed import PROMPT, Asked, Graphs, open_deployed, open_model, some_segments
from benchmarks.measuring import ceiling, counted_flops, device_of, in_turn, median_ratio
from edge_runtime.bundle.manifest import Precision
from edge_runtime.files import format_bytes
from edge_runtime.inference.engine import Engine
from edge_runtime.inference.growing import GrowingEngine
from models.precision import DTYPES
from models.transformers_mllm import TransformersMllm

Work = dict[str, Callable[[], object]]


@click.command()
@MODEL
@FRAMES
@DEPTH
@PRECISION
@PROVIDER
@click.option(
    "--dtype", type=click.Choice(list(DTYPES)), default="bfloat16", show_default=True, help="transformers'."
)
@click.option(
    "--apart",
    is_flag=True,
    help="All rounds of the graphs first, then all of transformers: where both do not fit into the memory together.",
)
@click.option("--alone", is_flag=True, help="Time no transformers; one pass of it still counts the FLOPs.")
@rounds(3)
@THREADS
@WORK
@JSON
def graph(
    model: str,
    frames: int,
    depth: int | None,
    precision: Precision,
    provider: str | None,
    dtype: str,
    apart: bool,
    alone: bool,
    rounds: int,
    threads: int,
    work: Path,
    as_json: bool,
) -> None:
    """One segment by the graphs, against one forward pass in transformers.

    \b
    Example:
      python -m benchmarks graph --model smolvlm2-256m --frames 4 --precision bf16
    """
    torch.set_num_threads(threads)
    asked = Asked(model, frames, depth, precision, provider)
    mllm = open_model(asked, work, dtype)
    graphs = open_deployed(asked, mllm, work, threads)
    taken, flops = _times(asked, mllm, graphs, rounds, apart, alone)
    figures: Figures = {
        "model": Path(model).name,
        "frames": frames,
        "depth": graphs.depth,
        "layers": mllm.geometry.layers,
        "precision": "/".join(graphs.precisions),
        "kept": graphs.kept,
        "provider": asked.runs_on,
        "threads": threads,
        "rounds": rounds,
        "transformers": dtype,
    }
    figures |= _compared(asked, taken, flops) | {"graph_bytes": graphs.size, "parity": graphs.parity}
    hand_over(figures, _said(figures), as_json)


def _times(
    asked: Asked, mllm: TransformersMllm, graphs: Graphs, rounds: int, apart: bool, alone: bool
) -> tuple[dict[str, list[float]], int]:
    """Seconds of every round, and the FLOPs of one segment."""
    one, device = some_segments(mllm, asked.frames)[:1], device_of(asked.runs_on)
    competitor = Competitor(mllm, one, PROMPT, asked.segment)
    ours = _ours(graphs.engine, one, mllm.frames_per_group)
    theirs = {} if alone else _theirs(competitor, graphs.depth, mllm.geometry.layers)
    taken: dict[str, list[float]] = {}
    if apart:
        taken = in_turn(ours, rounds, device)
        graphs.engine.close()
    else:
        ours |= _growing(graphs, one, mllm.frames_per_group)
    if theirs:
        # Reads the weights.
        competitor.whole()
    flops = counted_flops(partial(competitor.cut, graphs.depth))
    return taken | in_turn(theirs if apart else ours | theirs, rounds, device), flops


def _ours(engine: Engine, one: NDArray[np.uint8], group: int) -> Work:
    """What is timed of the graphs, after one run of each: a decision latency is the sum of some of these."""
    tokens, newest = engine.tokens(one), np.ascontiguousarray(one[:, -group:])
    engine.language(tokens)
    engine.tokens(newest)
    return {
        "vision": partial(engine.tokens, one),
        "language": partial(engine.language, tokens),
        "newest": partial(engine.tokens, newest),
    }


def _growing(graphs: Graphs, one: NDArray[np.uint8], group: int) -> Work:
    """The decoder frame by frame, after one run of it: the last frame with the question, and all of them."""
    engine, spec = graphs.open_growing(), graphs.growing
    assert isinstance(engine, GrowingEngine)
    pieces = np.split(engine.tokens(one), one.shape[1] // group, axis=1)
    starts = [0, *spec.ends[:-1]]
    state = np.zeros((1, spec.ends[-1], spec.state_width), np.float32)

    def grow(piece: int) -> None:
        start, end = starts[piece], spec.ends[piece]
        state[:, start:end] = engine.grow(pieces[piece], np.arange(start, end), state[:, :start])[1]

    def every() -> None:
        for piece in range(len(pieces)):
            grow(piece)

    every()
    return {"grown": every, "last": partial(grow, len(pieces) - 1)}


def _theirs(competitor: Competitor, depth: int, layers: int) -> Work:
    """What is timed of transformers; cut only where that is less."""
    cut: Work = {"cut": partial(competitor.cut, depth)} if depth < layers else {}
    return {"whole": competitor.whole} | cut


def _compared(asked: Asked, taken: dict[str, list[float]], flops: int) -> Figures:
    """Medians, ratios, and how much of the ceiling that is."""
    batch = [vision + language for vision, language in zip(taken["vision"], taken["language"], strict=True)]
    eager = [newest + language for newest, language in zip(taken["newest"], taken["language"], strict=True)]
    seconds, top = statistics.median(batch), ceiling(device_of(asked.runs_on))
    return (
        {
            "seconds": seconds,
            "vision_s": statistics.median(taken["vision"]),
            "language_s": statistics.median(taken["language"]),
            "frames_per_s": asked.segment.frames / seconds,
            "eager_s": statistics.median(eager),
            "eager_share": median_ratio(eager, batch),
        }
        | (_ahead(taken, batch) if "last" in taken else {})
        | {
            "tflop": flops / 1e12,
            "share_of_ceiling": flops / seconds / top,
            "ceiling_gflops": top / 1e9,
        }
        | (_against(taken, batch) if "whole" in taken else {})
    )


def _ahead(taken: dict[str, list[float]], batch: list[float]) -> Figures:
    """What a segment's end waits for where the decoder ran ahead, and how long it takes in all."""
    waited = [newest + last for newest, last in zip(taken["newest"], taken["last"], strict=True)]
    return {
        "growing_s": statistics.median(waited),
        "growing_share": median_ratio(waited, batch),
        "growing_decoder_s": statistics.median(taken["grown"]),
    }


def _against(taken: dict[str, list[float]], batch: list[float]) -> Figures:
    """Transformers' own times, and their ratios to those of the graphs."""
    whole, cut = taken["whole"], taken.get("cut", taken["whole"])
    return {
        "transformers_s": statistics.median(whole),
        "transformers_cut_s": statistics.median(cut),
        "ratio": median_ratio(whole, batch),
        "ratio_cut": median_ratio(cut, batch),
    }


def _said(of: Figures) -> str:
    lines = [
        f"{of['model']}, {of['frames']} frames, {of['depth']} of {of['layers']} layers, {of['precision']} on "
        f"{of['provider']}, {of['rounds']} rounds, {of['threads']} threads; "
        f"graphs of {format_bytes(of['graph_bytes'])}",
        f"edge          {of['seconds']:8.2f} s a segment (vision {of['vision_s']:.2f}, language "
        f"{of['language_s']:.2f}); real time for a camera of {of['frames_per_s']:.1f} frames/s",
        f"decision      {of['eager_s']:8.2f} s with frames encoded ahead (the newest one and the language graph), "
        f"{of['eager_share']:.2f} of batch",
        f"{of['tflop']:.2f} TFLOP counted: {100 * of['share_of_ceiling']:.0f} % of the bfloat16 ceiling of "
        f"{of['ceiling_gflops']:.0f} GFLOP/s",
    ]
    if "growing_s" in of:
        lines[3:3] = [
            f"{'':14}{of['growing_s']:8.2f} s where the decoder ran ahead, {of['growing_share']:.2f} of batch; "
            f"frame by frame it takes {of['growing_decoder_s']:.2f} s"
        ]
    if "ratio" in of:
        lines[2:2] = [
            f"transformers  {of['transformers_s']:8.2f} s whole in {of['transformers']}, "
            f"{of['transformers_cut_s']:.2f} s cut at the same depth",
            f"ratio         {of['ratio']:8.2f} against whole, {of['ratio_cut']:.2f} against cut",
        ]
    return "\n".join(lines)
