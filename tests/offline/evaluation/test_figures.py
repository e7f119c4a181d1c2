from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from edge_runtime.errors import DatasetError
from offline.data.dataset import Video
from offline.data.scores import VideoScores
from offline.evaluation.bootstrap import Resampling
from offline.evaluation.figures import BEST, class_of, evaluate_scores
from offline.evaluation.table import evaluation_text


def video(name: str, *events: tuple[int, int], label: str | None = None) -> Video:
    return Video(Path(name), name, label or ("anomalous" if events else "normal"), "test", events)  # type: ignore[arg-type]


def segments(name: str, frames: int, scores: list[float | None], length: int = 48) -> VideoScores:
    cuts = [(start, min(start + length, frames)) for start in range(0, frames, length)]
    return VideoScores(name, frames, tuple((a, b, s) for (a, b), s in zip(cuts, scores, strict=True)))


VIDEOS = [
    video("Fighting/Fighting001_x264.mp4", (100, 200)),
    video("Arson/Arson002_x264.mp4", (0, 48), (300, 350)),
    video("Normal/Normal_Videos_003.mp4"),
    video("Normal/Normal_Videos_004.mp4"),
]


@pytest.fixture
def raw() -> dict[str, VideoScores]:
    random = np.random.default_rng(3)
    scores = {}
    for row, frames in zip(VIDEOS, (250, 400, 500, 100), strict=True):
        count = -(-frames // 48)
        values = [
            float(np.clip(0.3 + 0.3 * row.overlaps(48 * i, min(48 * i + 48, frames)) + random.normal(0, 0.15), 0, 1))
            for i in range(count)
        ]
        scores[row.name] = segments(row.name, frames, list(values))
    return scores


def pooled(scores: dict[str, VideoScores], rows: list[Video] = VIDEOS) -> tuple[np.ndarray, np.ndarray]:
    labels = np.concatenate([row.frame_labels(scores[row.name].frames) for row in rows])
    return labels, np.concatenate([scores[row.name].expand() for row in rows])


def test_the_figures_are_scikit_learns_over_all_frames(raw: dict[str, VideoScores]) -> None:
    evaluation = evaluate_scores(VIDEOS, raw, thresholds={"calibrated": 0.45}, resampling=Resampling(draws=50))
    labels, scores = pooled(raw)
    figures = evaluation.series["raw"]
    assert (evaluation.frames, evaluation.abnormal_frames) == (1250, 198)
    assert figures.auc == pytest.approx(roc_auc_score(labels, scores))
    assert figures.average_precision == pytest.approx(average_precision_score(labels, scores))
    point = figures.f1["calibrated"]
    assert point is not None
    assert point.f1 == pytest.approx(f1_score(labels, scores > 0.45))
    interval = figures.intervals["auc"]
    assert interval is not None
    assert figures.auc is not None
    assert interval.low <= figures.auc <= interval.high
    # A class: its own anomalous videos and every normal one.
    kind_labels, kind_scores = pooled(raw, [VIDEOS[0], *VIDEOS[2:]])
    assert list(figures.classes) == ["Arson", "Fighting"]
    assert figures.classes["Fighting"].videos == 1
    assert figures.classes["Fighting"].auc == pytest.approx(roc_auc_score(kind_labels, kind_scores))
    assert [entry.auc is None for entry in figures.videos] == [False, False, True, True]
    peaks = [raw[row.name].expand().max() for row in VIDEOS]
    assert figures.video_auc == pytest.approx(roc_auc_score([True, True, False, False], peaks))


def test_events_by_hand() -> None:
    rows = [video("a.mp4", (50, 100), (300, 340)), video("b.mp4")]
    raw = {
        "a.mp4": segments("a.mp4", 480, [0.0, 0.9, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0, 0.9, 0.0]),
        "b.mp4": segments("b.mp4", 240, [0.0, 0.9, 0.0, 0.9, 0.9]),
    }
    evaluation = evaluate_scores(rows, raw, thresholds={"calibrated": 0.5}, fps=10.0, resampling=Resampling(draws=0))
    events = evaluation.series["raw"].events["calibrated"]
    # Alarms: a 48-144 (found: starts before the event, IoU 50/96), a 384-432, b 48-96, b 144-240.
    assert (events.events, events.detected, events.delay_s, events.false_alarms) == (2, 1, 0.0, 3)
    assert events.false_alarms_per_hour == pytest.approx(3 / (720 / 10 / 3600))
    assert (events.at_iou[0.5].matched, events.at_iou[0.5].missed, events.at_iou[0.5].spurious) == (1, 1, 3)
    assert events.at_iou[0.7].matched == 0
    assert (
        evaluate_scores(rows, raw, thresholds={"x": 0.5}, resampling=Resampling(draws=0))
        .series["raw"]
        .events["x"]
        .delay_s
        is None
    )
    assert set(evaluation.series["raw"].events) == {"calibrated", BEST}


def test_a_delay_is_in_seconds_of_its_own_video() -> None:
    rows = [video("a.mp4", (10, 90)), video("b.mp4", (10, 90))]
    raw = {name: VideoScores.per_frame(name, [0.0] * 30 + [1.0] * 70) for name in ("a.mp4", "b.mp4")}
    evaluation = evaluate_scores(
        rows, raw, thresholds={"calibrated": 0.5}, fps={"a.mp4": 10.0, "b.mp4": 20.0}, resampling=Resampling(draws=0)
    )
    assert evaluation.series["raw"].events["calibrated"].delay_s == pytest.approx((20 / 10 + 20 / 20) / 2)


def test_a_gap_is_in_no_figure() -> None:
    rows = [video("a.mp4", (0, 48), (96, 144)), video("b.mp4")]
    full = {"a.mp4": segments("a.mp4", 240, [0.9, 0.2, 0.1, 0.3, 0.4]), "b.mp4": segments("b.mp4", 96, [0.5, 0.2])}
    holes = {**full, "a.mp4": segments("a.mp4", 240, [0.9, 0.2, None, 0.3, 0.4])}
    evaluation = evaluate_scores(
        rows, holes, thresholds={"calibrated": 0.5}, fps=25.0, resampling=Resampling(draws=0)
    )
    figures = evaluation.series["raw"]
    # Without the gap, whose event would be missed, the scores are perfect.
    assert evaluate_scores(rows, full, resampling=Resampling(draws=0)).series["raw"].auc != 1.0
    assert figures.auc == 1.0
    assert evaluation.unscored == {"a.mp4": 48}
    assert evaluation.unscored_events == 1
    assert (figures.events["calibrated"].events, figures.events["calibrated"].detected) == (1, 1)
    assert figures.videos[0].unscored_frames == 48
    text = evaluation_text(evaluation)
    assert "not scored: 48 frames in 1 videos: a.mp4 (48); 1 events" in text
    # A gap parts an alarm in two.
    parted = {"a.mp4": segments("a.mp4", 240, [0.1, 0.9, None, 0.9, 0.1]), "b.mp4": full["b.mp4"]}
    counts = (
        evaluate_scores(rows, parted, thresholds={"x": 0.6}, resampling=Resampling(draws=0)).series["raw"].events["x"]
    )
    assert counts.false_alarms == 2


def test_a_video_without_any_score_is_reported_and_left_out() -> None:
    rows = [video("a.mp4", (0, 48)), video("b.mp4"), video("c.mp4")]
    raw = {
        "a.mp4": segments("a.mp4", 96, [0.9, 0.1]),
        "b.mp4": segments("b.mp4", 48, [0.2]),
        "c.mp4": segments("c.mp4", 48, [None]),
    }
    evaluation = evaluate_scores(rows, raw, resampling=Resampling(draws=20))
    assert evaluation.unscored == {"c.mp4": 48}
    assert evaluation.series["raw"].auc == 1.0
    assert evaluation.series["raw"].videos[2].peak is None
    nothing = evaluate_scores(rows[2:], raw)
    assert nothing.series["raw"].auc is None
    assert "undefined" in evaluation_text(nothing, each_video=True)
    json.dumps(nothing.to_dict(), allow_nan=False)


def test_unknown_timing_counts_for_videos_only(raw: dict[str, VideoScores]) -> None:
    untimed = video("Shooting/Shooting9.mp4", label="anomalous")
    with_it = evaluate_scores(
        [*VIDEOS, untimed],
        {**raw, untimed.name: segments(untimed.name, 96, [1.0, 1.0])},
        resampling=Resampling(draws=0),
    )
    without = evaluate_scores(VIDEOS, raw, resampling=Resampling(draws=0))
    assert with_it.untimed == (untimed.name,)
    assert with_it.series["raw"].auc == without.series["raw"].auc
    assert with_it.series["raw"].events == without.series["raw"].events
    assert with_it.series["raw"].videos[-1].abnormal_frames is None
    first, second = with_it.series["raw"].video_auc, without.series["raw"].video_auc
    assert first is not None
    assert second is not None
    assert first >= second
    assert f"timing unknown: 1 videos: {untimed.name}" in evaluation_text(with_it)


def test_one_class_is_undefined_and_says_so() -> None:
    rows = [video("a.mp4"), video("b.mp4")]
    raw = {row.name: segments(row.name, 48, [0.5]) for row in rows}
    evaluation = evaluate_scores(rows, raw, thresholds={"calibrated": 0.4}, fps=30.0)
    figures = evaluation.series["raw"]
    assert (figures.auc, figures.average_precision, figures.pr_auc_trapezoid) == (None, None, None)
    assert (figures.best_f1, figures.f1, figures.video_auc) == (None, {"calibrated": None}, None)
    assert figures.events["calibrated"].false_alarms == 2
    assert evaluation_text(evaluation).count("undefined") >= 6


def test_raw_and_smoothed_side_by_side(raw: dict[str, VideoScores]) -> None:
    smoothed = {name: scores.smoothed(1.0, 3) for name, scores in raw.items()}
    evaluation = evaluate_scores(
        VIDEOS, raw, smoothed, thresholds={"calibrated": 0.4}, fps=30.0, resampling=Resampling(40, seed=5)
    )
    alone = evaluate_scores(
        VIDEOS, smoothed, thresholds={"calibrated": 0.4}, fps=30.0, resampling=Resampling(40, seed=5)
    )
    assert evaluation.series["smoothed"] == alone.series["raw"]
    assert evaluation == evaluate_scores(
        VIDEOS, raw, smoothed, thresholds={"calibrated": 0.4}, fps=30.0, resampling=Resampling(40, seed=5)
    )
    content = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert content["series"]["smoothed"]["auc"] == evaluation.series["smoothed"].auc
    assert set(content["series"]["raw"]["events"]["calibrated"]["at_iou"]) == {"0.3", "0.5", "0.7"}
    assert content["series"]["raw"]["events"]["calibrated"]["at_iou"]["0.3"]["precision"] is not None
    text = evaluation_text(evaluation, each_video=True)
    for expected in ("step-wise", "trapezoid", "Fighting", VIDEOS[3].name, "false alarms per hour", "smoothed"):
        assert expected in text
    assert all(len(line) < 160 for line in text.splitlines())


def test_what_contradicts_the_dataset_is_refused(raw: dict[str, VideoScores]) -> None:
    name = VIDEOS[0].name
    with pytest.raises(DatasetError, match=rf"{name}: no scores for it"):
        evaluate_scores(VIDEOS, {key: value for key, value in raw.items() if key != name})
    with pytest.raises(DatasetError, match=rf"{name}: event 100-200 ends after the last frame"):
        evaluate_scores(VIDEOS, {**raw, name: segments(name, 96, [0.1, 0.2])})
    with pytest.raises(DatasetError, match=rf"{name}: raw and smoothed"):
        evaluate_scores(VIDEOS, raw, {**raw, name: segments(name, 250, [None, 0.1, 0.1, 0.1, 0.1, 0.1])})
    with pytest.raises(DatasetError, match="no videos to judge"):
        evaluate_scores([], raw)
    with pytest.raises(DatasetError, match="no frame rate"):
        evaluate_scores(VIDEOS, raw, fps={})
    with pytest.raises(DatasetError, match=r"0\.0 is no frame rate"):
        evaluate_scores(VIDEOS, raw, fps=0.0)
    with pytest.raises(ValueError, match="finite"):
        evaluate_scores(VIDEOS, raw, thresholds={"x": float("nan")})


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Abuse028_x264.mp4", "Abuse"),
        ("x/Traffic_accident_12.mp4", "Traffic_accident"),
        ("Bad.Boys.1995__#01-11-55_01-12-40_label_G-B2-B6.mp4", "G"),
        ("v=x__#1_label_B1-0-0.mp4", "B1"),
        ("test_003_abandoned_object.mp4", "abandoned_object"),
        ("Fire/01_0014.avi", "Fire"),
        ("01_0014.avi", "01_0014"),
    ],
)
def test_classes_come_from_names(name: str, kind: str) -> None:
    assert class_of(video(name, label="anomalous")) == kind
    assert class_of(video(name)) == "normal"
