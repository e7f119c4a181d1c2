from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_runtime.errors import DatasetError, OutputFailed
from edge_runtime.stream.locator import smooth
from offline.data.dataset import Video
from offline.data.scores import VideoScores, read_scores, write_scores

per_frame = st.lists(st.none() | st.sampled_from([0.0, 0.25, 1.0]) | st.floats(-9, 9), min_size=1, max_size=50)
KNOWN = [
    Video(Path("a.mp4"), "a.mp4", "anomalous", "test", events=((2, 6),), frames=10),
    Video(Path("b.mp4"), "b.mp4", "normal", "test"),
    Video(Path("late.mp4"), "late.mp4", "anomalous", "test", events=((3, 5),)),
]


def same(first: np.ndarray, second: np.ndarray) -> bool:
    return np.array_equal(first, second, equal_nan=True)


@given(per_frame)
def test_frames_and_segments_say_the_same(scores: list[float | None]) -> None:
    video = VideoScores.per_frame("a", scores)
    assert video.frames == len(scores)
    assert same(video.expand(), np.array([np.nan if score is None else score for score in scores]))
    # Runs are as long as they can be.
    values = [score for _, _, score in video.segments]
    assert all(a != b for a, b in itertools.pairwise(values))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(per_frame, per_frame)
def test_what_is_written_is_read_back(tmp_path: Path, first: list, second: list) -> None:
    path = tmp_path / "scores.json"
    rows = [VideoScores.per_frame("x/ä.mp4", first), VideoScores.per_frame("b.mp4", second)]
    write_scores(rows, path)
    assert read_scores(path) == {row.name: row for row in rows}
    path.write_text(json.dumps({"x/ä.mp4": {"scores": first}, "./b.mp4": {"scores": second}}))
    assert read_scores(path) == {row.name: row for row in rows}


def test_what_no_segment_covers_is_a_gap() -> None:
    video = VideoScores.of_segments("a", 30, [(4, 10), (10, 20)], [0.5, None])
    assert video.segments == ((0, 4, None), (4, 10, 0.5), (10, 20, None), (20, 30, None))
    assert VideoScores.of_segments("a", 30, [], []).segments == ((0, 30, None),)
    with pytest.raises(DatasetError, match="segment 3-9 overlaps the one before"):
        VideoScores.of_segments("a", 9, [(0, 4), (3, 9)], [0.1, 0.2])


