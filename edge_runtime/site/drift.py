"""Tells that a camera shows something else than it used to, or than the bundle was calibrated for.

Distances are shrunk Mahalanobis distances: in units of the covariance of the calibration's normal features. Segments
follow each other and look alike, so means of blocks of six are judged, 19 seconds each.

**Changed.** Of each block two things are compared with those of earlier blocks: its distance from the nearest of the
camera's known views, and how far it lies from that view in the direction in which the last two blocks did. Their
ranks are conformal p-values. Each is turned into a bet, e = k p^(k - 1), whose mean is at most 1 while nothing
changes; the mean of both is multiplied up, never from below 1 (an e-CUSUM). It crosses a level L after L blocks or
more on average as long as blocks are exchangeable. They are not quite: what lasts longer than a block makes false
alarms more frequent than that, and so do distances that vary more at some hours.

**Far.** The mean distance of an hour's segments from the calibration's centre, against the largest that any of the
calibration's videos showed while it was left out. It compares cameras, and has no false-alarm rate: n videos
that were left out cannot say less than 1 in n + 1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Arrays = Mapping[str, NDArray[Any]]

#: Segments of a block.
BLOCK = 6
#: False alarms: one in so many blocks or fewer, on average: four weeks of segments of 3.2 s.
BLOCKS_TO_FALSE_ALARM = 126_000
#: Blocks in which a camera's views are learned and no change is told: a day.
LEARNING = 4500
#: Blocks after which a changed picture is one of the camera's usual views: six hours.
ADOPTED_AFTER = 1125
#: Views that are known at once, at most.
VIEWS = 16

# Exponent of the bets: small ones pay at p-values that a thousand blocks can give.
_BET = 0.15
# Blocks whose distances are remembered: a day.
_REMEMBERED = 4500
# A view is the mean of its last blocks, about so many.
_VIEW_BLOCKS = 375
# Ranks among fewer say nothing.
_LEAST_HISTORY = 20
# A change ends after so many blocks in turn that are nearer to a known view, and no farther from it than 1 in 20.
_ENDS_AFTER, _USUAL = 5, 0.05
# Blocks that are held before they are learned from: those of a change must not become usual before it is told.
_HELD = 10
# The running distance from calibration: about an hour. Told at the level, ended a little below.
_FAR_BLOCKS, _FAR_ENDS = 188, 0.95


@dataclass(frozen=True, slots=True, eq=False)
class DriftSpace:
    """The space in which distances are Euclidean, from the statistics of the calibration's normal segments.

    Their covariance is diag(diagonal) + factor' factor, of z = (x - mean) / scale. D is the number of features.

    Attributes:
        mean: (D,).
        scale: (D,), above 0.
        centre: (D,), of the standardised features.
        axes: (q, D), orthonormal: the directions that `factor` spans, after the diagonal is taken out.
        lengths: (q,), by how much each is shortened.
        roots: (D,), square roots of the diagonal.
    """

    mean: FloatArray
    scale: FloatArray
    centre: FloatArray
    axes: FloatArray
    lengths: FloatArray
    roots: FloatArray

    @classmethod
    def of(
        cls, mean: FloatArray, scale: FloatArray, centre: FloatArray, diagonal: FloatArray, factor: FloatArray
    ) -> DriftSpace:
        """Make it from what a bundle's calibration.npz holds.

        Args:
            mean: (D,).
            scale: (D,), above 0.
            centre: (D,).
            diagonal: (D,), above 0.
            factor: (q, D).
        """
        roots = np.sqrt(diagonal)
        _, singular, axes = np.linalg.svd(factor / roots, full_matrices=False)
        # (I + V s² V')^(-1/2) = I - V (1 - 1 / sqrt(1 + s²)) V'
        return cls(mean, scale, centre, axes, 1 - 1 / np.sqrt(1 + singular**2), roots)

    @classmethod
    def fitted(cls, features: NDArray[np.floating]) -> DriftSpace:
        """Make it from features of normal segments, (n, D), with the covariance of Ledoit and Wolf."""
        rows = np.asarray(features, dtype=np.float64)
        mean, scale = rows.mean(axis=0), rows.std(axis=0)
        scale[scale == 0] = 1.0
        rows = (rows - mean) / scale
        shrinkage = ledoit_wolf(rows)
        variance = float((rows**2).mean())
        diagonal = np.full(rows.shape[1], max(shrinkage * variance, np.finfo(np.float64).tiny))
        return cls.of(mean, scale, np.zeros_like(mean), diagonal, rows * np.sqrt((1 - shrinkage) / len(rows)))

    def whitened(self, features: NDArray[np.floating]) -> FloatArray:
        """Features in this space, (…, D): 0 is the calibration's centre, the norm is the distance from it."""
        apart = ((np.asarray(features, dtype=np.float64) - self.mean) / self.scale - self.centre) / self.roots
        whitened: FloatArray = apart - (apart @ self.axes.T * self.lengths) @ self.axes
        return whitened


