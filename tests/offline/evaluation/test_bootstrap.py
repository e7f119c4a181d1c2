from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import DatasetError
from offline.evaluation.bootstrap import (
    FIGURES,
    Interval,
    bootstrap_differences,
    bootstrap_f1_at,
    bootstrap_intervals,
    rank,
    weighted_figures,
)
from offline.evaluation.metrics import average_precision, best_f1, f1_at, frame_auc, pr_auc_trapezoid

clip = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.2, 0.5, 0.9])), min_size=1, max_size=12)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(clip, st.integers(0, 3)), min_size=1, max_size=5))
def test_a_weight_is_so_many_copies(drawn: list) -> None:
    videos = [(np.array([a for a, _ in rows]), np.array([b for _, b in rows])) for rows, _ in drawn]
    figures = weighted_figures(rank(videos), np.array([float(weight) for _, weight in drawn]))
    copies = [video for video, (_, weight) in zip(videos, drawn, strict=True) for _ in range(weight)]
    labels = np.concatenate([video[0] for video in copies] or [np.zeros(0, dtype=bool)])
    scores = np.concatenate([video[1] for video in copies] or [np.zeros(0)])
    if not labels.any() or labels.all():
        assert figures is None
        return
    best = best_f1(labels, scores)
    assert best is not None
    expected = (
        frame_auc(labels, scores),
        average_precision(labels, scores),
        pr_auc_trapezoid(labels, scores),
        best.f1,
    )
    assert figures == pytest.approx(expected)


def random_videos(count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(seed)
    videos = []
    for index in range(count):
        labels = np.zeros(480, dtype=bool)
        if index % 2:
            labels[100:300] = True
        videos.append((labels, np.repeat(random.normal(size=10), 48) + labels))
    return videos


def test_seeded_and_around_the_figure() -> None:
    videos = random_videos(40, seed=1)
    first = bootstrap_intervals(videos, draws=300, seed=7)
    assert first == bootstrap_intervals(videos, draws=300, seed=7)
    assert first != bootstrap_intervals(videos, draws=300, seed=8)
    labels, scores = (np.concatenate(column) for column in zip(*videos, strict=True))
    value = frame_auc(labels, scores)
    interval = first["auc"]
    assert interval is not None
    assert value is not None
    assert interval.low < value < interval.high
    assert interval.draws == 300
    wide, narrow = (bootstrap_intervals(videos, draws=300, level=level)["auc"] for level in (0.99, 0.5))
    assert wide is not None
    assert narrow is not None
    assert wide.high - wide.low > narrow.high - narrow.low


def test_more_videos_narrow_the_interval() -> None:
    few, many = (bootstrap_intervals(random_videos(n, seed=2), draws=200)["auc"] for n in (10, 200))
    assert few is not None
    assert many is not None
    assert many.high - many.low < few.high - few.low


def test_undefined_is_none() -> None:
    videos = random_videos(6, seed=3)
    assert bootstrap_intervals(videos[:1]) == dict.fromkeys(FIGURES)
    assert bootstrap_intervals(videos[0::2]) == dict.fromkeys(FIGURES)
    with pytest.raises(ValueError, match="level"):
        bootstrap_intervals(videos, level=1.0)
    with pytest.raises(DatasetError, match="video 1"):
        bootstrap_intervals([videos[0], (videos[1][0], videos[1][1] * np.nan)])


def test_differences_are_paired() -> None:
    """A constant gain has a narrow interval, however much the figures themselves move with the videos."""
    videos = random_videos(30, seed=4)
    assert set(bootstrap_differences(videos, videos, draws=100).values()) == {Interval(0.0, 0.0, 100)}
    better = [(labels, scores + 0.5 * labels) for labels, scores in videos]
    gain = bootstrap_differences(better, videos, draws=200, seed=1)["auc"]
    loss = bootstrap_differences(videos, better, draws=200, seed=1)["auc"]
    itself = bootstrap_intervals(videos, draws=200, seed=1)["auc"]
    assert gain is not None
    assert loss is not None
    assert itself is not None
    assert 0 < gain.low < gain.high
    assert (loss.low, loss.high) == pytest.approx((-gain.high, -gain.low))
    assert gain.high - gain.low < (itself.high - itself.low) / 2
    with pytest.raises(ValueError, match="same videos"):
        bootstrap_differences(videos, videos[::-1])
    assert bootstrap_differences(videos[:1], videos[:1]) == dict.fromkeys(FIGURES)


def test_f1_at_a_threshold_is_around_the_figure() -> None:
    videos = random_videos(40, seed=5)
    labels, scores = (np.concatenate(column) for column in zip(*videos, strict=True))
    point = f1_at(labels, scores, 0.7)
    interval = bootstrap_f1_at(videos, 0.7, draws=300, seed=2)
    assert point is not None
    assert interval is not None
    assert interval.low < point.f1 < interval.high
    # All videos alike: whichever are drawn, the figure is the same.
    same = bootstrap_f1_at([videos[1]] * 5, 0.7, draws=50)
    of_one = f1_at(*videos[1], 0.7)
    assert of_one is not None
    assert same == Interval(pytest.approx(of_one.f1), pytest.approx(of_one.f1), 50)  # type: ignore[arg-type]
    assert bootstrap_f1_at(videos[0::2], 0.7) is None
    assert bootstrap_f1_at(videos[:1], 0.7) is None
