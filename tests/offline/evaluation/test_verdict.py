"""What the language model adds, in a sentence: three cases, and none where nothing can be said."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from offline.data.dataset import Video
from offline.data.scores import VideoScores
from offline.evaluation.baselines import FEW_SHOT
from offline.evaluation.bootstrap import Interval, Resampling
from offline.evaluation.figures import evaluate_scores
from offline.evaluation.table import evaluation_text
from offline.evaluation.verdict import TOKENS_MEAN, TOKENS_SPREAD, Rival, language_verdict
from offline.evaluation.yardsticks import Series, Yardsticks, yardsticks


def between(low: float, high: float) -> Interval:
    return Interval(low, high, 1000)


@pytest.mark.parametrize(
    ("method", "interval", "said"),
    [
        (
            0.7,
            between(-0.2, -0.01),
            "The language model adds nothing on these data: visual tokens alone reach AUC 0.750, the method 0.700.",
        ),
        (
            0.7,
            between(-0.2, 0.1),
            "Nothing shows that the language model adds anything on these data: visual tokens alone reach AUC 0.750, "
            "the method 0.700.",
        ),
        (
            0.75,
            between(-0.1, 0.1),
            "Nothing shows that the language model adds anything on these data: visual tokens alone reach AUC 0.750, "
            "the method 0.750.",
        ),
        (
            0.8,
            between(-0.01, 0.12),
            "The method (AUC 0.800) and the visual tokens alone (0.750) cannot be told apart on these data: the "
            "difference is 0.050 [-0.010, 0.120].",
        ),
        (
            0.8,
            between(0.0, 0.12),
            "The method (AUC 0.800) and the visual tokens alone (0.750) cannot be told apart on these data: the "
            "difference is 0.050 [0.000, 0.120].",
        ),
        (
            0.8,
            None,
            "The method (AUC 0.800) and the visual tokens alone (0.750) cannot be told apart on these data: there "
            "are too few videos for an interval.",
        ),
        (
            0.8,
            between(0.01, 0.12),
            "The language model adds 0.050 [0.010, 0.120] AUC over the visual tokens alone.",
        ),
    ],
)
def test_the_better_of_the_two_counts(method: float, interval: Interval | None, said: str) -> None:
    other = Rival(0.6, between(0.1, 0.3))
    for better, worse in ((TOKENS_MEAN, TOKENS_SPREAD), (TOKENS_SPREAD, TOKENS_MEAN)):
        assert language_verdict(method, {worse: other, better: Rival(0.75, interval)}) == said


def test_nothing_is_said_of_what_was_not_measured() -> None:
    assert language_verdict(None, {TOKENS_MEAN: Rival(0.7)}) is None
    assert language_verdict(0.8, {TOKENS_MEAN: Rival(None)}) is None
    assert language_verdict(0.8, {}) is None
    # A trivial baseline is no rival here, however good.
    assert language_verdict(0.8, {FEW_SHOT: Rival(0.9)}) is None


def _series(values: dict[str, list[float]]) -> Series:
    return {
        name: VideoScores(name, 20, tuple((a, b, v) for (a, b), v in zip(pairwise((0, 10, 20)), of, strict=True)))
        for name, of in values.items()
    }


# Eight videos, of which every second has an event in its second half.
VIDEOS = [
    Video(Path(f"{n}"), f"{n}", "anomalous" if n % 2 else "normal", "test", ((10, 20),) if n % 2 else ())
    for n in range(8)
]
RIGHT = _series({video.name: [0.1, 0.9 if video.anomalous else 0.1] for video in VIDEOS})
WRONG = _series({video.name: [0.9, 0.1 if video.anomalous else 0.9] for video in VIDEOS})


def measured(system: dict[str, Series], peers: dict[str, dict[str, Series]]) -> Yardsticks:
    return yardsticks(VIDEOS, system, peers, resampling=Resampling(draws=200))


def test_yardsticks_compare_the_last_series_that_both_have() -> None:
    """The smoothed one where there is one: it is what an operator gets."""
    both = {"raw": WRONG, "smoothed": RIGHT}
    added = "The language model adds 1.000 [1.000, 1.000] AUC over the visual tokens alone."
    of = {TOKENS_MEAN: WRONG}
    assert measured(both, {"raw": of, "smoothed": of}).verdict == added
    only_raw = measured(both, {"raw": of}).verdict
    assert only_raw is not None
    assert only_raw.startswith("The language model adds nothing on these data: ")
    assert measured(both, {"raw": {"peer": WRONG}}).verdict is None


def test_the_sentence_stands_in_the_table_and_in_the_json() -> None:
    beside = measured({"raw": RIGHT}, {"raw": {TOKENS_MEAN: WRONG, TOKENS_SPREAD: RIGHT}})
    sentence = "The language model adds nothing on these data: visual tokens alone reach AUC 1.000, the method 1.000."
    judged = evaluate_scores(VIDEOS, RIGHT, resampling=Resampling(draws=0))
    assert judged.to_dict()["verdict"] is None
    shown = replace(judged, beside=beside)
    assert shown.to_dict()["verdict"] == sentence
    text = evaluation_text(shown)
    assert text.count(sentence) == 1
    for row in (TOKENS_MEAN, TOKENS_SPREAD):
        assert any(line.startswith(row) for line in text.splitlines())