def ledoit_wolf(rows: FloatArray) -> float:
    """The shrinkage of Ledoit and Wolf (2004) towards a multiple of the identity, 0 to 1.

    Args:
        rows: (n, D), centred.
    """
    n, size = rows.shape
    # Through the Gram matrix: n is a few hundred, D may be thousands.
    gram = rows @ rows.T
    squared = float((gram**2).sum()) / n**2
    target = float(np.trace(gram)) / n / size
    spread = squared - size * target**2
    noise = (float((np.diag(gram) ** 2).sum()) / n - squared) / n
    return 1.0 if spread <= 0 else min(1.0, max(0.0, noise / spread))


def bet(p: float) -> float:
    """What a p-value is worth as evidence of a change: at most 1 on average where there is none."""
    return float(_BET * p ** (_BET - 1))


def _rank(value: float, history: deque[float]) -> float:
    if len(history) < _LEAST_HISTORY:
        return 1.0
    earlier = np.fromiter(history, dtype=np.float64, count=len(history))
    return (1 + int((earlier >= value).sum())) / (1 + len(earlier))


def farthest_video(distances: NDArray[np.floating], videos: NDArray[np.integer]) -> float | None:
    """The largest mean distance of any calibration video, each left out; None where there are fewer than 5 videos.

    Args:
        distances: (n,), of segments, from a centre and covariance that did not see their video.
        videos: (n,), which video each belongs to.
    """
    means = [float(distances[videos == video].mean()) for video in np.unique(videos)]
    return max(means) if len(means) >= 5 else None


@dataclass(frozen=True, slots=True)
class DriftChange:
    """A camera's pictures became strange, or usual again.

    Attributes:
        drifted: Which of the two.
        detail: One line for a person.
        seconds: When it was told.
        since_s: When it began, where it is known.
    """

    drifted: bool
    detail: str
    seconds: float
    since_s: float | None


