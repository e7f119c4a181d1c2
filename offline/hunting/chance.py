"""What a hunt owes to chance, in figures and sentences: does any head know anything, do the hunted beat random ones.

The figures are those of `offline.hunting.permutation` and `offline.hunting.against_random`. What cannot be computed
is None, and a sentence says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from offline.console import Progress
from offline.extraction.features import FeatureSet
from offline.hunting.against_random import Compared, Comparison, compare
from offline.hunting.depth import Fit
from offline.hunting.hunt import Choose, Hunt, Selection, by_rss
from offline.hunting.permutation import Permuted, permute

KEY = "chance"
"""Of `hunt.json`."""

SIGNIFICANT = 0.05
FEW = 5
"""Fewer videos of a class than folds: a fold without one, and intervals that a single video moves."""


@dataclass(frozen=True, slots=True)
class Trials:
    """How much is tried.

    Attributes:
        permutations: Of the labels.
        comparison: With random heads.
    """

    permutations: int = 199
    comparison: Comparison = field(default_factory=Comparison)

    @property
    def seed(self) -> int:
        """Of every draw."""
        return self.comparison.seed


_TRIALS = Trials()


@dataclass(frozen=True, slots=True)
class Chance:
    """What is known of chance in a hunt.

    Attributes:
        videos: In the calibration set.
        anomalous: How many of them are.
        heads: How many were hunted among.
        top_k: How many were hunted.
        permuted: The permutation test; None with fewer than two videos of a class.
        compared: The comparison with random heads; None where there are too few videos, or no other heads.
    """

    videos: int
    anomalous: int
    heads: int
    top_k: int
    permuted: Permuted | None
    compared: Compared | None

    def __post_init__(self) -> None:
        if not 0 <= self.anomalous <= self.videos or not 1 <= self.top_k <= self.heads:
            raise ValueError(
                f"{self.anomalous} of {self.videos} videos and {self.top_k} of {self.heads} heads: no such hunt"
            )

    @property
    def few(self) -> bool:
        """Whether a class has so few videos that nothing can be told."""
        return min(self.anomalous, self.videos - self.anomalous) < FEW

    @property
    def known(self) -> bool | None:
        """Whether the heads know anything of the labels; None where that cannot be told."""
        if self.permuted is None or self.few or self.permuted.least_p > SIGNIFICANT:
            return None
        return self.permuted.p <= SIGNIFICANT

    @property
    def better(self) -> bool | None:
        """Whether the hunted heads beat random ones (False: are worse); None where that cannot be told.

        Where nothing shows that any head knows anything, a difference is luck.
        """
        if self.compared is None or self.few or self.compared.low <= 0.0 <= self.compared.high:
            return None
        if not self.known:
            return None
        return self.compared.low > 0.0

    @property
    def sentences(self) -> tuple[str, ...]:
        """What a person should know, in plain words."""
        normal = self.videos - self.anomalous
        if self.permuted is None:
            return (
                f"{normal} normal and {self.anomalous} anomalous videos: whether the heads know anything cannot be "
                "computed with fewer than 2 of each; label more.",
            )
        return (*self._about_heads(self.permuted), *self._about_hunted())

    def to_dict(self) -> dict[str, Any]:
        """Give JSON values, those that follow from others included."""
        content: dict[str, Any] = msgspec.to_builtins(self)
        if self.permuted is not None:
            content["permuted"] |= {"p": self.permuted.p, "least_p": self.permuted.least_p}
        if self.compared is not None:
            content["compared"] |= {
                "mean": self.compared.mean,
                "spread": self.compared.spread,
                "beaten": self.compared.beaten,
            }
        return content | {"sentences": list(self.sentences)}

    @classmethod
    def from_dict(cls, content: Any) -> Chance:
        """Read what `to_dict` gave.

        Raises:
            ValueError: It is something else.
        """
        # Not strict: JSON knows no difference between 1 and 1.0. msgspec's error is a ValueError.
        return msgspec.convert(content, cls)

    def _too_small(self, question: str) -> str:
        return (
            f"With {self.videos} videos ({self.anomalous} anomalous) this calibration set is too small to tell "
            f"whether {question}; label more."
        )

    def _about_heads(self, permuted: Permuted) -> tuple[str, ...]:
        best = f"layer {permuted.best.layer}, head {permuted.best.head}"
        figures = (
            f"The best of {self.heads} heads ({best}) tells the classes apart with an AUC of {permuted.auc:.2f} on "
            f"videos that it was not fitted on; of {len(permuted.permuted)} labellings permuted between videos, "
            f"{permuted.reached} let some head reach that (p = {permuted.p:.3f})."
        )
        if self.known is None:
            return (figures, self._too_small("the heads know anything of the labels"))
        if self.known:
            return (f"The heads know something of the labels. {figures}",)
        return (f"Nothing shows that any head knows anything of the labels. {figures}",)

    def _about_hunted(self) -> tuple[str, ...]:
        hunted = "hunted head" if self.top_k == 1 else f"{self.top_k} hunted heads"
        compared = self.compared
        if compared is None:
            if self.heads <= self.top_k:
                return (f"All {self.heads} heads are experts: there are no others to compare them with.",)
            return (self._too_small(f"the {hunted} beat{'s' * (self.top_k == 1)} random ones"),)
        figures = (
            f"Hunted anew without the videos that they are judged on, the {hunted} reach{'es' * (self.top_k == 1)} "
            f"an AUC of {compared.hunted:.2f}; {len(compared.random)} random choices of as many heads reach "
            f"{compared.mean:.2f} on average (spread {compared.spread:.2f}), "
            f"and {100 * compared.beaten:.0f} % of them "
            f"are worse. The difference from their mean is {compared.difference:+.2f} "
            f"({compared.low:+.2f} to {compared.high:+.2f}, "
            "95 % bootstrap over videos)."
        )
        if self.better is None:
            return (figures, self._too_small(f"the {hunted} beat{'s' * (self.top_k == 1)} random ones"))
        if self.better:
            return (f"The hunt pays. {figures}",)
        return (f"The hunt does harm: random heads are better. {figures}",)


def chance(
    features: FeatureSet,
    found: Hunt,
    selection: Selection,
    fit: Fit,
    trials: Trials = _TRIALS,
    progress: Progress | None = None,
    choose: Choose = by_rss,
) -> Chance:
    """Measure what a hunt's heads owe to chance.

    Args:
        features: What was hunted in.
        found: What was found; the permutation test is of the heads under its prompt.
        selection: How, to repeat it.
        fit: Fits the scorer.
        trials: How much is tried. The same seed gives the same figures.
        progress: Counts heads, once for the permutations and once for every hunt and prompt.
        choose: How experts were chosen.
    """
    normal, anomalous = features.videos_by_class()
    heads = found.layers * found.heads
    permuted = compared = None
    if min(len(normal), len(anomalous)) >= 2:
        under = features.features[:, found.prompts.index(found.prompt), : found.layers]
        permuted = permute(
            under, features.labels, features.videos, trials.permutations, seed=trials.seed, progress=progress
        )
        compared = compare(features, selection, fit, trials.comparison, _after(progress, heads), choose)
    return Chance(len(normal) + len(anomalous), len(anomalous), heads, len(found.experts), permuted, compared)


def _after(progress: Progress | None, before: int) -> Progress | None:
    if progress is None:
        return None

    def step(done: int, total: int, what: object = "", /) -> None:
        progress(before + done, before + total, what)

    return step
