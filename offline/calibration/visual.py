"""The yardstick of the visual tokens alone: the scorer's own fit, on what the language model is given.

Standardisation and logistic regression as for the experts, on the same calibration units and labels; only what they
read is another. What the method reaches above this is the language model's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # neither typed nor stubbed

from edge_runtime.errors import FeatureError, InferenceFailed, ProviderUnavailable, SourceUnavailable, VideosFailed
from edge_runtime.stream.overlap import covering_means
from offline.calibration.scorer import fit_scorer
from offline.console import Console
from offline.data.dataset import Dataset, Video
from offline.data.scores import VideoScores
from offline.data.units import Unit, UnitChoice, choose_units
from offline.evaluation.trivial import Baselines, absent, to_fit
from offline.evaluation.verdict import TOKENS_ALONE, TOKENS_MEAN
from offline.extraction.executors import Executor, LocalExecutor
from offline.extraction.extract import Extracted, Extraction, extract

_NOT_COMPUTED = "visual tokens alone not computed"


@dataclass(frozen=True, slots=True, eq=False)
class TokenScorers:
    """Scorers on the visual tokens' statistics.

    Attributes:
        scorers: A scikit-learn Pipeline by row, the keys of `TOKENS_ALONE`.
    """

    scorers: Mapping[str, Any]

    @classmethod
    def fit(cls, calibration: Sequence[Extracted], seed: int = 0) -> TokenScorers:
        """Fit both rows.

        Args:
            calibration: Statistics (U, 2, D) of each calibration video, as `offline.extraction.visual` gives them.
            seed: Of the fits.

        Raises:
            FeatureError: There are none, they are not finite, or their labels are of one class.
        """
        if not calibration:
            raise FeatureError("no calibration video could be read")
        features = np.concatenate([one.features for one in calibration])
        labels = np.concatenate([one.labels for one in calibration])
        # On one thread: small products only wait for each other, and rounding then knows no number of cores.
        with threadpool_limits(limits=1, user_api="blas"):
            return cls({row: fit_scorer(read_tokens(features, row), labels, seed) for row in TOKENS_ALONE})

    def scores_of(self, one: Extracted) -> dict[str, VideoScores]:
        """Score the segments of one video by row; where they overlap, each step by the mean of all that cover it."""
        scores = {}
        for row, scorer in self.scorers.items():
            values = scorer.predict_proba(read_tokens(one.features, row))[:, 1].tolist()
            means = covering_means(values, one.overlap)
            scores[row] = VideoScores.of_segments(one.video.name, one.frames, one.spans, means)
        return scores


def read_tokens(features: NDArray[np.float32], row: str) -> NDArray[np.float32]:
    """Read what a row reads.

    Args:
        features: Statistics (U, 2, D).
        row: A key of `TOKENS_ALONE`.

    Returns:
        (U, D) for the mean; (U, 2·D) with the standard deviation, which stands behind it.
    """
    return features[:, 0] if row == TOKENS_MEAN else features.reshape(len(features), -1)


@dataclass(frozen=True, slots=True, eq=False)
class TokensAlone:
    """How the yardstick is measured.

    Attributes:
        extraction: By an extractor of `offline.extraction.visual`, the judged videos cut as the system cuts them.
        unit: What one calibration sample is.
        seed: Of the fits.
        executor: Who computes the statistics.
    """

    extraction: Extraction
    unit: UnitChoice = "auto"
    seed: int = 0
    executor: Executor = field(default_factory=LocalExecutor)


def measure_tokens(
    judged: Sequence[Video], calibration: Dataset, console: Console, tokens: Callable[[], TokensAlone]
) -> Baselines:
    """Fit on the calibration split and score the judged videos.

    Args:
        judged: Where one of them cannot be read, there is no such yardstick.
        calibration: Where it lacks a class or is not to be read, neither.
        console: Shows bars.
        tokens: How it is measured; not called, and no graph opened, where it cannot be.

    Returns:
        Both rows, or none and a remark that says why.

    Raises:
        DatasetError: A video contradicts the manifest.
    """
    fitted_on, reason = to_fit(calibration)
    if reason is None:
        reason = absent(judged)
    if reason is not None:
        return Baselines(remarks=(f"{_NOT_COMPUTED}: {reason}",))
    try:
        return Baselines(_scores(judged, fitted_on, console, tokens()))
    except (SourceUnavailable, FeatureError, InferenceFailed, ProviderUnavailable, VideosFailed) as error:
        return Baselines(remarks=(f"{_NOT_COMPUTED}: {error}",))


def _scores(
    judged: Sequence[Video], fitted_on: Sequence[Video], console: Console, tokens: TokensAlone
) -> dict[str, dict[str, VideoScores]]:
    """Scores by row and video. Raises what `extract` and `fit_scorer` do."""
    extraction = tokens.extraction
    # Calibration samples do not overlap, however the judged segments are cut.
    apart = replace(extraction, segment=extraction.segment.striding(extraction.segment.frames))
    with console.bar("Visual tokens alone, calibration", "video") as progress:
        units = choose_units(fitted_on, tokens.unit)
        stored = tokens.executor.prepare(fitted_on, units, apart, progress)
        known = extract(fitted_on, units, apart, progress, stored)
    scorers = TokenScorers.fit(known, tokens.seed)
    scores: dict[str, dict[str, VideoScores]] = {row: {} for row in TOKENS_ALONE}
    # A judged video that is left out would leave the rows with other videos than the system's.
    strict = replace(extraction, skip_unreadable=False)
    segments: dict[str, Unit] = {video.name: "segment" for video in judged}
    with console.bar("Visual tokens alone", "video") as progress:
        stored = tokens.executor.prepare(judged, segments, strict, progress)
        for done, video in enumerate(judged):
            progress(done, len(judged), video.name)
            (one,) = extract([video], segments, strict, stored=stored)
            for row, found in scorers.scores_of(one).items():
                scores[row][video.name] = found
        progress(len(judged), len(judged))
    return scores