class DriftWatch:
    """Watches the features of one camera. Causal; below a millisecond a segment and about 0.3 MB at D = 640.

    Segments whose picture is known to be wrong (covered, frozen, corrupt) should not be pushed. Not to be shared
    between threads.

    Args:
        space: Of the bundle.
        farthest: As of `farthest_video`; None leaves out how far the camera is from calibration.
        learning: Blocks in which every view becomes a usual one without a word.
        level: Blocks to a false alarm, see above.
        overlap: How many segments cover a frame: a block lasts as long as without.
    """

    def __init__(
        self,
        space: DriftSpace,
        farthest: float | None = None,
        learning: int = LEARNING,
        level: float = BLOCKS_TO_FALSE_ALARM,
        overlap: int = 1,
    ) -> None:
        self._space, self._farthest, self._learning, self._level = space, farthest, learning, level
        self._size, self._segments = len(space.mean), BLOCK * overlap
        self._block: list[FloatArray] = []
        self._start_s = 0.0
        self._block_norm = 0.0
        self._views = np.empty((0, self._size))
        self._weights = np.empty(0)
        self._used = np.empty(0)
        self._blocks = 0
        # Distances, and sides: both of blocks as they were judged.
        self._history: deque[float] = deque(maxlen=_REMEMBERED)
        self._sides: deque[float] = deque(maxlen=_REMEMBERED)
        self._last_two: deque[FloatArray] = deque(maxlen=2)
        self._bet = 1.0
        self._began_s: float | None = None
        self._held: deque[tuple[FloatArray, float, float]] = deque()
        self._norms: deque[float] = deque(maxlen=_FAR_BLOCKS)
        # While changed: what the picture looks like now, from how many blocks, and their distances from it.
        self._strange: FloatArray | None = None
        self._strange_blocks = 0
        self._strange_distances: deque[float] = deque(maxlen=_VIEW_BLOCKS)
        self._strange_sides: deque[float] = deque(maxlen=_VIEW_BLOCKS)
        self._usual_blocks = 0
        self._changed = self._far = False
        self.since_s: float | None = None

    @property
    def drifted(self) -> bool:
        """Whether the camera's pictures are strange now."""
        return self._changed or self._far

    @property
    def learning_left(self) -> int:
        """Blocks until changes are told; 0 where they are."""
        return max(0, self._learning - self._blocks)

    @property
    def distance(self) -> float | None:
        """Running mean distance from the calibration's centre, of an hour; None before the first block."""
        return float(np.mean(self._norms)) if self._norms else None

    def push(self, features: NDArray[np.floating], start_s: float, end_s: float) -> DriftChange | None:
        """Take the features of the next segment.

        Args:
            features: (D,), finite.
            start_s: When the segment began.
            end_s: When it ended.

        Returns:
            What changed, if something did.
        """
        whitened = self._space.whitened(features)
        if not self._block:
            self._start_s = start_s
        self._block.append(whitened)
        self._block_norm += float(np.linalg.norm(whitened))
        if len(self._block) < self._segments:
            return None
        block, norm = np.mean(self._block, axis=0), self._block_norm / self._segments
        self._block, self._block_norm = [], 0.0
        was = self.drifted
        why = self._take(block, norm)
        if self.drifted == was:
            return None
        if self.drifted:
            self.since_s = self._start_s if self._began_s is None else self._began_s
        since_s, told = self.since_s, self.drifted
        if not told:
            self.since_s = None
        return DriftChange(told, why, end_s, since_s)

    def _take(self, block: FloatArray, norm: float) -> str:
        self._blocks += 1
        self._norms.append(norm)
        why = self._judge_far()
        if not len(self._views):
            self._open(block)
            return why
        distances = np.linalg.norm(self._views - block, axis=1)
        view = int(np.argmin(distances))
        distance, side = float(distances[view]), self._side(block, self._views[view])
        strange = self._strange if self._changed else None
        if strange is not None:
            return self._stay(block, strange, view, distance) or why
        self._last_two.append(block)
        e = (bet(_rank(distance, self._history)) + bet(_rank(side, self._sides))) / 2
        if self._bet <= 1.0:
            self._began_s = self._start_s
            self._learn()
        self._bet = max(1.0, self._bet) * e
        self._held.append((block, distance, side))
        if len(self._held) > _HELD and self._bet < self._level:
            self._learn(_HELD)
        if self._bet <= 1.0:
            self._began_s = None
        if self._bet < self._level:
            return why
        return self._change() or why

    def _judge_far(self) -> str:
        if self._farthest is None or len(self._norms) < _FAR_BLOCKS:
            return ""
        ratio = float(np.mean(self._norms)) / self._farthest
        if not self._far and ratio > 1:
            self._far = True
            return "its pictures lie further from those of the calibration than any calibration video from the others"
        if self._far and ratio < _FAR_ENDS:
            self._far = False
            return (
                "its pictures are again as near to those of the calibration as calibration videos are to each other"
            )
        return ""

    def _side(self, block: FloatArray, view: FloatArray) -> float:
        """How far a block lies from a view in the direction of the last two blocks."""
        if len(self._last_two) < 2:
            return 0.0
        direction = (self._last_two[0] + self._last_two[1]) / 2 - view
        length = float(np.linalg.norm(direction))
        return float((block - view) @ direction) / length if length > 0 else 0.0

    def _learn(self, keep: int = 0) -> None:
        while len(self._held) > keep:
            block, distance, side = self._held.popleft()
            self._history.append(distance)
            self._sides.append(side)
            view = int(np.argmin(np.linalg.norm(self._views - block, axis=1)))
            self._weights[view] = min(self._weights[view] + 1, _VIEW_BLOCKS)
            self._views[view] += (block - self._views[view]) / self._weights[view]
            self._used[view] = self._blocks

    def _open(self, view: FloatArray, weight: float = 1.0) -> None:
        if len(self._views) >= VIEWS:
            forgotten = int(np.argmin(self._used))
            self._views = np.delete(self._views, forgotten, axis=0)
            self._weights, self._used = (np.delete(one, forgotten) for one in (self._weights, self._used))
        self._views = np.vstack([self._views, view])
        self._weights = np.append(self._weights, min(weight, _VIEW_BLOCKS))
        self._used = np.append(self._used, self._blocks)

    def _change(self) -> str:
        strange = [block for block, _, _ in self._held]
        self._held.clear()
        self._bet = 1.0
        if self.learning_left:
            self._open(np.mean(strange[-2:], axis=0), 2.0)
            return ""
        self._changed = True
        self._strange, self._strange_blocks, self._usual_blocks = strange[-1].copy(), 1, 0
        self._strange_distances.clear()
        self._strange_sides.clear()
        return (
            "its pictures are not what they used to be: was the camera turned, covered in part, or the lens smeared?"
        )

    def _stay(self, block: FloatArray, strange: FloatArray, view: int, distance: float) -> str:
        apart = block - strange
        from_strange = float(np.linalg.norm(apart))
        if distance < from_strange and _rank(distance, self._history) >= _USUAL:
            self._usual_blocks += 1
        else:
            self._usual_blocks = 0
            self._strange_blocks += 1
            self._strange_distances.append(from_strange)
            self._strange_sides.append(self._side(block, strange))
            strange += apart / min(self._strange_blocks, _VIEW_BLOCKS)
        self._last_two.append(block)
        if self._usual_blocks >= _ENDS_AFTER:
            self._used[view] = self._blocks
            self._forget_strange()
            return "its pictures are as they used to be"
        if self._strange_blocks >= ADOPTED_AFTER:
            self._adopt()
            return "its pictures have been like this for hours, and count as usual from now on"
        return ""

    def _adopt(self) -> None:
        assert self._strange is not None
        self._open(self._strange, float(self._strange_blocks))
        self._history.extend(self._strange_distances)
        self._sides.extend(self._strange_sides)
        self._forget_strange()

    def _forget_strange(self) -> None:
        self._changed = False
        self._strange = None
        self._bet = 1.0
        self._began_s = None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What has to be kept over a restart; a change that is open is told anew by what comes."""
        return {
            "views": self._views.astype(np.float32),
            "weights": self._weights,
            "used": self._used,
            "history": np.array(self._history, dtype=np.float64),
            "sides": np.array(self._sides, dtype=np.float64),
            "blocks": np.array([self._blocks], dtype=np.int64),
        }

    def restore(self, arrays: Arrays) -> None:
        """Go on from what `arrays` gave.

        Raises:
            KeyError: An array is missing.
            ValueError: An array is not one of these; nothing has changed then.
        """
        views, weights, used, history, sides, blocks = (
            arrays[name] for name in ("views", "weights", "used", "history", "sides", "blocks")
        )
        count = len(views) if views.ndim == 2 else -1
        wanted = (
            (views, np.float32, (count, self._size)),
            (weights, np.float64, (count,)),
            (used, np.float64, (count,)),
            (history, np.float64, (history.size,)),
            (sides, np.float64, (history.size,)),
            (blocks, np.int64, (1,)),
        )
        for array, dtype, shape in wanted:
            if array.dtype != dtype or array.shape != shape or not np.isfinite(array).all():
                raise ValueError("what is known of a camera's views")
        if count > VIEWS or len(history) > _REMEMBERED or blocks[0] < 0 or (weights < 1).any():
            raise ValueError("what is known of a camera's views")
        self._views, self._weights, self._used = views.astype(np.float64), weights.copy(), used.copy()
        self._history = deque((float(one) for one in history), maxlen=_REMEMBERED)
        self._sides = deque((float(one) for one in sides), maxlen=_REMEMBERED)
        self._blocks = int(blocks[0])
