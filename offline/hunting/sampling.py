"""What fewer frames a segment would cost in accuracy: the hunt, the fit and the judgement repeated with fewer.

A sequence of half the frames takes half the time or less, on the machine that hunts as at the edge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from offline.hunting.depth import Trial, judge_experts
from offline.hunting.hunt import Selection, by_rss


@dataclass(frozen=True, slots=True)
class SamplingPoint:
    """How well a model that sees so many frames of a segment scores the validation frames.

    Attributes:
        sampled: How many frames it sees.
        auc: Frame AUC of the raw probabilities; None where the validation frames are all of one class.
        f1: The best over all thresholds, otherwise the same.
    """

    sampled: int
    auc: float | None
    f1: float | None

    def __post_init__(self) -> None:
        if self.sampled < 1:
            raise ValueError(f"a segment has at least one sampled frame, got {self.sampled}")


def fewer_frames(sampled: int, group: int) -> list[int]:
    """Half as many frames, a quarter and an eighth, as far as they fill groups of `group`; ascending."""
    return sorted({sampled // part for part in (2, 4, 8) if sampled % (part * group) == 0})


def sampling_curve(
    sampled: int, trial: Trial, with_frames: Callable[[int], Trial], group: int, selection: Selection
) -> list[SamplingPoint]:
    """Hunt, fit and judge once for every number of frames.

    Args:
        sampled: How many frames the model sees in the build.
        trial: The features of that.
        with_frames: Gives those for another number of frames.
        group: g, how many frames the model merges.
        selection: How experts and prompt are chosen, anew for each number.

    Returns:
        Fewest frames first; the last point is that of the build.
    """
    points = []
    for count in (*fewer_frames(sampled, group), sampled):
        tried = trial if count == sampled else with_frames(count)
        found = by_rss(tried.calibration, selection)
        points.append(SamplingPoint(count, *judge_experts(found, tried)))
    return points
