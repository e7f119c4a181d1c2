"""The rows that need no heads: the model's own words, what needs no model, and what no model can exceed.

Their scores are made to lie in 0 to 1 without changing their order, so that the locator can smooth and
threshold them like any others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from offline.ablation.rows import Method
from offline.ablation.textual import yes_against_no
from offline.data.dataset import Video
from offline.data.scores import VideoScores
from offline.evaluation.baselines import FEW_SHOT, MEASURES
from offline.evaluation.trivial import Baselines
from offline.evaluation.verdict import TOKENS_ALONE
from offline.evaluation.yardsticks import CEILINGS, Series, perfect
from offline.extraction.extract import Extracted

TEXTUAL = "the model's own answer"
_TEXTUAL_HOW = (
    'asked outright: P("yes") / (P("yes") + P("no")) at the first answer token, all casings that are one token; '
    "the prompt with the highest validation AUC; nothing is fitted but the locator"
)
_HOW = {
    MEASURES[0]: "mean difference of neighbouring frames",
    MEASURES[1]: "highest minus lowest mean brightness in a segment",
    FEW_SHOT: "fitted on the calibration videos, without a model",
}
_SQUASHED = ", x / (x + its validation median); more is more anomalous, nothing is fitted but the locator"


def textual_method(reason: str | None = None) -> Method:
    """Make the row of the model's own words; `reason` says why it cannot be computed."""
    return Method(TEXTUAL, "further", _TEXTUAL_HOW, pick="best", reason=reason)


def textual_scores(answers: Sequence[Extracted], prompts: Sequence[str]) -> dict[str, Series]:
    """Give scores by prompt and video; answers are (U, M, 2) a video, from `textual.TextualAnswer`."""
    return {
        f"prompt {prompt}": {
            one.video.name: segment_scores(one, yes_against_no(one.features[:, index])) for one in answers
        }
        for index, prompt in enumerate(prompts)
    }


def segment_scores(one: Extracted, values: Iterable[float]) -> VideoScores:
    """Take one value per unit as the video's scores. The units are segments: every frame in exactly one."""
    return VideoScores.of_segments(one.video.name, one.frames, one.spans, values)


def token_rows(scored: Sequence[Mapping[str, VideoScores]]) -> list[tuple[Method, dict[str, Series]]]:
    """Make the rows of the visual tokens alone.

    Args:
        scored: Scores of every validation and judged video by row, from `offline.calibration.visual`.
    """
    return [
        (Method(name, "further", how), {name: {one[name].name: one[name] for one in scored}})
        for name, how in TOKENS_ALONE.items()
    ]


def baseline_rows(validation: Sequence[Video], baselines: Baselines) -> list[tuple[Method, dict[str, Series]]]:
    """Make rows of the trivial baselines; those that were not measured say why.

    Args:
        validation: The untrained ones are scaled by their median over these videos.
        baselines: Scores of all validation and judged videos.
    """
    rows: list[tuple[Method, dict[str, Series]]] = []
    for name, what in _HOW.items():
        scores: Series | None = baselines.scores.get(name)
        how = what
        if scores is None:
            rows.append((Method(name, "baseline", how, reason="; ".join(baselines.remarks)), {}))
            continue
        if name in MEASURES:
            scores, how = squashed(scores, [video.name for video in validation]), f"{how}{_SQUASHED}"
        rows.append((Method(name, "baseline", how), {name: scores}))
    return rows


def ceiling_rows(videos: Sequence[Video], segments: Series) -> list[tuple[Method, dict[str, Series]]]:
    """Make rows of what these segments allow at best.

    Args:
        videos: All validation and judged videos.
        segments: Any row's scores of them.
    """
    once = list({video.name: video for video in videos}.values())
    return [
        # Smoothing would only blur what is known.
        (Method(name, "ceiling", f"{how}; not smoothed", smoothed=False), {name: perfect(name, once, segments)})
        for name, how in CEILINGS.items()
    ]


def squashed(series: Series, reference: Sequence[str]) -> dict[str, VideoScores]:
    """Scale values x >= 0 to x / (x + c), c their median over the segments of the `reference` videos.

    A picture moves by a few thousandths of full scale, where the locator's thresholds (0.1 to 0.9) see nothing.
    The order of the values stays. c is their mean where the median is 0; where all are 0, they stay.
    """
    values = np.array([score for name in reference for _, _, score in series[name].segments if score is not None])
    scale = float(np.median(values))
    if scale == 0:
        scale = float(values.mean())
    if scale == 0:
        return dict(series)
    return {
        name: scores.with_scores(None if x is None else x / (x + scale) for _, _, x in scores.segments)
        for name, scores in series.items()
    }