def test_smoothing_is_the_locators_and_keeps_gaps() -> None:
    scores = [0.1, 0.9, None, 0.5]
    video = VideoScores("a", 190, tuple((48 * i, min(48 * (i + 1), 190), s) for i, s in enumerate(scores)))
    smoothed = video.smoothed(1.0, 3)
    assert [score for _, _, score in smoothed.segments] == smooth(scores, 1.0, 3)
    assert [segment[:2] for segment in smoothed.segments] == [segment[:2] for segment in video.segments]
    assert video.smoothed(0.0, 0) == video
    with pytest.raises(DatasetError, match=r"a: score 1\.5 is no probability"):
        VideoScores("a", 1, ((0, 1, 1.5),)).smoothed(1.0, 0)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not readable as JSON"),
        ("[]", "holds no scores"),
        ("{}", "holds no scores"),
        ('{"c.mp4": {"scores": [0]}}', r"c\.mp4: is not in the manifest"),
        ('{"a.mp4": {"scores": [0, 1, NaN]}}', "NaN is not a JSON number"),
        ('{"a.mp4": {"scores": [0, 1e999]}}', "1e999 is not finite"),
        ('{"a.mp4": {"scores": [0, 1' + "0" * 400 + "]}}", r"a\.mp4: frame 1 has the score inf"),
        ('{"a.mp4": {"scores": []}}', r"a\.mp4: no scores"),
        ('{"a.mp4": {"scores": ["0.5"]}}', r'a\.mp4: "0\.5" is no score'),
        ('{"a.mp4": {"scores": [true]}}', r"a\.mp4: true is no score"),
        ('{"a.mp4": {"scores": [0, 1]}}', r"a\.mp4: scores for 2 frames, but the manifest says 10"),
        ('{"late.mp4": {"scores": [0, 1]}}', r"late\.mp4: scores for 2 frames, but its event 3-5 ends after them"),
        ('{"b.mp4": {"scores": [0]}, "b.mp4": {"scores": [1]}}', r"b\.mp4: is there twice"),
        ('{"b.mp4": {"scores": [0]}, "x/../b.mp4": {"scores": [1]}}', r"x/\.\./b\.mp4: is not in the manifest"),
        ('{"b.mp4": {"scores": [0]}, "./b.mp4": {"scores": [1]}}', r"b\.mp4: is there twice"),
        ('{"b.mp4": {"frames": 9, "segments": [[0, 4, 1]]}}', r"b\.mp4: segments end at frame 4, .* has 9 frames"),
        ('{"b.mp4": {"frames": 3, "segments": [[0, 4, 1]]}}', r"b\.mp4: segments end at frame 4, .* has 3 frames"),
        ('{"b.mp4": {"frames": 9, "segments": []}}', r"b\.mp4: segments end at frame 0"),
        ('{"b.mp4": {"frames": 9, "segments": [[0, 4, 1], [5, 9, 1]]}}', r"segment 5-9 leaves out frames 4 to 4"),
        ('{"b.mp4": {"frames": 9, "segments": [[0, 4, 1], [3, 9, 1]]}}', r"segment 3-9 overlaps the one before"),
        ('{"b.mp4": {"frames": 9, "segments": [[0, 0, 1], [0, 9, 1]]}}', r"segment 0-0 holds no frame"),
        ('{"b.mp4": {"frames": 9, "segments": [[0, 9, NaN]]}}', "NaN is not a JSON number"),
        ('{"b.mp4": {"frames": 9, "segments": [[0, 9]]}}', r"b\.mp4: \[0, 9\] is no segment"),
        ('{"b.mp4": {"frames": 9, "segments": [[0, 9.5, 1]]}}', r"b\.mp4: 9\.5 is no frame number"),
        ('{"b.mp4": {"frames": true, "segments": [[0, 1, 1]]}}', r"b\.mp4: true is no frame number"),
        ('{"b.mp4": {"frames": 9}}', r"b\.mp4: holds neither"),
        ('{"b.mp4": [0, 1]}', r"b\.mp4: holds neither"),
    ],
)
def test_faults_are_one_line_and_name_the_video(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "scores.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=says) as caught:
        read_scores(path, KNOWN)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


CALLED = [
    Video(Path(name), name, "normal", "test")
    for name in ("x/a.mp4", "y/a.avi", "y/Bad.Boys.1995.mp4", "b/c.mp4", "c", "z/a.mp4", "w/a.mkv")
]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("x/a.mp4", "x/a.mp4"),
        ("./x/a.mp4", "x/a.mp4"),
        ("Bad.Boys.1995", "y/Bad.Boys.1995.mp4"),
        # A path as written in the manifest wins.
        ("c", "c"),
    ],
)
def test_a_video_is_called_by_its_path_or_its_bare_name(tmp_path: Path, key: str, name: str) -> None:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({key: {"scores": [0.5]}}))
    assert read_scores(path, CALLED) == {name: VideoScores.per_frame(name, [0.5])}
    assert list(read_scores(path)) == [Path(key).as_posix()]


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (["a"], r"a: may be any of x/a\.mp4, y/a\.avi, z/a\.mp4 and 1 more; write the path as in the manifest"),
        (["a.mp4"], r"a\.mp4: is not in the manifest; keys are paths as written there, or names without folder"),
        (["x/a"], "x/a: is not in the manifest"),
        (["Bad.Boys"], r"Bad\.Boys: is not in the manifest"),
        (["Bad.Boys.1995", "y/Bad.Boys.1995.mp4"], r"y/Bad\.Boys\.1995\.mp4: is there twice"),
    ],
)
def test_a_name_of_several_videos_or_of_none_is_refused(tmp_path: Path, keys: list[str], says: str) -> None:
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({key: {"scores": [0.5]} for key in keys}))
    with pytest.raises(DatasetError, match=says) as caught:
        read_scores(path, CALLED)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="No such file"):
        read_scores(tmp_path / "scores.json")
    (tmp_path / "scores.json").write_bytes(b'{"\xff": 1}')
    with pytest.raises(DatasetError, match="not readable as JSON"):
        read_scores(tmp_path / "scores.json")
    with pytest.raises(OutputFailed, match="cannot be written"):
        write_scores([VideoScores("a", 1, ((0, 1, 0.5),))], tmp_path)
