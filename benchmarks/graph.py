"""One segment through a model's deployed graphs, against one forward pass in transformers: engine by precision.

    python benchmarks/full_size.py internvl3-1b /tmp/internvl3-1b
    python benchmarks/graph.py --model /tmp/internvl3-1b --frames 16 --depth 15 --precision int8 --provider openvino

The graphs are those that a build would write (experts in the last of `--depth` layers and below). The competitor is
the model's own `forward` in transformers in `--dtype` (SDPA, one logit kept, no cache), whole, and cut at the same
depth. All are run in turn, round by round, in one process. FLOPs are counted by PyTorch on the cut model; the ceiling
is what a product of 4096 x 4096 in bfloat16 reaches here.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from edge_against_transformers import timed
from torch.utils.flop_counter import FlopCounterMode

from edge_runtime.files import format_bytes
from edge_runtime.inference.engines import builder, open_graphs
from edge_runtime.inference.precisions import PRECISIONS
from edge_runtime.inference.providers import PROVIDERS
from edge_runtime.machine import package_version, processor
from edge_runtime.stream.segments import SegmentSpec
from export.deploy import Deployment, deploy
from export.publish import LANGUAGE, VISION
from models.heads import HeadRef
from models.loading import load
from models.precision import DTYPES
from models.prompts import PROMPTS
from models.transformers_mllm import TransformersMllm

SAMPLES = 2


def ceiling(dtype: torch.dtype, side: int = 4096) -> float:
    """FLOP/s of a square product, the best of five."""
    one, other = (torch.randn(side, side).to(dtype) for _ in range(2))
    torch.mm(one, other)
    return 2 * side**3 / min(timed(lambda: torch.mm(one, other)) for _ in range(5))


def machine() -> str:
    """The processor's name, with what it has for products of 16 and 8 bits."""
    facts = {key.strip(): value for key, _, value in (line.partition(": ") for line in processor())}
    wanted = ("avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8")
    having = [one for one in wanted if one in facts.get("flags", "").split()]
    return f"{facts.get('model name', platform.machine())} ({', '.join(having) or 'none of ' + ', '.join(wanted)})"


