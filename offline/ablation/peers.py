"""The rows that need no heads: the model's own words, what needs no model, and what no model can exceed.

Knows videos and stores.

Their scores are made to lie in 0 to 1 without changing their order, so that the locator can smooth and
threshold them like any others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edge_runtime.files import sha256
from offline.ablation.judge import Series
from offline.ablation.rows import Method
from offline.ablation.textual import yes_against_no
from offline.console import Progress
from offline.data.cache import Arrays, EntryStore, content_key
from offline.data.dataset import Video
from offline.data.scores import VideoScores
from offline.data.units import UnitChoice
from offline.evaluation.baselines import FEW_SHOT, MEASURES, FewShot, Motion, baseline_scores, measure
from offline.evaluation.yardsticks import CEILINGS, perfect
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


def textual_method(reason: str | None = None) -> Method:
    """The row of the model's own words. reason: why it cannot be computed."""
    return Method(TEXTUAL, "further", _TEXTUAL_HOW, pick="best", reason=reason)


def textual_scores(answers: Sequence[Extracted], prompts: Sequence[str]) -> dict[str, Series]:
    """Scores by prompt and video. answers: (U, M, 2) a video, from `textual.TextualAnswer`."""
    return {
        f"prompt {prompt}": {
            one.video.name: segment_scores(one, yes_against_no(one.features[:, index])) for one in answers
        }
        for index, prompt in enumerate(prompts)
    }


def segment_scores(
    one: Extracted, values: Sequence[float] | np.ndarray[tuple[int], np.dtype[np.float64]]
) -> VideoScores:
    """One value per unit as the video's scores. The units are segments: every frame in exactly one."""
    spans = one.spans.tolist()
    return VideoScores(
        one.video.name,
        one.frames,
        tuple((start, end, float(value)) for (start, end), value in zip(spans, values, strict=True)),
    )


def motions(videos: Sequence[Video], segment_frames: int, store: EntryStore, progress: Progress) -> dict[str, Motion]:
    """What the trivial baselines measure, by video; what the store holds is not measured again."""
    found = {}
    for number, video in enumerate(videos):
        progress(number, len(videos), video.name)
        key = content_key(format=1, motion=segment_frames, video=sha256(video.path))

        def compute(video: Video = video) -> Arrays:
            motion = measure(video.path, video.name, segment_frames)
            return {
                "segments": np.array(motion.segments),
                "values": motion.values,
                "fps": np.array(np.nan if motion.fps is None else motion.fps),
            }

        entry, _ = store.cached(key, compute)
        segments = tuple((int(start), int(end)) for start, end in entry["segments"])
        fps = float(entry["fps"])
        found[video.name] = Motion(
            video.name, segments[-1][1], segments, entry["values"], None if np.isnan(fps) else fps
        )
    progress(len(videos), len(videos))
    return found


def baseline_rows(
    calibration: Sequence[Video],
    validation: Sequence[Video],
    judged: Sequence[Video],
    measured: Mapping[str, Motion],
    unit: UnitChoice = "auto",
) -> list[tuple[Method, dict[str, Series]]]:
    """The trivial baselines as rows with their scores, the untrained ones scaled by their validation median."""
    few_shot = FewShot.fit(calibration, measured, unit)
    videos = {video.name: video for video in (*validation, *judged)}
    rows = []
    for name, series in baseline_scores(videos.values(), measured, few_shot).items():
        how = _HOW[name]
        scores: Series = series
        if name in MEASURES:
            scores = squashed(series, [video.name for video in validation])
            how += ", x / (x + its validation median); more is more anomalous, nothing is fitted but the locator"
        rows.append((Method(name, "baseline", how), {name: scores}))
    return rows


def ceiling_rows(videos: Sequence[Video], segments: Series) -> list[tuple[Method, dict[str, Series]]]:
    """What these segments allow at best, as rows. segments: any row's scores, of all validation and judged videos."""
    once = list({video.name: video for video in videos}.values())
    return [
        # Smoothing would only blur what is known.
        (Method(name, "ceiling", f"{how}; not smoothed", smoothed=False), {name: perfect(name, once, segments)})
        for name, how in CEILINGS.items()
    ]


def squashed(series: Series, reference: Sequence[str]) -> dict[str, VideoScores]:
    """x / (x + c) for values x >= 0, c their median over the segments of the `reference` videos.

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
        name: VideoScores(
            name,
            scores.frames,
            tuple((s, e, None if x is None else x / (x + scale)) for s, e, x in scores.segments),
        )
        for name, scores in series.items()
    }
