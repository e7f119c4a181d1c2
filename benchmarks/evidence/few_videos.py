"""Few calibration videos: what the paper's rule and its alternatives reach with 8, 16, 32 and 64 of them.

    hh-offline scenes --output scenes --seed 7 --videos 200
    python -m benchmarks.evidence.few_videos reference scenes/data.csv cache

Of the 80 calibration videos so many are drawn, half of them anomalous, 20 times; everything is hunted and fitted
on them alone and judged on the whole test split: frame AUC, not smoothed, mean ± spread over the draws. All methods
see the same draws. "Same five" is the mean share of heads that the top five of two draws have in common.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.evidence.heads import NAMES, Head, Split, auc_of, read_splits
from edge_runtime.errors import FeatureError
from offline.calibration.log_odds import HeadModel, fit_log_odds
from offline.calibration.scorer import fit_scorer
from offline.extraction.features import FeatureSet
from offline.hunting.hunt import Hunt, Selection, hunt
from offline.hunting.stability import stability

SIZES = (8, 16, 32, 64)
DRAWS = 20
RESAMPLES = 10
K = 5


def drawn(known: Split, videos: int, rng: np.random.Generator) -> Split:
    """Take the segments of some videos, half of them anomalous."""
    names = known.videos
    anomalous = {video.name for video in known.segments.videos if video.anomalous}
    chosen: list[str] = []
    for group in (sorted(set(names) & anomalous), sorted(set(names) - anomalous)):
        chosen += [group[i] for i in rng.choice(len(group), videos // 2, replace=False)]
    rows = np.isin(names, chosen)
    segments = replace(
        known.segments,
        pixels=known.segments.pixels[rows],
        spans=known.segments.spans[rows],
        video=known.segments.video[rows],
        motion=known.segments.motion[rows],
    )
    arrays = {name: getattr(known, name)[rows] for name in ("features", "mean", "spread", "answers")}
    return Split(segments=segments, **arrays)


def tried(known: Split, test: Split) -> tuple[dict[str, float], frozenset[Head]]:
    """Judge every method by what it learns from some videos. Returns frame AUCs by name, and the top five."""
    labels, videos = known.labels, known.videos
    found = hunt(known.features, labels, NAMES, Selection(top_k=K))
    prompt = NAMES.index(found.prompt)
    experts = [(expert.layer, expert.head) for expert in found.experts]
    # What a bundle of this depth could read: soft weights cost nothing there.
    reached = [head for head in known.every if head[0] <= found.depth]
    stable = steadiest(known, found)
    width = known.features.shape[-1]

    def judged(heads: list[Head], fit: Callable[[NDArray[np.float32]], object]) -> float:
        scorer = fit(known.read(prompt, heads))
        return auc_of(test, scorer.predict_proba(test.read(prompt, heads))[:, 1])  # type: ignore[attr-defined]

    def log_odds(kind: HeadModel) -> Callable[[NDArray[np.float32]], object]:
        return lambda read: fit_log_odds(read, labels, videos, width, kind)

    tokens = fit_scorer(known.mean, labels).predict_proba(test.mean)[:, 1]
    return {
        "five by RSS, logistic regression (the paper's)": judged(experts, lambda read: fit_scorer(read, labels)),
        "five most frequent under resampling": judged(stable, lambda read: fit_scorer(read, labels)),
        "five by RSS, log-odds": judged(experts, log_odds("logistic")),
        "five by RSS, Gaussians": judged(experts, log_odds("gaussian")),
        "all heads up to that depth, logistic regression": judged(reached, lambda read: fit_scorer(read, labels)),
        "all heads up to that depth, log-odds": judged(reached, log_odds("logistic")),
        "all heads up to that depth, Gaussians": judged(reached, log_odds("gaussian")),
        "up to 32 by RSS and that depth, log-odds": judged(top(found, 32), log_odds("logistic")),
        "up to 32 by RSS and that depth, Gaussians": judged(top(found, 32), log_odds("gaussian")),
        "visual tokens alone, mean": auc_of(test, tokens),
    }, frozenset(experts)


def steadiest(known: Split, found: Hunt) -> list[Head]:
    """The five heads that came up most often in halves of the videos; of equals the one with the higher RSS."""
    features = FeatureSet(known.features, known.labels, tuple(NAMES), tuple(known.videos.tolist()))
    # Halves of eight videos may hold one anomalous sample: the rule of the paper is left.
    with suppress(FeatureError):
        found = stability(features, Selection(top_k=K), RESAMPLES).most_frequent(found)
    return [(expert.layer, expert.head) for expert in found.experts]


def top(found: Hunt, count: int) -> list[Head]:
    """The first heads by RSS that are not deeper than the five experts."""
    rss = found.rss[: found.depth + 1]
    ranked = np.argsort(-rss, axis=None, kind="stable")[:count]
    return [divmod(int(k), rss.shape[1]) for k in ranked]


def main(model: str, manifest: Path, cache: Path) -> None:
    """Draw videos of the calibration split, and print what each method makes of them."""
    known, test = read_splits(model, manifest, cache)
    print(f"{model}, {manifest.parent.name}: frame AUC by calibration videos, {DRAWS} draws each")
    table: dict[str, list[str]] = {}
    for size in SIZES:
        rng = np.random.default_rng(size)
        aucs: dict[str, list[float]] = {}
        fives = []
        for _ in range(DRAWS):
            of_draw, five = tried(drawn(known, size, rng), test)
            fives.append(five)
            for name, auc in of_draw.items():
                aucs.setdefault(name, []).append(auc)
        paper = np.array(next(iter(aucs.values())))
        for name, values in aucs.items():
            better = np.mean(np.array(values) > paper)
            table.setdefault(name, []).append(f"{np.mean(values):.3f} ± {np.std(values):.3f} ({better:4.0%})")
        same = np.mean([len(one & other) / K for one, other in combinations(fives, 2)])
        table.setdefault("same five", []).append(f"{same:.2f}")
    print(f"{'(in how many draws better than the paper)':50}" + "".join(f"{size:<24}" for size in SIZES))
    for name, cells in table.items():
        print(f"{name:50}" + "".join(f"{cell:24}" for cell in cells))


if __name__ == "__main__":
    with threadpool_limits(limits=1, user_api="blas"):
        main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