def frames_of(mllm: TransformersMllm, sampled: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Segments of smooth noise that moves: neither all alike nor without any structure."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (SAMPLES, sampled, 8, 8, 3), dtype=np.uint8)
    rows, columns = (np.arange(side) * 8 // side for side in (mllm.pixels.height, mllm.pixels.width))
    return np.ascontiguousarray(coarse[:, :, rows][:, :, :, columns])


@contextmanager
def cut(mllm: TransformersMllm, depth: int) -> Iterator[None]:
    """The model with its lowest layers only."""
    language = mllm.language
    whole = language.layers
    language.layers = whole[:depth]
    try:
        yield
    finally:
        language.layers = whole


@click.command()
@click.option("--model", required=True, help="A checkpoint, or `reference`.")
@click.option("--frames", type=click.IntRange(min=1), default=16, show_default=True, help="Sampled frames.")
@click.option("--depth", type=click.IntRange(min=1), help="Layers that run [default: all].")
@click.option("--precision", type=click.Choice(list(PRECISIONS)), default="fp32", show_default=True)
@click.option("--provider", type=click.Choice(list(PROVIDERS)), help="[default: what a build would take]")
@click.option(
    "--dtype", type=click.Choice(list(DTYPES)), default="bfloat16", show_default=True, help="transformers'."
)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=os.cpu_count(), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def main(
    model: str,
    frames: int,
    depth: int | None,
    precision: Any,
    provider: str | None,
    dtype: str,
    rounds: int,
    threads: int,
    as_json: bool,
) -> None:
    """Print medians and ratios."""
    torch.set_num_threads(threads)
    mllm = load(model, "cpu", dtype)
    assert isinstance(mllm, TransformersMllm)
    depth = mllm.geometry.layers if depth is None else depth
    segment = SegmentSpec(frames=48, sampled=frames, fps=30)
    last = depth - 1
    experts = [HeadRef(last, 0), HeadRef(last, 2), HeadRef(last, 1), HeadRef(last // 2, 1), HeadRef(last // 3, 0)]
    samples = frames_of(mllm, frames)
    with tempfile.TemporaryDirectory() as folder:
        name = provider or builder(precision)
        job = Deployment(mllm, PROMPTS[0], experts, segment, samples, Path(folder), name)
        say = (lambda _text: None) if as_json else click.echo
        deployed = deploy(job, precision, say)
        precisions = (deployed.vision.precision, deployed.language.precision)
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        deployed.graphs.close()
        engine = open_graphs(
            Path(folder) / VISION, Path(folder) / LANGUAGE, name, mllm.frames_per_group, precisions, threads
        )
        one = samples[:1]
        tokens = engine.tokens(one)
        last_frames = np.ascontiguousarray(one[:, -mllm.frames_per_group :])
        mllm.weights.release()

        @torch.inference_mode()
        def whole() -> None:
            inputs = mllm.plain_inputs(one, PROMPTS[0], segment)
            inputs |= {key: value.to(mllm.dtype) for key, value in inputs.items() if value.is_floating_point()}
            mllm.plain(**inputs, logits_to_keep=1, use_cache=False)

        def shallow() -> None:
            with cut(mllm, depth):
                whole()

        for warm in (whole, lambda: engine.features(one)):
            warm()
        with FlopCounterMode(display=False) as counter:
            shallow()
        flops = counter.get_total_flops()
        rows = [
            (
                timed(lambda: engine.tokens(one)),
                timed(lambda: engine.language(tokens)),
                timed(whole),
                timed(shallow),
                timed(lambda: engine.tokens(last_frames)),
            )
            for _ in range(rounds)
        ]
        top = ceiling(torch.bfloat16)
    vision, language, theirs, theirs_cut, newest = (statistics.median(column) for column in zip(*rows, strict=True))
    ours = statistics.median(row[0] + row[1] for row in rows)
    found = {
        "model": mllm.source.name,
        "frames": frames,
        "depth": depth,
        "layers": mllm.geometry.layers,
        "precision": f"{precisions[0]}/{precisions[1]}",
        "kept": [len(deployed.vision.kept), len(deployed.language.kept)],
        "provider": name,
        "threads": threads,
        "rounds": rounds,
        "seconds": ours,
        "vision_s": vision,
        "language_s": language,
        "eager_s": newest + language,
        "transformers": dtype,
        "transformers_s": theirs,
        "transformers_cut_s": theirs_cut,
        "ratio": statistics.median(row[2] / (row[0] + row[1]) for row in rows),
        "ratio_cut": statistics.median(row[3] / (row[0] + row[1]) for row in rows),
        "tflop": flops / 1e12,
        "share_of_ceiling": flops / ours / top,
        "ceiling_gflops": top / 1e9,
        "graph_bytes": size,
        "parity": deployed.parity.relative,
        "machine": f"{machine()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": {one: package_version(one) for one in ("torch", "transformers", "onnxruntime", "openvino")},
    }
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(
        f"{found['model']}, {frames} frames, {depth} of {found['layers']} layers, {found['precision']} on {name}, "
        f"{rounds} rounds, {threads} threads; graphs of {format_bytes(size)}\n"
        f"edge          {ours:8.2f} s a segment (vision {vision:.2f}, language {language:.2f})\n"
        f"transformers  {theirs:8.2f} s whole in {dtype}, {theirs_cut:.2f} s cut at the same depth\n"
        f"decision      {newest + language:8.2f} s with --encode eager (the newest frame and the language graph), "
        f"{(newest + language) / ours:.2f} of batch\n"
        f"ratio         {found['ratio']:8.2f} against whole, {found['ratio_cut']:.2f} against cut\n"
        f"{flops / 1e12:.2f} TFLOP counted: {100 * flops / ours / top:.0f} % of the bfloat16 ceiling of "
        f"{top / 1e9:.0f} GFLOP/s; {found['machine']}"
    )


if __name__ == "__main__":
    main()
