"""Yardsticks: no scores of the segments beat the ceiling, and a baseline is judged on the system's frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import DatasetError
from offline.data.dataset import Video
from offline.data.scores import VideoScores
from offline.evaluation.bootstrap import Resampling
from offline.evaluation.figures import evaluate_scores
from offline.evaluation.metrics import frame_auc
from offline.evaluation.table import evaluation_text
from offline.evaluation.yardsticks import PERFECT_SEGMENTS, PERFECT_SHARES, Series, Yardsticks, perfect, yardsticks

SEGMENT = 10


def video(name: str, *events: tuple[int, int], label: str | None = None) -> Video:
    label = label if label is not None else "anomalous" if events else "normal"
    return Video(Path(name), name, label, "test", events=events)  # type: ignore[arg-type]


def scores(name: str, values: list[float | None], frames: int | None = None) -> VideoScores:
    frames = SEGMENT * len(values) if frames is None else frames
    cuts = tuple((SEGMENT * i, min(SEGMENT * (i + 1), frames), value) for i, value in enumerate(values))
    return VideoScores(name, frames, cuts)


def measure(videos: list[Video], raw: Series, peer: Series | None = None, draws: int = 0) -> Yardsticks:
    baselines = {} if peer is None else {"raw": {"peer": peer}}
    return yardsticks(videos, {"raw": raw}, baselines, resampling=Resampling(draws))


# A normal video of 5 segments and one of 6, the last of them short, with an event somewhere.
EVENTS = st.tuples(st.integers(0, 56), st.integers(0, 56)).filter(lambda pair: pair[0] < pair[1] and pair != (0, 57))


@given(EVENTS, st.lists(st.floats(0, 1), min_size=11, max_size=11))
@settings(max_examples=60)
def test_no_scores_of_the_segments_beat_their_perfect_shares(event: tuple[int, int], values: list[float]) -> None:
    videos = [video("normal"), video("event", event)]
    raw = {"normal": scores("normal", [*values[:5]]), "event": scores("event", [*values[5:]], 57)}
    found = measure(videos, raw).ceilings
    system = evaluate_scores(videos, raw, resampling=Resampling(draws=0)).series["raw"].auc
    best, binary = found[PERFECT_SHARES].auc, found[PERFECT_SEGMENTS].auc
    assert system is not None
    assert best is not None
    assert binary is not None
    assert best >= system - 1e-12
    assert best >= binary - 1e-12


def test_the_ceiling_by_hand() -> None:
    """5 of 10 frames of one segment in four are abnormal: 5 hits, 5 errors among 35 normal frames."""
    videos = [video("a", (15, 20)), video("b")]
    raw = {"a": scores("a", [0.1, 0.2]), "b": scores("b", [0.3, 0.4])}
    found = measure(videos, raw).ceilings
    assert found[PERFECT_SEGMENTS].auc == pytest.approx((1 + 30 / 35) / 2)
    assert found[PERFECT_SHARES].auc == found[PERFECT_SEGMENTS].auc
    assert found[PERFECT_SEGMENTS].average_precision == pytest.approx(0.5)
    shares = perfect(PERFECT_SHARES, [videos[0]], raw)["a"].segments
    assert shares == ((0, 10, 0.0), (10, 20, 0.5))


def test_gaps_and_unknown_timing_stay_out_of_the_ceiling() -> None:
    unknown = video("u", label="anomalous")
    raw = {"a": scores("a", [None, 0.2]), "u": scores("u", [0.5])}
    ceiling = perfect(PERFECT_SEGMENTS, [video("a", (0, 15)), unknown], raw)
    assert ceiling["a"].segments == ((0, 10, None), (10, 20, 1.0))
    assert ceiling["u"].segments == ((0, 10, None),)


@given(st.data(), st.integers(1, 90), st.integers(1, 4), st.integers(1, 6))
@settings(max_examples=80)
def test_perfect_segments_that_overlap_are_those_that_cover_a_frame(
    data: st.DataObject, frames: int, overlap: int, stride: int
) -> None:
    start = data.draw(st.integers(0, frames - 1))
    one = video("a", (start, data.draw(st.integers(start + 1, frames))))
    strides = [(begin, min(begin + stride, frames), 0.5) for begin in range(0, frames, stride)]
    raw = {"a": VideoScores("a", frames, tuple(strides))}
    found = perfect(PERFECT_SEGMENTS, [one], raw, overlap)["a"].expand()
    for frame in range(frames):
        covering = [
            one.overlaps(begin, min(begin + overlap * stride, frames))
            for begin in range(0, frames, stride)
            if begin <= frame < begin + overlap * stride
        ]
        assert found[frame] == pytest.approx(np.mean(covering))
    # What is known of every stride is worth as much, whatever segments they come from.
    assert perfect(PERFECT_SHARES, [one], raw, overlap) == perfect(PERFECT_SHARES, [one], raw)


def test_perfect_segments_end_at_gaps() -> None:
    raw = {"a": scores("a", [0.1, None, 0.1, 0.1])}
    found = perfect(PERFECT_SEGMENTS, [video("a", (30, 40))], raw, overlap=3)["a"]
    assert [score for _, _, score in found.segments] == [0.0, None, 1.0, 1.0]
    found = perfect(PERFECT_SEGMENTS, [video("a", (10, 30))], raw, overlap=3)["a"]
    assert [score for _, _, score in found.segments] == [0.0, None, 1.0, 0.5]


def test_the_ceiling_of_strides_is_said_to_be_one() -> None:
    videos = [video("a", (10, 20)), video("b")]
    raw = {"a": scores("a", [0.1, 0.9]), "b": scores("b", [0.1, 0.3])}
    plain = evaluate_scores(videos, raw, resampling=Resampling(draws=0))
    told = replace(plain, beside=yardsticks(videos, {"raw": raw}, {}, resampling=Resampling(0), overlap=2))
    text = evaluation_text(told)
    assert "gives it 1 or 0; a stride has the mean of the segments that cover it" in text
    assert "perfect shares: gives every stride its share" in text
    # Both segments overlap the event, so the first stride, a third of all normal frames, ties with it.
    assert told.to_dict()["ceilings"][PERFECT_SEGMENTS]["auc"] == pytest.approx(0.5 / 3 + 2 / 3)
    assert "stride" not in evaluation_text(replace(plain, beside=yardsticks(videos, {"raw": raw}, {})))


def test_scores_given_by_frame_have_no_segments_and_no_ceiling() -> None:
    videos = [video("a", (10, 20)), video("b")]
    raw = {name: VideoScores.per_frame(name, [0.1] * 10 + [0.9] * 10) for name in ("a", "b")}
    assert measure(videos, raw).ceilings == {}
    assert measure(videos, {**raw, "b": scores("b", [0.1, 0.9])}).ceilings == {}


def test_a_baseline_is_judged_on_the_frames_that_the_system_scored() -> None:
    videos = [video("a", (10, 30)), video("b")]
    raw = {"a": scores("a", [0.2, None, 0.9]), "b": scores("b", [0.1, 0.3, 0.1])}
    # Wrong only where the system has a gap.
    peer = {"a": scores("a", [0.0, 0.0, 1.0]), "b": scores("b", [0.5, 0.5, 0.5])}
    of = measure(videos, raw, peer, draws=20).baselines["peer"]["raw"]
    labels = np.array([False] * 10 + [True] * 10 + [False] * 30)
    values = np.array([0.0] * 10 + [1.0] * 10 + [0.5] * 30)
    assert of.auc == frame_auc(labels, values) == 1.0
    system = evaluate_scores(videos, raw, resampling=Resampling(draws=0)).series["raw"].auc
    assert system is not None
    assert of.minus["auc"] == pytest.approx(system - 1.0)


def test_a_system_compared_with_itself_differs_by_nothing() -> None:
    videos = [video(f"v{n}", *([(10, 20)] if n % 2 else [])) for n in range(6)]
    raw = {one.name: scores(one.name, [0.1 * n, 0.9 - 0.1 * n]) for n, one in enumerate(videos)}
    of = measure(videos, raw, raw, draws=50).baselines["peer"]["raw"]
    judged = evaluate_scores(videos, raw, resampling=Resampling(draws=50)).series["raw"]
    assert (of.auc, of.average_precision) == (judged.auc, judged.average_precision)
    assert of.intervals["auc"] == judged.intervals["auc"]
    interval = of.minus_intervals["auc"]
    assert interval is not None
    assert (of.minus["auc"], interval.low, interval.high) == (0, 0, 0)


def test_a_baseline_of_another_length_names_the_video() -> None:
    videos = [video("a", (5, 10)), video("b")]
    raw = {"a": scores("a", [0.5]), "b": scores("b", [0.5])}
    with pytest.raises(DatasetError, match="b: scores for 10 frames, but its file has 20"):
        measure(videos, raw, {**raw, "b": scores("b", [0.5, 0.5])})


def test_text_and_json_tell_all_of_it() -> None:
    videos = [video("a", (10, 20)), video("b")]
    raw = {"a": scores("a", [0.1, 0.9]), "b": scores("b", [0.1, 0.3])}
    plain = evaluate_scores(videos, raw, resampling=Resampling(draws=0))
    assert (plain.to_dict()["baselines"], plain.to_dict()["ceilings"]) == (None, None)
    beside = yardsticks(videos, {"raw": raw}, {"raw": {"peer": raw}}, ["no video of x"], Resampling(20))
    told = replace(plain, beside=beside)
    assert told.to_dict()["baselines"]["peer"]["raw"]["auc"] == 1.0
    assert told.to_dict()["ceilings"][PERFECT_SHARES]["auc"] == 1.0
    assert told.to_dict()["remarks"] == ["no video of x"]
    text = evaluation_text(told)
    for line in ("peer ", "perfect segments ", "perfect shares ", "no video of x"):
        assert f"\n{line}" in text
    assert "perfect" not in evaluation_text(plain)
