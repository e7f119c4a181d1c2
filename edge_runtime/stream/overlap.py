"""Scores of segments that overlap, as scores of the steps between their starts."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence


class CoveringMean:
    """The score of each step of one stream: the mean of the segments that cover it.

    A step is covered by the segment that begins with it and by those before it that reach that far. So it is final
    with its own segment. Without an overlap a step is its segment, and its score that segment's.

    Args:
        overlap: How many segments cover a step in the middle of a stream.
    """

    def __init__(self, overlap: int) -> None:
        self._overlap = overlap
        self._scores: deque[tuple[int, float]] = deque()

    def push(self, index: int, score: float | None) -> float | None:
        """Take the next segment.

        Args:
            index: Of the segment; larger than that of any before.
            score: Its probability; None where it has none.

        Returns:
            The score of its step; None where no segment that covers it has one.
        """
        while self._scores and self._scores[0][0] <= index - self._overlap:
            self._scores.popleft()
        if score is not None:
            self._scores.append((index, score))
        if not self._scores:
            return None
        scores = [one for _, one in self._scores]
        # A mean cannot leave the range of its terms, but rounding can: equal scores at the threshold would alarm.
        return min(max(scores), max(min(scores), sum(scores) / len(scores)))

    def interrupt(self) -> None:
        """Frames are missing here: no segment before covers anything behind."""
        self._scores.clear()


def covering_means(scores: Sequence[float | None], overlap: int) -> list[float | None]:
    """Scores of the steps of a whole stretch without gaps, of its segments' scores."""
    mean = CoveringMean(overlap)
    return [mean.push(index, score) for index, score in enumerate(scores)]
