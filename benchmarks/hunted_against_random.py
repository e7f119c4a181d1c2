"""What the hunt is worth at each number of heads: hunted heads against heads drawn at random.

    hh-offline scenes --output scenes --seed 7 --videos 200
    python benchmarks/hunted_against_random.py scenes/data.csv

Prints frame AUC on the test split, not smoothed, for scorers fitted on the calibration split; and how well the
robust saliency of a head, which knows the calibration split only, ranks what that head alone is worth on the test
split.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from models.loading import load
from models.prompts import PROMPTS
from offline.calibration.scorer import fit_scorer
from offline.hunting.hunt import Selection, hunt
from offline.reference_training.measure import by_kind, cut_videos, features_of

COUNTS = (1, 2, 3, 5, 10)
DRAWS = 20


def main(manifest: Path) -> None:
    """Hunt on the calibration split of a data.csv, and print what hunted and random heads reach on its test split."""
    mllm = load("reference", device="cpu")
    calibration, test = (cut_videos(manifest, split, mllm) for split in ("calibration", "test"))
    known, unknown = features_of(mllm, calibration), features_of(mllm, test)
    names = [prompt.name for prompt in PROMPTS]
    found = hunt(known, calibration.labels, names, Selection(top_k=max(COUNTS)))
    prompt = names.index(found.prompt)
    layers, heads = known.shape[2:4]
    every = [(layer, head) for layer in range(layers) for head in range(heads)]

    def auc(chosen: list[tuple[int, int]]) -> float:
        rows, columns = zip(*chosen, strict=True)
        fitted, judged = (
            array[:, prompt][:, list(rows), list(columns)].reshape(len(array), -1) for array in (known, unknown)
        )
        return by_kind(test, fit_scorer(fitted, calibration.labels).predict_proba(judged)[:, 1])["all"]

    experts = [(expert.layer, expert.head) for expert in found.experts]
    rng = np.random.default_rng(0)
    print(f"{len(calibration.videos)} calibration videos, {len(test.videos)} test videos, prompt {found.prompt!r}")
    print("heads  hunted  random (mean +- spread of 20 draws)")
    for count in COUNTS:
        draws = [auc([every[i] for i in rng.choice(len(every), count, replace=False)]) for _ in range(DRAWS)]
        print(f"{count:5d}   {auc(experts[:count]):.3f}   {np.mean(draws):.3f} +- {np.std(draws):.3f}")
    rank = spearmanr(np.ravel(found.rss), [auc([head]) for head in every])
    print(f"all {len(every)}   {auc(every):.3f}")
    print(f"rank correlation of RSS and a head's own test AUC: {rank.statistic:.2f} (p {rank.pvalue:.1g})")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
