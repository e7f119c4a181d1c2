"""The hunt over all heads under all prompts: saliency, RSS and experts.

    python -m benchmarks hunt                        # 8B: 28 x 28 heads of 128, 5 prompts, 200 videos

Synthetic features, those of `benchmarks/saliency.py`, which sets the same computation beside scikit-learn's. Where
the time goes is measured on one thread, metric by metric, on some of the heads.
"""

from __future__ import annotations

import statistics
from functools import partial

import click
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # neither typed nor stubbed

from benchmarks.commanding import JSON, Figures, hand_over, rounds
from benchmarks.measuring import timed
from benchmarks.saliency import synthetic
from edge_runtime.machine import available_cores
from offline.hunting import saliency
from offline.hunting.hunt import hunt as hunt_experts

# Heads that the metrics are timed on, a batch as small as the hunt's own.
_PROFILED, _BATCH = 64, 4


@click.command()
@click.option("--videos", type=click.IntRange(min=8), default=200, show_default=True, help="Half of them anomalous.")
@click.option("--prompts", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--layers", type=click.IntRange(min=1), default=28, show_default=True)
@click.option("--heads", type=click.IntRange(min=1), default=28, show_default=True, help="Heads per layer.")
@click.option("--width", type=click.IntRange(min=2), default=128, show_default=True, help="Features per head, d_h.")
@rounds(3)
@JSON
def hunt(videos: int, prompts: int, layers: int, heads: int, width: int, rounds: int, as_json: bool) -> None:
    """All heads under all prompts.

    \b
    Example:
      python -m benchmarks hunt --width 64
    """
    features, labels = synthetic(videos, prompts, layers, heads, width, seed=0)
    names = [f"prompt{number}" for number in range(prompts)]
    taken = [timed(lambda: hunt_experts(features, labels, names)) for _ in range(rounds)]
    figures: Figures = {
        "videos": videos,
        "prompts": prompts,
        "layers": layers,
        "heads": heads,
        "width": width,
        "rounds": rounds,
        "workers": available_cores(),
        "seconds": statistics.median(taken),
        "ms_a_head": 1e3 * statistics.median(taken) / (prompts * layers * heads),
        "metrics_ms_a_head": _by_metric(features, labels),
    }
    text = (
        f"{layers} x {heads} heads of {width}, {prompts} prompts, {videos} videos: {figures['seconds']:.2f} s, "
        f"{figures['ms_a_head']:.2f} ms a head\n"
        f"one thread, ms a head: "
        + ", ".join(f"{name} {value:.2f}" for name, value in figures["metrics_ms_a_head"].items())
    )
    hand_over(figures, text, as_json)


def _by_metric(features: NDArray[np.float32], labels: NDArray[np.bool_]) -> dict[str, float]:
    """Milliseconds a head of every metric by itself, what they share included in each."""
    flat = features[:, 0].reshape(len(features), -1, features.shape[-1])[:, :_PROFILED]
    metrics = {
        "lda": saliency.lda,
        "kl": saliency.symmetric_kl,
        "mmd": saliency.mmd,
        "nmi": saliency.nmi,
    }
    batches = np.array_split(flat, max(1, flat.shape[1] // _BATCH), axis=1)
    with threadpool_limits(limits=1, user_api="blas"):
        taken = {
            name: sum(timed(partial(metric, batch, labels)) for batch in batches) for name, metric in metrics.items()
        }
    return {name: 1e3 * seconds / flat.shape[1] for name, seconds in taken.items()}
