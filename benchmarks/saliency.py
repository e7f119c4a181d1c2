"""How long the saliency of all heads takes, beside a plain loop over scikit-learn and SciPy, head by head.

    python benchmarks/saliency.py                      # the size of an 8B model: 28 x 28 heads, 5 prompts
    python benchmarks/saliency.py --videos 50 --loop-heads 4

Synthetic features: Gaussian noise with a shared component, and in every tenth head a shift of the abnormal
class. The loop runs on a subset of the heads, spread over all; the two are compared by time per head and by
the largest relative difference of each metric. NMI may differ where a head has no two clusters: there K-means
ends in one of many optima that are almost equally good. Which of the two ended in the better one, by inertia,
is printed too.
"""

from __future__ import annotations

import os
import platform
import resource
import time

import click
import numpy as np
import scipy
import sklearn
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, pdist
from sklearn.cluster import KMeans
from sklearn.covariance import LedoitWolf
from sklearn.metrics import normalized_mutual_info_score
from tqdm import tqdm

from offline.hunting.saliency import saliency
from offline.hunting.two_means import two_means


def synthetic(
    videos: int, prompts: int, layers: int, heads: int, width: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Make features of which every tenth head separates the classes a little.

    Returns:
        float32 (N, M, L, H, d), and bool labels (N,), true is abnormal.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(videos) % 2 == 0
    features = np.empty((videos, prompts, layers, heads, width), dtype=np.float32)
    informative = (np.arange(layers * heads) % 10 == 0).reshape(layers, heads, 1)
    for n in range(videos):
        rng.standard_normal(dtype=np.float32, out=features[n])
        features[n] += rng.standard_normal(dtype=np.float32)
        if labels[n]:
            features[n] += np.float32(0.3) * informative
    return features, labels


def one_head(x: NDArray[np.float64], labels: NDArray[np.bool_]) -> tuple[float, ...]:
    """Compute the four metrics of one head as one would write them with the libraries.

    Args:
        x: (N, d).
        labels: (N,), true is abnormal.

    Returns:
        LDA, KL, MMD, NMI, and the inertia of K-means.
    """
    a, n = x[labels], x[~labels]
    delta = a.mean(axis=0) - n.mean(axis=0)
    within = np.concatenate([a - a.mean(axis=0), n - n.mean(axis=0)])
    pooled = LedoitWolf(assume_centered=True).fit(within).covariance_
    lda = delta @ np.linalg.solve(pooled, delta)

    cov_a, cov_n = LedoitWolf().fit(a).covariance_, LedoitWolf().fit(n).covariance_
    inv_a, inv_n = np.linalg.inv(cov_a), np.linalg.inv(cov_n)
    kl = 0.25 * (np.trace(inv_n @ cov_a) + np.trace(inv_a @ cov_n) - 2 * len(delta) + delta @ (inv_a + inv_n) @ delta)

    pairs = pdist(x, "sqeuclidean")
    gamma = 1.0 / (2.0 * np.median(pairs[pairs > 0]))
    mmd = (
        np.exp(-gamma * cdist(a, a, "sqeuclidean")).mean()
        + np.exp(-gamma * cdist(n, n, "sqeuclidean")).mean()
        - 2 * np.exp(-gamma * cdist(a, n, "sqeuclidean")).mean()
    )
    clusters = KMeans(2, n_init=10, random_state=0).fit(x)
    nmi = normalized_mutual_info_score(labels, clusters.labels_, average_method="geometric")
    return float(lda), float(kl), float(mmd), float(nmi), float(clusters.inertia_)


@click.command(context_settings={"show_default": True})
@click.option("--videos", default=200, help="Labelled videos, half of them anomalous.")
@click.option("--prompts", default=5)
@click.option("--layers", default=28)
@click.option("--heads", default=28, help="Heads per layer.")
@click.option("--width", default=128, help="Features per head.")
@click.option("--loop-heads", default=40, help="Heads that the plain loop runs on.")
@click.option("--seed", default=0)
def main(videos: int, prompts: int, layers: int, heads: int, width: int, loop_heads: int, seed: int) -> None:
    """Time the saliency of all heads and a plain loop over some of them, and compare their results."""
    features, labels = synthetic(videos, prompts, layers, heads, width, seed)
    total = prompts * layers * heads
    with tqdm(total=total, unit="head", desc="batched", leave=False, delay=2) as bar:

        def advance(done: int, _: int) -> None:
            bar.update(done - bar.n)

        start = time.perf_counter()
        raw = saliency(features, labels, progress=advance)
        batched_s = time.perf_counter() - start
    # Taken here, before the loop allocates anything. On Linux the unit is KiB, on macOS bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)

    flat = features.reshape(videos, total, width)
    chosen = np.unique(np.linspace(0, total - 1, min(loop_heads, total)).astype(int))
    start = time.perf_counter()
    expected = np.array(
        [
            one_head(flat[:, k].astype(np.float64), labels)
            for k in tqdm(chosen, unit="head", desc="loop", leave=False, delay=2)
        ]
    )
    loop_s = time.perf_counter() - start

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    click.echo(
        f"{layers} layers x {heads} heads x {prompts} prompts, {videos} videos, {width} features a head\n"
        f"{usable} cores, Python {platform.python_version()}, numpy {np.__version__}, "
        f"scipy {scipy.__version__}, scikit-learn {sklearn.__version__}\n"
    )
    batched_ms, loop_ms = 1e3 * batched_s / total, 1e3 * loop_s / len(chosen)
    click.echo(f"batched   {batched_s:8.2f} s for {total} heads   {batched_ms:8.3f} ms a head")
    click.echo(f"loop      {loop_s:8.2f} s for {len(chosen)} heads     {loop_ms:8.3f} ms a head")
    click.echo(f"ratio     {loop_ms / batched_ms:8.1f}")
    click.echo(f"memory    {peak / 2**20:8.0f} MiB at the peak, {features.nbytes / 2**20:.0f} of them the features\n")
    click.echo("metric    largest relative difference   heads that differ by more than 1e-6")
    for (name, metric), column in zip(raw.items(), expected.T[:4], strict=True):
        ours = metric.ravel()[chosen]
        # Relative to the larger of the two; where both are 0 they agree.
        larger = np.maximum(np.abs(ours), np.abs(column))
        relative = np.abs(ours - column) / np.where(larger > 0, larger, 1.0)
        click.echo(f"{name:6}    {relative.max():27.1e}   {int((relative > 1e-6).sum())} of {len(chosen)}")

    centred = flat[:, chosen].astype(np.float64)
    centred -= centred.mean(axis=0)
    of_heads = np.moveaxis(centred, 1, 0)
    _, inertia = two_means(of_heads @ of_heads.mT)
    ratio = inertia / expected[:, 4]
    better, worse = int((ratio < 1 - 1e-9).sum()), int((ratio > 1 + 1e-9).sum())
    click.echo(
        f"\nK-means: the batched inertia is lower on {better} heads, equal on {len(chosen) - better - worse}, "
        f"higher on {worse}; its ratio to scikit-learn's is {ratio.min():.5f} to {ratio.max():.5f}"
    )


if __name__ == "__main__":
    main()
