"""Units and their labels, by overlap counted frame by frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import DatasetError, UsageError
from edge_runtime.stream.segments import cut
from offline.data.dataset import Video
from offline.data.units import choose_units, unit_labels


def video(name: str, anomalous: bool = False, events: tuple[tuple[int, int], ...] = ()) -> Video:
    label = "anomalous" if anomalous else "normal"
    return Video(path=Path(name), name=name, label=label, split="calibration", events=events)


@st.composite
def timed_videos(draw: st.DrawFn) -> tuple[Video, int]:
    edges = sorted(draw(st.sets(st.integers(0, 120), min_size=2, max_size=8)))
    events = tuple(zip(edges[::2], edges[1::2], strict=False))
    return video("v.mp4", True, events), draw(st.integers(events[-1][1], 200))


@given(case=timed_videos(), length=st.integers(1, 60))
def test_a_segment_is_anomalous_when_one_of_its_frames_is(case: tuple[Video, int], length: int) -> None:
    one, frames = case
    spans = np.array(cut(frames, length))
    hot = {frame for start, end in one.events for frame in range(start, end)}
    wanted = [any(frame in hot for frame in range(start, end)) for start, end in spans]
    assert unit_labels(one, "segment", spans).tolist() == wanted


@pytest.mark.parametrize("anomalous", [True, False])
def test_a_whole_video_has_the_videos_label(anomalous: bool) -> None:
    assert unit_labels(video("v.mp4", anomalous), "video", np.array([[0, 99]])).tolist() == [anomalous]


def test_segments_of_a_normal_video_are_normal_and_of_an_untimed_one_unknown() -> None:
    spans = np.array(cut(100, 48))
    assert unit_labels(video("n.mp4"), "segment", spans).tolist() == [False] * 3
    with pytest.raises(DatasetError, match=r"u\.mp4"):
        unit_labels(video("u.mp4", anomalous=True), "segment", spans)


N, TIMED, UNTIMED = video("n.mp4"), video("t.mp4", True, ((3, 9),)), video("u.mp4", anomalous=True)
UNTIMED2 = video("u2.mp4", anomalous=True)


@pytest.mark.parametrize(
    ("videos", "wanted"),
    [
        ([N, TIMED], {"n.mp4": "segment", "t.mp4": "segment"}),
        ([N, UNTIMED], {"n.mp4": "video", "u.mp4": "video"}),
        ([N, TIMED, UNTIMED], {"n.mp4": "segment", "t.mp4": "segment", "u.mp4": "video"}),
        ([UNTIMED2, N, TIMED, UNTIMED], {"n.mp4": "video", "t.mp4": "segment", "u.mp4": "video", "u2.mp4": "video"}),
        ([N], {"n.mp4": "segment"}),
        ([], {}),
    ],
)
def test_auto_treats_normal_videos_like_most_anomalous_ones(videos: list[Video], wanted: dict[str, str]) -> None:
    assert choose_units(videos) == wanted


def test_video_makes_every_unit_a_video() -> None:
    assert choose_units([N, TIMED, UNTIMED], "video") == {"n.mp4": "video", "t.mp4": "video", "u.mp4": "video"}


def test_segment_refuses_a_video_without_times_by_name() -> None:
    assert choose_units([N, TIMED], "segment") == {"n.mp4": "segment", "t.mp4": "segment"}
    with pytest.raises(UsageError, match=r"u\.mp4.*--calibration-unit auto"):
        choose_units([N, TIMED, UNTIMED], "segment")
