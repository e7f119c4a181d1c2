"""What the hunt is worth at each number of heads: hunted heads against heads drawn at random, and against no heads.

    hh-offline scenes --output scenes --seed 7 --videos 200
    python -m benchmarks.evidence.hunted reference scenes/data.csv cache

Prints frame AUC on the test split, not smoothed, for scorers fitted on the calibration split; what other choices of
heads reach, the visual tokens without a language model, and the model's own answer; and how well the robust saliency
of a head, which knows the calibration split only, ranks what that head alone is worth on the test split. Every number
of heads has the prompt that its own hunt bakes in; what is not hunted has that of five heads.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from threadpoolctl import threadpool_limits

from benchmarks.evidence.heads import NAMES, Head, auc_of, fitted_auc, hunted, read_splits
from offline.hunting.hunt import Selection

COUNTS = (1, 2, 3, 5, 10, 20)
DRAWS = 50


def main(model: str, manifest: Path, cache: Path) -> None:
    """Hunt on the calibration split of a data.csv, and print what hunted and random heads reach on its test split."""
    known, test = read_splits(model, manifest, cache)
    labels, every = known.labels, known.every
    found, prompt = hunted(known, 5)
    ranked = found.again(Selection(max(COUNTS))).experts

    def auc(heads: list[Head], prompt: int = prompt) -> float:
        return fitted_auc(known.read(prompt, heads), labels, test.read(prompt, heads), test)

    experts = [(expert.layer, expert.head) for expert in ranked]
    rng = np.random.default_rng(0)
    print(
        f"{model}, {manifest.parent.name}: {len(known.segments.videos)} calibration videos "
        f"({len(labels)} segments, {int(labels.sum())} anomalous), {len(test.segments.videos)} test videos, "
        f"prompt {found.prompt!r}, experts {' '.join(f'({layer},{head})' for layer, head in experts[:5])}"
    )
    print(f"heads   hunted   random (mean ± spread of {DRAWS} draws)   hunted - random   draws beaten")
    for count in COUNTS:
        # What a hunt for so many heads bakes in, for the random ones, too.
        baked = NAMES.index(found.again(Selection(count)).prompt)
        of_hunted = auc(experts[:count], baked)
        draws = [auc([every[i] for i in rng.choice(len(every), count, replace=False)], baked) for _ in range(DRAWS)]
        print(
            f"{count:5d}    {of_hunted:.3f}   {np.mean(draws):.3f} ± {np.std(draws):.3f}                       "
            f"{of_hunted - np.mean(draws):+.3f}           {np.mean(of_hunted > np.array(draws)):4.0%}"
        )
    layers = [auc([head for head in every if head[0] == layer]) for layer in range(found.layers)]
    best = int(np.argmax(layers))
    both = (np.hstack([one.mean, one.spread]) for one in (known, test))
    print(f"last layer, all its heads                {layers[-1]:.3f}")
    print(f"best layer on the test split ({best}), ditto    {layers[best]:.3f}")
    print(f"all {len(every):3d} heads                            {auc(every):.3f}")
    print(f"visual tokens alone, mean                {fitted_auc(known.mean, labels, test.mean, test):.3f}")
    known_both, test_both = both
    print(f"visual tokens alone, mean and spread     {fitted_auc(known_both, labels, test_both, test):.3f}")
    said = [auc_of(test, test.answers[:, m]) for m in range(test.answers.shape[1])]
    print(f"the model's own answer, best prompt      {max(said):.3f}")
    rank = spearmanr(np.ravel(found.rss), [auc([head]) for head in every])
    print(f"rank correlation of RSS and a head's own test AUC: {rank.statistic:.2f} (p {rank.pvalue:.1g})")


if __name__ == "__main__":
    # Small products on several threads only wait for each other.
    with threadpool_limits(limits=1, user_api="blas"):
        main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
