"""How much the choice of heads depends on which videos were labelled: the hunt repeated on halves of them.

Stability selection (Meinshausen and Bühlmann, J. R. Statist. Soc. B 72, 2010): half of the videos
of each class is drawn without replacement, again and again, and it is counted how often a head comes up among the top
K. It tells, and the experts stay those of the paper's rule; or the most frequent are the experts (`by_frequency`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_runtime.errors import FeatureError, UsageError
from models.heads import HeadRef
from offline.arrays import BoolArray, Float64Array
from offline.console import Progress
from offline.extraction.features import FeatureSet
from offline.hunting.hunt import Choose, Hunt, Selection, by_rss

KEY = "stability"
"""Of `hunt.json`."""


@dataclass(frozen=True, slots=True, eq=False)
class Stability:
    """How often each head came up.

    Attributes:
        draws: How many halves were hunted in.
        top_k: How many heads each hunt chose.
        frequency: The share of the draws in which a head was chosen, (L, H), in [0, 1].
    """

    draws: int
    top_k: int
    frequency: Float64Array

    def __post_init__(self) -> None:
        if self.draws < 2 or self.frequency.ndim != 2:
            raise ValueError(f"{self.draws} draws of heads {self.frequency.shape}: no stability")

    @property
    def overlap(self) -> float:
        """The mean share of the top K that two draws have in common, over all pairs of draws."""
        counts = self.frequency * self.draws
        pairs = float((counts * (counts - 1)).sum()) / (self.draws * (self.draws - 1))
        return pairs / self.top_k

    @property
    def overlap_by_chance(self) -> float:
        """The same if heads were drawn at random: K / (L·H)."""
        return self.top_k / self.frequency.size

    def of(self, head: HeadRef) -> float:
        """How often a head came up, in [0, 1]."""
        return float(self.frequency[head.layer, head.head])

    def most_frequent(self, found: Hunt) -> Hunt:
        """Take the K heads that came up most often as the experts of a hunt in all videos.

        Of heads that came up as often, those with the higher RSS; then the lower (layer, head).
        """
        ranked = np.lexsort((-found.rss.ravel(), -self.frequency.ravel()))[: self.top_k]
        return found.choosing([HeadRef(*divmod(int(k), found.heads)) for k in ranked])

    def to_dict(self) -> dict[str, Any]:
        """Give JSON values."""
        return {
            "draws": self.draws,
            "top_k": self.top_k,
            "frequency": self.frequency.tolist(),
            "overlap": self.overlap,
            "overlap_by_chance": self.overlap_by_chance,
        }


def stability(
    features: FeatureSet, selection: Selection, draws: int, seed: int = 0, progress: Progress | None = None
) -> Stability:
    """Hunt in halves of the videos of each class, and count.

    It costs `draws` hunts in half of the samples.

    Args:
        features: What is hunted in.
        selection: How.
        draws: How many halves, 2 at least.
        seed: Of the draws.
        progress: Counts heads, under every prompt and in every draw.

    Raises:
        FeatureError: Half of the videos has too few samples of a class, or the features cannot be hunted.
        UsageError: The selection or `draws` is out of range.
    """
    if draws < 2:
        raise UsageError(f"{draws} draws are too few to compare; draw at least 2")
    counts = None
    for number, rows in enumerate(_halves(features, draws, seed)):
        found = by_rss(features.rows(rows), selection, None if progress is None else _step(progress, number, draws))
        if counts is None:
            counts = np.zeros((found.layers, found.heads))
        for expert in found.experts:
            counts[expert.layer, expert.head] += 1
    assert counts is not None  # there are two draws or more
    return Stability(draws, selection.top_k, counts / draws)


def by_frequency(draws: int, seed: int = 0) -> Choose:
    """Give the choice of those that come up most often in halves of the videos.

    It costs `draws` hunts in half of the samples, and one in all of them. Arguments and errors as of `stability`.
    """

    def choose(features: FeatureSet, selection: Selection, progress: Progress | None = None) -> Hunt:
        # The hunt in all videos is the first of `draws + 1` parts, of as many heads each.
        whole = by_rss(features, selection, None if progress is None else _step(progress, 0, draws + 1))
        halves = None if progress is None else _after_one(progress, draws)
        return stability(features, selection, draws, seed, halves).most_frequent(whole)

    return choose


def _halves(features: FeatureSet, draws: int, seed: int) -> list[BoolArray]:
    """The samples of each draw, bool (N,) each. All are drawn, and refused, before the first hunt."""
    rng = np.random.default_rng(seed)
    names, classes = np.array(features.videos), features.videos_by_class()
    halves = []
    for _ in range(draws):
        drawn = [videos[i] for videos in classes for i in rng.permutation(len(videos))[: len(videos) // 2]]
        rows: BoolArray = np.isin(names, drawn)
        anomalous = int(features.labels[rows].sum())
        if min(anomalous, int(rows.sum()) - anomalous) < 2:
            normal, wrong = (len(videos) for videos in classes)
            raise FeatureError(
                f"half of {normal} normal and {wrong} anomalous videos can have fewer than 2 samples of a class; "
                "label more videos, or leave --stability out"
            )
        halves.append(rows)
    return halves


def _step(progress: Progress, number: int, draws: int) -> Progress:
    def step(done: int, total: int, what: object = "", /) -> None:
        progress(number * total + done, draws * total, what)

    return step


def _after_one(progress: Progress, draws: int) -> Progress:
    def step(done: int, total: int, what: object = "", /) -> None:
        progress(total // draws + done, total // draws + total, what)

    return step
